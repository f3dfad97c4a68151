"""Plans as text: each test reads as a promise."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from compose.errors import ProjectError
from compose.model.deploy import Deploy, DeviceRequest, Resource, UpdateConfig
from compose.model.mount import BindOptions, FileReference, Mount, MountType
from compose.model.port import Port
from compose.model.project import Project
from compose.model.resources import ConfigFile, Network, Secret, Volume
from compose.model.service import Attachment, Condition, Dependency, Service
from compose.plan.actions import AwaitCondition, CreateContainer, StopContainer
from compose.plan.make import make_plan
from compose.plan.observed import (
    ForeignContainer,
    Observed,
    ObservedContainer,
    ObservedImage,
    ObservedMount,
    ObservedPort,
    ObservedVolume,
)
from compose.plan.options import PlanOptions
from compose.plan.text import text
from compose.position import Position
from tests.compose.engines import IMAGE
from tests.compose.projects import check, make_project, make_service, needs, nothing
from tests.compose.simulated import Simulated


def planned(project: Project, observed: Observed, **options: object) -> str:
    return text(make_plan(project, observed, PlanOptions(**options)))  # type: ignore[arg-type]


def applied(project: Project, observed: Observed | None = None) -> Observed:
    start = observed or nothing()
    return Simulated(start).apply(make_plan(project, start, PlanOptions()))


def changed(project: Project, *services: Service) -> Project:
    kept = {**project.services, **{service.name: service for service in services}}
    return replace(project, services=kept)


def in_state(observed: Observed, name: str, **fields: object) -> Observed:
    containers = tuple(
        replace(container, **fields) if container.name == name else container  # type: ignore[arg-type]
        for container in observed.containers
    )
    return replace(observed, containers=containers)


def test_missing_things_are_made_in_the_order_of_need() -> None:
    project = make_project(
        make_service("web", depends_on=needs(db=Condition.HEALTHY, migrate=Condition.COMPLETED)),
        make_service("migrate"),
        make_service(
            "db", healthcheck=check("true"), volumes=(Mount(MountType.VOLUME, "/data", "data"),)
        ),
        volumes={"data": Volume("data", "demo_data")},
    )
    assert (
        planned(project, nothing())
        == """\
create network default   missing
create volume data       missing
create db.1              missing   after: network default, volume data
create migrate.1         missing   after: network default
create web.1             missing   after: network default, db healthy, migrate completed
"""
    )


def test_a_second_plan_does_nothing() -> None:
    project = make_project(make_service("web", scale=2), make_service("db"))
    assert planned(project, applied(project)) == ""


def test_only_the_changed_service_is_touched_and_the_cause_is_told() -> None:
    project = make_project(
        make_service("web", depends_on=needs(db=Condition.STARTED)),
        make_service("db"),
        make_service("other"),
    )
    observed = applied(project)
    newer = changed(project, make_service("db", environment={"A": "1"}, working_dir="/srv"))
    assert (
        planned(newer, observed)
        == """\
recreate db.1   environment.A unset -> 1, working_dir unset -> /srv
"""
    )


def test_an_old_separator_is_in_the_names_of_containers() -> None:
    project = replace(make_project(make_service("web")), separator="_")
    plan = make_plan(project, nothing(), PlanOptions())
    assert "demo_web_1" in {
        step.action.name for step in plan.steps if isinstance(step.action, CreateContainer)
    }


def test_containers_of_run_that_have_ended_are_told_of() -> None:
    project = make_project(make_service("web"))
    observed = applied(project)
    ended = replace(
        observed.containers[0], id="2", name="demo-web-run-1", one_off=True, state="exited"
    )
    observed = replace(observed, containers=(*observed.containers, ended))
    (note,) = make_plan(project, observed, PlanOptions()).notes
    assert str(note) == (
        "containers of run that have ended: demo-web-run-1\n  hint: --remove-orphans removes them"
    )
    assert planned(project, observed, remove_orphans=True) == (
        "remove container demo-web-run-1   run has ended\n"
    )
    assert make_plan(project, observed, PlanOptions(ignore_orphans=True)).notes == ()


def test_a_new_image_name_is_cause_enough() -> None:
    project = make_project(make_service("web"))
    observed = applied(project)
    images = {**observed.images, "busybox:2": ObservedImage("sha256:" + "3" * 64)}
    newer = changed(project, make_service("web", image="busybox:2"))
    assert (
        planned(newer, replace(observed, images=images))
        == f"""\
recreate web.1   image {IMAGE} -> busybox:2
"""
    )


def test_another_image_behind_the_same_name_recreates() -> None:
    project = make_project(make_service("web"))
    observed = replace(applied(project), images={IMAGE: ObservedImage("sha256:" + "9" * 64)})
    assert (
        planned(project, observed)
        == """\
recreate web.1   image_id sha256:111111111111 -> sha256:999999999999
"""
    )


def test_another_image_behind_a_mount_recreates() -> None:
    mount = Mount(MountType.IMAGE, target="/data", source="content:1")
    project = make_project(make_service("web", volumes=(mount,)))
    images = {IMAGE: nothing().images[IMAGE], "content:1": ObservedImage("sha256:" + "5" * 64)}
    observed = applied(project, replace(nothing(), images=images))
    assert planned(project, observed) == ""
    rebuilt = {**images, "content:1": ObservedImage("sha256:" + "6" * 64)}
    assert (
        planned(project, replace(observed, images=rebuilt))
        == """\
recreate web.1   mounted_images./data sha256:555555555555 -> sha256:666666666666
"""
    )
    # What isn't known of one is no difference: an older version did not write it down.
    (web,) = observed.containers
    record = {**json.loads(web.record)}
    assert record.pop("mounted_images")
    older = replace(observed, containers=(replace(web, record=json.dumps(record)),))
    assert planned(project, older) == ""


def test_what_does_not_shape_a_container_recreates_nothing() -> None:
    project = make_project(make_service("web"), make_service("db"))
    observed = applied(project)
    newer = changed(
        project,
        make_service(
            "web",
            depends_on=needs(db=Condition.STARTED),
            pull_policy="never",
            profiles=("a",),
            attach=False,
            label_file=("/project/labels",),
        ),
    )
    assert planned(newer, observed) == ""


def test_stopped_containers_are_started_again() -> None:
    project = make_project(make_service("web"), make_service("db"))
    observed = in_state(applied(project), "demo-web-1", state="exited", exit_code=137)
    assert planned(project, observed) == "start web.1   exited with code 137\n"


def test_a_finished_job_is_not_run_again() -> None:
    project = make_project(
        make_service("web", depends_on=needs(migrate=Condition.COMPLETED)),
        make_service("migrate"),
    )
    observed = in_state(applied(project), "demo-migrate-1", state="exited", exit_code=0)
    assert planned(project, observed) == ""


def test_a_failed_job_is_run_again_before_what_needs_it() -> None:
    project = make_project(
        make_service("web", depends_on=needs(migrate=Condition.COMPLETED)),
        make_service("migrate"),
    )
    observed = in_state(applied(project), "demo-migrate-1", state="exited", exit_code=3)
    observed = in_state(observed, "demo-web-1", state="exited", exit_code=0)
    assert (
        planned(project, observed)
        == """\
start migrate.1   exited with code 3
start web.1       exited with code 0   after: migrate completed
"""
    )


def test_a_healthy_dependency_that_stays_is_not_waited_for() -> None:
    project = make_project(
        make_service("web", depends_on=needs(db=Condition.HEALTHY)),
        make_service("db", healthcheck=check("true")),
    )
    observed = in_state(applied(project), "demo-web-1", state="exited", exit_code=1)
    assert planned(project, observed) == "start web.1   exited with code 1\n"
    starting = in_state(observed, "demo-db-1", health="starting")
    assert planned(project, starting) == "start web.1   exited with code 1   after: db healthy\n"


def test_scaling_up_fills_and_scaling_down_takes_the_highest() -> None:
    project = make_project(make_service("web"))
    observed = applied(project)
    three = changed(project, make_service("web", scale=3))
    assert (
        planned(three, observed)
        == """\
create web.2   scaled from 1 to 3
create web.3   scaled from 1 to 3
"""
    )
    assert (
        planned(project, applied(three, observed))
        == """\
remove web.2   scaled from 3 to 1
remove web.3   scaled from 3 to 1
"""
    )


def test_one_that_was_taken_away_is_missing_and_not_scaled() -> None:
    project = make_project(make_service("web", scale=3))
    observed = applied(project)
    first, second, third = observed.containers
    without_second = replace(observed, containers=(first, third))
    assert planned(project, without_second) == "create web.2   missing\n"
    without_third = replace(observed, containers=(first, second))
    assert planned(project, without_third, heal=True) == "create web.3   missing\n"


@pytest.mark.parametrize(
    ("edited", "verb"),
    [
        ("memory", "update"),
        ("memory,memory_swap", "update"),
        ("nano_cpus", "update"),
        ("restart_policy", "update"),
        ("memory,pids_limit", "update"),
        ("cpuset_cpus", "recreate"),  # "all of them" can't be told to what runs
    ],
)
def test_a_limit_that_was_changed_by_hand_is_told_again(edited: str, verb: str) -> None:
    web = make_service("web", mem_limit=64 << 20, deploy=Deploy(limits=Resource(cpus=0.5)))
    project = make_project(web)
    observed = in_state(applied(project), "demo-web-1", edited=edited, limits=None)
    ours = replace(observed, is_ours=True)
    words = f"changed by hand: {edited.replace(',', ', ')}"
    if verb == "recreate":
        words += ": that can't be taken off as it runs"
    assert planned(project, ours) == f"{verb} web.1   {words}\n"
    # Whatever else is changed as it runs doesn't hide it.
    policy = changed(project, replace(web, restart="always"))
    (change,) = make_plan(policy, ours, PlanOptions()).changes
    assert change.verb.value == verb
    assert [each.place for each in change.fields] == ["restart"]


def test_orphans_are_told_of_and_removed_when_asked() -> None:
    project = make_project(make_service("web"), make_service("old"))
    observed = applied(project)
    smaller = make_project(make_service("web"))
    plan = make_plan(smaller, observed, PlanOptions())
    assert plan.is_empty
    assert [note.what for note in plan.notes] == [
        "containers of services that are no longer in the files: demo-old-1"
    ]
    assert (
        planned(smaller, observed, remove_orphans=True)
        == """\
remove old.1   its service is no longer in the files
"""
    )


def test_a_service_that_is_off_by_profile_is_no_orphan() -> None:
    project = make_project(make_service("web"), make_service("debug"))
    smaller = make_project(make_service("web"), disabled=frozenset({"debug"}))
    plan = make_plan(smaller, applied(project), PlanOptions(remove_orphans=True))
    assert plan.is_empty
    assert plan.notes == ()


def test_dependents_that_say_so_restart_with_what_they_depend_on() -> None:
    follows = {"db": Dependency("db", restart=True)}
    project = make_project(
        make_service("db"),
        make_service("web", depends_on=follows),
        make_service("loose", depends_on=needs(db=Condition.STARTED)),
    )
    observed = applied(project)
    newer = changed(project, make_service("db", environment={"A": "1"}))
    plan = make_plan(newer, observed, PlanOptions())
    assert (
        text(plan)
        == """\
recreate db.1   environment.A unset -> 1   after: web.1 stopped
restart web.1   restarts with db           after: db.1
"""
    )
    keys = [step.key for step in plan.steps]
    assert keys.index("stop demo-web-1") < keys.index("stop demo-db-1")
    assert keys.index("start db.1") < keys.index("start web.1")


def test_a_container_that_shares_a_recreated_one_is_recreated_with_it() -> None:
    project = make_project(
        make_service("vpn"),
        make_service(
            "web", network_mode="service:vpn", depends_on={"vpn": Dependency("vpn", restart=True)}
        ),
    )
    observed = applied(project)
    newer = changed(project, make_service("vpn", environment={"A": "1"}))
    assert (
        planned(newer, observed)
        == """\
recreate vpn.1   environment.A unset -> 1            after: web.1 stopped
recreate web.1   made from vpn, which is recreated   after: vpn.1
"""
    )


def test_a_container_that_shares_one_that_has_gone_is_made_from_the_new_one() -> None:
    project = make_project(
        make_service("vpn"),
        make_service("web", network_mode="service:vpn", depends_on=needs(vpn=Condition.STARTED)),
    )
    there = applied(project)
    observed = replace(there, containers=tuple(c for c in there.containers if c.service == "web"))
    assert (
        planned(project, observed)
        == """\
create vpn.1     missing
recreate web.1   made from vpn, which is created   after: vpn.1
"""
    )
    with pytest.raises(ProjectError, match="vpn has no container to take this from"):
        planned(project, observed, services=frozenset(["web"]), no_deps=True)
    forced = planned(project, there, services=frozenset(["web"]), no_deps=True, force_recreate=True)
    assert forced == "recreate web.1   asked for\n"


def test_what_is_linked_is_created_first() -> None:
    project = make_project(
        make_service("web", network_mode="bridge", links=("db:store",),
                     depends_on=needs(db=Condition.STARTED)),
        make_service("db", network_mode="bridge"),
    )  # fmt: skip
    plan = make_plan(project, nothing(), PlanOptions())
    (creation,) = (step for step in plan.steps if step.key == "create web.1")
    assert "create db.1" in creation.after


def test_a_changed_network_is_made_anew_and_containers_are_put_back() -> None:
    project = make_project(make_service("web"))
    observed = applied(project)
    newer = replace(
        project, networks={"default": Network("default", "demo_default", internal=True)}
    )
    assert (
        planned(newer, observed)
        == """\
restart web.1              network default is recreated   after: network default
recreate network default   internal unset -> true         after: web.1 stopped
"""
    )
    after = applied(newer, observed)
    assert after.containers[0].state == "running"
    assert planned(newer, after) == ""


def test_a_changed_volume_is_refused_since_that_would_lose_its_data() -> None:
    mount = Mount(MountType.VOLUME, "/data", "data")
    project = make_project(
        make_service("db", volumes=(mount,)), volumes={"data": Volume("data", "demo_data")}
    )
    observed = applied(project)
    newer = replace(project, volumes={"data": Volume("data", "demo_data", driver="other")})
    with pytest.raises(ProjectError, match="would destroy its data"):
        planned(newer, observed)


def test_anonymous_volumes_move_to_the_successor() -> None:
    mount = Mount(MountType.VOLUME, "/cache")
    project = make_project(make_service("web", volumes=(mount,)))
    mounts = (ObservedMount("volume", "a" * 64, "/cache"),)
    observed = in_state(applied(project), "demo-web-1", mounts=mounts)
    newer = changed(project, make_service("web", volumes=(mount,), environment={"A": "1"}))

    def mounted(**options: object) -> object:
        plan = make_plan(newer, observed, PlanOptions(**options))  # type: ignore[arg-type]
        (action,) = [s.action for s in plan.steps if isinstance(s.action, CreateContainer)]
        host_config = action.body["HostConfig"]
        assert isinstance(host_config, dict)
        return host_config["Mounts"]

    assert mounted() == [{"Type": "volume", "Target": "/cache", "Source": "a" * 64}]
    assert mounted(renew_anonymous_volumes=True) == [{"Type": "volume", "Target": "/cache"}]


def test_a_port_goes_over_from_one_service_to_another() -> None:
    port = (Port(80, "8080"),)
    project = make_project(make_service("a", ports=port), make_service("b"))
    observed = applied(project)
    newer = changed(project, make_service("a"), make_service("b", ports=port))
    after = applied(newer, observed)  # the simulation refuses two holders at once
    assert planned(newer, after) == ""


def test_two_services_can_swap_ports_even_if_one_needs_the_other() -> None:
    needed = needs(a=Condition.STARTED)
    project = make_project(
        make_service("a", ports=(Port(80, "8080"),)),
        make_service("b", ports=(Port(80, "8081"),), depends_on=needed),
    )
    observed = applied(project)
    newer = changed(
        project,
        make_service("a", ports=(Port(80, "8081"),)),
        make_service("b", ports=(Port(80, "8080"),), depends_on=needed),
    )
    assert planned(newer, applied(newer, observed)) == ""


def test_what_an_interrupted_replacement_left_is_cleaned_up() -> None:
    project = make_project(make_service("web"))
    observed = applied(project)
    (running,) = observed.containers
    interim = replace(running, id="d" * 64, name=f"{running.id[:12]}_demo-web-1", state="created")
    both = replace(observed, containers=(running, interim))
    assert planned(project, both) == "remove web.1   left over by an interrupted change\n"
    aside = replace(running, name=f"demo-web-1_{running.id[:12]}")
    assert planned(project, replace(observed, containers=(aside,))) == (
        f"rename web.1   is called {aside.name}\n"
    )


def test_what_an_interrupted_replacement_left_is_not_in_the_way_of_the_next() -> None:
    project = make_project(make_service("web"))
    observed = applied(project)
    (running,) = observed.containers
    interim = replace(running, id="d" * 64, name=f"{running.id[:12]}_demo-web-1", state="created")
    both = replace(observed, containers=(running, interim))
    for update in (None, UpdateConfig()):
        deploy = Deploy(update_config=update) if update else None
        newer = changed(project, make_service("web", environment={"A": "1"}, deploy=deploy))
        after = applied(newer, both)
        assert [container.name for container in after.containers] == ["demo-web-1"]
        assert planned(newer, after) == ""


def test_what_was_set_aside_already_is_replaced() -> None:
    """A change was cut short after that, and the files have changed since."""
    project = make_project(make_service("web"))
    observed = applied(project)
    (running,) = observed.containers
    aside = replace(running, name=f"demo-web-1_{running.id[:12]}")
    for update in (None, UpdateConfig()):
        deploy = Deploy(update_config=update) if update else None
        newer = changed(project, make_service("web", environment={"A": "1"}, deploy=deploy))
        after = applied(newer, replace(observed, containers=(aside,)))
        assert [container.name for container in after.containers] == ["demo-web-1"]
        assert planned(newer, after) == ""


def test_a_container_that_is_called_by_its_name_is_made_first() -> None:
    joins = make_service("app", network_mode="container:demo-vpn-1", pid="container:other")
    project = make_project(joins, make_service("vpn"))
    other = ForeignContainer("e" * 64, "other", "")
    plan = make_plan(project, replace(nothing(), foreign=(other,)), PlanOptions())
    (create,) = [step for step in plan.steps if step.key == "create app.1"]
    assert create.after == ("create vpn.1",)
    for service, what in (
        (replace(joins, pid="container:gone"), "there is no container gone"),
        (make_service("app", volumes_from=("container:gone:ro",)), "there is no container gone"),
        (make_service("app", network_mode="nowhere"), "there is no network nowhere"),
    ):
        with pytest.raises(ProjectError, match=what):
            make_plan(make_project(service), replace(nothing(), is_ours=True), PlanOptions())


def test_no_start_makes_and_replaces_without_starting() -> None:
    project = make_project(make_service("web"))
    plan = make_plan(project, nothing(), PlanOptions(no_start=True))
    assert not any(step.key.startswith("start") for step in plan.steps)


def test_dependencies_are_only_recreated_when_they_differ() -> None:
    project = make_project(
        make_service("web", depends_on=needs(db=Condition.STARTED)), make_service("db")
    )
    observed = applied(project)
    named = {"services": frozenset({"web"}), "force_recreate": True}
    assert planned(project, observed, **named) == "recreate web.1   asked for\n"
    assert (
        planned(project, observed, **named, always_recreate_deps=True)
        == """\
recreate db.1    asked for
recreate web.1   asked for   after: db.1
"""
    )


def test_no_recreate_leaves_what_differs() -> None:
    project = make_project(make_service("web"))
    newer = changed(project, make_service("web", environment={"A": "1"}))
    assert planned(newer, applied(project), no_recreate=True) == ""


def test_containers_of_docker_compose_are_told_apart_by_their_hash() -> None:
    project = make_project(make_service("web"))
    observed = in_state(applied(project), "demo-web-1", record="")
    assert planned(project, observed) == ""
    other = in_state(observed, "demo-web-1", config_hash="f" * 64)
    assert planned(project, other) == "recreate web.1   its configuration changed\n"


def test_an_image_is_pulled_when_missing_or_when_the_policy_says_so() -> None:
    project = make_project(make_service("web"), make_service("db", image="db:1"))
    assert (
        planned(project, nothing())
        == """\
pull image db:1          missing
create network default   missing
create db.1              missing   after: network default, image db:1
create web.1             missing   after: network default
"""
    )
    always = make_project(make_service("web", pull_policy="always"))
    observed = applied(make_project(make_service("web")))
    assert planned(always, observed) == f"pull image {IMAGE}   pull policy always\n"
    assert planned(always, observed, pulled=frozenset({IMAGE})) == ""


def test_everything_in_the_way_is_told_at_once_with_its_place() -> None:
    project = make_project(
        make_service("web", ports=(Port(80, "8080"),), container_name="front"),
        make_service("db", image="db:1", pull_policy="never"),
        make_service(
            "api",
            depends_on=needs(web=Condition.HEALTHY),
            volumes=(
                Mount(MountType.BIND, "/x", "/gone", bind=BindOptions(create_host_path=False)),
            ),
        ),
        networks={"outside": Network("outside", "outside", external=True)},
        volumes={"kept": Volume("kept", "kept", external=True)},
        positions={
            ("services", "web", "ports", 0): Position("compose.yaml", 4, 9),
            ("services", "db"): Position("compose.yaml", 7, 3),
        },
    )
    foreign = ForeignContainer("e" * 64, "front", "shop", (ObservedPort("0.0.0.0", 8080, "tcp"),))
    observed = replace(nothing(), foreign=(foreign,), missing_paths=frozenset({"/gone"}))
    with pytest.raises(ProjectError) as caught:
        planned(project, observed)
    assert sorted(str(problem).split("\n")[0] for problem in caught.value.problems) == [
        "compose.yaml:4:9: services.web.ports[0]: cannot publish port 8080/tcp: container front"
        " has it",
        "compose.yaml:7:3: services.db.image: image db:1 is not on the engine",
        "networks.outside: external network outside doesn't exist",
        "services.api.depends_on.web: api waits until web is healthy, but web has no healthcheck",
        "services.api.volumes[0]: cannot mount /gone: no such file or directory",
        "services.web.container_name: container name front is taken by container eeeeeeeeeeee of"
        " project shop",
        "volumes.kept: external volume kept doesn't exist",
    ]


def test_replicas_share_a_fixed_port_where_the_engine_lets_them() -> None:
    one = make_project(make_service("web", ports=(Port(80, "8080"),)))
    two = make_project(make_service("web", ports=(Port(80, "8080"),), scale=2))
    with pytest.raises(ProjectError, match='give a range: "8080-8081:80"'):
        planned(two, nothing())
    ours = replace(nothing(), is_ours=True)
    for project, options in ((two, PlanOptions()), (one, PlanOptions(scale={"web": 2}))):
        alone = Simulated(ours).apply(make_plan(one, ours, PlanOptions()))
        plan = make_plan(project, alone, options)
        assert (
            text(plan)
            == """\
recreate web.1   its ports are to be shared
create web.2     scaled from 1 to 2           after: web.1 stopped
"""
        )
        both = Simulated(alone).apply(plan)
        assert make_plan(project, both, options).is_empty


def test_no_port_is_shared_with_another_service_unknowingly() -> None:
    ours = replace(nothing(), is_ours=True)
    holder = ForeignContainer("e" * 64, "front", "shop", (ObservedPort("", 8080, "tcp"),))
    taken = replace(ours, foreign=(holder,))
    web = make_service("web", ports=(Port(80, "8080"),), scale=2)
    with pytest.raises(ProjectError, match="container front has it"):
        planned(make_project(web), taken)
    labels = {"io.pycompose.shared-ports": "true"}
    assert "create web.2" in planned(make_project(replace(web, labels=labels)), taken)


def test_an_optional_dependency_is_waited_for_without_being_required() -> None:
    optional = {"db": Dependency("db", Condition.HEALTHY, required=False)}
    project = make_project(
        make_service("web", depends_on=optional), make_service("db", healthcheck=check("true"))
    )
    plan = make_plan(project, nothing(), PlanOptions())
    (wait,) = [s.action for s in plan.steps if isinstance(s.action, AwaitCondition)]
    assert not wait.required


def test_an_existing_volume_of_nobody_is_used_as_it_is() -> None:
    mount = Mount(MountType.VOLUME, "/data", "data")
    project = make_project(
        make_service("db", volumes=(mount,)), volumes={"data": Volume("data", "demo_data")}
    )
    observed = replace(nothing(), volumes={"demo_data": ObservedVolume("demo_data")})
    assert "volume" not in planned(project, observed).split("after")[0]


def test_the_timeout_asked_for_goes_into_every_stop() -> None:
    project = make_project(make_service("web"))
    newer = changed(project, make_service("web", environment={"A": "1"}))
    plan = make_plan(newer, applied(project), PlanOptions(timeout=3))
    (stop,) = [s.action for s in plan.steps if isinstance(s.action, StopContainer)]
    assert stop.timeout == 3


def test_a_running_container_off_its_network_is_put_back() -> None:
    project = make_project(make_service("web", networks={"front": Attachment()}))
    observed = in_state(applied(project), "demo-web-1", networks={})
    assert planned(project, observed) == "update web.1   not connected to network front\n"


def test_one_off_containers_are_left_alone() -> None:
    project = make_project(make_service("web"))
    one_off = ObservedContainer("f" * 64, "demo-web-run-1", "web", 0, "running", one_off=True)
    observed = applied(project)
    observed = replace(observed, containers=(*observed.containers, one_off))
    assert planned(project, observed, remove_orphans=True) == ""
    ended = in_state(observed, "demo-web-run-1", state="exited")
    assert planned(project, ended) == ""
    told = planned(project, ended, remove_orphans=True)
    assert told == "remove container demo-web-run-1   run has ended\n"


def test_what_needs_many_machines_is_told_to_be_without_effect() -> None:
    deploy = Deploy(mode="global", update_config=UpdateConfig(order="start-first"))
    project = make_project(make_service("web", deploy=deploy))
    plan = make_plan(project, nothing(), PlanOptions())
    assert [str(note) for note in plan.notes] == [
        "services.web.deploy.mode: mode is not heeded",
    ]


def test_gpus_are_refused_before_anything_is_made_where_nothing_can_find_them() -> None:
    asked = (DeviceRequest(capabilities=("gpu",), count=-1),)
    deploy = Deploy(reservations=Resource(devices=asked))
    project = make_project(make_service("a", gpus=asked), make_service("b", deploy=deploy))
    assert planned(project, nothing()).startswith("create network")
    with pytest.raises(ProjectError) as refused:
        planned(project, replace(nothing(), is_ours=True))
    assert [problem.path for problem in refused.value.problems] == [
        "services.a.gpus", "services.b.deploy.resources.reservations.devices",
    ]  # fmt: skip


def test_files_that_volumes_from_does_not_hand_on_are_told() -> None:
    page, key = ConfigFile("page", "page", content=b"x"), Secret("key", "key", content=b"y")
    project = make_project(
        make_service("a", configs=(FileReference("page"),), secrets=(FileReference("key"),)),
        make_service("b", volumes_from=("a:ro",), secrets=(FileReference("key"),)),
        configs={"page": page},
        secrets={"key": key},
    )
    ours = replace(nothing(), is_ours=True)
    assert [str(note) for note in make_plan(project, ours, PlanOptions()).notes] == [
        "services.b.volumes_from[0]: configs of a aren't handed on: page\n"
        "  hint: name them in services.b.configs, too",
    ]
    assert make_plan(project, nothing(), PlanOptions()).notes == ()
