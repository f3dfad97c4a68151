"""Steps that fill /dev: nodes, links, and the terminal with its console."""

import contextlib
import errno
import os
import socket
import stat
import struct
import termios
from dataclasses import dataclass

from engine.kernel import mount, process
from engine.kernel.libc import AT_EMPTY_PATH, KernelError
from engine.oci.rootfs import MOUNT_TABLE, MOUNTS
from engine.runtime import channel, mount_calls
from engine.runtime.mounts import is_null
from engine.runtime.script import (
    EMPTY,
    MADE,
    NULL,
    RECORD,
    ROOT,
    SPARE,
    STAT_DEVICE,
    STAT_MODE,
    STAT_SIZE,
    Call,
    Known,
    Refusal,
    Script,
)
from engine.runtime.steps import Place, Refused, Step
from engine.runtime.targets import make_target

_RECORDS = 9  # of UseNull, until the first stream is null

# Where file systems of the kernel are mounted, below the root.
_PLACES = ("dev", "proc", "sys")
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
        at = _open_folder(place, folder)
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

    def write(self, to: Script, known: Known) -> None:
        folder, _, name = self.path.rpartition("/")
        text, device = to.text(os.fsencode(name)), os.makedev(self.major, self.minor)
        if folder != "/dev":
            kind, resolve = stat.S_IFDIR, mount_calls.PLAIN
            mount_calls.make(to, self.cannot(), folder, kind, resolve=resolve)
        _write_in(to, self.cannot(), folder)
        mode = _NODE_TYPES[self.kind] | self.mode
        to.must(self.cannot(), "mknodat", -1, text, mode, device)
        if (self.uid, self.gid) != (0, 0):
            _write_in(to, self.cannot(), folder)
            nofollow = 0x100
            to.must(self.cannot(), "fchownat", -1, text, self.uid, self.gid, nofollow)


@dataclass(frozen=True, slots=True)
class MakeFile(Step):
    """An empty one, unless there is something of that name."""

    path: str

    def describe(self) -> str:
        return f"make file {self.path}"

    def run(self, place: Place) -> None:
        folder, _, name = self.path.rpartition("/")
        at = _open_folder(place, folder or "/")
        try:
            with contextlib.suppress(FileExistsError):
                flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
                os.close(os.open(name, flags, 0o755, dir_fd=at))
        finally:
            os.close(at)

    def write(self, to: Script, known: Known) -> None:
        folder, _, name = self.path.rpartition("/")
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        _write_in(to, self.cannot(), folder)
        to.call("openat", -1, to.text(os.fsencode(name)), flags, 0o755)


@dataclass(frozen=True, slots=True)
class MakeLink(Step):
    path: str
    leads_to: str

    def describe(self) -> str:
        return f"link {self.path} to {self.leads_to}"

    def run(self, place: Place) -> None:
        folder, _, name = self.path.rpartition("/")
        at = _open_folder(place, folder)
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

    def write(self, to: Script, known: Known) -> None:
        folder, _, name = self.path.rpartition("/")
        leads_to, text = to.text(os.fsencode(self.leads_to)), to.text(os.fsencode(name))
        _write_in(to, self.cannot(), folder, argument=1)
        to.must(self.cannot(), "symlinkat", leads_to, -1, text)


@dataclass(frozen=True, slots=True)
class ClearPlaces(Step):
    """What an image has there and is no directory, mostly a link, gives way to one, as in Docker:
    nothing is mounted through a link of the image's."""

    def describe(self) -> str:
        return "clear the places of file systems"

    def run(self, place: Place) -> None:
        for name in _PLACES:
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISDIR(os.lstat(name, dir_fd=place.root).st_mode):
                    os.unlink(name, dir_fd=place.root)

    def write(self, to: Script, known: Known) -> None:
        """A script that meets such a thing could not go on."""


@dataclass(frozen=True, slots=True)
class MakeMountTable(Step):
    """Unless the image has one, or no folder where it could be."""

    def describe(self) -> str:
        return f"make {MOUNT_TABLE}"

    def run(self, place: Place) -> None:
        above, _, name = MOUNT_TABLE.rpartition("/")
        try:
            folder = make_target(place.root, above, directory=True, owner=place.owner)
        except Refused:
            return
        try:
            with contextlib.suppress(FileExistsError, NotADirectoryError):
                os.symlink(MOUNTS, name, dir_fd=folder)
        finally:
            os.close(folder)

    def write(self, to: Script, known: Known) -> None:
        above, _, name = MOUNT_TABLE.rpartition("/")
        _write_in(to, self.cannot(), above, argument=1)
        to.call("symlinkat", to.text(MOUNTS.encode()), -1, to.text(name.encode()))


@dataclass(frozen=True, slots=True)
class UseNull(Step):
    """Streams that nobody wanted are the host's null device until now. Root of a container could
    change mode and owner of it, for the whole host: here they become the container's own, which
    also serves for the masks. A file that only has the name is not taken (CVE-2025-31133)."""

    def describe(self) -> str:
        return "use the container's null device"

    def run(self, place: Place) -> None:
        own = _open_own_null(place.root)
        null = _make_null() if own is None else own
        try:
            for descriptor in (0, 1, 2):
                if is_null(descriptor):
                    os.dup2(null, descriptor)
        finally:
            if own is not None and place.null >= 0:
                os.close(place.null)
                place.null = own
            else:
                os.close(null)

    def write(self, to: Script, known: Known) -> None:
        places = known.nulls
        if known.root == ROOT:
            places = (NULL, *places)  # for the masks, too
        if not places:
            return
        first, *others = places
        resolve = mount.RESOLVE_IN_ROOT | mount.RESOLVE_NO_SYMLINKS
        path, nothing, found = to.text(b"/dev/null"), to.text(b""), to.room(STAT_SIZE)
        instead = to.aside(*self._own_null(to, first), then=to.after(_RECORDS))
        begin = to.here
        for flags, use in (
            (os.O_PATH, ()),
            (os.O_RDWR | os.O_NOCTTY, (Call("dup3", (-1, first, 0), instead),)),
        ):
            how = to.words(flags | os.O_CLOEXEC, 0, resolve)  # struct open_how
            to.call("openat2", known.root, path, how, 24, into=(1, 0), otherwise=instead)
            for call in use:
                to.call(call.name, *call.arguments, otherwise=instead)
            of = first if use else -1
            to.call("newfstatat", of, nothing, found, AT_EMPTY_PATH, otherwise=instead)
            kind = stat.S_IFMT(0xFFFF)
            to.expect(found + STAT_MODE, stat.S_IFCHR, mask=kind, otherwise=instead)
            to.expect(found + STAT_DEVICE, os.makedev(1, 3), otherwise=instead)
        assert to.here == begin + _RECORDS * RECORD
        for descriptor in others:
            to.must(self.cannot(), "dup3", first, descriptor, 0)

    def _own_null(self, to: Script, descriptor: int) -> list[Call]:
        """As `_make_null`."""
        otherwise = to.refusal(Refusal(f"cannot {self.describe()}, nor make one", is_whole=True))

        def call(name: str, *arguments: int | bytes, into: int | tuple[int, int] = 0) -> Call:
            given = [to.text(one) if isinstance(one, bytes) else one for one in arguments]
            return Call(name, tuple(given), otherwise, into)

        attributes = mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NOEXEC
        return [
            call("fsopen", b"tmpfs", mount.FSOPEN_CLOEXEC, into=(1, 0)),
            call("dup3", -1, SPARE, os.O_CLOEXEC),
            *[
                call("fsconfig", SPARE, mount.FSCONFIG_SET_STRING, key, value, 0)
                for key, value in ((b"nr_blocks", b"1"), (b"nr_inodes", b"2"), (b"mode", b"755"))
            ],
            call("fsconfig", SPARE, mount.FSCONFIG_CMD_CREATE, 0, 0, 0),
            call("fsmount", SPARE, mount.FSMOUNT_CLOEXEC, attributes, into=(1, 0)),
            call("dup3", -1, SPARE, os.O_CLOEXEC),
            call("mknodat", SPARE, b"null", stat.S_IFCHR | 0o666, os.makedev(1, 3)),
            call("openat", SPARE, b"null", os.O_RDWR | os.O_CLOEXEC, 0, into=(1, 0)),
            call("dup3", -1, descriptor, 0),
        ]


def _open_own_null(root: int) -> int | None:
    resolve = mount.RESOLVE_IN_ROOT | mount.RESOLVE_NO_SYMLINKS
    for flags in (os.O_PATH, os.O_RDWR | os.O_NOCTTY):  # to open some other file can do harm
        try:
            found = mount.openat2(root, "/dev/null", flags, resolve=resolve)
        except KernelError:
            return None
        if not is_null(found):
            os.close(found)
            return None
        if flags == os.O_PATH:
            os.close(found)
    return found


def _make_null() -> int:
    """One that no other process knows of, where the container has replaced its own."""
    options = (("nr_blocks", "1"), ("nr_inodes", "2"), ("mode", "755"))
    attributes = mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NOEXEC
    folder = mount.make_filesystem("tmpfs", "tmpfs", options, attributes)
    try:
        os.mknod("null", stat.S_IFCHR | 0o666, os.makedev(1, 3), dir_fd=folder)
        return os.open("null", os.O_RDWR | os.O_CLOEXEC, dir_fd=folder)
    finally:
        os.close(folder)


def _write_in(to: Script, refusal: Refusal, folder: str, *, argument: int = 0) -> None:
    """The folder is an argument of the next call."""
    given = mount_calls.finding(to, folder or "/", os.O_PATH | os.O_DIRECTORY)
    to.must(refusal, "openat2", *given, into=(1, argument))


def _open_folder(place: Place, path: str) -> int:
    found = make_target(place.root, path, directory=True, links=False, owner=place.owner)
    if not stat.S_ISDIR(os.fstat(found).st_mode):
        os.close(found)
        raise KernelError("open", path, errno.ENOTDIR)
    return found


@dataclass(frozen=True, slots=True)
class TakeTerminal(Step):
    """For job control, /dev/tty and Ctrl-C: this process leads a session of its own by now."""

    def describe(self) -> str:
        return "take the terminal"

    def run(self, place: Place) -> None:
        process.take_terminal(0)

    def write(self, to: Script, known: Known) -> None:
        to.must(self.cannot(), "ioctl", 0, termios.TIOCSCTTY, 0)


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
                target = make_target(
                    place.root, "/dev/console", directory=False, links=False, owner=place.owner
                )
                tree = mount.clone_tree(peer, "", recursive=False)
                mount.move_mount(tree, target, path="/dev/console")
                os.close(tree)
                os.close(target)
            if place.user >= 0:
                os.fchown(peer, place.owner[0], -1)
            for descriptor in (0, 1, 2):
                os.dup2(peer, descriptor)
        finally:
            os.close(peer)

    def write(self, to: Script, known: Known) -> None:
        cannot, path = self.cannot(), "/dev/pts/ptmx"
        other = to.refusal(Refusal("/dev/pts/ptmx is not a terminal multiplexer", is_whole=True))
        found = to.room(STAT_SIZE)
        master, peer = SPARE, MADE
        for flags in (os.O_PATH, os.O_RDWR | os.O_NOCTTY):
            mount_calls.keep(
                to,
                cannot,
                master,
                "openat2",
                *mount_calls.finding(to, path, flags, root=known.root),
            )
            to.must(cannot, "fstatfs", master, found)
            to.expect(found, mount.DEVPTS_SUPER_MAGIC, otherwise=other)
            to.must(cannot, "newfstatat", master, to.text(b""), found, AT_EMPTY_PATH)
            to.expect(found + STAT_DEVICE, os.makedev(5, 2), otherwise=other)
        to.must(cannot, "ioctl", master, process.TIOCSPTLCK, to.words(0))
        if self.height and self.width:
            size = to.text(struct.pack("=HHHH", self.height, self.width, 0, 0))
            to.must(cannot, "ioctl", master, termios.TIOCSWINSZ, size)
        flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
        mount_calls.keep(to, cannot, peer, "ioctl", master, process.TIOCGPTPEER, flags)
        header, _ = to.bring({"state": "terminal"}, master)
        to.must(cannot, "sendmsg", to.supervisor, header, socket.MSG_NOSIGNAL)
        if self.console:
            mount_calls.clone(to, cannot, EMPTY, peer, recursive=False)
            mount_calls.attach(to, cannot, EMPTY, "/dev/console", stat.S_IFREG)
        for descriptor in (0, 1, 2):
            to.must(cannot, "dup3", peer, descriptor, 0)

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
