"""pure: networks and volumes: new ones before the checkpoint, networks made anew after it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from compose.model.service import Service
from compose.plan.actions import (
    ConnectNetwork,
    CreateNetwork,
    CreateVolume,
    DisconnectNetwork,
    Existing,
    RemoveNetwork,
    RemoveVolume,
)
from compose.plan.container import make_endpoint
from compose.plan.networks import NetworkDecision, network_body
from compose.plan.observed import ObservedContainer
from compose.plan.plan import Verb
from compose.plan.steps.draft import CHECKPOINT, Draft, stop_key
from compose.plan.volumes import is_missing, users_of_volumes, volume_body


def add_networks(draft: Draft) -> None:
    for key, decision in draft.decided.networks.items():
        if decision.cause:
            _add_network(draft, key, decision)


def _add_network(draft: Draft, key: str, decision: NetworkDecision) -> None:
    name = decision.network.name
    verb = Verb.RECREATE if decision.exists else Verb.CREATE
    change = draft.builder.change(
        verb, f"network {key}", decision.cause, draft.project.at("networks", key)
    )
    after: list[str] = []
    if decision.exists:
        leaving = [
            _leave(draft, change, container, key)
            for container in draft.observed.containers
            if name in container.networks
        ]
        remove = f"remove network {key}"
        draft.builder.step(remove, RemoveNetwork(name), change, after=[CHECKPOINT, *leaving])
        after = [remove]
    step = draft.builder.step(
        f"create network {key}",
        CreateNetwork(name, network_body(draft.project, decision.network)),
        change,
        after=after,
        undo=None if decision.exists else RemoveNetwork(name),
        until=[CHECKPOINT],
    )
    if not decision.exists:
        draft.made.append(step)


def _leave(draft: Draft, change: int, container: ObservedContainer, network: str) -> str:
    """Take a container off a network that goes; its service's own steps stop it before."""
    name = draft.project.networks[network].name
    return draft.builder.step(
        f"disconnect {container.name} from {network}",
        DisconnectNetwork(name, Existing(container.id, container.name)),
        change,
        after=[CHECKPOINT, stop_key(container)],
    )


def reconnect(
    draft: Draft, service_name: str, container: ObservedContainer, change: int | None
) -> list[str]:
    """Put a kept container back onto networks that are made anew."""
    service = draft.project.services[service_name]
    final = draft.project.container_name(service, container.number)
    return [
        draft.builder.step(
            f"connect {container.name} to {key}",
            ConnectNetwork(
                draft.project.networks[key].name,
                Existing(container.id, container.name),
                make_endpoint(draft.project, service, key, final),
            ),
            change,
            after=[f"create network {key}"],
        )
        for key in service.networks
        if draft.decided.networks[key].is_rebuilt
    ]


def add_volumes(draft: Draft) -> None:
    for key, volume in draft.project.volumes.items():
        if is_missing(volume, draft.observed):
            change = draft.builder.change(
                Verb.CREATE, f"volume {key}", "missing", draft.project.at("volumes", key)
            )
            step = draft.builder.step(
                f"create volume {key}",
                CreateVolume(volume.name, volume_body(draft.project, volume)),
                change,
                undo=RemoveVolume(volume.name),
                until=[CHECKPOINT],
            )
            draft.made.append(step)


def keep_what_is_used(draft: Draft) -> None:
    """A new network or volume goes again where nothing has been started with it. Last of all: it
    has to know what is started."""
    services = [draft.project.services[name] for name in draft.decided.services]
    for key in draft.decided.networks:
        _keep_once_used(draft, f"create network {key}", (s for s in services if key in s.networks))
    for key, users in users_of_volumes(draft.project, services).items():
        # What runs before a start is over may have left data, though the start then fails.
        if not any(user.pre_start or user.post_start for user in users):
            _keep_once_used(draft, f"create volume {key}", users)


def _keep_once_used(draft: Draft, key: str, users: Iterable[Service]) -> None:
    steps = draft.builder.steps
    step = steps.get(key)
    if step is None or step.undo is None:
        return
    if starts := tuple(start for user in users for start in draft.starts.get(user.name, ())):
        steps[key] = replace(step, until=starts)
