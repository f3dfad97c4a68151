"""pure: a container is created. That is done before the checkpoint, beside what runs."""

from __future__ import annotations

from compose.model.mount import MountType
from compose.model.service import Service
from compose.plan import names
from compose.plan.actions import CreateContainer, Planned, RemoveContainer
from compose.plan.container import Replica, make_creation
from compose.plan.images import image_of
from compose.plan.observed import ObservedContainer
from compose.plan.record import config_hash, write_record
from compose.plan.services import Create, ServiceDecision
from compose.plan.sharing import shared_containers
from compose.plan.steps.draft import CHECKPOINT, Draft


def create(
    draft: Draft,
    decision: ServiceDecision,
    change: int,
    number: int,
    *,
    created_as: str,
    old: ObservedContainer | None,
    until: str = "",
) -> None:
    """`old`: what it takes the place of; `until`: the step with which it is there to stay."""
    service = decision.service
    slot = names.slot(service.name, number)
    action = creation(draft, decision, number, created_as, old)
    after = [f"create network {key}" for key in service.networks]
    after += [f"create volume {mount.source}" for mount in service.volumes]
    after += [f"create {share.container.slot}" for share in action.shares
              if isinstance(share.container, Planned)]  # fmt: skip
    # On the engine's own bridge a link is looked up when the container is created.
    after += [f"create {names.slot(link.partition(':')[0], 1)}" for link in service.links]
    after += _named(draft, service)
    if (pull := draft.pulls.get(image_of(draft.project, service))) is not None:
        after.append(pull)
    key = draft.builder.step(
        f"create {slot}",
        action,
        change,
        after=after,
        undo=RemoveContainer(Planned(slot), volumes=old is None, force=True),
        until=[CHECKPOINT if draft.options.no_start and old is None else until or f"start {slot}"],
        written=draft.written(service.name),
    )
    # On a network that is made anew it can only be created once the old one has gone.
    if not any(draft.decided.networks[name].is_rebuilt for name in service.networks):
        draft.made.append(key)


def _named(draft: Draft, service: Service) -> list[str]:
    """Keys of what makes the containers that it calls by their names, where they are this
    project's: engines look for them when it is created. Who needs it in turn isn't waited for."""
    wanted = set(shared_containers(service).values())
    if not wanted:
        return []
    return [
        f"create {names.slot(other.name, each.number)}"
        for other in draft.project.services.values()
        if service.name not in other.depends_on and not shared_containers(other)
        for each in draft.decided.services[other.name].decisions
        if isinstance(each, Create) and draft.project.container_name(other, each.number) in wanted
    ]


def creation(
    draft: Draft,
    decision: ServiceDecision,
    number: int,
    created_as: str,
    old: ObservedContainer | None,
) -> CreateContainer:
    service, observed = decision.service, draft.observed
    image = observed.images.get(image_of(draft.project, service))
    replica = Replica(
        number=number,
        name=draft.project.container_name(service, number),
        created_as=created_as,
        image_id=decision.image_id,
        record=write_record(decision.record),
        config_hash=config_hash(decision.document),
        image_volumes=image.volumes if image else (),
        inherited=_anonymous_volumes(draft, service, old) if old else {},
        replaces=old.name if old else "",
        seccomp_profiles=observed.profiles,
        parents=lambda parent: draft.decided.refs[parent][0],
        places_files=observed.is_ours,
        api_socket=observed.api_socket,
    )
    return make_creation(draft.project, service, replica)


def _anonymous_volumes(draft: Draft, service: Service, old: ObservedContainer) -> dict[str, str]:
    """Target -> volume that is carried over."""
    if draft.options.renew_anonymous_volumes:
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
