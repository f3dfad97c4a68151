"""What a container's first process does before it becomes the payload, as values.

`describe()` says it in words, for the log, the tests and errors ("cannot mount proc at /proc: …");
`run()` does it to the calling process. Which steps, in which order and why: `sequence`.
"""

import errno
import os
import posixpath
import resource
import socket
import stat
from dataclasses import dataclass, field

from engine.kernel import mount, namespaces, privileges, process
from engine.kernel.libc import AT_FDCWD, KernelError
from engine.oci.rootfs import Rootfs
from engine.runtime import channel
from engine.runtime.cgroup_tree import Cgroup
from engine.runtime.users import Identity


class Refused(Exception):
    """A step that can't be done; `str()` is the whole text, `code` what a shell would say."""

    def __init__(self, text: str, code: int = 128) -> None:
        super().__init__(text)
        self.code = code


@dataclass(slots=True)
class Place:
    """What the steps hand on to each other: descriptors of the world being built."""

    supervisor: socket.socket
    cgroup: Cgroup
    root: int = -1
    null: int = -1
    trees: dict[int, int] = field(default_factory=dict)  # detached binds, by their place
    empty: int = -1  # the one empty directory that hides others
    identity: Identity | None = None


class Step:
    """One thing to do."""

    __slots__ = ()

    def describe(self) -> str:
        raise AssertionError

    def run(self, place: Place) -> None:
        raise AssertionError


# --- joining ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EnterCgroup(Step):
    """All of them but the unified one, which this process was born into."""

    def describe(self) -> str:
        return "enter the cgroup"

    def run(self, place: Place) -> None:
        place.cgroup.enter(unified=False)


@dataclass(frozen=True, slots=True)
class JoinNamespace(Step):
    kind: int
    path: str

    def describe(self) -> str:
        return f"join namespace {self.path}"

    def run(self, place: Place) -> None:
        descriptor = mount.open_by_name(self.path, os.O_RDONLY)
        try:
            namespaces.setns(descriptor, self.kind, path=self.path)
        finally:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class NewCgroupNamespace(Step):
    """After the cgroup was entered: its group becomes the root of what is seen."""

    def describe(self) -> str:
        return "make a cgroup namespace"

    def run(self, place: Place) -> None:
        namespaces.unshare(namespaces.CLONE_NEWCGROUP)


# --- mounts -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TakeTree(Step):
    """Copy a mount of the host, before anything here is cut off from it: a copy of a shared
    mount is still its peer, so `rshared` and `rslave` binds work however private the rest is."""

    key: int
    source: str
    recursive: bool

    def describe(self) -> str:
        return f"take {self.source}"

    def run(self, place: Place) -> None:
        place.trees[self.key] = mount.clone_tree(AT_FDCWD, self.source, recursive=self.recursive)


@dataclass(frozen=True, slots=True)
class TakeNull(Step):
    """The host's /dev/null, for masks: a container's own could be anything (CVE-2025-31133)."""

    def describe(self) -> str:
        return "open /dev/null"

    def run(self, place: Place) -> None:
        place.null = mount.open_by_name("/dev/null")
        _check_null(place.null)


def _check_null(descriptor: int) -> None:
    found = os.fstat(descriptor)
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != os.makedev(1, 3):
        raise Refused("/dev/null is not the null device")


@dataclass(frozen=True, slots=True)
class MakePrivate(Step):
    def describe(self) -> str:
        return "cut the mounts off from the host's"

    def run(self, place: Place) -> None:
        mount.set_propagation("/", mount.MS_PRIVATE)


@dataclass(frozen=True, slots=True)
class MountRoot(Step):
    """The overlay, at a directory that serves as a hook until the root is switched."""

    rootfs: Rootfs
    hook: str

    def describe(self) -> str:
        return f"mount the root file system of {len(self.rootfs.lowers)} layers"

    def run(self, place: Place) -> None:
        # Names by descriptor are short (an option holds 255 bytes) and keep the host's paths
        # out of the container's mount table.
        held = [mount.open_by_name(path) for path in self.rootfs.lowers]
        held += [mount.open_by_name(path) for path in (self.rootfs.upper, self.rootfs.work)]
        names = [f"/proc/self/fd/{descriptor}" for descriptor in held]
        hook = mount.open_by_name(self.hook)
        try:
            place.root = self._mount(names[:-2], names[-2], names[-1], hook)
        finally:
            for descriptor in (*held, hook):
                os.close(descriptor)

    def _mount(self, lowers: list[str], upper: str, work: str, hook: int) -> int:
        # Without `index` a second start may follow while the first mount still goes away.
        common = (("upperdir", upper), ("workdir", work), ("index", "off"))
        try:
            options = tuple(("lowerdir+", name) for name in lowers) + common
            root = mount.make_filesystem("overlay", "overlay", options, 0)
        except KernelError as error:
            # Before Linux 6.7 there is no "lowerdir+"; before 6.5 that is said only at the end.
            if error.errno != errno.EINVAL:
                raise
        else:
            mount.move_mount(root, hook, path=self.hook)
            return root
        text = ",".join(
            f"{key}={value}" for key, value in (("lowerdir", ":".join(lowers)), *common)
        )
        mount.mount_overlay_classic(hook, text, 0)
        return mount.open_by_name(self.hook)


# Files that lxcfs and its like put over those of procfs; nothing else may be mounted there.
_PROC_FILES = frozenset(
    f"/proc/{name}"
    for name in [
        "cpuinfo",
        "diskstats",
        "meminfo",
        "stat",
        "swaps",
        "uptime",
        "loadavg",
        "slabinfo",
        "net/dev",
        "sys/kernel/ns_last_pid",
        "sys/crypto/fips_enabled",
    ]
)


@dataclass(frozen=True, slots=True)
class MountFilesystem(Step):
    target: str
    kind: str
    source: str
    options: tuple[tuple[str, str | None], ...]
    attributes: int
    propagation: int = 0

    def describe(self) -> str:
        return f"mount {self.kind} at {self.target}"

    def run(self, place: Place) -> None:
        target = self._target(place.root)
        try:
            made = mount.make_filesystem(self.kind, self.source, self.options, self.attributes)
            try:
                if self.propagation:
                    mount.mount_setattr(made, propagation=self.propagation, path=self.target)
                mount.move_mount(made, target, path=self.target)
            finally:
                os.close(made)
        finally:
            os.close(target)

    def _target(self, root: int) -> int:
        if self.kind not in ("proc", "sysfs"):
            return make_target(root, self.target, directory=True)
        # An image whose /proc leads elsewhere would make all that is masked there visible.
        target = make_target(root, self.target, directory=True, links=False)
        if not stat.S_ISDIR(os.fstat(target).st_mode):
            os.close(target)
            raise Refused(f'filesystem "{self.kind}" must be mounted on ordinary directory')
        return target


@dataclass(frozen=True, slots=True)
class AttachTree(Step):
    """The second half of a bind: give the copy its options, then attach it."""

    key: int
    target: str
    set_attributes: int
    clear: int
    recursive_set: int
    recursive_clear: int
    propagation: int
    propagation_recursive: bool

    def describe(self) -> str:
        return f"bind {self.target}"

    def run(self, place: Place) -> None:
        tree = place.trees.pop(self.key)
        try:
            is_directory = stat.S_ISDIR(os.fstat(tree).st_mode)
            if self.recursive_set or self.recursive_clear:
                mount.mount_setattr(
                    tree,
                    set_attributes=self.recursive_set,
                    clear=self.recursive_clear,
                    recursive=True,
                    path=self.target,
                )
            if self.set_attributes or self.clear:
                mount.mount_setattr(
                    tree, set_attributes=self.set_attributes, clear=self.clear, path=self.target
                )
            if self.propagation:
                mount.mount_setattr(
                    tree,
                    propagation=self.propagation,
                    recursive=self.propagation_recursive,
                    path=self.target,
                )
            target = make_target(place.root, self.target, directory=is_directory)
            try:
                mount.move_mount(tree, target, path=self.target)
            finally:
                os.close(target)
        finally:
            os.close(tree)


@dataclass(frozen=True, slots=True)
class MountCgroups(Step):
    """/sys/fs/cgroup: the container's own groups and nothing above them."""

    target: str
    attributes: int

    def describe(self) -> str:
        return f"mount cgroups at {self.target}"

    def run(self, place: Place) -> None:
        target = make_target(place.root, self.target, directory=True)
        try:
            if place.cgroup.hierarchy.is_v2:
                self._unified(target)
            else:
                self._each(place, target)
        finally:
            os.close(target)

    def _unified(self, target: int) -> None:
        made = mount.make_filesystem("cgroup2", "cgroup", (), self.attributes)
        try:
            mount.move_mount(made, target, path=self.target)
        finally:
            os.close(made)

    def _each(self, place: Place, target: int) -> None:
        options = (("mode", "755"),)
        attributes = self.attributes & ~mount.MOUNT_ATTR_RDONLY
        tmpfs = mount.make_filesystem("tmpfs", "tmpfs", options, attributes)
        try:
            mount.move_mount(tmpfs, target, path=self.target)
            for name, directory in place.cgroup.mounts:
                os.mkdir(name, 0o755, dir_fd=tmpfs)
                hook = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=tmpfs)
                tree = mount.clone_tree(AT_FDCWD, directory, recursive=False)
                mount.mount_setattr(tree, set_attributes=self.attributes, path=directory)
                mount.move_mount(tree, hook, path=f"{self.target}/{name}")
                os.close(tree)
                os.close(hook)
                for single in name.split(",") if "," in name else ():
                    os.symlink(name, single, dir_fd=tmpfs)
            if self.attributes & mount.MOUNT_ATTR_RDONLY:
                mount.mount_setattr(tmpfs, set_attributes=mount.MOUNT_ATTR_RDONLY, path=self.target)
        finally:
            os.close(tmpfs)


def make_target(root: int, path: str, *, directory: bool, links: bool = True) -> int:
    """A descriptor for the mount point `path` below `root`, made if it isn't there.

    Links are followed as inside the container. Raises Refused for places that no mount may
    cover.
    """
    resolve = mount.RESOLVE_IN_ROOT | mount.RESOLVE_NO_MAGICLINKS
    if not links:
        resolve |= mount.RESOLVE_NO_SYMLINKS
    try:
        target = mount.openat2(root, path, os.O_PATH, resolve=resolve)
    except KernelError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR) and not links:
            raise Refused(f"{path} must be mounted on ordinary directory") from None
        if error.errno != errno.ENOENT:
            raise
        target = _create_target(root, path, directory=directory)
    if links:
        _check_target(root, target, path)
    return target


def _check_target(root: int, target: int, path: str) -> None:
    found, top = os.fstat(target), os.fstat(root)
    problem = ""
    if (found.st_dev, found.st_ino) == (top.st_dev, top.st_ino):
        problem = f"invalid mount target {path!r}: it is the container's root"
    elif (
        mount.filesystem_type(target) == mount.PROC_SUPER_MAGIC
        and posixpath.normpath(path) not in _PROC_FILES
    ):
        problem = f"{path!r} cannot be mounted because it is inside /proc"
    if problem:
        os.close(target)
        raise Refused(problem)


def _create_target(root: int, path: str, *, directory: bool) -> int:
    """Walk down and make what is missing, each part by the descriptor of the one above."""
    parts = [part for part in posixpath.normpath(f"/{path}").split("/") if part]
    for _ in range(40):  # as many links as the kernel follows
        depth = len(parts)
        while True:
            depth -= 1
            try:
                at = mount.open_in_root(root, "/" + "/".join(parts[:depth]))
                break
            except KernelError as error:
                if error.errno != errno.ENOENT or depth == 0:
                    raise
        try:
            while depth < len(parts):
                last = depth == len(parts) - 1
                _create_one(at, parts[depth], directory=directory or not last)
                flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
                below = os.open(parts[depth], flags, dir_fd=at)
                if stat.S_ISLNK(os.fstat(below).st_mode):
                    os.close(below)
                    leads_to = os.readlink(parts[depth], dir_fd=at)
                    break
                os.close(at)
                at = below
                depth += 1
            else:
                return os.dup(at)
        finally:
            os.close(at)
        # A link that dangles: what it names is made, inside the root.
        above = "/".join(parts[:depth])
        joined = posixpath.join(f"/{above}", leads_to, *parts[depth + 1 :])
        parts = [part for part in posixpath.normpath(joined).split("/") if part]
    raise KernelError("open", path, errno.ELOOP)


def _create_one(at: int, name: str, *, directory: bool) -> None:
    try:
        if directory:
            os.mkdir(name, 0o755, dir_fd=at)
        else:
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(name, flags, 0o644, dir_fd=at))
    except FileExistsError:
        return


# --- devices ----------------------------------------------------------------------------------

_NODE_TYPES = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}


@dataclass(frozen=True, slots=True)
class MakeDevice(Step):
    path: str
    kind: str
    major: int
    minor: int
    mode: int
    uid: int
    gid: int

    def describe(self) -> str:
        return f"make device {self.path}"

    def run(self, place: Place) -> None:
        folder, _, name = self.path.rpartition("/")
        wanted = os.makedev(self.major, self.minor)
        at = _open_folder(place.root, folder)
        try:
            try:
                os.mknod(name, _NODE_TYPES[self.kind] | self.mode, wanted, dir_fd=at)
            except FileExistsError:
                found = os.stat(name, dir_fd=at, follow_symlinks=False)
                is_same_kind = stat.S_IFMT(found.st_mode) == _NODE_TYPES[self.kind]
                if is_same_kind and found.st_rdev == wanted:
                    return
                raise
            os.chown(name, self.uid, self.gid, dir_fd=at, follow_symlinks=False)
        finally:
            os.close(at)


@dataclass(frozen=True, slots=True)
class MakeLink(Step):
    path: str
    leads_to: str

    def describe(self) -> str:
        return f"link {self.path} to {self.leads_to}"

    def run(self, place: Place) -> None:
        folder, _, name = self.path.rpartition("/")
        at = _open_folder(place.root, folder)
        try:
            os.symlink(self.leads_to, name, dir_fd=at)
        except FileExistsError:
            if self.path != "/dev/ptmx":
                return
            # A node here would be the host's terminals.
            os.unlink(name, dir_fd=at)
            os.symlink(self.leads_to, name, dir_fd=at)
        finally:
            os.close(at)


def _open_folder(root: int, path: str) -> int:
    found = make_target(root, path, directory=True, links=False)
    if not stat.S_ISDIR(os.fstat(found).st_mode):
        os.close(found)
        raise KernelError("open", path, errno.ENOTDIR)
    return found


@dataclass(frozen=True, slots=True)
class OpenTerminal(Step):
    """A pty of the container's own devpts: its master goes to the supervisor, its other end
    becomes 0, 1, 2 and /dev/console."""

    height: int
    width: int
    console: bool

    def describe(self) -> str:
        return "open a terminal"

    def run(self, place: Place) -> None:
        peer = self._open(place)
        try:
            if self.console:
                target = make_target(place.root, "/dev/console", directory=False, links=False)
                tree = mount.clone_tree(peer, "", recursive=False)
                mount.move_mount(tree, target, path="/dev/console")
                os.close(tree)
                os.close(target)
            for descriptor in (0, 1, 2):
                os.dup2(peer, descriptor)
        finally:
            os.close(peer)

    def _open(self, place: Place) -> int:
        flags = os.O_RDWR | os.O_NOCTTY
        resolve = mount.RESOLVE_IN_ROOT | mount.RESOLVE_NO_SYMLINKS
        handle = mount.openat2(place.root, "/dev/pts/ptmx", os.O_PATH, resolve=resolve)
        try:
            # A false ptmx could hand out any file as a terminal (CVE-2025-52565).
            found = os.fstat(handle)
            if mount.filesystem_type(
                handle
            ) != mount.DEVPTS_SUPER_MAGIC or found.st_rdev != os.makedev(5, 2):
                raise Refused("/dev/pts/ptmx is not a terminal multiplexer")
        finally:
            os.close(handle)
        master = mount.openat2(place.root, "/dev/pts/ptmx", flags, resolve=resolve)
        try:
            process.unlock_pty(master)
            if self.height and self.width:
                process.set_window_size(master, self.height, self.width)
            peer = process.open_pty_peer(master)
            channel.send(place.supervisor, {"state": "terminal"}, (master,))
        finally:
            os.close(master)
        return peer


# --- hiding -----------------------------------------------------------------------------------


def _open_special(root: int, path: str) -> int | None:
    """An existing path below the container's root; for /proc and /sys only if that really is
    the kernel's, and without a link on the way. None if there is no such path."""
    top, _, rest = path.lstrip("/").partition("/")
    magic = {"proc": mount.PROC_SUPER_MAGIC, "sys": mount.SYSFS_MAGIC}.get(top)
    try:
        if magic is None or not rest:
            return mount.open_in_root(root, path)
        flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
        base = mount.openat2(root, top, flags, resolve=mount.RESOLVE_BENEATH)
        try:
            if mount.filesystem_type(base) != magic or os.fstat(base).st_ino != 1:
                raise Refused(f"/{top} is not the kernel's")
            resolve = mount.RESOLVE_BENEATH | mount.RESOLVE_NO_SYMLINKS
            return mount.openat2(base, rest, os.O_PATH, resolve=resolve)
        finally:
            os.close(base)
    except KernelError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise


@dataclass(frozen=True, slots=True)
class ProtectPath(Step):
    path: str

    def describe(self) -> str:
        return f"make {self.path} read-only"

    def run(self, place: Place) -> None:
        found = _open_special(place.root, self.path)
        if found is None:
            return
        try:
            tree = mount.clone_tree(found, "", recursive=True)
            try:
                mount.mount_setattr(
                    tree,
                    set_attributes=mount.MOUNT_ATTR_RDONLY,
                    recursive=True,
                    path=self.path,
                )
                mount.move_mount(tree, found, path=self.path)
            finally:
                os.close(tree)
        finally:
            os.close(found)


@dataclass(frozen=True, slots=True)
class MaskPath(Step):
    """Cover a file with the null device, a directory with an empty one; all share one."""

    path: str

    def describe(self) -> str:
        return f"mask {self.path}"

    def run(self, place: Place) -> None:
        found = _open_special(place.root, self.path)
        if found is None:
            return
        try:
            if not stat.S_ISDIR(os.fstat(found).st_mode):
                tree = mount.clone_tree(place.null, "", recursive=False)
            elif place.empty < 0:
                options = (("nr_blocks", "1"), ("nr_inodes", "1"))
                flags = mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_NOSUID
                flags |= mount.MOUNT_ATTR_NODEV | mount.MOUNT_ATTR_NOEXEC
                tree = mount.make_filesystem("tmpfs", "tmpfs", options, flags)
            else:
                tree = mount.clone_tree(place.empty, "", recursive=False)
            mount.move_mount(tree, found, path=self.path)
            if stat.S_ISDIR(os.fstat(tree).st_mode) and place.empty < 0:
                place.empty = tree
            else:
                os.close(tree)
        finally:
            os.close(found)


@dataclass(frozen=True, slots=True)
class SetSysctl(Step):
    name: str
    value: str

    def describe(self) -> str:
        return f"set sysctl {self.name}"

    def run(self, place: Place) -> None:
        found = _open_special(place.root, "/proc/sys/" + self.name.replace(".", "/"))
        if found is None:
            raise KernelError("open", f"/proc/sys/{self.name.replace('.', '/')}", errno.ENOENT)
        try:
            target = os.open(f"/proc/self/fd/{found}", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(target, self.value.encode())
            finally:
                os.close(target)
        finally:
            os.close(found)


@dataclass(frozen=True, slots=True)
class SwitchRoot(Step):
    """pivot_root onto itself, then let go of the old root that lies on top; a chroot alone
    could be left again."""

    read_only: bool
    propagation: int = 0  # of the container's root itself; 0 = private

    def describe(self) -> str:
        return "switch the root"

    def run(self, place: Place) -> None:
        old = mount.open_by_name("/", os.O_PATH | os.O_DIRECTORY)
        os.fchdir(place.root)
        mount.pivot_root(".", ".")
        os.fchdir(old)
        mount.umount(".", mount.MNT_DETACH)
        os.close(old)
        os.chdir("/")
        if self.read_only:
            mount.mount_setattr(place.root, set_attributes=mount.MOUNT_ATTR_RDONLY, path="/")
        if self.propagation:
            mount.mount_setattr(place.root, propagation=self.propagation, path="/")


@dataclass(frozen=True, slots=True)
class SetHostname(Step):
    name: str
    domain: str

    def describe(self) -> str:
        return f"set the host name {self.name}"

    def run(self, place: Place) -> None:
        if self.name:
            namespaces.sethostname(self.name)
        if self.domain:
            namespaces.setdomainname(self.domain)


# --- the process ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SetOomScore(Step):
    value: int

    def describe(self) -> str:
        return f"set oom_score_adj {self.value}"

    def run(self, place: Place) -> None:
        with open("/proc/self/oom_score_adj", "wb", buffering=0) as stream:
            stream.write(b"%d" % self.value)


@dataclass(frozen=True, slots=True)
class SetLimit(Step):
    kind: int
    name: str
    soft: int
    hard: int

    def describe(self) -> str:
        return f"set limit {self.name} to {self.soft}:{self.hard}"

    def run(self, place: Place) -> None:
        resource.setrlimit(self.kind, (self.soft, self.hard))


@dataclass(frozen=True, slots=True)
class JoinKeyring(Step):
    name: str

    def describe(self) -> str:
        return "make a session keyring"

    def run(self, place: Place) -> None:
        process.join_session_keyring(self.name)


@dataclass(frozen=True, slots=True)
class AwaitGo(Step):
    """Everything stands but the network: say so and wait."""

    def describe(self) -> str:
        return "wait for the network"

    def run(self, place: Place) -> None:
        channel.send(place.supervisor, {"state": "ready"})
        if channel.receive(place.supervisor) is None:
            # The supervisor is gone: nobody would hear this container or reap it.
            os._exit(1)


@dataclass(frozen=True, slots=True)
class Forget(Step):
    """Close every descriptor but 0, 1, 2 and the word to the supervisor, which exec closes:
    none of the host's may serve as a working directory (CVE-2024-21626)."""

    def describe(self) -> str:
        return "close all descriptors"

    def run(self, place: Place) -> None:
        kept = place.supervisor.fileno()
        if kept > 3:
            process.close_range(3, kept - 1)
        process.close_range(kept + 1)
        place.root = place.null = place.empty = -1
        privileges.clear_parent_death_signal()
        process.default_signals()
        os.umask(0o022)
