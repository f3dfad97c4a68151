"""pure: the rules of volumes: missing ones are made, and no data is ever thrown away by a plan."""

from __future__ import annotations

from compose import VERSION
from compose.model.fingerprint import volume_hash
from compose.model.project import Project
from compose.model.resources import Volume
from compose.plan import names
from compose.plan.diff import summary
from compose.plan.observed import Observed, ObservedVolume
from compose.plan.record import parse_record, record_differences, volume_record, write_record


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
