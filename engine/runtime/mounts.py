"""Steps that mount file systems, binds and cgroups."""

import errno
import os
import posixpath
import stat
from dataclasses import dataclass

from engine.kernel import mount, namespaces
from engine.kernel.libc import AT_EMPTY_PATH, AT_FDCWD, KernelError, reason
from engine.runtime import mount_calls
from engine.runtime.script import (
    MADE,
    NULL,
    SPARE,
    STAT_DEVICE,
    STAT_MODE,
    STAT_SIZE,
    TREES,
    Known,
    Refusal,
    Script,
    Unscriptable,
)
from engine.runtime.steps import Place, Refused, Step
from engine.runtime.targets import make_target


@dataclass(frozen=True, slots=True)
class TakeTree(Step):
    """Copy a mount of the host, before anything here is cut off from it: a copy of a shared
    mount is still its peer, so `rshared` and `rslave` binds work however private the rest is."""

    key: int
    source: str
    recursive: bool
    shifted: bool = False

    def describe(self) -> str:
        return f"take {self.source}"

    def run(self, place: Place) -> None:
        tree = mount.clone_tree(AT_FDCWD, self.source, recursive=self.recursive)
        place.trees[self.key] = tree
        if self.shifted:
            show_owners(place, tree, self.source, recursive=self.recursive)

    def write(self, to: Script, known: Known) -> None:
        if self.shifted:
            raise Unscriptable(f"{self.source} has another user's files")
        try:
            to.kinds[self.key] = stat.S_IFMT(os.stat(self.source).st_mode)
        except OSError as error:
            raise Unscriptable(f"{self.source}: {reason(error)}") from None
        place = TREES + self.key
        mount_calls.clone(to, self.cannot(), place, AT_FDCWD, self.source, recursive=self.recursive)


@dataclass(frozen=True, slots=True)
class TakePart(Step):
    """Copy the mount at a path below `source`, which a container may have written: no link there
    leads out of it, nor does one that is put there at this very moment (CVE-2021-25741)."""

    key: int
    source: str
    below: str
    recursive: bool
    shifted: bool = False

    def describe(self) -> str:
        return f"take {self.below} of {self.source}"

    def run(self, place: Place) -> None:
        top = mount.open_by_name(self.source)
        try:
            tree = part_of(top, self.source, self.below, recursive=self.recursive)
            place.trees[self.key] = tree
            if self.shifted:
                show_owners(place, tree, self.source, recursive=self.recursive)
        finally:
            os.close(top)


@dataclass(frozen=True, slots=True)
class TakeForeign(Step):
    """Copy a tmpfs of another container: what its /dev/shm is, if it is to be shared. Only that
    container's own mount namespace can give it; this process is back before anything else."""

    key: int
    source: str
    namespace: str

    def describe(self) -> str:
        return f"take {self.source} of {self.namespace}"

    def run(self, place: Place) -> None:
        own = mount.open_by_name("/proc/self/ns/mnt", os.O_RDONLY)
        foreign = mount.open_by_name(self.namespace, os.O_RDONLY)
        try:
            namespaces.setns(foreign, namespaces.CLONE_NEWNS, path=self.namespace)
            try:
                place.trees[self.key] = self._take()
            finally:
                namespaces.setns(own, namespaces.CLONE_NEWNS, path="/proc/self/ns/mnt")
        finally:
            os.close(own)
            os.close(foreign)

    def _take(self) -> int:
        # The other container may have put there what it likes, but it can only give of its own.
        resolve = mount.RESOLVE_NO_SYMLINKS
        found = mount.openat2(AT_FDCWD, self.source, os.O_PATH, resolve=resolve)
        try:
            if mount.filesystem_type(found) != mount.TMPFS_MAGIC:
                raise Refused(f"{self.source} of the other container is no tmpfs")
            return mount.clone_tree(found, "", recursive=False)
        finally:
            os.close(found)


@dataclass(frozen=True, slots=True)
class TakeNull(Step):
    """The host's /dev/null, for masks where the container has none of its own."""

    def describe(self) -> str:
        return "open /dev/null"

    def run(self, place: Place) -> None:
        place.null = mount.open_by_name("/dev/null")
        if not is_null(place.null):
            raise Refused("/dev/null is not the null device")

    def write(self, to: Script, known: Known) -> None:
        path, flags = to.text(b"/dev/null"), os.O_PATH | os.O_CLOEXEC
        mount_calls.keep(to, self.cannot(), NULL, "openat", AT_FDCWD, path, flags, 0)
        found = to.room(STAT_SIZE)
        to.must(self.cannot(), "newfstatat", NULL, to.text(b""), found, AT_EMPTY_PATH)
        other = to.refusal(Refusal("/dev/null is not the null device", is_whole=True))
        to.expect(found + STAT_MODE, stat.S_IFCHR, mask=stat.S_IFMT(0xFFFF), otherwise=other)
        to.expect(found + STAT_DEVICE, os.makedev(1, 3), otherwise=other)


def is_null(descriptor: int) -> bool:
    found = os.fstat(descriptor)
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == os.makedev(1, 3)


@dataclass(frozen=True, slots=True)
class MakePrivate(Step):
    def describe(self) -> str:
        return "cut the mounts off from the host's"

    def run(self, place: Place) -> None:
        mount.set_propagation("/", mount.MS_PRIVATE)

    def write(self, to: Script, known: Known) -> None:
        to.must(self.cannot(), "mount", 0, to.text(b"/"), 0, mount.MS_PRIVATE | mount.MS_REC, 0)


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
        options = self._options(place.root)
        target = self._target(place)
        try:
            made = mount.make_filesystem(self.kind, self.source, options, self.attributes)
            try:
                if self.propagation:
                    mount.mount_setattr(made, propagation=self.propagation, path=self.target)
                mount.move_mount(made, target, path=self.target)
            finally:
                os.close(made)
        finally:
            os.close(target)

    def write(self, to: Script, known: Known) -> None:
        cannot = self.cannot()
        mount_calls.filesystem(to, cannot, self.kind, self.source, self.options, self.attributes)
        if self.kind == "tmpfs" and not any(key == "mode" for key, _ in self.options):
            if self.attributes & mount.MOUNT_ATTR_RDONLY:
                raise Unscriptable(f"{self.target} is as open as what it covers, and read-only")
            self._write_mode(to)
        if self.propagation:
            mount_calls.set_attributes(to, cannot, MADE, propagation=self.propagation)
        is_kernels = self.kind in ("proc", "sysfs")
        resolve = mount_calls.PLAIN if is_kernels else mount_calls.INSIDE
        mount_calls.attach(to, cannot, MADE, self.target, stat.S_IFDIR, resolve=resolve)

    def _write_mode(self, to: Script) -> None:
        """See `_options`."""
        cannot, found = self.cannot(), to.room(STAT_SIZE)
        given = mount_calls.finding(to, self.target, os.O_PATH, resolve=mount_calls.INSIDE)
        absent = to.after(4)
        to.call("openat2", *given, into=(1, 0), otherwise=absent)
        to.must(cannot, "newfstatat", -1, to.text(b""), found, AT_EMPTY_PATH)
        to.copy(found + STAT_MODE, (1, 2), mask=0o7777)
        to.must(cannot, "fchmodat", MADE, to.text(b"."), 0)

    def _options(self, root: int) -> tuple[tuple[str, str | None], ...]:
        """A tmpfs is as open as the folder that it covers, where there is one: nobody may write
        into /etc, or look into /root, for it being a tmpfs."""
        if self.kind != "tmpfs" or any(key == "mode" for key, _ in self.options):
            return self.options
        try:
            covered = mount.open_in_root(root, self.target, os.O_PATH)
        except KernelError:
            return self.options
        try:
            mode = stat.S_IMODE(os.fstat(covered).st_mode)
        finally:
            os.close(covered)
        return (*self.options, ("mode", f"{mode:o}"))

    def _target(self, place: Place) -> int:
        root, owner = place.root, place.owner
        if self.kind not in ("proc", "sysfs"):
            return make_target(root, self.target, directory=True, owner=owner)
        # An image whose /proc leads elsewhere would make all that is masked there visible.
        target = make_target(root, self.target, directory=True, links=False, owner=owner)
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
            target = make_target(place.root, self.target, directory=is_directory, owner=place.owner)
            try:
                if stat.S_ISDIR(os.fstat(target).st_mode) != is_directory:
                    # Of "is a directory" the docker CLI makes an exit code of 126.
                    kinds = ("a file", "a directory")
                    raise Refused(
                        f"cannot bind {kinds[is_directory]} to {self.target}: "
                        f"{kinds[not is_directory]} lies there"
                    )
                mount.move_mount(tree, target, path=self.target)
            finally:
                os.close(target)
        finally:
            os.close(tree)

    def write(self, to: Script, known: Known) -> None:
        cannot, tree = self.cannot(), TREES + self.key
        if posixpath.normpath(self.target).split("/")[1] in ("proc", "sys"):
            raise Unscriptable(f"{self.target} is the kernel's")
        kind = to.kinds[self.key]
        mount_calls.expect_kind(to, cannot, tree, kind)
        for add, clear, recursive in (
            (self.recursive_set, self.recursive_clear, True),
            (self.set_attributes, self.clear, False),
        ):
            if add or clear:
                mount_calls.set_attributes(
                    to, cannot, tree, add=add, clear=clear, recursive=recursive
                )
        if self.propagation:
            recursive = self.propagation_recursive
            mount_calls.set_attributes(
                to, cannot, tree, propagation=self.propagation, recursive=recursive
            )
        mount_calls.attach(to, cannot, tree, self.target, kind)


@dataclass(frozen=True, slots=True)
class MountCgroups(Step):
    """/sys/fs/cgroup: the container's own groups and nothing above them."""

    target: str
    attributes: int

    def describe(self) -> str:
        return f"mount cgroups at {self.target}"

    def run(self, place: Place) -> None:
        target = make_target(place.root, self.target, directory=True, owner=place.owner)
        try:
            if place.cgroup.hierarchy.is_v2:
                self._unified(target)
            else:
                self._each(place, target)
        finally:
            os.close(target)

    def write(self, to: Script, known: Known) -> None:
        cannot = self.cannot()
        assert known.cgroup is not None
        if known.cgroup.hierarchy.is_v2:
            mount_calls.filesystem(to, cannot, "cgroup2", "cgroup", (), self.attributes)
            mount_calls.attach(to, cannot, MADE, self.target, stat.S_IFDIR)
            return
        read_only = self.attributes & mount.MOUNT_ATTR_RDONLY
        others = self.attributes & ~read_only
        mount_calls.filesystem(to, cannot, "tmpfs", "tmpfs", (("mode", "755"),), others)
        for name, _ in known.cgroup.mounts:
            to.must(cannot, "mkdirat", MADE, to.text(name.encode()), 0o755)
            for single in name.split(",") if "," in name else ():
                leads_to, link = to.text(name.encode()), to.text(single.encode())
                to.must(cannot, "symlinkat", leads_to, MADE, link)
        if read_only:
            mount_calls.set_attributes(to, cannot, MADE, add=read_only)
        mount_calls.attach(to, cannot, MADE, self.target, stat.S_IFDIR)
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        for name, directory in known.cgroup.mounts:
            mount_calls.clone(to, cannot, SPARE, AT_FDCWD, directory, recursive=False)
            propagation = mount.MS_PRIVATE
            mount_calls.set_attributes(
                to, cannot, SPARE, add=self.attributes, propagation=propagation
            )
            to.must(cannot, "openat", MADE, to.text(name.encode()), flags, 0, into=(1, 2))
            mount_calls.move(to, cannot, SPARE, -1)

    def _unified(self, target: int) -> None:
        made = mount.make_filesystem("cgroup2", "cgroup", (), self.attributes)
        try:
            mount.move_mount(made, target, path=self.target)
        finally:
            os.close(made)

    def _each(self, place: Place, target: int) -> None:
        read_only = self.attributes & mount.MOUNT_ATTR_RDONLY
        options = (("mode", "755"),)
        tmpfs = mount.make_filesystem("tmpfs", "tmpfs", options, self.attributes & ~read_only)
        try:
            for name, _ in place.cgroup.mounts:
                os.mkdir(name, 0o755, dir_fd=tmpfs)
                for single in name.split(",") if "," in name else ():
                    os.symlink(name, single, dir_fd=tmpfs)
            # Now: once it is attached to what is attached nowhere, it can't be changed.
            if read_only:
                mount.mount_setattr(tmpfs, set_attributes=read_only, path=self.target)
            mount.move_mount(tmpfs, target, path=self.target)
            for name, directory in place.cgroup.mounts:
                hook = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=tmpfs)
                tree = mount.clone_tree(AT_FDCWD, directory, recursive=False)
                mount.mount_setattr(
                    tree,
                    set_attributes=self.attributes,
                    propagation=mount.MS_PRIVATE,
                    path=directory,
                )
                mount.move_mount(tree, hook, path=f"{self.target}/{name}")
                os.close(tree)
                os.close(hook)
        finally:
            os.close(tmpfs)


def show_owners(place: Place, tree: int, path: str, *, recursive: bool = False) -> None:
    """On disk, files have the container's ids: here they are shown with those of the host."""
    try:
        mount.show_owners(tree, place.files, recursive=recursive, path=path)
    except KernelError as error:
        if error.errno != errno.EINVAL:
            raise
        raise Refused(
            f"cannot show the files of {path} to another user: their file system has no idmapped"
            " mounts, which remapped users need (--userns=host does without)"
        ) from None


def part_of(top: int, base: str, below: str, *, recursive: bool) -> int:
    """The mount at the path `below` the descriptor `top`. Raises Refused, in Docker's words."""
    try:
        return mount.clone_below(top, below, recursive=recursive)
    except KernelError as error:
        if error.errno == errno.EXDEV:
            raise Refused(
                f"path concatenation escapes the base directory, base: {base}, subpath: {below}"
            ) from None
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise Refused(f"cannot access path {base}/{below}: {reason(error)}") from None
        raise
