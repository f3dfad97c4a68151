"""Which mounts a container gets: pure. Binds, mounts, tmpfs and the image's volumes, in one list.

A later source wins over an earlier one of the same destination: image and config volumes, those
of other containers, then Binds, then Mounts and Tmpfs.
"""

import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from engine.containers.model import ContainerConfig, HostConfig, MountPoint, MountRequest
from engine.errors import InvalidRequest, Unsupported

_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_TMPFS_OPTIONS = re.compile(
    r"(ro|rw|exec|noexec|suid|nosuid|dev|nodev|sync|async|dirsync|atime|noatime|diratime|"
    r"nodiratime|relatime|norelatime|strictatime|nostrictatime|"
    r"(size|nr_inodes|nr_blocks)=\d{1,15}[kmgtKMGT%]?|mode=0?[0-7]{1,4}|(uid|gid)=\d{1,10}|"
    r"r?(private|shared|slave|unbindable))"
)


def wanted_mounts(
    config: ContainerConfig,
    host: HostConfig,
    *,
    image_volumes: Iterable[str],
    inherited: Sequence[MountPoint],
) -> tuple[MountPoint, ...]:
    """Sorted so that a mount comes after the one it lies in. Sources of named volumes are open
    yet, an anonymous volume has no name yet. Raises InvalidRequest and Unsupported."""
    explicit: dict[str, MountPoint] = {}
    for mount in _explicit(host):
        if mount.destination in explicit:
            raise InvalidRequest(f"Duplicate mount point: {mount.destination}")
        explicit[mount.destination] = mount
    found = {
        destination: MountPoint("volume", destination, driver="local", anonymous=True)
        for destination in map(checked_target, (*image_volumes, *config.volumes))
    }
    found.update({mount.destination: mount for mount in inherited})
    found.update(explicit)
    # runtime-spec, config.md "Mounts": made in list order, so /data/sub comes after /data.
    return tuple(sorted(found.values(), key=lambda mount: mount.destination.split("/")))


def _explicit(host: HostConfig) -> Iterable[MountPoint]:
    for bind in host.binds:
        yield parse_bind(bind)
    for request in host.mounts:
        yield mount_point(request)
    for target, options in host.tmpfs.items():
        yield MountPoint("tmpfs", checked_target(target), options=tmpfs_options(options))


def checked_target(target: str) -> str:
    """The clean path. `/` and what lies in /proc can't be mounted over (isolation depends on
    them)."""
    if re.match("[a-zA-Z0-9]:/", target):
        # The docker CLI takes "a:/data" for a path of Windows, and so for a target.
        raise InvalidRequest(_too_short(target[0]))
    if not target.startswith("/"):
        raise InvalidRequest(f"invalid mount path: '{target}' mount path must be absolute")
    clean = posixpath.normpath("/" + target.lstrip("/"))
    if clean == "/":
        raise InvalidRequest("invalid specification: destination can't be '/'")
    if clean == "/proc" or clean.startswith("/proc/"):
        raise InvalidRequest(f"invalid mount path: '{target}' is inside /proc")
    return clean


def parse_bind(text: str) -> MountPoint:
    """ "source:target[:options]"; a source without slash is a volume's name."""
    parts = text.split(":")
    if len(parts) == 1:
        # "/data" alone: an anonymous volume.
        return MountPoint("volume", checked_target(text), driver="local", anonymous=True)
    if len(parts) > 3 or not parts[0]:
        raise InvalidRequest(f"invalid volume specification: '{text}'")
    source, target = parts[0], checked_target(parts[1])
    mode = parts[2] if len(parts) == 3 else ""
    read_only, propagation, no_copy, recursive = _parse_mode(mode)
    if source.startswith("/"):
        if no_copy:
            raise InvalidRequest(f"invalid volume specification: '{text}': nocopy is for volumes")
        return MountPoint(
            "bind",
            target,
            source=posixpath.normpath(source),
            mode=mode,
            read_only=read_only,
            propagation=propagation or "rprivate",
            recursive=recursive,
        )
    if propagation:
        raise InvalidRequest(f"invalid volume specification: '{text}'")
    checked_volume_name(source)
    return MountPoint(
        "volume",
        target,
        name=source,
        driver="local",
        mode=mode or "z",
        read_only=read_only,
        no_copy=no_copy,
    )


def _parse_mode(mode: str) -> tuple[bool, str, bool, bool]:
    read_only, propagation, no_copy, recursive = False, "", False, True
    words = mode.split(",")
    if len({"ro", "readonly", "rw"} & set(words)) > 1:
        raise InvalidRequest(f"invalid mode: {mode}")
    for word in filter(None, words):
        match word:
            case "ro" | "readonly":
                read_only = True
            case "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" | "default":
                pass
            case "nocopy":
                no_copy = True
            case "bind-nonrecursive" | "bind":
                recursive = False
            case "rbind":
                recursive = True
            case _ if word in PROPAGATIONS:
                propagation = word
            case _:
                raise InvalidRequest(f"invalid mode: {mode}")
    return read_only, propagation, no_copy, recursive


def checked_volume_name(name: str) -> str:
    if len(name) == 1:
        raise InvalidRequest(_too_short(name))
    if not _VOLUME_NAME.fullmatch(name):
        raise InvalidRequest(
            f'"{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, '
            "use absolute path"
        )
    return name


def _too_short(name: str) -> str:
    return (
        f"create {name}: volume name is too short, names should be at least two alphanumeric "
        "characters"
    )


def mount_point(request: MountRequest) -> MountPoint:
    def refuse(reason: str) -> InvalidRequest:
        return InvalidRequest(f'invalid mount config for type "{request.type}": {reason}')

    if not request.target:
        raise refuse("field Target must not be empty")
    try:
        target = checked_target(request.target)
    except InvalidRequest as error:
        raise refuse(str(error)) from None
    match request.type:
        case "bind":
            if not request.source:
                raise refuse("field Source must not be empty")
            if not request.source.startswith("/"):
                raise refuse(f"invalid mount path: '{request.source}' mount path must be absolute")
            if request.propagation and request.propagation not in PROPAGATIONS:
                raise refuse(f"invalid propagation mode: {request.propagation}")
            return MountPoint(
                "bind",
                target,
                source=posixpath.normpath(request.source),
                read_only=request.read_only,
                propagation=request.propagation or "rprivate",
                recursive=not request.non_recursive,
                recursive_read_only=not request.read_only_non_recursive,
                create_source=request.create_mountpoint,
                from_mounts=True,
            )
        case "volume":
            if request.volume_driver not in ("", "local"):
                raise Unsupported(f"cannot use volume driver {request.volume_driver!r}")
            if request.source:
                checked_volume_name(request.source)
            elif request.read_only:
                raise refuse("must not set ReadOnly mode when using anonymous volumes")
            return MountPoint(
                "volume",
                target,
                name=request.source,
                driver="local",
                mode="z",
                read_only=request.read_only,
                no_copy=request.no_copy,
                subpath=_checked_subpath(request, "volume"),
                anonymous=not request.source,
                from_mounts=True,
            )
        case "tmpfs":
            if request.source:
                raise refuse("field Source must not be specified")
            return MountPoint(
                "tmpfs",
                target,
                read_only=request.read_only,
                options=_tmpfs_request(request),
                from_mounts=True,
            )
        case "image":
            if not request.source:
                raise refuse("field Source must not be empty")
            return MountPoint(
                "image",
                target,
                source=request.source,
                read_only=True,
                subpath=_checked_subpath(request, "image"),
                from_mounts=True,
            )
        case _:
            raise refuse("mount type unknown")


def _checked_subpath(request: MountRequest, what: str) -> str:
    """The clean path, below the volume or image by its words alone; links are the runtime's to
    watch."""
    path = request.subpath
    if not path:
        return ""
    clean = posixpath.normpath(path)
    if path.startswith("/") or clean == ".." or clean.startswith("../") or "\0" in path:
        raise InvalidRequest(
            f'invalid mount config for type "{what}": subpath must be a relative path within the '
            "volume"
        )
    return "" if clean == "." else clean


def _tmpfs_request(request: MountRequest) -> tuple[str, ...]:
    if request.tmpfs_size < 0 or not 0 <= request.tmpfs_mode <= 0o7777:
        raise InvalidRequest('invalid mount config for type "tmpfs": bad size or mode')
    options = [
        f"{option[0]}={option[1]}" if len(option) > 1 else option[0]
        for option in request.tmpfs_options
        if option
    ]
    if request.tmpfs_size:
        options.append(f"size={request.tmpfs_size}")
    if request.tmpfs_mode:
        options.append(f"mode={request.tmpfs_mode:o}")
    if request.read_only:
        options.append("ro")
    return tmpfs_options(",".join(options))


def tmpfs_options(text: str) -> tuple[str, ...]:
    """The options after the safe defaults, so that they may undo one of them."""
    options = tuple(filter(None, text.split(",")))
    for option in options:
        if not _TMPFS_OPTIONS.fullmatch(option):
            raise InvalidRequest(f'invalid tmpfs option "{option}"')
    return options


def inherit(mounts: Iterable[MountPoint], mode: str) -> tuple[MountPoint, ...]:
    """The mounts of another container for `--volumes-from name[:ro|rw]`, tmpfs excepted. Anonymous
    volumes go with the last of their containers."""
    if mode not in ("", "ro", "rw", "z", "Z"):
        raise InvalidRequest(f"invalid mode: {mode}")
    return tuple(
        replace(mount, read_only=mount.read_only or mode == "ro")
        for mount in mounts
        if mount.type != "tmpfs"
    )
