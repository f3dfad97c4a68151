"""Unpacks a tar below a directory, and nowhere else, whatever the tar says.

Every name is split here and opened component by component from the directory's descriptor; links
on the way resolve inside it (openat2, RESOLVE_IN_ROOT), the last component is never followed. A
path of the host is not made from a name of the archive anywhere in this module.
"""

import contextlib
import errno
import logging
import os
import stat
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from engine.errors import Failure, InvalidRequest
from engine.images.tar_reader import Kind, Member, TarReader
from engine.kernel.libc import KernelError
from engine.kernel.mount import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2

log = logging.getLogger(__name__)

OPAQUE = "trusted.overlay.opaque"
WHITEOUT = ".wh."
OPAQUE_MARK = ".wh..wh..opq"
MAX_ENTRIES = 4_000_000
MAX_DEPTH = 2048
_OPEN_FOLDERS = 128
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 18
_SHORTEST_HOLE = 1 << 15  # bytes; shorter ones save nothing worth a file in pieces


@dataclass(slots=True)
class Unpacked:
    """What came out."""

    size: int = 0  # bytes of files, holes as well: as Docker counts them
    entries: int = 0
    # Directories that the archive needs and doesn't describe: their attributes are a guess.
    implied: list[str] = field(default_factory=list)


def unpack_layer(reader: TarReader, root: int) -> Unpacked:
    """A layer's tar below the descriptor `root`; OCI's whiteouts become overlayfs's.
    Raises InvalidRequest where the archive is at fault, OSError where the disk is."""
    return _Unpacker(reader, root, whiteouts=True).run()


def unpack_archive(
    reader: TarReader,
    root: int,
    *,
    below: str = "",
    check: Callable[[int, str, Member], None] | None = None,
) -> Unpacked:
    """An ordinary tar into an existing tree, at the path `below` of it. `check(folder, name,
    member)` may refuse before `name` in the folder of that descriptor is written."""
    return _Unpacker(reader, root, whiteouts=False, below=below, check=check).run()


def split_name(name: str) -> tuple[str, ...]:
    """Components of a member's name, relative to the root. Raises InvalidRequest for `..`."""
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise InvalidRequest(f"cannot unpack {name!r}: the name leads out of the archive")
    if len(parts) > MAX_DEPTH:
        raise InvalidRequest(f"cannot unpack {name[:64]!r}...: more than {MAX_DEPTH} folders deep")
    return parts


class _Unpacker:
    def __init__(
        self,
        reader: TarReader,
        root: int,
        *,
        whiteouts: bool,
        below: str = "",
        check: Callable[[int, str, Member], None] | None = None,
    ) -> None:
        self._reader = reader
        self._root = root
        self._whiteouts = whiteouts
        self._check = check
        self._below = below.strip("/")
        self._folders: OrderedDict[tuple[str, ...], int] = OrderedDict()
        self._times: dict[tuple[str, ...], int] = {}
        self._result = Unpacked()

    def run(self) -> Unpacked:
        try:
            for member in self._reader:
                self._result.entries += 1
                if self._result.entries > MAX_ENTRIES:
                    raise InvalidRequest(f"cannot unpack: more than {MAX_ENTRIES} entries")
                self._unpack(member)
            self._forget_folders()
            self._set_folder_times()
        finally:
            self._forget_folders()
        return self._result

    def _unpack(self, member: Member) -> None:
        parts = split_name(member.name)
        try:
            if not parts:
                self._unpack_root(member)
            elif self._whiteouts and parts[-1].startswith(WHITEOUT):
                self._whiteout(parts)
            else:
                self._entry(member, parts)
        except OSError as error:
            if error.errno in _ARCHIVE_ERRORS:
                reason = error.strerror
                raise InvalidRequest(f"cannot unpack {member.name!r}: {reason}") from error
            raise

    def _unpack_root(self, member: Member) -> None:
        if member.kind is not Kind.DIRECTORY:
            raise InvalidRequest(
                f"cannot unpack {member.name!r}: a {member.kind.value} as the root"
            )
        if self._whiteouts:
            # The descriptor may be O_PATH; attributes need one that is open.
            descriptor = _openat2(self._root, ".", _DIRECTORY, resolve=RESOLVE_IN_ROOT)
            try:
                self._set_attributes(descriptor, member)
            finally:
                os.close(descriptor)
            self._times[()] = member.mtime

    def _entry(self, member: Member, parts: tuple[str, ...]) -> None:
        folder, name = self._folder(parts[:-1]), parts[-1]
        if self._check is not None:
            self._check(folder, name, member)
        if member.kind is Kind.DIRECTORY:
            self._directory(folder, name, member)
            self._times[parts] = member.mtime
            return
        source = self._link_source(member) if member.kind is Kind.LINK else None
        if source is not None and _same_entry(source, (folder, name)):
            return
        create = self._creator(member, folder, name, source)
        try:
            create()
        except FileExistsError:
            self._make_way(folder, name, keep=source and source[0])
            create()

    def _creator(
        self, member: Member, folder: int, name: str, source: tuple[int, str] | None
    ) -> Callable[[], None]:
        match member.kind:
            case Kind.FILE:
                return lambda: self._file(folder, name, member)
            case Kind.SYMLINK:
                return lambda: self._symlink(folder, name, member)
            case Kind.LINK:
                assert source is not None
                return lambda: os.link(
                    source[1], name, src_dir_fd=source[0], dst_dir_fd=folder, follow_symlinks=False
                )
            case _:
                return lambda: self._node(folder, name, member)

    def _file(self, folder: int, name: str, member: Member) -> None:
        descriptor = os.open(name, _NEW_FILE, 0o600, dir_fd=folder)
        try:
            pieces = ((0, member.stored),) if member.sparse is None else member.sparse
            for offset, length in pieces:
                os.lseek(descriptor, offset, os.SEEK_SET)
                self._copy(descriptor, length)
            if os.lseek(descriptor, 0, os.SEEK_END) < member.size:
                os.ftruncate(descriptor, member.size)  # it ends in a hole
            self._result.size += member.size
            self._set_attributes(descriptor, member)
            os.utime(descriptor, ns=(member.mtime, member.mtime))
        finally:
            os.close(descriptor)

    def _copy(self, descriptor: int, length: int) -> None:
        """Where the archive has long runs of zeros, as layers of others have for holes, the file
        gets holes again."""
        while length:
            chunk = self._reader.read(min(length, _CHUNK))
            if not chunk:
                raise InvalidRequest("cannot read the tar: unexpected EOF")
            length -= len(chunk)
            if _is_zeros(chunk):
                os.lseek(descriptor, len(chunk), os.SEEK_CUR)
                continue
            view = memoryview(chunk)
            while view:
                view = view[os.write(descriptor, view) :]

    def _directory(self, folder: int, name: str, member: Member) -> None:
        opaque = False
        try:
            os.mkdir(name, 0o700, dir_fd=folder)
        except FileExistsError:
            found = os.lstat(name, dir_fd=folder)
            if not stat.S_ISDIR(found.st_mode):
                opaque = self._whiteouts and _is_whiteout(found)
                self._make_way(folder, name)
                os.mkdir(name, 0o700, dir_fd=folder)
        descriptor = os.open(name, _DIRECTORY, dir_fd=folder)
        try:
            self._set_attributes(descriptor, member)
            if opaque:
                os.setxattr(descriptor, OPAQUE, b"y")
        finally:
            os.close(descriptor)

    def _symlink(self, folder: int, name: str, member: Member) -> None:
        os.symlink(member.link, name, dir_fd=folder)
        self._result.size += len(os.fsencode(member.link))
        self._set_owner_unfollowed(folder, name, member)

    def _node(self, folder: int, name: str, member: Member) -> None:
        kind = {Kind.CHARACTER: stat.S_IFCHR, Kind.BLOCK: stat.S_IFBLK, Kind.FIFO: stat.S_IFIFO}
        device = os.makedev(*member.device)
        os.mknod(name, kind[member.kind] | 0o600, device, dir_fd=folder)
        self._set_owner_unfollowed(folder, name, member)
        # chmod(2) follows links, and in a running container the name may be one by now.
        descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            if stat.S_IFMT(os.fstat(descriptor).st_mode) == kind[member.kind]:
                os.chmod(f"/proc/self/fd/{descriptor}", member.mode)
        finally:
            os.close(descriptor)

    def _set_owner_unfollowed(self, folder: int, name: str, member: Member) -> None:
        os.chown(name, member.uid, member.gid, dir_fd=folder, follow_symlinks=False)
        times = (member.mtime, member.mtime)
        os.utime(name, ns=times, dir_fd=folder, follow_symlinks=False)
        for key, value in self._kept_xattrs(member):
            _set_xattr(f"/proc/self/fd/{folder}/{name}", key, value, follow=False)

    def _set_attributes(self, descriptor: int, member: Member) -> None:
        # Owner first: a change of it clears setuid bits and file capabilities.
        os.fchown(descriptor, member.uid, member.gid)
        os.fchmod(descriptor, member.mode)
        for key, value in self._kept_xattrs(member):
            _set_xattr(descriptor, key, value)

    def _kept_xattrs(self, member: Member) -> Iterator[tuple[str, bytes]]:
        """trusted.* steers overlayfs itself, system.* and the other security.* the host."""
        for key, value in member.xattrs.items():
            allowed = key == "security.capability" or (
                key.startswith("user.") and not key.startswith("user.overlay.")
            )
            if allowed and "\0" not in key:
                yield key, value

    def _link_source(self, member: Member) -> tuple[int, str]:
        parts = split_name(member.link)
        if not parts:
            raise InvalidRequest(f"cannot unpack {member.name!r}: a hard link to {member.link!r}")
        try:
            folder = self._open(parts[:-1])
            found = os.lstat(parts[-1], dir_fd=folder)
        except (FileNotFoundError, NotADirectoryError):
            raise InvalidRequest(
                f"cannot unpack {member.name!r}: a hard link to {member.link!r}, "
                "which isn't in the archive before it"
            ) from None
        if stat.S_ISDIR(found.st_mode):
            raise InvalidRequest(f"cannot unpack {member.name!r}: a hard link to a directory")
        return folder, parts[-1]

    def _whiteout(self, parts: tuple[str, ...]) -> None:
        """image-spec, layer.md "Whiteouts"; what starts with `.wh..wh.` is aufs's own."""
        mark = parts[-1]
        folder = self._folder(parts[:-1])
        if mark == OPAQUE_MARK:
            os.setxattr(folder, OPAQUE, b"y")
            return
        if mark.startswith(WHITEOUT * 2):
            return
        name = mark.removeprefix(WHITEOUT)
        if name in ("", ".", ".."):
            raise InvalidRequest(f"cannot unpack {'/'.join(parts)!r}: a whiteout of {name!r}")
        try:
            os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=folder)
        except FileExistsError:
            # The layer has an entry of that name: it hides what lies below, and a directory has
            # to say so.
            with contextlib.suppress(NotADirectoryError):
                descriptor = os.open(name, _DIRECTORY, dir_fd=folder)
                try:
                    os.setxattr(descriptor, OPAQUE, b"y")
                finally:
                    os.close(descriptor)

    def _make_way(self, folder: int, name: str, *, keep: int | None = None) -> None:
        """Remove what has the name of a new entry: a whole tree in a layer of our own making,
        at most an empty directory in the tree of a container."""
        found = os.lstat(name, dir_fd=folder)
        if not stat.S_ISDIR(found.st_mode):
            os.unlink(name, dir_fd=folder)
        elif self._whiteouts:
            remove_tree(name, folder)
        else:
            os.rmdir(name, dir_fd=folder)
        # Paths through that name lead elsewhere from now on.
        self._forget_folders(keep=(folder, keep))

    def _folder(self, parts: tuple[str, ...]) -> int:
        """A descriptor of the folder, made where it is missing."""
        try:
            return self._open(parts)
        except FileNotFoundError:
            if not parts:
                raise
        depth = len(parts) - 1
        while depth > 0:
            try:
                self._open(parts[:depth])
                break
            except FileNotFoundError:
                depth -= 1
        for end in range(depth + 1, len(parts) + 1):
            above = self._open(parts[: end - 1])
            try:
                os.mkdir(parts[end - 1], 0o755, dir_fd=above)
            except FileExistsError:
                # A link to nowhere, or a whiteout of this same layer.
                found = os.lstat(parts[end - 1], dir_fd=above)
                if not (self._whiteouts and _is_whiteout(found)):
                    raise InvalidRequest(
                        f"cannot unpack below {'/'.join(parts[:end])!r}: not a directory"
                    ) from None
                os.unlink(parts[end - 1], dir_fd=above)
                os.mkdir(parts[end - 1], 0o755, dir_fd=above)
                os.setxattr(f"/proc/self/fd/{above}/{parts[end - 1]}", OPAQUE, b"y")
            # mkdir heeds the engine's umask; in a container others have to get through.
            os.fchmod(self._open(parts[:end]), 0o755)
            self._result.implied.append("/".join(parts[:end]))
        return self._open(parts)

    def _open(self, parts: tuple[str, ...]) -> int:
        """A descriptor of an existing folder; this object owns it."""
        cached = self._folders.get(parts)
        if cached is not None:
            self._folders.move_to_end(parts)
            return cached
        path = self._path(parts)
        resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
        if len(os.fsencode(path)) < 4000:
            flags = os.O_RDONLY | os.O_DIRECTORY
            descriptor = _openat2(self._root, path, flags, resolve=resolve)
        else:
            descriptor = self._open_deep(parts)
        self._folders[parts] = descriptor
        if len(self._folders) > _OPEN_FOLDERS:
            # Two may be in use by the entry at hand: they are the newest.
            os.close(self._folders.popitem(last=False)[1])
        return descriptor

    def _path(self, parts: tuple[str, ...]) -> str:
        return "/".join((self._below, *parts)).strip("/") or "."

    def _open_deep(self, parts: tuple[str, ...]) -> int:
        """Longer than PATH_MAX: step by step, and then without links."""
        above = self._folders.get(parts[:-1])
        if above is not None:
            return _openat2(above, parts[-1], _DIRECTORY, resolve=RESOLVE_NO_SYMLINKS)
        resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
        descriptor = _openat2(self._root, self._path(()), _DIRECTORY, resolve=resolve)
        for part in parts:
            try:
                below = _openat2(descriptor, part, _DIRECTORY, resolve=RESOLVE_NO_SYMLINKS)
            finally:
                os.close(descriptor)
            descriptor = below
        return descriptor

    def _forget_folders(self, *, keep: tuple[int | None, ...] = ()) -> None:
        for parts, descriptor in list(self._folders.items()):
            if descriptor not in keep:
                os.close(descriptor)
                del self._folders[parts]

    def _set_folder_times(self) -> None:
        """Last, because each entry made in a folder changes its time."""
        for parts, mtime in self._times.items():
            resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
            with contextlib.suppress(OSError):  # gone again, or a link by now: nothing to set
                descriptor = _openat2(self._root, self._path(parts), _DIRECTORY, resolve=resolve)
                try:
                    os.utime(descriptor, ns=(mtime, mtime))
                finally:
                    os.close(descriptor)


def _is_zeros(chunk: bytes) -> bool:
    return len(chunk) >= _SHORTEST_HOLE and not (chunk[0] or chunk[-1]) and not chunk.strip(b"\0")


# What a hostile or broken archive can bring about; the rest (ENOSPC, EIO) is the disk's.
_ARCHIVE_ERRORS = frozenset(
    {
        errno.ELOOP,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.EEXIST,
        errno.ENOTEMPTY,
        errno.EINVAL,
        errno.EXDEV,
        errno.EMLINK,
        errno.ERANGE,
    }
)


def remove_tree(name: str, folder: int) -> None:
    """Remove a directory below the descriptor `folder`: no recursion, no link followed, and
    nothing of another file system."""
    top = os.open(name, _DIRECTORY, dir_fd=folder)
    device = os.fstat(top).st_dev
    stack: list[tuple[int, str, int]] = [(folder, name, top)]
    try:
        while stack:
            above, own_name, here = stack[-1]
            below = _remove_files(here, device)
            if below is not None:
                stack.append((here, below, os.open(below, _DIRECTORY, dir_fd=here)))
                continue
            stack.pop()
            os.close(here)
            os.rmdir(own_name, dir_fd=above)
    finally:
        for _, _, descriptor in stack:
            os.close(descriptor)


def _remove_files(folder: int, device: int) -> str | None:
    """Unlinks all but directories; the name of one of those, if there is any."""
    below = None
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=folder)
            else:
                below = entry.name
    if below is not None and os.lstat(below, dir_fd=folder).st_dev != device:
        raise Failure(f"cannot remove {below!r}: something is mounted there")
    return below


def _openat2(folder: int, path: str, flags: int, *, resolve: int) -> int:
    """With the exceptions of os.open, which tell a missing name from a full disk."""
    try:
        return openat2(folder, path, flags, resolve=resolve)
    except KernelError as error:
        raise OSError(error.errno, os.strerror(error.errno or 0), path) from None


def _is_whiteout(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def _same_entry(source: tuple[int, str], target: tuple[int, str]) -> bool:
    """A hard link of a file to itself is there already; making way for it would lose it."""
    try:
        first = os.lstat(source[1], dir_fd=source[0])
        second = os.lstat(target[1], dir_fd=target[0])
    except FileNotFoundError:
        return False
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)


def _set_xattr(target: int | str, key: str, value: bytes, *, follow: bool = True) -> None:
    try:
        if isinstance(target, int):
            os.setxattr(target, key, value)
        else:
            os.setxattr(target, key, value, follow_symlinks=follow)
    except OSError as error:
        # user.* isn't for links and devices, and not every file system has it.
        if error.errno not in (errno.ENOTSUP, errno.EPERM):
            raise
        log.debug("xattr %r was not kept: %s", key, error.strerror)
