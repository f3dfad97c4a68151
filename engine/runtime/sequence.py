"""From an OCI runtime spec to the steps of a container's first process, in the order that works.

Pure. The order, and why:
  the cgroup was entered before (`init`), so that nothing of the container runs or allocates
  outside of its limits;
  binds are taken while the host's mounts are still there, then all is cut off from the host;
  the mounts in list order (runtime-spec, config.md "Mounts"), then devices, sysctls, then what is
  read-only and last what is masked; the root is switched when nothing of the host is needed;
  descriptors are closed before any path of the container is walked with the root's rights;
  seccomp goes before the capabilities that loading it needs are dropped, unless new privileges
  are forbidden anyway: then it is last and need not allow what the steps before it call.
"""

import posixpath
import resource
import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from engine.kernel import mount, namespaces
from engine.kernel.process import SIBLING_FLAGS
from engine.oci.rootfs import MARK, Rootfs
from engine.runtime import (
    capabilities,
    devices,
    files,
    hiding,
    mounts,
    nodes,
    overlays,
    payload,
    seccomp_trial,
    steps,
)
from engine.runtime.id_maps import IdMaps
from engine.runtime.steps import Step


class SpecError(Exception):
    """The runtime spec asks for what is wrong or not supported; `str()` says where."""


NAMESPACES = {
    "mount": namespaces.CLONE_NEWNS,
    "pid": namespaces.CLONE_NEWPID,
    "network": namespaces.CLONE_NEWNET,
    "ipc": namespaces.CLONE_NEWIPC,
    "uts": namespaces.CLONE_NEWUTS,
    "cgroup": namespaces.CLONE_NEWCGROUP,
    "user": namespaces.CLONE_NEWUSER,
}

_PROPAGATION = {
    "private": mount.MS_PRIVATE,
    "slave": mount.MS_SLAVE,
    "shared": mount.MS_SHARED,
    "unbindable": mount.MS_UNBINDABLE,
}

# Option -> (attribute, whether it is set); the same words with an `r` in front are recursive.
_ATTRIBUTES = {
    "ro": (mount.MOUNT_ATTR_RDONLY, True),
    "rw": (mount.MOUNT_ATTR_RDONLY, False),
    "nosuid": (mount.MOUNT_ATTR_NOSUID, True),
    "suid": (mount.MOUNT_ATTR_NOSUID, False),
    "nodev": (mount.MOUNT_ATTR_NODEV, True),
    "dev": (mount.MOUNT_ATTR_NODEV, False),
    "noexec": (mount.MOUNT_ATTR_NOEXEC, True),
    "exec": (mount.MOUNT_ATTR_NOEXEC, False),
    "nodiratime": (mount.MOUNT_ATTR_NODIRATIME, True),
    "diratime": (mount.MOUNT_ATTR_NODIRATIME, False),
    "nosymfollow": (mount.MOUNT_ATTR_NOSYMFOLLOW, True),
    "symfollow": (mount.MOUNT_ATTR_NOSYMFOLLOW, False),
    "noatime": (mount.MOUNT_ATTR_NOATIME, True),
    "atime": (mount.MOUNT_ATTR_NOATIME, False),
    "strictatime": (mount.MOUNT_ATTR_STRICTATIME, True),
    "nostrictatime": (mount.MOUNT_ATTR_STRICTATIME, False),
    "relatime": (mount.MOUNT_ATTR_ATIME, False),
    "norelatime": (mount.MOUNT_ATTR_STRICTATIME, True),
}


@dataclass(frozen=True, slots=True)
class MountOptions:
    """A mount's option words, sorted by what they act on."""

    set_attributes: int
    clear: int
    recursive_set: int
    recursive_clear: int
    propagation: int
    propagation_recursive: bool
    bind: bool
    recursive_bind: bool
    rest: tuple[tuple[str, str | None], ...]  # for the file system itself


@dataclass(frozen=True, slots=True)
class Enclosure:
    """The namespaces that the first process is born into."""

    new: int  # for clone3
    pid: str  # a PID namespace to be in, which only a child can be; "" = none
    ids: IdMaps | None  # of the user namespace, if it isn't the host's
    user: str  # that namespace, if it is another container's; "" = a new one


def enclosure(spec: Mapping[str, object]) -> Enclosure:
    linux = _mapping(spec, "linux")
    new, joined = _namespaces(linux)
    # Two are made by steps: the mounts are those of the moment when they are taken, and the root
    # of a cgroup namespace is the group that its maker is in.
    later = namespaces.CLONE_NEWNS | namespaces.CLONE_NEWCGROUP
    user = joined.get("user", "")
    return Enclosure(new & ~later, joined.get("pid", ""), _id_maps(linux, new, user), user)


def _id_maps(linux: Mapping[str, object], new: int, joined: str) -> IdMaps | None:
    uids, gids = (_mappings(linux, name) for name in ("uidMappings", "gidMappings"))
    if not new & namespaces.CLONE_NEWUSER and not joined:
        if uids or gids:
            raise SpecError("linux.uidMappings: there is no user namespace to have them")
        return None
    if not uids or not gids:
        raise SpecError("linux.uidMappings and gidMappings: a user namespace needs both")
    try:
        return IdMaps.parse(uids, gids)
    except (KeyError, TypeError, ValueError):
        raise SpecError("linux.uidMappings: containerID, hostID and size are numbers") from None


def container_sequence(
    spec: Mapping[str, object],
    *,
    container_id: str,
    rootfs: Rootfs,
    hook: str,
    user: str,
    groups: tuple[str, ...],
    seccomp: bytes,
    last_capability: int,
    placed: Sequence[files.File] = (),
) -> tuple[Step, ...]:
    """`placed`: files with contents, in the container alone. Raises SpecError for what is wrong in
    `spec` or can't be done."""
    _only(spec, "spec", _KNOWN)
    linux = _mapping(spec, "linux")
    _only(linux, "linux", _KNOWN_LINUX)
    process = _mapping(spec, "process")
    new, joined = _namespaces(linux)
    ids = _id_maps(linux, new, joined.get("user", ""))
    listed = [_mount(entry, index) for index, entry in enumerate(_mappings(spec, "mounts"))]
    take: list[Step] = []
    attach: list[Step] = []
    for index, (entry, options) in enumerate(listed):
        _plan_mount(index, entry, options, ids, take, attach)
    own_dev = not any(
        options.bind and posixpath.normpath(_text(entry, "destination")) == "/dev"
        for entry, options in listed
    )
    before: list[Step] = [steps.NewMountNamespace()]
    if new & namespaces.CLONE_NEWCGROUP:
        before.append(steps.NewCgroupNamespace())
    before += [
        steps.JoinNamespace(NAMESPACES[kind], path)
        for kind, path in joined.items()
        if kind not in ("pid", "user")
    ]
    guard: list[Step] = [
        hiding.SetSysctl(_sysctl(name), _plain_text(value, f"linux.sysctl.{name}"))
        for name, value in _mapping(linux, "sysctl").items()
    ]
    guard += [hiding.ProtectPath(path) for path in _texts(linux, "readonlyPaths")]
    guard += [hiding.MaskPath(path) for path in _texts(linux, "maskedPaths")]
    terminal = _terminal(process, console=True)
    if terminal:
        terminal = (*terminal, nodes.TakeTerminal())
    world: list[Step] = [
        *before,
        mounts.TakeNull(),
        *take,
        mounts.MakePrivate(),
        overlays.MountRoot(rootfs.lowers, rootfs.upper, rootfs.work, hook),
        nodes.ClearPlaces(),
        nodes.MakeMountTable(),
        *attach,
        *([files.PlaceFiles(files.rows(placed, ids))] if placed else ()),
        nodes.MakeFile(MARK),
        *(_devices(linux, ids) if own_dev else ()),
        nodes.UseNull(),
        *terminal,
        *guard,
        steps.SetOomScore(_number(process, "oomScoreAdj", 0)),
        *([steps.Confine(profile)] if (profile := _text(process, "apparmorProfile")) else ()),
        steps.SwitchRoot(_root_propagation(linux)),
    ]
    if rootfs.read_only or _flag(_mapping(spec, "root"), "readonly"):
        # Nobody else can make it any more. Remapped, its owner would be nobody inside.
        if ids is None:
            world.append(payload.MakeDirectory(_directory(process)))
        world.append(steps.SealRoot())
    host, domain = _text(spec, "hostname"), _text(spec, "domainname")
    if host or domain:
        world.append(steps.SetHostname(host, domain))
    world += _limits(process)
    if ids is not None:
        world.append(steps.EnterUser(new_mounts=True))
    world.append(steps.JoinKeyring(f"_ses.{container_id}"))
    last = payload_sequence(
        process,
        user=user,
        groups=groups,
        seccomp=seccomp,
        last_capability=last_capability,
        is_first=True,
    )
    return (*world, *last)


def exec_sequence(
    process: Mapping[str, object],
    *,
    container_id: str,
    user: str,
    groups: tuple[str, ...],
    seccomp: bytes,
    last_capability: int,
    in_user_namespace: bool = False,
) -> tuple[Step, ...]:
    """The steps of a process that already stands in a container's namespaces (but for those of
    users and PIDs) and cgroup.

    Processes there see it last of all, when it is no more than they are; unless its filter forbids
    it the fork that this takes."""
    terminal = _terminal(process, console=False)
    enter: tuple[Step, ...] = (steps.EnterPidNamespace(),)
    if terminal:
        enter = (*enter, nodes.TakeTerminal())
    is_last = _flag(process, "noNewPrivileges") or _may_be_born(seccomp)
    return (  # its oom_score_adj and its AppArmor profile are set before it gets there
        *(() if is_last else enter[:1]),
        nodes.UseNull(),
        *terminal,
        *(() if is_last else enter[1:]),
        *_limits(process),
        *((steps.EnterUser(new_mounts=False),) if in_user_namespace else ()),
        steps.JoinKeyring(f"_ses.{container_id}"),
        *payload_sequence(
            process,
            user=user,
            groups=groups,
            seccomp=seccomp,
            last_capability=last_capability,
            enter=enter if is_last else (),
        ),
    )


def _may_be_born(seccomp: bytes) -> bool:
    """Whether what `EnterPidNamespace` and `TakeTerminal` call passes the filter."""
    return (
        seccomp_trial.allows(seccomp, "clone", SIBLING_FLAGS)
        and seccomp_trial.allows(seccomp, "setsid")
        and seccomp_trial.allows(seccomp, "ioctl", 0, termios.TIOCSCTTY)
    )


def payload_sequence(
    process: Mapping[str, object],
    *,
    user: str,
    groups: tuple[str, ...],
    seccomp: bytes,
    last_capability: int,
    is_first: bool = False,
    enter: tuple[Step, ...] = (),
) -> tuple[Step, ...]:
    """`is_first`: of the container, whose network may not be there yet. `enter`: what comes when
    this process has become the user."""
    _only(process, "process", _KNOWN_PROCESS)
    arguments = _texts(process, "args")
    if not arguments:
        raise SpecError("process.args is empty: there is no command to run")
    directory = _directory(process)
    sets = _mapping(process, "capabilities")
    bounding, effective, permitted, inheritable, ambient = (
        capability_bits(_texts(sets, name))
        for name in ("bounding", "effective", "permitted", "inheritable", "ambient")
    )
    forbids = _flag(process, "noNewPrivileges")
    filters = [payload.LoadSeccomp(seccomp)] if seccomp else []
    return (
        steps.Forget(),
        payload.FindUser(user, groups),
        *([payload.MakeDirectory(directory)] if is_first else ()),
        payload.GiveStreams(),
        payload.LimitBoundingSet(bounding, last_capability),
        *(() if forbids else filters),
        payload.BecomeUser(effective, permitted, inheritable, ambient, last_capability, directory),
        *enter,
        *((payload.ForbidNewPrivileges(), *filters) if forbids else ()),
        *([steps.AwaitGo()] if is_first else ()),
        payload.Execute(arguments, _environment(process)),
    )


# --- parts of the spec ------------------------------------------------------------------------


def _directory(process: Mapping[str, object]) -> str:
    directory = _text(process, "cwd") or "/"
    if not directory.startswith("/"):
        raise SpecError(f"process.cwd {directory!r} is not an absolute path")
    return directory


def _namespaces(linux: Mapping[str, object]) -> tuple[int, dict[str, str]]:
    new = 0
    joined: dict[str, str] = {}
    for entry in _mappings(linux, "namespaces"):
        kind, path = _text(entry, "type"), _text(entry, "path")
        if kind not in NAMESPACES:
            raise SpecError(f"linux.namespaces: {kind!r} namespaces are not supported")
        if path:
            joined[kind] = path
        else:
            new |= NAMESPACES[kind]
    if "mount" in joined or not new & namespaces.CLONE_NEWNS:
        raise SpecError("linux.namespaces: a container needs a new mount namespace")
    return new, joined


def _root_propagation(linux: Mapping[str, object]) -> int:
    word = _text(linux, "rootfsPropagation")
    if not word:
        return 0
    plain = word.removeprefix("r")
    if plain not in _PROPAGATION:
        raise SpecError(f"linux.rootfsPropagation: {word!r} is no propagation")
    return _PROPAGATION[plain]


# Ours are "subpath", of a bind's source or an image; "layers", of an image: overlay's lower
# directories, top first; and "namespace", the mount namespace that a bind's source is in.
_MOUNT_FIELDS = frozenset(
    (
        *("destination", "type", "source", "options", "uidMappings", "gidMappings"),
        *("subpath", "layers", "namespace"),
    )
)


def _mount(entry: Mapping[str, object], index: int) -> tuple[Mapping[str, object], MountOptions]:
    _only(entry, f"mounts[{index}]", _MOUNT_FIELDS)
    destination = _text(entry, "destination")
    if not destination.startswith("/") or posixpath.normpath(destination) in ("/", "//"):
        raise SpecError(f"invalid mount destination {destination!r}")
    return entry, mount_options(_texts(entry, "options"))


@lru_cache(maxsize=256)  # the same few in nearly all containers
def mount_options(words: tuple[str, ...]) -> MountOptions:
    chosen = {False: [0, 0], True: [0, 0]}
    propagation, propagation_recursive = 0, False
    bind = recursive_bind = False
    rest: list[tuple[str, str | None]] = []
    for word in words:
        recursive = word not in _ATTRIBUTES and word.startswith("r")
        plain = word[1:] if recursive else word
        if word in ("bind", "rbind"):
            bind, recursive_bind = True, recursive_bind or word == "rbind"
        elif plain in _PROPAGATION:
            propagation, propagation_recursive = _PROPAGATION[plain], recursive
        elif plain in _ATTRIBUTES:
            attribute, is_set = _ATTRIBUTES[plain]
            taken = chosen[recursive]
            if attribute & mount.MOUNT_ATTR_ATIME:
                # One of four, not bits of their own.
                taken[0] &= ~mount.MOUNT_ATTR_ATIME
                taken[1] |= mount.MOUNT_ATTR_ATIME
            if is_set:
                taken[0] |= attribute
                taken[1] &= ~(attribute & ~mount.MOUNT_ATTR_ATIME)
            else:
                taken[0] &= ~attribute
                taken[1] |= attribute & ~mount.MOUNT_ATTR_ATIME
        elif word != "defaults":
            key, equals, value = word.partition("=")
            rest.append((key, value if equals else None))
    return MountOptions(
        chosen[False][0],
        chosen[False][1],
        chosen[True][0],
        chosen[True][1],
        propagation,
        propagation_recursive,
        bind,
        recursive_bind,
        tuple(rest),
    )


def _plan_mount(
    index: int,
    entry: Mapping[str, object],
    options: MountOptions,
    ids: IdMaps | None,
    take: list[Step],
    attach: list[Step],
) -> None:
    target, kind = _text(entry, "destination"), _text(entry, "type")
    source = _text(entry, "source")
    attributes = options.set_attributes | options.recursive_set
    shifted = _is_shifted(entry, target, ids)
    if options.bind or kind in ("bind", "rbind"):
        if options.rest:
            raise SpecError(f"mount {target}: a bind has no option {options.rest[0][0]!r}")
        if not source.startswith("/"):
            raise SpecError(f"mount {target}: bind source {source!r} is not an absolute path")
        if below := _text(entry, "subpath"):
            take.append(mounts.TakePart(index, source, below, options.recursive_bind, shifted))
        elif namespace := _text(entry, "namespace"):
            take.append(mounts.TakeForeign(index, source, namespace))
        else:
            take.append(mounts.TakeTree(index, source, options.recursive_bind, shifted))
        attach.append(
            mounts.AttachTree(
                index,
                target,
                options.set_attributes,
                options.clear,
                options.recursive_set,
                options.recursive_clear,
                options.propagation or mount.MS_PRIVATE,
                options.propagation_recursive or not options.propagation,
            )
        )
    elif kind == "cgroup":
        if options.rest:
            raise SpecError(f"mount {target}: cgroup has no option {options.rest[0][0]!r}")
        attach.append(mounts.MountCgroups(target, attributes))
    elif kind == "image":
        lowers = _texts(entry, "layers")
        attach.append(overlays.MountImage(target, tuple(lowers), _text(entry, "subpath")))
    elif not kind:
        raise SpecError(f"mount {target}: it has no type")
    else:
        rest = options.rest if ids is None else _outside(kind, options.rest, ids)
        attach.append(
            mounts.MountFilesystem(
                target, kind, source or kind, rest, attributes, options.propagation
            )
        )


def _is_shifted(entry: Mapping[str, object], target: str, ids: IdMaps | None) -> bool:
    """Whether the container's users are those of the files, and not the host's."""
    uids, gids = (_mappings(entry, name) for name in ("uidMappings", "gidMappings"))
    if not uids and not gids:
        return False
    if ids is None or IdMaps.parse(uids, gids) != ids:
        raise SpecError(f"mount {target}: its mappings have to be those of the container")
    return True


def _outside(
    kind: str, options: tuple[tuple[str, str | None], ...], ids: IdMaps
) -> tuple[tuple[str, str | None], ...]:
    """uid= and gid= are meant inside; the file system is mounted from out here."""
    given = {key: value for key, value in options if value is not None}
    defaults = {"uid": "0", "gid": "0"} if kind == "tmpfs" else {}
    owners = {
        key: str((ids.uid if key == "uid" else ids.gid)(int(value)))
        for key, value in {**defaults, **given}.items()
        if key in ("uid", "gid") and value.isdecimal()
    }
    return (*((key, value) for key, value in options if key not in owners), *owners.items())


def _devices(linux: Mapping[str, object], ids: IdMaps | None) -> tuple[Step, ...]:
    uid_of, gid_of = (ids.uid, ids.gid) if ids is not None else (int, int)
    made = {
        node.path: nodes.MakeDevice(
            *(node.path, node.kind, node.major, node.minor, node.mode),
            *(uid_of(node.uid), gid_of(node.gid)),
        )
        for node in devices.DEFAULT_NODES
    }
    for entry in _mappings(linux, "devices"):
        path, kind = _text(entry, "path"), _text(entry, "type")
        if kind not in ("b", "c", "u", "p") or not path.startswith("/") or ".." in path.split("/"):
            raise SpecError(f"linux.devices: {path!r} of type {kind!r} can't be made")
        made[posixpath.normpath(path)] = nodes.MakeDevice(
            posixpath.normpath(path),
            kind,
            _number(entry, "major", 0),
            _number(entry, "minor", 0),
            _number(entry, "fileMode", 0o666) & 0o7777,
            uid_of(_number(entry, "uid", 0)),
            gid_of(_number(entry, "gid", 0)),
        )
    made.pop("/dev/ptmx", None)  # of the host's terminals; it becomes a link
    links = [nodes.MakeLink(path, leads_to) for path, leads_to in devices.LINKS]
    return (*made.values(), *links)


def _terminal(process: Mapping[str, object], *, console: bool) -> tuple[Step, ...]:
    if not _flag(process, "terminal"):
        return ()
    size = _mapping(process, "consoleSize")
    return (
        nodes.OpenTerminal(_number(size, "height", 0), _number(size, "width", 0), console=console),
    )


def _limits(process: Mapping[str, object]) -> list[Step]:
    return [_limit(entry) for entry in _mappings(process, "rlimits")]


def _limit(entry: Mapping[str, object]) -> steps.SetLimit:
    name = _text(entry, "type")
    kind: object = getattr(resource, name, None) if name.startswith("RLIMIT_") else None
    if not isinstance(kind, int):
        raise SpecError(f"process.rlimits: unknown limit {name!r}")
    soft, hard = _number(entry, "soft", 0), _number(entry, "hard", 0)
    # 2^64 - 1 is how the spec writes "no limit".
    return steps.SetLimit(kind, name, *(-1 if limit >= 2**63 else limit for limit in (soft, hard)))


def _environment(process: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for line in _texts(process, "env"):
        name, equals, value = line.partition("=")
        if not equals or not name or "\0" in line:
            raise SpecError(f"process.env: {line!r} is not NAME=value")
        found[name] = value
    return tuple(found.items())


def _sysctl(name: str) -> str:
    if not name or "/" in name or ".." in name or name.startswith("."):
        raise SpecError(f"linux.sysctl: invalid name {name!r}")
    return name


@lru_cache(maxsize=256)
def capability_bits(names: tuple[str, ...]) -> int:
    bits = 0
    for name in names:
        if name not in capabilities.NAMES:
            raise SpecError(f"process.capabilities: unknown capability {name!r}")
        bits |= 1 << capabilities.NAMES.index(name)
    return bits


# --- reading ----------------------------------------------------------------------------------

_KNOWN = frozenset(
    ("ociVersion", "process", "root", "hostname", "domainname", "mounts", "linux", "annotations")
)
_KNOWN_PROCESS = frozenset(
    (
        *("terminal", "consoleSize", "user", "args", "env", "cwd", "capabilities", "rlimits"),
        *("noNewPrivileges", "oomScoreAdj", "apparmorProfile"),
    )
)
_KNOWN_LINUX = frozenset(
    (
        *("namespaces", "uidMappings", "gidMappings", "devices", "cgroupsPath", "resources"),
        *("sysctl", "maskedPaths"),
        *("readonlyPaths", "rootfsPropagation"),
    )
)


def _only(found: Mapping[str, object], where: str, known: frozenset[str]) -> None:
    """Refuse what would be left out silently. Empty values ask for nothing."""
    for key, value in found.items():
        if key not in known and value:
            raise SpecError(f"{where}: {key!r} is not supported")


def _mapping(found: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = found.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise SpecError(f"{key} must be an object, not {type(value).__name__}")
    return value


def _mappings(found: Mapping[str, object], key: str) -> list[Mapping[str, object]]:
    value = found.get(key)
    if value is None:
        return []
    if not isinstance(value, list | tuple) or not all(isinstance(one, Mapping) for one in value):
        raise SpecError(f"{key} must be a list of objects")
    return list(value)


def _texts(found: Mapping[str, object], key: str) -> tuple[str, ...]:
    value = found.get(key)
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise SpecError(f"{key} must be a list of strings")
    try:
        are_plain = "\0" not in "".join(value)
    except TypeError:
        are_plain = False
    return tuple(value) if are_plain else tuple(_plain_text(one, key) for one in value)


def _text(found: Mapping[str, object], key: str) -> str:
    value = found.get(key)
    return "" if value is None else _plain_text(value, key)


def _plain_text(value: object, where: str) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise SpecError(f"{where} must be a string without NUL, not {value!r}")
    return value


def _number(found: Mapping[str, object], key: str, default: int) -> int:
    value = found.get(key)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool):
        raise SpecError(f"{key} must be an integer, not {value!r}")
    return value


def _flag(found: Mapping[str, object], key: str) -> bool:
    value = found.get(key)
    if value is not None and not isinstance(value, bool):
        raise SpecError(f"{key} must be true or false, not {value!r}")
    return bool(value)
