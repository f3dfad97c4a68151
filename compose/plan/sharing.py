"""pure: whose namespaces and volumes a service's containers are made with: those of another
service's container, or of one that is called by its name."""

from __future__ import annotations

from collections.abc import Callable

from compose.dataclass import dataclass
from compose.model.service import Service
from compose.plan.actions import ContainerRef, Share

# As a service has it, and as HostConfig.
_MODES = {"network_mode": "NetworkMode", "pid": "PidMode", "ipc": "IpcMode", "uts": "UTSMode"}


@dataclass(frozen=True, slots=True)
class Loan:
    place: tuple[str | int, ...]  # below the service
    field: str  # of HostConfig
    of_service: bool
    name: str  # of the service, or of the container
    access: str = ""  # ":ro" of volumes_from


def loans(service: Service) -> list[Loan]:
    found: list[Loan] = []
    if not (
        service.network_mode or service.pid or service.ipc or service.uts or service.volumes_from
    ):
        return found  # nearly all: thousands of them are asked several times
    for key, field in _MODES.items():
        kind, separator, name = getattr(service, key).partition(":")
        if separator and kind in ("service", "container"):
            found.append(Loan((key,), field, kind == "service", name))
    for index, source in enumerate(service.volumes_from):
        of_service = not source.startswith("container:")
        name, separator, access = source.removeprefix("container:").partition(":")
        place = ("volumes_from", index)
        found.append(Loan(place, "VolumesFrom", of_service, name, separator + access))
    return found


def make_shares(service: Service, parents: Callable[[str], ContainerRef]) -> tuple[Share, ...]:
    return tuple(
        Share(loan.field, parents(loan.name), loan.access)
        for loan in loans(service)
        if loan.of_service
    )


def shared_containers(service: Service) -> dict[tuple[str | int, ...], str]:
    """Containers that this one is made from and that it calls by their names; by who says it."""
    return {loan.place: loan.name for loan in loans(service) if not loan.of_service}


def shared_services(service: Service) -> frozenset[str]:
    """Services whose containers this one's are made from: they are recreated together."""
    return frozenset(loan.name for loan in loans(service) if loan.of_service)
