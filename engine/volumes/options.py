"""Pure: options of the local driver: type, o and device, as mount(8) takes them.

`type: none, o: bind, device: /path` puts a volume elsewhere; any other type is a file system of its
own (tmpfs, nfs, ext4, ...), mounted on the host while containers use the volume.
"""

import re
from collections.abc import Mapping

from engine.errors import InvalidRequest, Unsupported
from engine.volumes.model import FileSystem, VolumeSource

# What has to be given with each, be it empty: Docker's rule.
_NEEDED = {"type": ("device",), "o": ("device", "type"), "device": ("type",), "size": ()}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(?:[kmgtp]?i?b?)", re.IGNORECASE | re.ASCII)
_PORT = re.compile(r"(?:\w+:)?//[^/]*:\d+(?:/|$)", re.ASCII)


def check_options(name: str, options: Mapping[str, str]) -> None:
    """At create, in Docker's words and order. Raises InvalidRequest, Unsupported."""
    for key in options:
        if key not in _NEEDED:
            raise InvalidRequest(f'create {name}: invalid option: "{key}"')
    if options.get("type") == "cifs" and _PORT.match(options.get("device", "")):
        raise InvalidRequest(
            f"create {name}: port not allowed in CIFS device URL, include 'port' in 'o='"
        )
    if "size" in options:
        size = _SIZE.fullmatch(options["size"])
        if size is None:
            raise InvalidRequest(f"create {name}: invalid size: '{options['size']}'")
        if float(size[1]):
            raise InvalidRequest(f"create {name}: quota size requested but no quota support")
    for key in options:
        for other in _NEEDED[key]:
            if other not in options:
                raise InvalidRequest(f'create {name}: missing required option: "{other}"')
    parse_source(name, "", options)


def parse_source(name: str, mountpoint: str, options: Mapping[str, str]) -> VolumeSource:
    """Where the content of the volume is. Raises InvalidRequest, Unsupported."""
    device, kind = options.get("device", ""), options.get("type", "")
    words = [word for word in options.get("o", "").split(",") if word]
    if not device and not kind:
        return VolumeSource("bind", mountpoint)
    if device and {"bind", "rbind"} & set(words):
        return _bind(name, device, words)
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
