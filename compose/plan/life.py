"""pure: plans for containers that are there: stop, start, restart, kill, pause, remove, down.

The order comes from the labels, so all of this works without the project's files. Where the files
are at hand they add what labels don't hold: hooks, and which services are known.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import field

from compose.dataclass import dataclass
from compose.errors import Problem, ProjectError, UsageError
from compose.graph import with_dependents, with_needed
from compose.model.project import Project
from compose.model.service import Hook
from compose.plan import names
from compose.plan.actions import (
    Action,
    CreateContainer,
    Existing,
    KillContainer,
    PauseContainer,
    PullImage,
    PushImage,
    RemoveContainer,
    RemoveImage,
    RemoveNetwork,
    RemoveVolume,
    StartContainer,
    StopContainer,
    UnpauseContainer,
)
from compose.plan.builds import base_services, build_action, build_problems
from compose.plan.images import image_of, is_directory, is_latest
from compose.plan.init import make_init_containers
from compose.plan.observed import Observed, ObservedContainer
from compose.plan.options import DownOptions, PlanOptions
from compose.plan.plan import Plan, PlanBuilder, Verb

STOPPABLE = ("running", "restarting", "paused")


@dataclass(slots=True)
class _Life:
    """What the plans of this module share: the containers meant, and the order among them."""

    name: str
    containers: tuple[ObservedContainer, ...]
    project: Project | None
    builder: PlanBuilder = field(init=False)
    by_service: dict[str, list[ObservedContainer]] = field(init=False)
    needed_by: dict[str, set[str]] = field(init=False)

    def __post_init__(self) -> None:
        self.builder = PlanBuilder(self.name)
        self.by_service = {}
        self.needed_by = {}
        for container in self.containers:
            self.by_service.setdefault(container.service, []).append(container)
            for needed in container.depends_on:
                if needed != container.service:
                    self.needed_by.setdefault(needed, set()).add(container.service)

    def dependents(self, container: ObservedContainer) -> list[ObservedContainer]:
        return [
            other
            for service in sorted(self.needed_by.get(container.service, ()))
            for other in self.by_service.get(service, ())
        ]

    def needed(self, container: ObservedContainer) -> list[ObservedContainer]:
        return [
            other for service in container.depends_on for other in self.by_service.get(service, ())
        ]

    def pre_stop(self, container: ObservedContainer) -> tuple[Hook, ...]:
        service = self.project.services.get(container.service) if self.project else None
        return service.pre_stop if service else ()

    def post_start(self, container: ObservedContainer) -> tuple[Hook, ...]:
        service = self.project.services.get(container.service) if self.project else None
        return service.post_start if service else ()

    def stop(
        self,
        change: int,
        container: ObservedContainer,
        timeout: int | None,
        *,
        before: Collection[ObservedContainer],
    ) -> str:
        return self.builder.step(
            f"stop {container.name}",
            StopContainer(ref(container), timeout, self.pre_stop(container)),
            change,
            after=[f"stop {other.name}" for other in before],
        )


def ref(container: ObservedContainer) -> Existing:
    return Existing(container.id, container.name)


def subject(container: ObservedContainer) -> str:
    if container.one_off or not container.number:
        return f"container {container.name}"
    return names.slot(container.service, container.number)


def make_stop_plan(
    observed: Observed,
    name: str,
    project: Project | None = None,
    *,
    services: Collection[str] | None = None,
    timeout: int | None = None,
) -> Plan:
    """Dependents first."""
    life = _Life(name, _meant(observed, services), project)
    for container in life.containers:
        if container.state in STOPPABLE:
            change = life.builder.change(Verb.STOP, subject(container), "asked for")
            life.stop(change, container, timeout, before=life.dependents(container))
    return life.builder.finish()


def make_start_plan(
    observed: Observed,
    name: str,
    project: Project | None = None,
    *,
    services: Collection[str] | None = None,
) -> Plan:
    """What is needed first, also where it isn't named. Conditions aren't waited for: these
    containers have run before."""
    edges = {c.service: set(c.depends_on) for c in observed.containers if not c.one_off}
    wanted = None if services is None else with_needed(edges, services)
    life = _Life(name, _meant(observed, wanted), project)
    first: dict[str, str] = {}  # service -> key of the step that starts one of it first
    running = {c.service for c in observed.containers if c.is_running and not c.one_off}
    for container in life.containers:
        if container.state in ("created", "exited"):
            change = life.builder.change(Verb.START, subject(container), "asked for")
            before = first.get(container.service)
            inits: tuple[CreateContainer, ...] = ()
            ordered = False
            if project is not None and container.service in project.services:
                service = project.services[container.service]
                ordered = bool(service.pre_start)
                inits = make_init_containers(
                    project,
                    service,
                    observed,
                    ref(container),
                    subject(container),
                    is_first=before is None and container.service not in running,
                )
            key = life.builder.step(
                f"start {container.name}",
                StartContainer(ref(container), life.post_start(container), inits),
                change,
                after=[
                    *(f"start {other.name}" for other in life.needed(container)),
                    *([before] if before and ordered else ()),
                ],
            )
            first.setdefault(container.service, key)
    return life.builder.finish()


def make_restart_plan(
    observed: Observed,
    name: str,
    project: Project | None = None,
    *,
    services: Collection[str] | None = None,
    timeout: int | None = None,
    no_deps: bool = False,
) -> Plan:
    """The services named, and those that depend on them with `restart: true`."""
    meant = services
    if services is not None and not no_deps:
        meant = with_dependents(_restart_edges(observed.containers), services)
    life = _Life(name, _meant(observed, meant), project)
    for container in life.containers:
        asked = services is None or container.service in services
        cause = "asked for" if asked else "restarts with what it depends on"
        change = life.builder.change(Verb.RESTART, subject(container), cause)
        after = [f"start {other.name}" for other in life.needed(container)]
        if container.state in STOPPABLE:
            after.append(life.stop(change, container, timeout, before=life.dependents(container)))
        life.builder.step(
            f"start {container.name}",
            StartContainer(ref(container), life.post_start(container)),
            change,
            after=after,
        )
    return life.builder.finish()


def make_kill_plan(
    observed: Observed,
    name: str,
    *,
    services: Collection[str] | None = None,
    signal: str = "SIGKILL",
) -> Plan:
    return _each(
        observed, name, services, Verb.KILL, lambda c: KillContainer(ref(c), signal),
        lambda c: c.state in STOPPABLE,
    )  # fmt: skip


def make_pause_plan(
    observed: Observed, name: str, *, services: Collection[str] | None = None
) -> Plan:
    plan = _each(
        observed, name, services, Verb.PAUSE, lambda c: PauseContainer(ref(c)),
        lambda c: c.state == "running",
    )  # fmt: skip
    _refuse_vain(plan, _meant(observed, services), "paused", "already paused")
    return plan


def make_unpause_plan(
    observed: Observed, name: str, *, services: Collection[str] | None = None
) -> Plan:
    plan = _each(
        observed, name, services, Verb.UNPAUSE, lambda c: UnpauseContainer(ref(c)),
        lambda c: c.state == "paused",
    )  # fmt: skip
    _refuse_vain(plan, _meant(observed, services), "running", "not paused")
    return plan


def _refuse_vain(plan: Plan, meant: Iterable[ObservedContainer], state: str, reason: str) -> None:
    """Raises UsageError where all is so already. No container at all is no mistake."""
    there = [container.name for container in meant if container.state == state]
    if plan.is_empty and there:
        raise UsageError(f"container {there[0]} is {reason}")


def make_remove_plan(
    observed: Observed,
    name: str,
    project: Project | None = None,
    *,
    services: Collection[str] | None = None,
    stop: bool = False,
    volumes: bool = False,
    timeout: int | None = None,
) -> Plan:
    """`rm`: stopped containers, but no one-offs; with `stop` all of them, stopped first."""
    life = _Life(name, _meant(observed, services), project)
    for container in life.containers:
        runs = container.state in STOPPABLE
        if runs and not stop:
            continue
        change = life.builder.change(Verb.REMOVE, subject(container), "asked for")
        after = []
        if runs:
            after = [life.stop(change, container, timeout, before=life.dependents(container))]
        life.builder.step(
            f"remove {container.name}", RemoveContainer(ref(container), volumes), change,
            after=after,
        )  # fmt: skip
    return life.builder.finish()


def make_down_plan(
    observed: Observed, name: str, project: Project | None, options: DownOptions
) -> Plan:
    """Containers dependents first, then networks, then (if asked for) volumes and images.

    Without files (`project` None) all that has the project's label goes.
    """
    meant = observed.containers
    if options.services:
        edges = {c.service: set(c.depends_on) for c in observed.containers}
        wanted = with_dependents(edges, options.services)
        meant = tuple(c for c in meant if c.service in wanted)
    orphans: tuple[ObservedContainer, ...] = ()
    off: tuple[ObservedContainer, ...] = ()
    ones: tuple[ObservedContainer, ...] = ()
    if not options.remove_orphans:
        # Those of `run` are whoever's who ran them, as Docker Compose has it.
        ones = tuple(c for c in meant if c.one_off)
        meant = tuple(c for c in meant if not c.one_off)
    if project is not None and not options.services and not options.by_name:
        # Those of profiles that are off are nobody's orphans, and not meant either, as there.
        off = tuple(c for c in meant if c.service in project.disabled and not c.one_off)
        if not options.remove_orphans:
            known = project.services.keys() | project.disabled
            orphans = tuple(c for c in meant if c.service not in known)
        meant = tuple(c for c in meant if c not in off and c not in orphans)
    life = _Life(name, meant, project)
    removals = []
    for container in life.containers:
        change = life.builder.change(Verb.REMOVE, subject(container), "down")
        after = []
        if container.state in STOPPABLE:
            after = [
                life.stop(change, container, options.timeout, before=life.dependents(container))
            ]
        removals.append(
            life.builder.step(
                f"remove {container.name}",
                RemoveContainer(ref(container), volumes=options.volumes),
                change,
                after=after,
            )
        )
    if not options.services:
        used = (*orphans, *off, *(c for c in ones if c.is_running))
        _remove_networks(life, observed, name, used, removals)
        if options.volumes:
            _remove_volumes(life, observed, name, (*orphans, *off, *ones), removals)
        if options.images and project is not None:
            _remove_images(life, observed, project, options.images, removals)
    for which, staying, remedy in (
        ("of services that are not in the files", orphans, "--remove-orphans removes them"),
        ("of profiles that are off", off, "--profile '*' takes them down, too"),
        ("of run", ones, "--remove-orphans removes them"),
    ):
        if staying:
            listed = ", ".join(container.name for container in staying)
            note = Problem(f"containers {which} stay: {listed}", hint=remedy)
            life.builder.notes.append(note)
    return life.builder.finish()


def make_pull_plan(project: Project, observed: Observed, policy: str = "") -> Plan:
    """`policy`: always, or missing: only what isn't there yet, or is called latest; "": as each
    service says, else always."""
    builder = PlanBuilder(project.name)
    for name, service in project.services.items():
        reference = image_of(project, service)
        key = f"pull {reference}"
        present = reference in observed.images
        buildable = service.build is not None and not service.image
        if is_directory(reference) or buildable or key in builder.steps:
            continue
        wanted = policy or service.pull_policy
        if wanted in ("never", "build"):
            continue
        if wanted == "missing" and present and not is_latest(reference):
            continue
        cause = "asked for" if present else "missing"
        at = project.at("services", name, "image")
        change = builder.change(Verb.PULL, f"image {reference}", cause, at)
        builder.step(key, PullImage(reference, service.platform), change)
    return builder.finish()


def make_push_plan(project: Project) -> Plan:
    """What is built here and has a name: that, and the further tags of its build."""
    builder = PlanBuilder(project.name)
    for name, service in project.services.items():
        if service.build is None or not service.image:
            continue
        for reference in (service.image, *service.build.tags):
            key = f"push {reference}"
            if key not in builder.steps:
                at = project.at("services", name, "image")
                change = builder.change(Verb.PUSH, f"image {reference}", "asked for", at)
                builder.step(key, PushImage(reference), change)
    return builder.finish()


def make_build_plan(project: Project, options: PlanOptions) -> Plan:
    """Raises ProjectError for what can't be built."""
    services = {**project.services, **project.bases}
    if problems := [
        problem for service in services.values() for problem in build_problems(project, service)
    ]:
        raise ProjectError(*problems)
    builder = PlanBuilder(project.name)
    for name, service in services.items():
        key = f"build {image_of(project, service)}"
        if service.build is None or key in builder.steps:
            continue
        subject = f"image {image_of(project, service)}"
        at = project.at("services", name, "build")
        change = builder.change(Verb.BUILD, subject, "asked for", at)
        after = [f"build {image_of(project, base)}" for base in base_services(project, service)]
        builder.step(key, build_action(project, service, options), change, after=after)
    return builder.finish()


def _remove_networks(
    life: _Life,
    observed: Observed,
    name: str,
    staying: Iterable[ObservedContainer],
    after: list[str],
) -> None:
    staying = tuple(staying)
    for network in sorted(observed.networks.values(), key=lambda network: network.name):
        if network.project != name:
            continue
        users = [c.name for c in staying if network.name in c.networks]
        users += [c.name for c in observed.foreign if network.name in c.networks]
        if users:
            life.builder.notes.append(
                Problem(f"network {network.name} stays: {', '.join(sorted(users))} use it")
            )
            continue
        label = network.key or network.name
        change = life.builder.change(Verb.REMOVE, f"network {label}", "down")
        life.builder.step(
            f"remove network {network.name}", RemoveNetwork(network.name), change, after=after
        )


def _remove_volumes(
    life: _Life,
    observed: Observed,
    name: str,
    staying: Collection[ObservedContainer],
    after: list[str],
) -> None:
    external = set()
    if life.project is not None:
        external = {v.name for v in life.project.volumes.values() if v.external}
    for volume in sorted(observed.volumes.values(), key=lambda volume: volume.name):
        if volume.project == name and volume.name not in external:
            users = [c.name for c in staying if any(m.name == volume.name for m in c.mounts)]
            if users:
                life.builder.notes.append(
                    Problem(f"volume {volume.name} stays: {', '.join(sorted(users))} use it")
                )
                continue
            label = volume.key or volume.name
            change = life.builder.change(Verb.REMOVE, f"volume {label}", "--volumes")
            life.builder.step(
                f"remove volume {volume.name}", RemoveVolume(volume.name), change, after=after
            )


def _remove_images(
    life: _Life, observed: Observed, project: Project, which: str, after: list[str]
) -> None:
    """`local`: those without a name of their own in the files; `all`: every one used."""
    references = {
        image_of(project, service)
        for service in project.services.values()
        if which == "all" or not service.image
    }
    for reference in sorted(references & observed.images.keys()):
        if not is_directory(reference):
            change = life.builder.change(Verb.REMOVE, f"image {reference}", f"--rmi {which}")
            life.builder.step(
                f"remove image {reference}", RemoveImage(reference), change, after=after
            )


def _each(
    observed: Observed,
    name: str,
    services: Collection[str] | None,
    verb: Verb,
    action: Callable[[ObservedContainer], Action],
    applies: Callable[[ObservedContainer], bool],
) -> Plan:
    builder = PlanBuilder(name)
    for container in _meant(observed, services):
        if applies(container):
            change = builder.change(verb, subject(container), "asked for")
            builder.step(f"{verb} {container.name}", action(container), change)
    return builder.finish()


def _meant(
    observed: Observed, services: Collection[str] | None, *, one_offs: bool = False
) -> tuple[ObservedContainer, ...]:
    """`services` None: all of them."""
    return tuple(
        container
        for container in observed.containers
        if (services is None or container.service in services)
        and (one_offs or not container.one_off)
    )


def _restart_edges(containers: Iterable[ObservedContainer]) -> dict[str, set[str]]:
    edges: dict[str, set[str]] = {}
    for container in containers:
        followed = {name for name, restarts in container.depends_on.items() if restarts}
        edges.setdefault(container.service, set()).update(followed)
    return edges
