"""A pure engine: what a plan's actions make of an Observed. It refuses what a real one would."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from compose.plan import names
from compose.plan.actions import (
    Action,
    AwaitCondition,
    Checkpoint,
    ConnectNetwork,
    ContainerRef,
    CreateContainer,
    CreateNetwork,
    CreateVolume,
    DisconnectNetwork,
    Existing,
    PullImage,
    RemoveContainer,
    RemoveNetwork,
    RemoveVolume,
    RenameContainer,
    StartContainer,
    StopContainer,
    UnpauseContainer,
    UpdateContainer,
    UpdateService,
)
from compose.plan.observed import (
    Observed,
    ObservedContainer,
    ObservedImage,
    ObservedNetwork,
    ObservedPort,
    ObservedVolume,
)
from compose.plan.plan import Plan

COUNT = itertools.count(1)


@dataclass
class Simulated:
    observed: Observed
    made: dict[str, str] = field(default_factory=dict)

    def apply(self, plan: Plan) -> Observed:
        done: set[str] = set()
        for step in plan.steps:
            assert done.issuperset(step.after), f"{step.key} comes before what it waits for"
            self.perform(step.action)
            done.add(step.key)
        self.made.clear()
        return self.observed

    def perform(self, action: Action) -> None:
        match action:
            case PullImage():
                image = ObservedImage("sha256:" + "2" * 64)
                images = {**self.observed.images, action.reference: image}
                self.observed = replace(self.observed, images=images)
            case CreateNetwork():
                assert action.name not in self.observed.networks
                labels = text_labels(action.body)
                network = ObservedNetwork(
                    self.fresh("net"), action.name, labels[names.PROJECT], labels[names.NETWORK],
                    labels[names.CONFIG_HASH], labels[names.NETWORK_RECORD],
                )  # fmt: skip
                networks = {**self.observed.networks, action.name: network}
                self.observed = replace(self.observed, networks=networks)
            case RemoveNetwork():
                users = [c.name for c in self.observed.containers if action.name in c.networks]
                assert not users, f"network {action.name} has active endpoints: {users}"
                networks = dict(self.observed.networks)
                del networks[action.name]
                self.observed = replace(self.observed, networks=networks)
            case CreateVolume():
                labels = text_labels(action.body)
                volume = ObservedVolume(
                    action.name, labels[names.PROJECT], labels[names.VOLUME],
                    labels[names.CONFIG_HASH], labels[names.VOLUME_RECORD],
                )  # fmt: skip
                volumes = {**self.observed.volumes, action.name: volume}
                self.observed = replace(self.observed, volumes=volumes)
            case RemoveVolume():
                volumes = dict(self.observed.volumes)
                del volumes[action.name]
                self.observed = replace(self.observed, volumes=volumes)
            case CreateContainer():
                self.create(action)
            case Checkpoint():
                pass
            case UpdateService(turns=turns, update=pace):
                for turn in turns:
                    first = pace.start_first and turn.can_overlap
                    change_over = (
                        RenameContainer(turn.old, turn.aside), RenameContainer(turn.new, turn.name)
                    )  # fmt: skip
                    stop = (turn.stop,) if turn.stop else ()
                    for each in (turn.start, *stop, *change_over) if first else (
                        *stop, *change_over, turn.start
                    ):  # fmt: skip
                        self.perform(each)
                for turn in turns:
                    self.perform(turn.remove)
            case AwaitCondition():
                for ref in action.containers:
                    state = self.find(ref)
                    if action.condition == "service_completed_successfully":
                        self.put(replace(state, state="exited", exit_code=0))
                    elif action.condition == "service_healthy":
                        assert state.state == "running"
                        self.put(replace(state, health="healthy"))
            case _:
                self.perform_on_container(action)

    def perform_on_container(self, action: Action) -> None:
        match action:
            case StartContainer():
                container = self.find(action.container)
                assert container.state in ("created", "exited"), container
                for other in self.observed.containers:
                    if other.state == "running" and not (
                        other.shares_ports and container.shares_ports
                    ):
                        clash = set(other.ports) & set(container.ports)
                        assert not clash, f"{clash} of {container.name} is held by {other.name}"
                known = {network.id for network in self.observed.networks.values()}
                assert known.issuperset(container.networks.values()), "network is gone"
                self.put(replace(container, state="running", exit_code=None, health=""))
            case UnpauseContainer():
                self.put(replace(self.find(action.container), state="running"))
            case StopContainer():
                container = self.find(action.container)
                self.put(replace(container, state="exited", exit_code=137, health=""))
            case UpdateContainer():
                self.update(self.find(action.container), action.body)
            case RenameContainer():
                taken = {container.name for container in self.observed.containers}
                assert action.name not in taken, f"{action.name} is taken"
                self.put(replace(self.find(action.container), name=action.name))
            case RemoveContainer():
                container = self.find(action.container)
                assert action.force or container.state != "running", "it runs"
                rest = [c for c in self.observed.containers if c.id != container.id]
                self.observed = replace(self.observed, containers=tuple(rest))
            case DisconnectNetwork():
                container = self.find(action.container)
                networks = dict(container.networks)
                del networks[action.network]
                self.put(replace(container, networks=networks))
            case ConnectNetwork():
                container = self.find(action.container)
                network = self.observed.networks[action.network]
                networks = {**container.networks, action.network: network.id}
                self.put(replace(container, networks=networks))
            case _:
                raise AssertionError(f"not simulated: {action}")

    def update(self, container: ObservedContainer, body: Mapping[str, object]) -> None:
        if container.limits is None:
            labels, unset = text_labels(body), body.get("Unset", [])
            assert isinstance(unset, list)
            assert "Memory" in {*body, *unset} or not container.edited
            record, config_hash = labels[names.SERVICE_RECORD], labels[names.CONFIG_HASH]
            self.put(replace(container, edited="", record=record, config_hash=config_hash))
        else:  # as Docker's: 0 is as before, labels stay
            assert not body.keys() & {"Labels", "Unset"}
            assert body.get("Memory") != -1
            given = {name: value for name, value in body.items() if value}
            self.put(replace(container, limits={**container.limits, **given}))

    def create(self, action: CreateContainer) -> None:
        taken = {container.name for container in self.observed.containers}
        assert action.name not in taken, f"{action.name} is taken"
        assert action.body["Image"] in self.observed.images
        labels = text_labels(action.body)
        for share in action.shares:
            assert self.find(share.container)
        host_config = action.body["HostConfig"]
        assert isinstance(host_config, dict)
        container = ObservedContainer(
            id=self.fresh("c"),
            name=action.name,
            service=labels[names.SERVICE],
            number=int(labels[names.NUMBER]),
            state="created",
            config_hash=labels[names.CONFIG_HASH],
            record=labels[names.SERVICE_RECORD],
            image_id=labels[names.IMAGE],
            networks={name: self.observed.networks[name].id for name in action.endpoints},
            depends_on=names.parse_dependencies(labels[names.DEPENDS_ON]),
            ports=tuple(
                ObservedPort(binding["HostIp"], int(binding["HostPort"]), inside.split("/")[1])
                for inside, bindings in host_config.get("PortBindings", {}).items()
                for binding in bindings
                if binding["HostPort"].isdigit()
            ),
            created=next(COUNT),
            shares_ports=labels.get(names.SHARED_PORTS) == "true",
            limits=None if self.observed.is_ours else host_config,
        )
        self.made[action.slot] = container.id
        self.observed = replace(self.observed, containers=(*self.observed.containers, container))

    def find(self, ref: ContainerRef) -> ObservedContainer:
        wanted = ref.id if isinstance(ref, Existing) else self.made[ref.slot]
        return next(c for c in self.observed.containers if c.id == wanted)

    def put(self, container: ObservedContainer) -> None:
        containers = tuple(
            container if other.id == container.id else other for other in self.observed.containers
        )
        self.observed = replace(self.observed, containers=containers)

    def fresh(self, kind: str) -> str:
        return f"{kind}{next(COUNT):059x}"


def text_labels(body: object) -> dict[str, str]:
    assert isinstance(body, dict)
    labels = body["Labels"]
    assert isinstance(labels, dict)
    return labels
