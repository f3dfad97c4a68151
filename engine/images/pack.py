"""Writes a tree below a descriptor as a tar: the other direction of `unpack`, as careful.

Directories are opened component by component without following links; a file that changes while it
is read still fills exactly the room that its head announced.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, field

from engine.images.tar_reader import Kind, Member
from engine.images.tar_writer import END, member_head, padding
from engine.kernel.libc import KernelError
from engine.kernel.mount import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

Sink = Callable[[bytes], None]
Change = Callable[[Member], Member]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_CHUNK = 1 << 18
_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFCHR: Kind.CHARACTER,
    stat.S_IFBLK: Kind.BLOCK,
    stat.S_IFIFO: Kind.FIFO,
}


def as_it_is(member: Member) -> Member:
    return member


@dataclass(slots=True)
class Packing:
    """What is told of an entry may differ from what is on disk (`change`: an owner, no time), and
    not all of it may be wanted (by its name in the archive; a folder stands for what is in it).
    `closed`: file systems (`st_dev`) of which a folder is told, and nothing that is in it."""

    sink: Sink
    change: Change = as_it_is
    wanted: Callable[[str], bool] = lambda name: True
    closed: Set[int] = frozenset()
    links: dict[tuple[int, int], str] = field(default_factory=dict)

    def head(
        self,
        name: str,
        kind: Kind,
        found: os.stat_result,
        *,
        link: str = "",
        size: int = 0,
        xattrs: dict[str, bytes] | None = None,
    ) -> None:
        member = _member(name, kind, found, link=link, size=size, xattrs=xattrs)
        self.sink(member_head(self.change(member)))


def pack_entry(packing: Packing, folder: int, name: str, as_name: str) -> None:
    """The entry `name` of the folder of that descriptor, and all below it, under another name."""
    add_entry(packing, folder, name, as_name)
    packing.sink(END)


def add_entry(packing: Packing, folder: int, name: str, as_name: str) -> None:
    """The same, for an archive that goes on."""
    found = os.lstat(name, dir_fd=folder)
    if stat.S_ISDIR(found.st_mode):
        descriptor = os.open(name, _DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
        try:
            add_tree(packing, descriptor, as_name)
        finally:
            os.close(descriptor)
    else:
        pack_one(packing, folder, name, as_name, found)


def pack_tree(packing: Packing, directory: int, as_name: str) -> None:
    """The directory itself as `as_name`, and all below it. With "" only what is below."""
    add_tree(packing, directory, as_name)
    packing.sink(END)


def add_tree(packing: Packing, top: int, as_name: str) -> None:
    if as_name:
        packing.head(as_name, Kind.DIRECTORY, os.fstat(top), xattrs=_xattrs(top))
    if os.fstat(top).st_dev in packing.closed:
        return
    prefix = f"{as_name.rstrip('/')}/" if as_name else ""
    waiting = [""]
    while waiting:
        path = waiting.pop()
        folders = []
        with opened(top, path) as folder:
            for name in sorted(os.listdir(folder)):
                below = f"{path}/{name}" if path else name
                try:
                    found = os.lstat(name, dir_fd=folder)
                except FileNotFoundError:  # a container is at work there
                    continue
                if pack_one(packing, folder, name, prefix + below, found):
                    folders.append(below)
        waiting += reversed(folders)


def pack_one(packing: Packing, folder: int, name: str, as_name: str, found: os.stat_result) -> bool:
    """True for a directory whose content is still to come."""
    kind = _KINDS.get(stat.S_IFMT(found.st_mode))
    if not packing.wanted(as_name):
        return False
    if kind is None:
        return False  # a socket: a tar has no word for it, and nobody listens to a copy
    known = packing.links.get((found.st_dev, found.st_ino))
    if known is not None:
        packing.head(as_name, Kind.LINK, found, link=known)
        return False
    if found.st_nlink > 1 and kind is not Kind.DIRECTORY:
        packing.links[found.st_dev, found.st_ino] = as_name
    match kind:
        case Kind.FILE:
            _pack_file(packing, folder, name, as_name)
        case Kind.DIRECTORY:
            with opened(folder, name) as below:
                packing.head(as_name, kind, os.fstat(below), xattrs=_xattrs(below))
            return found.st_dev not in packing.closed
        case Kind.SYMLINK:
            target = os.readlink(name, dir_fd=folder)
            packing.head(as_name, kind, found, link=target)
        case _:
            packing.head(as_name, kind, found)
    return False


def _pack_file(packing: Packing, folder: int, name: str, as_name: str) -> None:
    # Not blocking: a FIFO may have taken the name since.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(name, flags, dir_fd=folder)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return
        packing.head(as_name, Kind.FILE, found, size=found.st_size, xattrs=_xattrs(descriptor))
        sink = packing.sink
        left = found.st_size
        while left and (chunk := os.read(descriptor, min(left, _CHUNK))):
            sink(chunk)
            left -= len(chunk)
        while left:
            piece = min(left, _CHUNK)
            sink(b"\0" * piece)
            left -= piece
        sink(padding(found.st_size))
    finally:
        os.close(descriptor)


def _member(
    name: str,
    kind: Kind,
    found: os.stat_result,
    *,
    link: str = "",
    size: int = 0,
    xattrs: dict[str, bytes] | None = None,
) -> Member:
    is_node = kind in (Kind.CHARACTER, Kind.BLOCK)
    device = (os.major(found.st_rdev), os.minor(found.st_rdev)) if is_node else (0, 0)
    return Member(
        name=name,
        kind=kind,
        mode=stat.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
        size=size,
        mtime=max(found.st_mtime_ns, 0),
        link=link,
        device=device,
        xattrs=xattrs or {},
    )


def _xattrs(descriptor: int) -> dict[str, bytes]:
    found = {}
    for key in os.listxattr(descriptor):
        if key == "security.capability" or key.startswith("user."):
            with contextlib.suppress(OSError):  # removed since it was listed
                found[key] = os.getxattr(descriptor, key)
    return found


@contextlib.contextmanager
def opened(root: int, path: str) -> Iterator[int]:
    try:
        descriptor = openat2(
            root, path or ".", _DIRECTORY, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
        )
    except KernelError as error:
        number = error.errno or errno.EIO
        raise OSError(number, os.strerror(number), path) from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)
