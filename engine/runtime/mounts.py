"""Steps that mount: the root, file systems, binds, cgroups; and where, always by descriptor."""

import contextlib
import errno
import os
import posixpath
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engine.kernel import mount, namespaces
from engine.kernel.libc import AT_EMPTY_PATH, AT_FDCWD, KernelError, reason
from engine.runtime import mount_calls
from engine.runtime.script import (
    EMPTY,
    LAYERS,
    MADE,
    NULL,
    ROOT,
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

_MOST_LAYERS = 128
_PAGE = 4096  # bytes that mount(2) reads of its options


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
            tree = _part(top, self.source, self.below, recursive=self.recursive)
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
class MountRoot(Step):
    """The overlay, at a directory that serves as a hook until the root is switched."""

    lowers: tuple[str, ...]
    upper: str
    work: str
    hook: str

    def describe(self) -> str:
        return f"mount the root file system of {len(self.lowers)} layers"

    def run(self, place: Place) -> None:
        folder, upper = posixpath.split(self.upper)
        hook = mount.open_by_name(self.hook)
        try:
            if place.user < 0:
                with _opened(place, (*self.lowers, self.upper, self.work)) as names:
                    place.root = self._mount(names[:-2], names[-2], names[-1], hook)
                return
            # overlayfs wants both in one mount, and this one is a copy.
            with _opened(place, (*self.lowers, folder)) as (*lowers, top):
                work = posixpath.basename(self.work)
                place.root = self._mount(lowers, f"{top}/{upper}", f"{top}/{work}", hook)
        finally:
            os.close(hook)

    def write(self, to: Script, known: Known) -> None:
        cannot, flags = self.cannot(), os.O_PATH | os.O_CLOEXEC
        if len(self.lowers) > _MOST_LAYERS:
            raise Unscriptable(f"{len(self.lowers)} layers")
        names = []
        for number, path in enumerate((*self.lowers, self.upper, self.work)):
            given = (AT_FDCWD, to.text(os.fsencode(path)), flags, 0)
            mount_calls.keep(to, cannot, LAYERS + number, "openat", *given)
            names.append(f"/proc/self/fd/{LAYERS + number}")
        *lowers, upper, work = names
        options = (("upperdir", upper), ("workdir", work), ("index", "off"))
        mount_root = self._write_mount if mount.knows_lowers() else self._write_classic
        mount_root(to, lowers, options, is_nested=mount.is_nested(self.lowers))
        to.must(cannot, "newfstatat", ROOT, to.text(b""), to.root, AT_EMPTY_PATH)

    def _write_mount(
        self,
        to: Script,
        lowers: list[str],
        options: tuple[tuple[str, str], ...],
        *,
        is_nested: bool,
    ) -> None:
        cannot = self.cannot()
        if is_nested:
            mount_calls.filesystem(to, cannot, *mount.overlay(lowers[-2:], ()), 0, place=EMPTY)
            lowers = [*lowers[:-2], f"/proc/self/fd/{EMPTY}"]
        mount_calls.filesystem(to, cannot, *mount.overlay(lowers, options), 0, place=ROOT)
        given = (AT_FDCWD, to.text(os.fsencode(self.hook)), os.O_PATH | os.O_CLOEXEC, 0)
        to.must(cannot, "openat", *given, into=(1, 2))
        mount_calls.move(to, cannot, ROOT, -1)

    def _write_classic(
        self,
        to: Script,
        lowers: list[str],
        options: tuple[tuple[str, str], ...],
        *,
        is_nested: bool,
    ) -> None:
        cannot = self.cannot()
        hook = (AT_FDCWD, to.text(os.fsencode(self.hook)), os.O_PATH | os.O_CLOEXEC, 0)
        kind = to.text(b"overlay")

        def lay(at: int, lowers: list[str], more: tuple[tuple[str, str], ...]) -> None:
            text = mount.overlay_options(lowers, more).encode()
            if len(text) >= _PAGE:
                raise Unscriptable(f"{len(lowers)} layers")
            target = to.text(f"/proc/self/fd/{at}".encode())
            to.must(cannot, "mount", kind, target, kind, 0, to.text(text))

        mount_calls.keep(to, cannot, SPARE, "openat", *hook)
        if is_nested:
            lay(SPARE, lowers[-2:], ())
            mount_calls.keep(to, cannot, EMPTY, "openat", *hook)
            lay(EMPTY, [*lowers[:-2], f"/proc/self/fd/{EMPTY}"], options)
        else:
            lay(SPARE, lowers, options)
        mount_calls.keep(to, cannot, ROOT, "openat", *hook)

    def _mount(self, lowers: list[str], upper: str, work: str, hook: int) -> int:
        # Without `index` a second start may follow while the first mount still goes away.
        common = (("upperdir", upper), ("workdir", work), ("index", "off"))
        try:
            root = mount.make_overlay(lowers, common)
        except KernelError as error:
            # Before Linux 6.7 there is no "lowerdir+"; before 6.5 that is said only at the end.
            if error.errno != errno.EINVAL:
                raise
        else:
            mount.move_mount(root, hook, path=self.hook)
            return root
        try:
            return self._mount_classic(hook, lowers, common)
        except KernelError as error:
            # A layer inside of the host's directory: see `mount.make_overlay`.
            if error.errno != errno.ELOOP or len(lowers) < 3:
                raise
        below = self._mount_classic(hook, lowers[-2:], ())
        try:
            return self._mount_classic(below, [*lowers[:-2], f"/proc/self/fd/{below}"], common)
        finally:
            os.close(below)

    def _mount_classic(self, at: int, lowers: list[str], more: tuple[tuple[str, str], ...]) -> int:
        mount.mount_overlay_classic(at, mount.overlay_options(lowers, more), 0)
        return mount.open_by_name(self.hook)


@contextlib.contextmanager
def _opened(place: Place, paths: Sequence[str]) -> Iterator[list[str]]:
    """Names of directories for overlayfs. By descriptor they are short (an option holds 255 bytes)
    and keep the host's paths out of the container's mount table."""
    with contextlib.ExitStack() as undo:
        names = []
        for path in paths:
            if place.user < 0:
                descriptor = mount.open_by_name(path)
                undo.callback(os.close, descriptor)
            else:
                descriptor = mount.clone_tree(AT_FDCWD, path, recursive=False)
                undo.callback(os.close, descriptor)
                show_owners(place, descriptor, path)
                # Of what is mounted nowhere, older kernels make no layer: over itself, it is.
                target = mount.open_by_name(path)
                undo.callback(os.close, target)
                mount.move_mount(descriptor, target, path=path)
                undo.callback(mount.umount, f"/proc/self/fd/{descriptor}", mount.MNT_DETACH)
            names.append(f"/proc/self/fd/{descriptor}")
        yield names


@dataclass(frozen=True, slots=True)
class MountImage(Step):
    """An image's files, or those at a path in it, read-only."""

    target: str
    lowers: tuple[str, ...]
    below: str

    def describe(self) -> str:
        return f"mount an image of {len(self.lowers)} layers at {self.target}"

    def run(self, place: Place) -> None:
        whole = self._one(place) if len(self.lowers) == 1 else self._overlay(place)
        try:
            mount.mount_setattr(whole, set_attributes=mount.MOUNT_ATTR_RDONLY, path=self.target)
            is_directory = stat.S_ISDIR(os.fstat(whole).st_mode)
            target = make_target(place.root, self.target, directory=is_directory, owner=place.owner)
            try:
                mount.move_mount(whole, target, path=self.target)
            finally:
                os.close(target)
        finally:
            os.close(whole)

    def _one(self, place: Place) -> int:
        """overlayfs wants two layers."""
        with _opened(place, self.lowers) as (name,):
            top = mount.open_by_name(name)
            try:
                return _part(top, "the image", self.below or ".", recursive=False)
            finally:
                os.close(top)

    def _overlay(self, place: Place) -> int:
        with _opened(place, self.lowers) as names:
            # A part can only be taken of what is mounted somewhere: above the container's root,
            # and gone again before anything runs there.
            whole = _layers(names, place.root)
        try:
            return _part(whole, "the image", self.below or ".", recursive=False)
        finally:
            mount.umount(f"/proc/self/fd/{whole}", mount.MNT_DETACH)
            os.close(whole)


def _layers(lowers: list[str], at: int) -> int:
    """A read-only overlay, mounted over `at`."""
    try:
        options = tuple(("lowerdir+", name) for name in lowers)
        whole = mount.make_filesystem("overlay", "overlay", options, mount.MOUNT_ATTR_RDONLY)
    except KernelError as error:
        if error.errno != errno.EINVAL:
            raise
        mount.mount_overlay_classic(at, f"lowerdir={':'.join(lowers)}", 0)
        # A descriptor stays below what is mounted over it; only coming up from a folder, and /proc
        # is there by now, leads to the mount on top.
        return mount.open_by_name(f"/proc/self/fd/{at}/proc/..")
    mount.move_mount(whole, at, path="/")
    return whole


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
        path = os.O_PATH
        given = mount_calls.finding(to, self.target, path, resolve=mount_calls.INSIDE)
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
                    kinds = ("a file", "a directory")
                    raise Refused(
                        f"cannot bind {self.target}: the source is {kinds[is_directory]} and "
                        f"the target {kinds[not is_directory]}; both must be of one kind"
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


def _part(top: int, base: str, below: str, *, recursive: bool) -> int:
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


def make_target(
    root: int, path: str, *, directory: bool, links: bool = True, owner: tuple[int, int] = (0, 0)
) -> int:
    """A descriptor for the mount point `path` below `root`, made for `owner` if it isn't there.

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
        target = _create_target(root, path, owner, directory=directory)
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


def _create_target(root: int, path: str, owner: tuple[int, int], *, directory: bool) -> int:
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
                _create_one(at, parts[depth], owner, directory=directory or not last)
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


def _create_one(at: int, name: str, owner: tuple[int, int], *, directory: bool) -> None:
    try:
        if directory:
            os.mkdir(name, 0o755, dir_fd=at)
        else:
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(name, flags, 0o644, dir_fd=at))
    except FileExistsError:
        return
    if owner != (0, 0):
        os.chown(name, *owner, dir_fd=at, follow_symlinks=False)
