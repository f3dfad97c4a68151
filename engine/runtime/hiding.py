"""Steps that guard what the kernel shows: read-only paths, masks, and the sysctls before them."""

import errno
import os
import stat
from dataclasses import dataclass

from engine.kernel import mount
from engine.kernel.libc import AT_EMPTY_PATH, KernelError
from engine.runtime import mount_calls
from engine.runtime.script import (
    EMPTY,
    MADE,
    NULL,
    SPARE,
    STAT_MODE,
    STAT_SIZE,
    Call,
    Known,
    Refusal,
    Script,
)
from engine.runtime.steps import Place, Refused, Step


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

    def write(self, to: Script, known: Known) -> None:
        def protect() -> None:
            cannot = self.cannot()
            mount_calls.clone(to, cannot, MADE, SPARE, recursive=True)
            add = mount.MOUNT_ATTR_RDONLY
            mount_calls.set_attributes(to, cannot, MADE, add=add, recursive=True)
            mount_calls.move(to, cannot, MADE, SPARE)

        mount_calls.where_it_is(to, self.cannot(), self.path, protect)


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
                # Where the null device is the host's: nobody here changes its mode or owner.
                flags = mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_NOSUID
                mount.mount_setattr(tree, set_attributes=flags, path=self.path)
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

    def write(self, to: Script, known: Known) -> None:
        if not to.has_empty:
            to.has_empty = True
            options = (("nr_blocks", "1"), ("nr_inodes", "1"))
            flags = mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_NOSUID
            flags |= mount.MOUNT_ATTR_NODEV | mount.MOUNT_ATTR_NOEXEC
            given = ("tmpfs", "tmpfs", options, flags)
            mount_calls.filesystem(to, self.cannot(), *given, place=EMPTY)
        mount_calls.where_it_is(to, self.cannot(), self.path, lambda: self._cover(to))

    def _cover(self, to: Script) -> None:
        cannot, found = self.cannot(), to.room(STAT_SIZE)
        to.must(cannot, "newfstatat", SPARE, to.text(b""), found, AT_EMPTY_PATH)
        a_file, end = to.after(1 + 3 + 1), to.after(1 + 3 + 1 + 4)
        kind = stat.S_IFMT(0xFFFF)
        to.expect(found + STAT_MODE, stat.S_IFDIR, mask=kind, otherwise=a_file)
        # Before Linux 6.15 what is mounted nowhere can't be copied: it becomes the first itself.
        nothing, result = to.text(b""), to.words(0)
        given = (EMPTY, nothing, SPARE, nothing, mount.MOVE_MOUNT_EMPTY_PATHS)
        first = Call("move_mount", given, to.refusal(cannot, result), result)
        mount_calls.clone(
            to, cannot, MADE, EMPTY, recursive=False, otherwise=to.aside(first, then=end)
        )
        mount_calls.move(to, cannot, MADE, SPARE)
        to.go(end)
        assert to.here == a_file
        mount_calls.clone(to, cannot, MADE, NULL, recursive=False)
        flags = mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_NOSUID
        mount_calls.set_attributes(to, cannot, MADE, add=flags)
        mount_calls.move(to, cannot, MADE, SPARE)
        assert to.here == end


@dataclass(frozen=True, slots=True)
class SetSysctl(Step):
    name: str
    value: str

    def describe(self) -> str:
        return f"set sysctl {self.name}"

    def run(self, place: Place) -> None:
        path = "/proc/sys/" + self.name.replace(".", "/")
        found = _open_special(place.root, path)
        if found is None:
            raise KernelError("open", path, errno.ENOENT)
        try:
            self._write(os.open(f"/proc/self/fd/{found}", os.O_WRONLY | os.O_CLOEXEC))
        except PermissionError:
            if place.user < 0:
                raise
            self._write_as_owner(place, path, os.fstat(found))
        finally:
            os.close(found)

    def write(self, to: Script, known: Known) -> None:
        cannot, found = self.cannot(), to.room(STAT_SIZE)
        path = "/proc/sys/" + self.name.replace(".", "/")
        mount_calls.keep(to, cannot, SPARE, "openat2", *mount_calls.finding(to, path, os.O_WRONLY))
        to.must(cannot, "fstatfs", SPARE, found)
        other = to.refusal(Refusal("/proc is not the kernel's", is_whole=True))
        to.expect(found, mount.PROC_SUPER_MAGIC, otherwise=other)
        value = self.value.encode()
        to.must(cannot, "write", SPARE, to.text(value), len(value))

    def _write_as_owner(self, place: Place, path: str, checked: os.stat_result) -> None:
        """Settings of an IPC namespace are for its root, and for nobody else."""
        os.seteuid(place.owner[0])
        try:
            resolve = mount.RESOLVE_IN_ROOT | mount.RESOLVE_NO_SYMLINKS
            target = mount.openat2(place.root, path, os.O_WRONLY, resolve=resolve)
            found = os.fstat(target)
            if (found.st_dev, found.st_ino) != (checked.st_dev, checked.st_ino):
                os.close(target)
                raise Refused(f"{path} is another file than before")
            self._write(target)
        finally:
            os.seteuid(0)

    def _write(self, target: int) -> None:
        try:
            os.write(target, self.value.encode())
        finally:
            os.close(target)
