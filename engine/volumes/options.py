"""Pure: options of the local driver. `type: none, o: bind, device: /path` puts a volume elsewhere.

File systems of their own (nfs, cifs, tmpfs, ext4 on a device) are refused: they would have to be
mounted on the host, and this engine mounts nothing there.
"""

from collections.abc import Mapping

from engine.errors import InvalidRequest, Unsupported
from engine.volumes.model import VolumeSource

_KEYS = ("type", "o", "device")


def parse_source(name: str, mountpoint: str, options: Mapping[str, str]) -> VolumeSource:
    """Where the content of the volume is. Raises InvalidRequest, Unsupported."""
    for key in options:
        if key not in _KEYS:
            raise InvalidRequest(f'create {name}: invalid option: "{key}"')
    if not any(options.values()):
        return VolumeSource("bind", mountpoint)
    device, kind = options.get("device", ""), options.get("type", "")
    words = [word for word in options.get("o", "").split(",") if word]
    if not device:
        raise InvalidRequest(f'create {name}: missing required option: "device"')
    if kind not in ("", "none", "bind") or not {"bind", "rbind"} & set(words):
        raise Unsupported(
            f"create {name}: cannot mount type {kind or 'of ' + device!r}: the local driver here "
            "knows directories of its own and binds (type: none, o: bind, device: /path); for a "
            "tmpfs use a tmpfs mount"
        )
    unknown = [word for word in words if word not in ("bind", "rbind", "ro", "rw")]
    if unknown:
        raise Unsupported(f"create {name}: mount option {unknown[0]!r} is not supported for a bind")
    if not device.startswith("/") or ".." in device.split("/") or "\0" in device:
        raise InvalidRequest(f"create {name}: device {device!r} is not an absolute path")
    return VolumeSource("bind", device, tuple(word for word in words if word in ("ro", "rbind")))
