"""pure: the rules of volumes: missing ones are made, and no data is ever thrown away by a plan."""

from __future__ import annotations

from collections.abc import Sequence

from compose import VERSION
from compose.model.fingerprint import volume_hash
from compose.model.mount import MountType
from compose.model.project import Project
from compose.model.resources import Volume
from compose.model.service import Service
from compose.plan import names
from compose.plan.diff import summary
from compose.plan.observed import Observed, ObservedVolume
from compose.plan.record import parse_record, record_differences, volume_record, write_record
from compose.plan.sharing import loans


def is_missing(volume: Volume, observed: Observed) -> bool:
    return not volume.external and volume.name not in observed.volumes


def changed_volume(volume: Volume, found: ObservedVolume) -> str:
    """What differs from how it was made, in words. Labels can wait for the next `down -v`."""
    record = parse_record(found.record)
    if record is None:
        return ""
    new = volume_record(volume)
    return summary(
        [
            difference
            for difference in record_differences(record, new)
            if difference.place[:1] != ("labels",)
        ]
    )


def users_of_volumes(project: Project, services: Sequence[Service]) -> dict[str, list[Service]]:
    """Key -> services that have it mounted. `services`: those that others need first."""
    names_of = {key: volume.name for key, volume in project.volumes.items()}
    mounted: dict[str, set[str]] = {}  # service -> names: two keys may be one volume
    for service in services:
        sources = {mount.source for mount in service.volumes if mount.type is MountType.VOLUME}
        mounted[service.name] = {names_of[key] for key in sources & names_of.keys()}
        for loan in loans(service):
            if loan.field == "VolumesFrom" and loan.of_service:
                mounted[service.name] |= mounted.get(loan.name, set())
    return {
        key: [service for service in services if name in mounted[service.name]]
        for key, name in names_of.items()
    }


def volume_body(project: Project, volume: Volume) -> dict[str, object]:
    return {
        "Name": volume.name,
        "Driver": volume.driver or "local",
        "DriverOpts": dict(volume.driver_opts),
        "Labels": {
            **volume.labels,
            names.PROJECT: project.name,
            names.VOLUME: volume.key,
            names.CONFIG_HASH: volume_hash(volume),
            names.VERSION: VERSION,
            names.VOLUME_RECORD: write_record(volume_record(volume)),
        },
    }
