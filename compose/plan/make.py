"""pure: Project + Observed -> Plan. The order of things is decided here, and nowhere else.

Before the checkpoint only what is new is made: if that fails, all of it is taken back and what ran
is as it was. After it containers are stopped, replaced and started, dependencies first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field, replace

from compose.dataclass import dataclass
from compose.errors import ProjectError
from compose.graph import dependency_order
from compose.model.mount import MountType
from compose.model.own import reload_of
from compose.model.project import Project
from compose.model.service import Condition, Dependency, Service
from compose.plan import live, names
from compose.plan.actions import (
    AwaitCondition,
    Checkpoint,
    ConnectNetwork,
    ContainerRef,
    CreateContainer,
    CreateNetwork,
    CreateVolume,
    DisconnectNetwork,
    Existing,
    KillContainer,
    Pace,
    Planned,
    PullImage,
    RemoveContainer,
    RemoveNetwork,
    RenameContainer,
    StartContainer,
    StopContainer,
    Turn,
    UnpauseContainer,
    UpdateContainer,
    UpdateService,
    WriteFiles,
)
from compose.plan.builds import base_services, build_action, build_cause
from compose.plan.container import Replica, make_creation, make_endpoint
from compose.plan.diff import ABSENT, Difference, in_words, is_private
from compose.plan.handover import stop_first_cause
from compose.plan.images import image_of, pull_cause
from compose.plan.init import make_init_containers
from compose.plan.networks import NetworkDecision, decide_network, network_body
from compose.plan.observed import Observed, ObservedContainer
from compose.plan.options import PlanOptions
from compose.plan.plan import FieldChange, Plan, PlanBuilder, Verb
from compose.plan.preflight import not_handed_on, orphans_note, preflight, unheeded
from compose.plan.record import config_hash, write_record
from compose.plan.rolling import rollback_pace, update_pace
from compose.plan.services import (
    Create,
    Keep,
    Recreate,
    Remove,
    ServiceDecision,
    decide_service,
    final_name,
    jobs,
)
from compose.plan.volumes import is_missing, volume_body
from compose.position import Position

CHECKPOINT = "checkpoint"
HostPort = tuple[int, str]
WORDS = {
    Condition.STARTED: "started",
    Condition.HEALTHY: "healthy",
    Condition.COMPLETED: "completed",
}


def make_plan(project: Project, observed: Observed, options: PlanOptions) -> Plan:
    """What brings the engine to what the files declare. Raises ProjectError with all that is in
    the way, before anything has been done."""
    planner = Planner(project, observed, options)
    planner.decide()
    problems = preflight(project, observed, options, planner.decided.values())
    problems += project.unmet
    if problems:
        raise ProjectError(*problems)
    planner.plan_images()
    planner.plan_networks()
    planner.plan_volumes()
    planner.plan_orphans()
    planner.plan_services()
    return planner.finish()


def dependency_edges(services: Mapping[str, Service]) -> dict[str, list[str]]:
    return {
        name: [needed for needed in service.depends_on if needed in services]
        for name, service in services.items()
    }


def scaled(project: Project, scale: Mapping[str, int]) -> Project:
    """With the numbers of replicas that were asked for."""
    if not scale:
        return project
    changed = {
        name: replace(service, scale=scale[name])
        for name, service in project.services.items()
        if name in scale
    }
    return replace(project, services={**project.services, **changed})


@dataclass(slots=True)
class Planner:
    """Makes one plan. Each method adds the steps of one kind of thing."""

    project: Project
    observed: Observed
    options: PlanOptions
    builder: PlanBuilder = field(init=False)
    order: tuple[str, ...] = field(init=False)
    own: dict[str, list[ObservedContainer]] = field(init=False)
    networks: dict[str, NetworkDecision] = field(init=False)
    decided: dict[str, ServiceDecision] = field(default_factory=dict)
    followers: dict[str, list[str]] = field(default_factory=dict)  # restarted with a service
    restarting: dict[str, str] = field(default_factory=dict)  # service -> why all of it restarts
    refs: dict[str, list[ContainerRef]] = field(default_factory=dict)
    starts: dict[str, list[str]] = field(default_factory=dict)  # service -> keys of its starts
    pulls: dict[str, str] = field(default_factory=dict)  # image -> key of what gets or builds it
    made: list[str] = field(default_factory=list)  # keys that the checkpoint waits for
    freed: dict[HostPort, list[str]] = field(default_factory=dict)  # port -> what frees it
    jobs: frozenset[str] = frozenset()
    publishers: dict[HostPort, set[str]] = field(default_factory=dict)  # port -> services

    def __post_init__(self) -> None:
        self.project = scaled(self.project, self.options.scale)
        self.builder = PlanBuilder(self.project.name)
        self.order = dependency_order(dependency_edges(self.project.services))
        self.own = {}
        for container in self.observed.containers:
            if not container.one_off and container.state != "removing":
                self.own.setdefault(container.service, []).append(container)
        for name, service in self.project.services.items():
            for port in service.ports:
                for host_port in port.host_ports:
                    self.publishers.setdefault((host_port, port.protocol), set()).add(name)
        self.networks = {
            key: decide_network(self.project, network, self.observed)
            for key, network in self.project.networks.items()
        }

    # --- decisions, dependencies first

    def decide(self) -> None:
        self.jobs = jobs(self.project)
        replaced: set[str] = set()
        disturbed: set[str] = set()
        rebuilt = {key for key, d in self.networks.items() if d.cause and d.exists}
        for name in self.order:
            service = self.project.services[name]
            if self.options.no_deps and not self.options.names(name):
                continue
            decision = decide_service(
                self.project, service, self.observed, self.own.get(name, ()), self.options,
                frozenset(replaced), completes=name in self.jobs,
            )  # fmt: skip
            self.decided[name] = decision
            if decision.is_replaced:
                replaced.add(name)
                disturbed.add(name)
            for needed, dependency in service.depends_on.items():
                if dependency.restart and needed in disturbed:
                    self.followers.setdefault(needed, []).append(name)
                    self.restarting.setdefault(name, f"restarts with {needed}")
            if changed := rebuilt.intersection(service.networks):
                self.restarting.setdefault(name, f"network {min(changed)} is recreated")
            if name in self.restarting and self._runs(name):
                disturbed.add(name)
            self.refs[name] = [
                Existing(d.container.id, d.rename or d.container.name)
                if isinstance(d, Keep)
                else Planned(_slot(name, d))
                for d in decision.decisions
                if not isinstance(d, Remove)
            ]

    def _runs(self, service: str) -> bool:
        return any(container.is_running for container in self.own.get(service, ()))

    # --- images, networks, volumes

    def plan_images(self) -> None:
        for name in self.decided:
            service = self.project.services[name]
            reference = image_of(self.project, service)
            if cause := build_cause(self.project, service, self.observed, self.options):
                self._build(service, reference, cause)
        for name in self.decided:
            service = self.project.services[name]
            reference = image_of(self.project, service)
            if reference in self.pulls:
                continue
            if cause := pull_cause(self.project, service, self.observed, self.options):
                change = self.builder.change(
                    Verb.PULL, f"image {reference}", cause, self._at(name, "image")
                )
                self.pulls[reference] = self.builder.step(
                    f"pull {reference}", PullImage(reference, service.platform), change
                )

    def _build(self, service: Service, reference: str, cause: str) -> None:
        if reference in self.pulls:
            return
        after = []
        for base in base_services(self.project, service):
            below = image_of(self.project, base)
            if why := build_cause(self.project, base, self.observed, self.options):
                self._build(base, below, why)
            if below in self.pulls:
                after.append(self.pulls[below])
        change = self.builder.change(
            Verb.BUILD, f"image {reference}", cause, self._at(service.name, "build")
        )
        action = build_action(self.project, service, self.options)
        key = f"build {reference}"
        self.pulls[reference] = self.builder.step(key, action, change, after=after)

    def plan_networks(self) -> None:
        for key, decision in self.networks.items():
            if not decision.cause:
                continue
            name = decision.network.name
            verb = Verb.RECREATE if decision.exists else Verb.CREATE
            change = self.builder.change(
                verb, f"network {key}", decision.cause, self.project.at("networks", key)
            )
            after: list[str] = []
            if decision.exists:
                leaving = [
                    self._leave(change, container, key)
                    for container in self.observed.containers
                    if name in container.networks
                ]
                remove = f"remove network {key}"
                self.builder.step(remove, RemoveNetwork(name), change, after=[CHECKPOINT, *leaving])
                after = [remove]
            step = self.builder.step(
                f"create network {key}",
                CreateNetwork(name, network_body(self.project, decision.network)),
                change,
                after=after,
                undo=None if decision.exists else RemoveNetwork(name),
                until=[CHECKPOINT],
            )
            if not decision.exists:
                self.made.append(step)

    def _leave(self, change: int, container: ObservedContainer, network: str) -> str:
        """Take a container off a network that goes; its service's own steps stop it before."""
        name = self.project.networks[network].name
        return self.builder.step(
            f"disconnect {container.name} from {network}",
            DisconnectNetwork(name, Existing(container.id, container.name)),
            change,
            after=[CHECKPOINT, _stop_key(container)],
        )

    def plan_volumes(self) -> None:
        for key, volume in self.project.volumes.items():
            if is_missing(volume, self.observed):
                change = self.builder.change(
                    Verb.CREATE, f"volume {key}", "missing", self.project.at("volumes", key)
                )
                self.made.append(
                    self.builder.step(
                        f"create volume {key}",
                        CreateVolume(volume.name, volume_body(self.project, volume)),
                        change,
                    )
                )

    # --- services

    def plan_services(self) -> None:
        for decision in self.decided.values():
            for each in decision.decisions:
                if isinstance(each, Remove):
                    self._plan_removal(each.container, each.cause)
                elif isinstance(each, Recreate):
                    self._free_ports(each.container, _stop_key(each.container))
        for name, decision in self.decided.items():
            self.starts[name] = []
            if (pace := self._pace(decision)) is not None:
                self._plan_update_of_service(decision, pace)
            for each in decision.decisions:
                match each:
                    case Keep():
                        self._plan_kept(decision, each)
                    case Create():
                        self._plan_creation(decision, each)
                    case Recreate() if pace is None:
                        self._plan_replacement(decision, each)

    def _pace(self, decision: ServiceDecision) -> Pace | None:
        """How its containers are replaced, if that is to be some at a time."""
        name, pace = decision.service.name, update_pace(decision.service)
        if pace is None or self.options.no_start:
            return None
        old = [each.container for each in decision.decisions if isinstance(each, Recreate)]
        # What restarts with what it needs is down at once, whatever comes of it; others wait for
        # the ports; and a job has no replicas that serve meanwhile.
        is_plain = name in self.restarting or name in self.jobs or any(map(self._is_wanted, old))
        return pace if old and not is_plain else None

    def _plan_update_of_service(self, decision: ServiceDecision, pace: Pace) -> None:
        service = decision.service
        key = f"update {service.name}"
        turns: list[Turn] = []
        after = [CHECKPOINT, *self._conditions(service.name)]
        for each in decision.decisions:
            if isinstance(each, Recreate):
                turns.append(self._turn(decision, each, key, is_first=not turns, pace=pace))
                after += [f"create {turns[-1].slot}", f"remove {turns[-1].name}"]
        after += self._released(service)
        for follower in self.followers.get(service.name, ()):
            after += [_stop_key(other) for other in self.own.get(follower, ())]
        action = UpdateService(service.name, tuple(turns), pace, rollback_pace(service))
        places = self._places(service.name)
        self.starts[service.name].append(self.builder.step(key, action, after=after, places=places))

    def _turn(
        self,
        decision: ServiceDecision,
        recreation: Recreate,
        key: str,
        *,
        is_first: bool,
        pace: Pace,
    ) -> Turn:
        service, old = decision.service, recreation.container
        slot = names.slot(service.name, old.number)
        name = final_name(self.project, service, old.number)
        interim = names.temporary_name(old.id, name)
        old_ref, new_ref = Existing(old.id, old.name), Planned(slot)
        change = self._change_of(decision, recreation)
        self._create(decision, change, old.number, created_as=interim, old=old, until=key)
        inits = make_init_containers(
            self.project, service, self.observed, new_ref, slot,
            is_first=is_first and not self._runs_on(service.name),
        )  # fmt: skip
        cause = stop_first_cause(service, old, is_ours=self.observed.is_ours)
        if cause and pace.start_first and old.is_running:
            self.builder.notes.append(
                self.project.problem(
                    f"{slot} stops before its successor starts: {cause}",
                    "services", service.name, "deploy", "update_config", "order",
                )
            )  # fmt: skip
        return Turn(
            slot=slot,
            name=name,
            interim=interim,
            aside=names.outgoing_name(old.id, name),
            old=old_ref,
            new=new_ref,
            stop=StopContainer(old_ref, self.options.timeout, service.pre_stop)
            if old.is_running
            else None,
            start=StartContainer(new_ref, service.post_start, inits),
            remove=RemoveContainer(old_ref, volumes=self.options.renew_anonymous_volumes),
            can_overlap=not cause and old.is_running,
        )

    def _change_of(self, decision: ServiceDecision, recreation: Recreate) -> int:
        name = decision.service.name
        return self.builder.change(
            Verb.RECREATE, names.slot(name, recreation.container.number), recreation.cause,
            self._at(name, *recreation.place), self._fields(name, recreation.differences),
        )  # fmt: skip

    def _plan_removal(self, container: ObservedContainer, cause: str) -> None:
        subject = _subject(container)
        change = self.builder.change(Verb.REMOVE, subject, cause)
        stop = self._stop(change, container) if container.is_running else CHECKPOINT
        remove = self.builder.step(
            f"remove {container.name}",
            RemoveContainer(Existing(container.id, container.name), volumes=True),
            change,
            after=[CHECKPOINT, stop],
        )
        self._free_ports(container, remove)

    def _free_ports(self, container: ObservedContainer, key: str) -> None:
        for port in container.ports:
            self.freed.setdefault((port.port, port.protocol), []).append(key)

    def _plan_kept(self, decision: ServiceDecision, kept: Keep) -> None:
        container, name = kept.container, decision.service.name
        ref = Existing(container.id, container.name)
        subject = names.slot(name, container.number)
        rename = self._plan_update(decision, kept, ref, subject) if kept.cause else []
        if kept.rename:
            change = self.builder.change(Verb.RENAME, subject, f"is called {container.name}")
            # Whoever has the name now is a left-over, and is removed before.
            rename.append(
                self.builder.step(
                    f"rename {subject}", RenameContainer(ref, kept.rename), change,
                    after=[CHECKPOINT, f"remove {kept.rename}"],
                )
            )  # fmt: skip
        restart = self.restarting.get(name, "") if container.is_running else ""
        if self.options.heal and container.state == "running" and container.health == "unhealthy":
            restart = "is unhealthy"
        if self.options.no_start:
            restart = ""
        if kept.start_cause == "is paused" and not restart:
            change = self.builder.change(Verb.UNPAUSE, subject, kept.start_cause)
            key = f"unpause {subject}"
            self.builder.step(key, UnpauseContainer(ref), change, after=[CHECKPOINT])
            self.starts[name].append(key)
            return
        if not (restart or (kept.start_cause and not self.options.no_start)):
            self._reconnect(name, container, None)
            return
        verb = Verb.RESTART if restart else Verb.START
        change = self.builder.change(verb, subject, restart or kept.start_cause)
        if restart:
            self._stop(change, container, undo=StartContainer(ref), until=[f"start {subject}"])
        connected = self._reconnect(name, container, change)
        self._start(name, ref, subject, change, after=[_stop_key(container), *connected, *rename])

    def _plan_update(
        self, decision: ServiceDecision, kept: Keep, ref: ContainerRef, subject: str
    ) -> list[str]:
        """Networks that come and go, then the limits with the new record: what is interrupted
        before that is found again by the next plan."""
        service = decision.service
        change = self.builder.change(
            Verb.UPDATE, subject, kept.cause, self._at(service.name, *kept.differences[0].place),
            self._fields(service.name, kept.differences),
        )  # fmt: skip
        creation = self._creation(decision, kept.container.number, kept.container.name, None)
        come, some_go = live.networks(kept.differences)
        done: list[str] = []
        # A network that is made anew takes all off itself, and those that stay back.
        rebuilt = {d.network.name for d in self.networks.values() if d.cause and d.exists}
        for key in come:
            network = self.project.networks[key].name
            if network in rebuilt:
                continue
            endpoint = creation.endpoints[network]
            done.append(
                self.builder.step(
                    f"connect {subject} to {key}", ConnectNetwork(network, ref, endpoint), change,
                    after=[CHECKPOINT, f"create network {key}"],
                )
            )  # fmt: skip
        staying = {self.project.networks[key].name for key in service.networks} | rebuilt
        for network in kept.container.networks:
            if some_go and network not in staying:
                done.append(
                    self.builder.step(
                        f"disconnect {subject} from {network}", DisconnectNetwork(network, ref),
                        change, after=[CHECKPOINT, *done],
                    )
                )  # fmt: skip
        if live.has_new_contents(kept.differences):
            write = WriteFiles(ref, creation.files)
            done.append(
                self.builder.step(f"write files of {subject}", write, change, after=[CHECKPOINT])
            )
        host_config, labels = creation.body["HostConfig"], creation.body["Labels"]
        assert isinstance(host_config, dict)
        assert isinstance(labels, dict)
        kept_labels = {key: labels[key] for key in (names.SERVICE_RECORD, names.CONFIG_HASH)}
        body = {**live.update_body(kept.differences, host_config), "Labels": kept_labels}
        update = UpdateContainer(ref, body)
        done = [self.builder.step(f"update {subject}", update, change, after=[CHECKPOINT, *done])]
        wish = reload_of(service)
        is_told = live.has_new_contents(kept.differences) and kept.container.state == "running"
        if is_told and wish not in ("", "restart"):
            tell = KillContainer(ref, wish)
            done = [self.builder.step(f"tell {subject}", tell, change, after=done)]
        return done

    def _reconnect(self, name: str, container: ObservedContainer, change: int | None) -> list[str]:
        """Put a kept container back onto networks that are made anew."""
        service = self.project.services[name]
        keys: list[str] = []
        for key in service.networks:
            decision = self.networks[key]
            if decision.cause and decision.exists:
                final = final_name(self.project, service, container.number)
                keys.append(
                    self.builder.step(
                        f"connect {container.name} to {key}",
                        ConnectNetwork(
                            decision.network.name,
                            Existing(container.id, container.name),
                            make_endpoint(self.project, service, key, final),
                        ),
                        change,
                        after=[f"create network {key}"],
                    )
                )
        return keys

    def _plan_creation(self, decision: ServiceDecision, creation: Create) -> None:
        service = decision.service
        subject = names.slot(service.name, creation.number)
        name = final_name(self.project, service, creation.number)
        change = self.builder.change(
            Verb.CREATE, subject, creation.cause, self.project.at("services", service.name)
        )
        self._create(decision, change, creation.number, created_as=name, old=None)
        if not self.options.no_start:
            self._start(
                service.name, Planned(subject), subject, change, after=[f"create {subject}"]
            )

    def _plan_replacement(self, decision: ServiceDecision, recreation: Recreate) -> None:
        """New beside old, old stopped and set aside, new started, old removed: until the new one
        runs, the old one can be put back."""
        service, old = decision.service, recreation.container
        subject = names.slot(service.name, old.number)
        name = final_name(self.project, service, old.number)
        old_ref, new_ref = Existing(old.id, old.name), Planned(subject)
        started = f"start {subject}" if not self.options.no_start else f"rename {subject}"
        interim = names.temporary_name(old.id, name)
        change = self._change_of(decision, recreation)
        self._create(decision, change, old.number, created_as=interim, old=old, until=started)
        stopped = [CHECKPOINT]
        if old.is_running:
            # It may serve until those that its successor waits for are ready, unless somebody
            # needs its ports or it is to restart with them.
            early = service.name in self.restarting or self._is_wanted(old)
            waits = [] if early else self._conditions(service.name)
            undo = StartContainer(old_ref)
            stopped = [self._stop(change, old, undo=undo, until=[started], after=waits)]
        aside = self.builder.step(
            f"set aside {subject}",
            RenameContainer(old_ref, names.outgoing_name(old.id, name)),
            change,
            after=[f"create {subject}", *stopped],
            undo=RenameContainer(old_ref, old.name),
            until=[started],
        )
        renamed = self.builder.step(
            f"rename {subject}",
            RenameContainer(new_ref, name),
            change,
            # Another container has the name only if an interrupted change left it there.
            after=[aside, *([f"remove {name}"] if old.name != name else [])],
            undo=RenameContainer(new_ref, interim),
            until=[started],
        )
        if not self.options.no_start:
            self._start(service.name, new_ref, subject, change, after=[renamed])
        self.builder.step(
            f"remove {old.name}",
            RemoveContainer(old_ref, volumes=self.options.renew_anonymous_volumes),
            change,
            after=[started],
        )

    def _create(
        self,
        decision: ServiceDecision,
        change: int,
        number: int,
        *,
        created_as: str,
        old: ObservedContainer | None,
        until: str = "",
    ) -> None:
        service = decision.service
        slot = names.slot(service.name, number)
        action = self._creation(decision, number, created_as, old)
        after = [f"create network {key}" for key in service.networks]
        after += [f"create volume {mount.source}" for mount in service.volumes]
        after += [f"create {share.container.slot}" for share in action.shares
                  if isinstance(share.container, Planned)]  # fmt: skip
        if (pull := self.pulls.get(image_of(self.project, service))) is not None:
            after.append(pull)
        key = self.builder.step(
            f"create {slot}",
            action,
            change,
            after=after,
            undo=RemoveContainer(Planned(slot), volumes=old is None, force=True),
            until=[
                CHECKPOINT if self.options.no_start and old is None else until or f"start {slot}"
            ],
        )
        # On a network that is made anew it can only be created once the old one has gone.
        if not any(
            self.networks[name].cause and self.networks[name].exists for name in service.networks
        ):
            self.made.append(key)

    def _creation(
        self,
        decision: ServiceDecision,
        number: int,
        created_as: str,
        old: ObservedContainer | None,
    ) -> CreateContainer:
        service = decision.service
        image = self.observed.images.get(image_of(self.project, service))
        replica = Replica(
            number=number,
            name=final_name(self.project, service, number),
            created_as=created_as,
            image_id=decision.image_id,
            record=write_record(decision.record),
            config_hash=config_hash(decision.document),
            image_volumes=image.volumes if image else (),
            inherited=self._anonymous_volumes(service, old) if old else {},
            replaces=old.name if old else "",
            seccomp_profiles=self.observed.profiles,
            parents=lambda parent: self.refs[parent][0],
            places_files=self.observed.is_ours,
            api_socket=self.observed.api_socket,
        )
        return make_creation(self.project, service, replica)

    def _anonymous_volumes(self, service: Service, old: ObservedContainer) -> dict[str, str]:
        if self.options.renew_anonymous_volumes:
            return {}
        named = {
            mount.target
            for mount in service.volumes
            if mount.type is not MountType.VOLUME or mount.source
        }
        return {
            mount.target: mount.name
            for mount in old.mounts
            if mount.kind == "volume" and mount.name and mount.target not in named
        }

    def _start(
        self,
        name: str,
        ref: ContainerRef,
        subject: str,
        change: int,
        *,
        after: Iterable[str],
    ) -> None:
        service = self.project.services[name]
        released = self._released(service)
        is_first = not self.starts[name] and not self._runs_on(name)
        inits = make_init_containers(
            self.project, service, self.observed, ref, subject, is_first=is_first
        )
        # What is done once for a service is done when its others start.
        ready = self.starts[name][:1] if service.pre_start else []
        key = self.builder.step(
            f"start {subject}",
            StartContainer(ref, service.post_start, inits),
            change,
            after=[CHECKPOINT, *after, *released, *ready, *self._conditions(name)],
            places=self._places(name),
        )
        self.starts[name].append(key)

    def _places(self, service: str) -> dict[str, Position]:
        """Of what a start may fail for."""
        written = self.project.positions
        return {
            key: written[place]
            for key in ("entrypoint", "command", "user", "working_dir", "ports")
            if (place := ("services", service, key)) in written
        }

    def _released(self, service: Service) -> list[str]:
        """Keys of what gives back ports that it is to have."""
        return [
            key
            for port in service.ports
            for host_port in port.host_ports
            for key in self.freed.get((host_port, port.protocol), ())
        ]

    def _runs_on(self, name: str) -> bool:
        """Whether a container of the service runs that this plan leaves alone."""
        return any(
            isinstance(decision, Keep) and decision.container.is_running
            for decision in self.decided[name].decisions
        )

    def _stop(
        self,
        change: int,
        container: ObservedContainer,
        *,
        undo: StartContainer | None = None,
        until: Iterable[str] = (),
        after: Iterable[str] = (),
    ) -> str:
        """Followers stop first."""
        service = self.project.services.get(container.service)
        before = [
            _stop_key(other)
            for follower in self.followers.get(container.service, ())
            for other in self.own.get(follower, ())
        ]
        return self.builder.step(
            _stop_key(container),
            StopContainer(
                Existing(container.id, container.name),
                self.options.timeout,
                service.pre_stop if service else (),
            ),
            change,
            after=[CHECKPOINT, *before, *after],
            undo=undo,
            until=until,
        )

    def _is_wanted(self, container: ObservedContainer) -> bool:
        """Whether another service is to have one of its ports."""
        return any(
            self.publishers.get((port.port, port.protocol), set()) - {container.service}
            for port in container.ports
        )

    def _conditions(self, name: str) -> list[str]:
        """Keys that a start of this service waits for."""
        keys: list[str] = []
        for needed, dependency in self.project.services[name].depends_on.items():
            if needed not in self.decided:
                continue
            if dependency.condition is Condition.STARTED and dependency.required:
                keys += self.starts.get(needed, ())
            elif key := self._await(needed, dependency):
                keys.append(key)
        return keys

    def _await(self, needed: str, dependency: Dependency) -> str:
        """The key of the step that waits for a condition, "" if it is met already."""
        refs = tuple(self.refs[needed])
        starts = self.starts.get(needed, [])
        if not refs or self.options.no_start:
            return ""
        word = WORDS[dependency.condition]
        key = f"await {needed} {word}"
        if not dependency.required:
            key += " (optional)"
        if key in self.builder.steps:
            return key
        if not starts and self._is_met(needed, dependency.condition):
            return ""
        return self.builder.step(
            key,
            AwaitCondition(needed, dependency.condition, refs, dependency.required),
            after=[CHECKPOINT, *starts],
        )

    def _is_met(self, needed: str, condition: Condition) -> bool:
        kept = [d.container for d in self.decided[needed].decisions if isinstance(d, Keep)]
        if condition is Condition.STARTED:
            return True
        if condition is Condition.HEALTHY:
            return all(c.state == "running" and c.health == "healthy" for c in kept)
        return any(c.state == "exited" and c.exit_code == 0 for c in kept)

    # --- the rest

    def plan_orphans(self) -> None:
        known = self.project.services.keys() | self.project.disabled
        orphans = [
            container
            for container in self.observed.containers
            if container.service not in known and not container.one_off
        ]
        if self.options.remove_orphans:
            for container in orphans:
                self._plan_removal(container, "its service is no longer in the files")
            for container in self.observed.containers:
                if container.one_off and container.state in ("exited", "dead"):
                    self._plan_removal(container, "run has ended")
        elif orphans and not self.options.ignore_orphans:
            self.builder.notes.append(orphans_note(orphans))

    def finish(self) -> Plan:
        for decision in self.decided.values():
            self.builder.notes += unheeded(self.project, decision.service)
            if self.observed.is_ours:
                self.builder.notes += not_handed_on(self.project, decision.service)
        self._keep_used_networks()
        if self.builder.steps:
            self.builder.step(CHECKPOINT, Checkpoint(), after=[*self.pulls.values(), *self.made])
        return self.builder.finish()

    def _keep_used_networks(self) -> None:
        """A new network goes again where nothing has been started on it."""
        for key in self.networks:
            step = self.builder.steps.get(f"create network {key}")
            users = (name for name in self.decided if key in self.project.services[name].networks)
            starts = tuple(start for name in users for start in self.starts.get(name, ()))
            if step is not None and step.undo is not None and starts:
                self.builder.steps[step.key] = replace(step, until=starts)

    def _fields(self, service: str, differences: Iterable[Difference]) -> tuple[FieldChange, ...]:
        return tuple(
            FieldChange(
                ".".join(map(str, each.place)),
                in_words(each),
                None if is_private(each) or each.old is ABSENT else each.old,
                None if is_private(each) or each.new is ABSENT else each.new,
                self._at(service, *each.place),
            )
            for each in differences
            if each.old != each.new  # else it is as declared before, and to be told again
        )

    def _at(self, service: str, *place: str | int) -> Position | None:
        return self.project.at("services", service, *place)


def _slot(service: str, decision: Create | Recreate) -> str:
    number = decision.number if isinstance(decision, Create) else decision.container.number
    return names.slot(service, number)


def _stop_key(container: ObservedContainer) -> str:
    return f"stop {container.name}"


def _subject(container: ObservedContainer) -> str:
    if container.one_off or not container.number:
        return f"container {container.name}"
    return names.slot(container.service, container.number)
