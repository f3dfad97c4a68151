"""Pure: options of the local driver: type, o and device, as mount(8) takes them.

`type: none, o: bind, device: /path` puts a volume elsewhere; any other type is a file system of its
own (tmpfs, nfs, ext4, ...), mounted on the host while containers use the volume.
"""

from collections.abc import Mapping

from engine.errors import InvalidRequest, Unsupported
from engine.volumes.model import FileSystem, VolumeSource

_KEYS = ("type", "o", "device")


def parse_source(name: str, mountpoint: str, options: Mapping[str, str]) -> VolumeSource:
    """Where the content of the volume is. Raises InvalidRequest, Unsupported."""
    for key in options:
        if key not in _KEYS:
            raise InvalidRequest(f'create {name}: invalid option: "{key}"')
    if not options:
        return VolumeSource("bind", mountpoint)
    device, kind = options.get("device", ""), options.get("type", "")
    words = [word for word in options.get("o", "").split(",") if word]
    if not device:
        raise InvalidRequest(f'create {name}: missing required option: "device"')
    if kind in ("", "none", "bind") and {"bind", "rbind"} & set(words):
        return _bind(name, device, words)
    if kind in ("", "none", "bind"):
        raise InvalidRequest(f'create {name}: missing required option: "type"')
    if any("\0" in part for part in (kind, device, *words)):
        raise InvalidRequest(f"create {name}: there is a NUL in its options")
    return VolumeSource("mount", mountpoint, file_system=FileSystem(kind, device, tuple(words)))


def _bind(name: str, device: str, words: list[str]) -> VolumeSource:
    unknown = [word for word in words if word not in ("bind", "rbind", "ro", "rw")]
    if unknown:
        raise Unsupported(f"create {name}: mount option {unknown[0]!r} is not supported for a bind")
    if not device.startswith("/") or ".." in device.split("/") or "\0" in device:
        raise InvalidRequest(f"create {name}: device {device!r} is not an absolute path")
    return VolumeSource("bind", device, tuple(word for word in words if word in ("ro", "rbind")))
