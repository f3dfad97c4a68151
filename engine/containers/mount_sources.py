"""What a container's mounts lead to, found when it starts."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from engine.containers import spec
from engine.containers.model import MountPoint, Record
from engine.containers.parts import Parts
from engine.containers.propagation import check_propagation, parse_mounts
from engine.errors import InvalidRequest
from engine.runtime.id_maps import IdMaps


def volume_names(record: Record) -> list[str]:
    return [mount.name for mount in record.mounts if mount.type == "volume"]


def resolve_mounts(parts: Parts, record: Record) -> list[Mapping[str, object]]:
    ids = spec.id_maps(record.host, parts.machine)
    return [_resolve_mount(parts, mount, ids) for mount in record.mounts]


def _resolve_mount(parts: Parts, mount: MountPoint, ids: IdMaps | None) -> Mapping[str, object]:
    match mount.type:
        case "bind":
            require_source(mount)
            if mount.propagation.endswith(("shared", "slave")):
                table = parse_mounts(Path("/proc/self/mountinfo").read_text(errors="replace"))
                check_propagation(os.path.realpath(mount.source), mount.propagation, table)
            return spec.bind_mount(mount, mount.source)
        case "volume":
            volume = parts.volumes.get(mount.name)
            source = parts.volumes.source(volume)
            read_only = mount.read_only or "ro" in source.options
            bind = spec.bind_mount(replace(mount, read_only=read_only), source.path)
            # What lies elsewhere has the owners that it has there.
            return bind if volume.options else spec.with_ids(bind, ids)
        case "image":
            image = parts.images.resolve(mount.source)
            return spec.image_mount(mount, parts.images.layers(image))
        case _:
            return spec.tmpfs_mount(mount.destination, mount.options, read_only=mount.read_only)


def require_source(mount: MountPoint) -> None:
    """A missing source of `Mounts` is refused, one of `Binds` is made, as Docker does."""
    if os.path.exists(mount.source):
        return
    if mount.from_mounts and not mount.create_source:
        raise InvalidRequest(
            f'invalid mount config for type "bind": bind source path does not exist: {mount.source}'
        )
    try:
        _make_folders(Path(mount.source))
    except OSError as error:
        raise InvalidRequest(
            f"error while creating mount source path '{mount.source}': {error.strerror}"
        ) from error


def _make_folders(path: Path) -> None:
    """As mkdir -p with the usual umask, not with the engine's: who isn't root in the container is
    to get through."""
    missing = [place for place in (path, *path.parents) if not place.exists()]
    for place in reversed(missing):
        try:
            place.mkdir()
        except FileExistsError:
            if not place.is_dir():  # else another container that wants it was quicker
                raise
        else:
            place.chmod(0o755)
