"""pure: the rules of services: which containers stay, start, come, are replaced or go, and why.

Decisions only. `steps/` turns them into ordered steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from compose.dataclass import dataclass
from compose.model.document import Document
from compose.model.mount import MountType
from compose.model.project import Project
from compose.model.service import Condition, Service
from compose.plan.diff import ABSENT, Difference, Place, summary
from compose.plan.handover import is_one_of_several
from compose.plan.live import by_hand, is_live, obstacle, outstanding
from compose.plan.observed import Observed, ObservedContainer
from compose.plan.options import PlanOptions
from compose.plan.record import (
    config_hash,
    parse_record,
    record_differences,
    sealed,
    service_record,
)
from compose.plan.sharing import shared_services


@dataclass(frozen=True, slots=True)
class Keep:
    """It is as wanted, or can be made so as it runs. `start_cause`: it doesn't run, and why it
    should; `rename`: its name; `cause`: what is to be made of it, `differences` are the fields."""

    container: ObservedContainer
    start_cause: str = ""
    rename: str = ""
    cause: str = ""
    differences: tuple[Difference, ...] = ()


@dataclass(frozen=True, slots=True)
class Create:
    number: int
    cause: str


@dataclass(frozen=True, slots=True)
class Recreate:
    container: ObservedContainer
    cause: str
    differences: tuple[Difference, ...] = ()  # of the service; the cause names the first

    @property
    def place(self) -> Place:
        """Below the service: where the cause stands in the files."""
        return self.differences[0].place if self.differences else ()


@dataclass(frozen=True, slots=True)
class Remove:
    container: ObservedContainer
    cause: str


Divergence = tuple[str, tuple[Difference, ...]]
Decision = Keep | Create | Recreate | Remove


@dataclass(frozen=True, slots=True)
class ServiceDecision:
    """All that happens to one service's containers."""

    service: Service
    document: Document  # the service's canonical form
    record: Document  # what its containers are to be made from
    decisions: tuple[Decision, ...]

    @property
    def image_id(self) -> str:
        return str(self.record["image_id"])

    @property
    def is_replaced(self) -> bool:
        return any(isinstance(decision, Recreate) for decision in self.decisions)

    @property
    def begins_anew(self) -> bool:
        """Nothing of it is there that others could be made from."""
        staying = [each for each in self.decisions if not isinstance(each, Remove)]
        return bool(staying) and all(isinstance(each, Create) for each in staying)


def decide_service(
    project: Project,
    service: Service,
    observed: Observed,
    own: Iterable[ObservedContainer],
    options: PlanOptions,
    replaced: Mapping[str, str],
    *,
    completes: bool,
) -> ServiceDecision:
    """`own`: the service's containers; `replaced`: services whose containers are made by this plan,
    and how; `completes`: it is a job, see `jobs`."""
    document = service.to_document()
    record = service_record(project, service, document, observed.image_id)
    record = sealed(record, observed.engine_id)
    wanted = service.replicas
    best, leftovers = _one_a_number(project, service, own, record, observed, options)
    if options.heal and options.no_recreate:
        leftovers = []  # of an update that is paused: whoever goes back has them
    causes = {
        container.number: divergence(
            project, service, container, record, observed, options, replaced
        )
        for container in best
    }
    surplus = _surplus(best, causes, wanted)
    staying = [container for container in best if container not in surplus]
    decisions: list[Decision] = [
        Remove(container, "left over by an interrupted change") for container in leftovers
    ]
    scaled = f"scaled from {len(best)} to {wanted}"
    decisions += [Remove(container, scaled) for container in surplus]
    for container in staying:
        cause, differences = causes[container.number]
        can_be_changed = observed.is_ours or container.limits is not None
        if cause and can_be_changed and is_live(service, differences, is_ours=observed.is_ours):
            kept = _keep(project, service, container, options, completes=completes)
            decisions.append(replace(kept, cause=cause, differences=differences))
        elif cause:
            if why := obstacle(service, differences, is_ours=observed.is_ours):
                cause = f"{cause}: {why}"
            decisions.append(Recreate(container, cause, differences))
        else:
            decisions.append(_keep(project, service, container, options, completes=completes))
    taken = {container.number for container in staying}
    highest = max((container.number for container in best), default=0)
    for number in _free_numbers(taken, wanted - len(staying)):
        # Below one that is there it has been, and to what is kept as it was nothing is added.
        is_more = 0 < highest < number and not options.heal
        decisions.append(Create(number, scaled if is_more else "missing"))
    return ServiceDecision(service, document, record, tuple(decisions))


def divergence(
    project: Project,
    service: Service,
    container: ObservedContainer,
    record: Document,
    observed: Observed,
    options: PlanOptions,
    replaced: Mapping[str, str],
) -> Divergence:
    """Why this container has to be replaced, and which fields say so; ("", ()) if it needn't."""
    named = options.names(service.name)
    if named and options.force_recreate:
        return "asked for", ()
    if options.always_recreate_deps and not named:
        return "asked for", ()
    if options.renew_anonymous_volumes and named:
        return "new anonymous volumes are asked for", ()
    if container.state == "dead":
        return "is dead", ()
    if options.no_recreate:
        return "", ()
    if parents := sorted(shared_services(service) & replaced.keys()):
        return f"made from {parents[0]}, which is {replaced[parents[0]]}", ()
    cause, found = _changed(project, service, container, record, observed.engine_id)
    words, edited = by_hand(service, container)
    known = {each.place for each in found}
    edited = [each for each in edited if each.place not in known]
    if cause:
        return cause, (*found, *edited) if found else ()
    if edited:
        return words, tuple(edited)
    if observed.is_ours and is_one_of_several(service) and not container.shares_ports:
        return "its ports are to be shared", ()
    return _detached(project, service, container, observed)


def _changed(
    project: Project,
    service: Service,
    container: ObservedContainer,
    record: Document,
    engine_id: str,
) -> Divergence:
    old = parse_record(container.record)
    if old is not None:
        old = sealed(old, engine_id)
        if not record["image_id"]:  # not pulled yet: planned again afterwards
            record = record | {"image_id": old.get("image_id", "")}
        found = outstanding(project, service, container, record_differences(old, record))
        if any(difference.place == ("image",) for difference in found):
            # The new name says it; that its digest is another one needs no words.
            found = [difference for difference in found if difference.place != ("image_id",)]
        return (summary(found), tuple(found)) if found else ("", ())
    if container.config_hash != config_hash(service.to_document()):
        return "its configuration changed", ()
    if record["image_id"] and container.image_id not in ("", record["image_id"]):
        image = Difference(("image",), container.image_id, record["image_id"])
        return "its image changed", (image,)
    return "", ()


def _detached(
    project: Project, service: Service, container: ObservedContainer, observed: Observed
) -> Divergence:
    if container.is_running and not service.network_mode:
        for key in service.networks:
            network = observed.networks.get(project.networks[key].name)
            if network is None or network.id not in container.networks.values():
                come = Difference(("networks", key), ABSENT, {})
                return f"not connected to network {key}", (come,)
    mounted = {mount.target: mount.name for mount in container.mounts}
    for mount in service.volumes:
        if mount.type is MountType.VOLUME and mount.source in project.volumes:
            name = project.volumes[mount.source].name
            if mounted.get(mount.target, name) != name:
                return f"volume {name} isn't mounted", ()
    return "", ()


def _one_a_number(
    project: Project,
    service: Service,
    own: Iterable[ObservedContainer],
    record: Document,
    observed: Observed,
    options: PlanOptions,
) -> tuple[list[ObservedContainer], list[ObservedContainer]]:
    """An interrupted replacement leaves two of one number: the better one, and the rest."""
    by_number: dict[int, list[ObservedContainer]] = {}
    for container in own:
        by_number.setdefault(container.number, []).append(container)

    def merit(container: ObservedContainer) -> tuple[bool, bool, int]:
        unchanged = not _changed(project, service, container, record, observed.engine_id)[0]
        return container.is_running, unchanged, container.created

    best, rest = [], []
    for _, candidates in sorted(by_number.items()):
        if len(candidates) > 1:
            candidates.sort(key=merit, reverse=True)
        first, *others = candidates
        best.append(first)
        rest += others
    return best, rest


def _surplus(
    best: list[ObservedContainer], causes: Mapping[int, Divergence], wanted: int
) -> list[ObservedContainer]:
    """Those that would be replaced anyway go first, then the highest numbers."""
    if len(best) <= wanted:
        return []
    ranked = sorted(best, key=lambda c: (bool(causes[c.number][0]), c.number), reverse=True)
    return sorted(ranked[: len(best) - wanted], key=lambda container: container.number)


def _keep(
    project: Project,
    service: Service,
    container: ObservedContainer,
    options: PlanOptions,
    *,
    completes: bool,
) -> Keep:
    final = project.container_name(service, container.number)
    rename = final if container.name != final else ""
    match container.state:
        case "running" | "restarting":
            cause = ""
        case "paused":
            cause = "is paused"
        case "created":
            cause = "was never started"
        case _ if container.exit_code == 0 and (completes or container.id in options.settled):
            cause = ""
        case _:
            code = container.exit_code
            cause = "is stopped" if code is None else f"exited with code {code}"
    return Keep(container, cause, rename)


def jobs(project: Project) -> frozenset[str]:
    """Services whose exit with code 0 is their goal, so that nothing is left to do after it.

    A server that was stopped exits with 0 as well: only a service whose completion somebody waits
    for, or whose mode says so, is known to be a job. Others are started again by `up`.
    """
    return frozenset(
        name
        for service in project.services.values()
        for name, dependency in service.depends_on.items()
        if dependency.condition is Condition.COMPLETED
    ) | frozenset(
        service.name
        for service in project.services.values()
        if service.deploy is not None and service.deploy.mode.endswith("-job")
    )


def _free_numbers(taken: set[int], count: int) -> list[int]:
    found: list[int] = []
    number = 1
    while len(found) < count:
        if number not in taken:
            found.append(number)
        number += 1
    return found
