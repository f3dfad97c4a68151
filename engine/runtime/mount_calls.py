"""What `kernel.mount` does, as calls of a script. Each writes the straight way; where a container
wants another, the script ends, and the interpreter takes it (`Step.run`)."""

import errno
import os
import posixpath
import stat
from collections.abc import Callable

from engine.kernel import mount
from engine.kernel.libc import AT_EMPTY_PATH, AT_RECURSIVE
from engine.runtime.script import (
    MADE,
    RECORD,
    ROOT,
    SPARE,
    STAT_INODE,
    STAT_MODE,
    STAT_SIZE,
    Expect,
    Refusal,
    Script,
)

_STATFS_SIZE = 120
# As a process of the container finds it; and without a link on the way.
INSIDE = mount.RESOLVE_IN_ROOT | mount.RESOLVE_NO_MAGICLINKS
PLAIN = INSIDE | mount.RESOLVE_NO_SYMLINKS
_VALUE = 2  # where an Expect has it, in the place of an argument


def keep(
    to: Script, refusal: Refusal, place: int, name: str, *arguments: int, otherwise: int = 0
) -> None:
    """The descriptor that a call gives, as this number."""
    to.must(refusal, name, *arguments, into=(1, 0), otherwise=otherwise)
    to.must(refusal, "dup3", -1, place, os.O_CLOEXEC)


def finding(
    to: Script, path: str, flags: int, *, root: int = ROOT, resolve: int = PLAIN
) -> tuple[int, int, int, int]:
    """The arguments of openat2."""
    how = to.constants(flags | os.O_CLOEXEC, 0, resolve)  # struct open_how
    return root, to.text(os.fsencode(path)), how, 24


def filesystem(
    to: Script,
    refusal: Refusal,
    kind: str,
    source: str,
    options: tuple[tuple[str, str | None], ...],
    attributes: int,
    *,
    place: int = MADE,
) -> None:
    """A new one as a detached mount, kept in `place`."""
    keep(to, refusal, SPARE, "fsopen", to.text(os.fsencode(kind)), mount.FSOPEN_CLOEXEC)
    for key, value in ((("source", source),) if source else ()) + options:
        name = to.text(os.fsencode(key))
        if value is None:
            to.must(refusal, "fsconfig", SPARE, mount.FSCONFIG_SET_FLAG, name, 0, 0)
        else:
            text = to.text(os.fsencode(value))
            to.must(refusal, "fsconfig", SPARE, mount.FSCONFIG_SET_STRING, name, text, 0)
    to.must(refusal, "fsconfig", SPARE, mount.FSCONFIG_CMD_CREATE, 0, 0, 0)
    keep(to, refusal, place, "fsmount", SPARE, mount.FSMOUNT_CLOEXEC, attributes)


def clone(
    to: Script,
    refusal: Refusal,
    place: int,
    directory: int,
    path: str = "",
    *,
    recursive: bool,
    otherwise: int = 0,
) -> None:
    """A detached copy of a mount, kept in `place`."""
    flags = mount.OPEN_TREE_CLONE | os.O_CLOEXEC | AT_EMPTY_PATH
    flags |= AT_RECURSIVE if recursive else 0
    given = (directory, to.text(os.fsencode(path)), flags)
    keep(to, refusal, place, "open_tree", *given, otherwise=otherwise)


def set_attributes(
    to: Script,
    refusal: Refusal,
    tree: int,
    *,
    add: int = 0,
    clear: int = 0,
    propagation: int = 0,
    recursive: bool = False,
) -> None:
    content = mount.attributes(add, clear, propagation)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    given = (tree, to.text(b""), flags, to.text(content), len(content))
    to.must(refusal, "mount_setattr", *given)


def move(to: Script, refusal: Refusal, tree: int, target: int) -> None:
    """Attach it; a target of -1 is put there by the call before."""
    nothing = to.text(b"")
    flags = mount.MOVE_MOUNT_EMPTY_PATHS
    to.must(refusal, "move_mount", tree, nothing, target, nothing, flags)


def attach(
    to: Script, refusal: Refusal, tree: int, path: str, kind: int, *, resolve: int = INSIDE
) -> None:
    """At a path of the container, which is, or is made, of this kind (S_IFDIR or S_IFREG). The
    root is none, nor is a place in a procfs."""
    normal = posixpath.normpath(path)
    make(to, refusal, normal, kind, resolve=resolve)
    keep(to, refusal, SPARE, "openat2", *finding(to, normal, os.O_PATH, resolve=resolve))
    found = expect_kind(to, refusal, SPARE, kind)
    # Another device, or another inode than the root.
    to.copy(to.root, (2, _VALUE))
    to.copy(to.root + STAT_INODE, (2, _VALUE))
    here, elsewhere = to.refusal(refusal, found), to.after(3)
    to.expect(found, 0, otherwise=elsewhere)
    to.expect(found + STAT_INODE, 0, otherwise=elsewhere)
    to.go(here)
    within = to.room(_STATFS_SIZE)
    to.must(refusal, "fstatfs", SPARE, within)
    to.unlike(within, mount.PROC_SUPER_MAGIC, otherwise=to.refusal(refusal, within))
    move(to, refusal, tree, SPARE)


def make(to: Script, refusal: Refusal, path: str, kind: int, *, resolve: int) -> None:
    """What is missing of a path of the container."""
    parts = path.strip("/").split("/")
    for depth, name in enumerate(parts):
        above = "/" + "/".join(parts[:depth])
        given = finding(to, above, os.O_PATH, resolve=resolve)
        to.must(refusal, "openat2", *given, into=(1, 0))
        text = to.text(os.fsencode(name))
        if kind == stat.S_IFDIR or depth + 1 < len(parts):
            to.call("mkdirat", -1, text, 0o755)
        else:
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            to.call("openat", -1, text, flags, 0o644)


def expect_kind(to: Script, refusal: Refusal, descriptor: int, kind: int) -> int:
    """That it is a directory, or that it is none. Where its struct stat is."""
    found = to.room(STAT_SIZE)
    to.must(refusal, "newfstatat", descriptor, to.text(b""), found, AT_EMPTY_PATH)
    expect = to.expect if kind == stat.S_IFDIR else to.unlike
    otherwise = to.refusal(Refusal(f"{refusal.text}: it is of another kind", is_whole=True))
    expect(found + STAT_MODE, stat.S_IFDIR, mask=stat.S_IFMT(0xFFFF), otherwise=otherwise)
    return found


def where_it_is(to: Script, refusal: Refusal, path: str, use: Callable[[], None]) -> None:
    """The calls that `use` writes are for a path of the container, which is SPARE then; they are
    left out where there is none."""
    slot = to.after(1) + 8  # the first argument of the next
    absent = to.room(2 * RECORD)
    to.must(refusal, "openat2", *finding(to, path, os.O_PATH), into=(1, 0), otherwise=absent)
    to.must(refusal, "dup3", -1, SPARE, os.O_CLOEXEC)
    use()
    is_absent = Expect(slot, -errno.ENOENT, to.refusal(refusal, slot))
    to.fill(absent, is_absent, then=to.here)
