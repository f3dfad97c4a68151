"""COPY and ADD: files of one tree into another. Both trees are descriptors of their roots.

What is to be copied is found first (`find_sources`); then it is read once as a tar, for its digest
or on its way through a pipe to where it goes. Owner, mode and time are set on the way.
"""

import hashlib
import os
import posixpath
import re
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine.builder.ignore import Pattern, is_ignored, path_expression
from engine.errors import InvalidRequest, NotFound
from engine.images.compression import Source, decompressed
from engine.images.pack import Packing, add_entry, add_tree
from engine.images.tar_reader import Kind, Member, TarReader
from engine.images.tar_writer import END
from engine.images.unpack import unpack_archive
from engine.kernel.libc import KernelError
from engine.kernel.mount import open_in_root

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
_SHIFT = {"u": 6, "g": 3, "o": 0}
_SET_ID = {"u": stat.S_ISUID, "g": stat.S_ISGID}
_WILD = re.compile(r"[*?\[]")
_MOST_LINKS = 40  # as the kernel has it


@dataclass(frozen=True, slots=True)
class Found:
    """One thing to copy: a path in its tree, free of patterns."""

    path: str  # "" for the whole tree
    is_folder: bool
    kept: str = ""  # the folders that --parents makes at the target
    is_archive: bool = False  # to be unpacked


@dataclass(frozen=True, slots=True)
class Attributes:
    """What copies get whatever they had: None leaves it."""

    uid: int | None = None
    gid: int | None = None
    is_asked: bool = False  # by --chown: it counts for what is unpacked as well
    mode: Callable[[int, bool], int] | None = None  # old bits, is a folder -> new bits
    mode_of_folders: int | None = None  # of those made on the way

    @property
    def explicit(self) -> "Attributes":
        return Attributes(self.uid, self.gid) if self.is_asked else Attributes()

    @property
    def of_target(self) -> "Attributes":
        """For a folder that is a source's own at the target."""
        mode = self.mode_of_folders if self.mode is None else self.mode(0o755, True)
        return replace(self, mode_of_folders=mode)

    def of(self, member: Member) -> Member:
        mode = member.mode
        if self.mode is not None and member.kind is not Kind.SYMLINK:
            mode = self.mode(member.mode, member.kind is Kind.DIRECTORY)
        return replace(
            member,
            mode=mode,
            uid=member.uid if self.uid is None else self.uid,
            gid=member.gid if self.gid is None else self.gid,
        )


class _Changed(TarReader):
    def __init__(self, source: Source, attributes: Attributes) -> None:
        super().__init__(source)
        self._attributes = attributes

    def __iter__(self) -> Iterator[Member]:
        return map(self._attributes.of, super().__iter__())


def find_sources(root: int, pattern: str, *, parents: bool = False) -> tuple[Found, ...]:
    """What a source of COPY means; nothing where a pattern fits nothing. Raises NotFound."""
    pivot = ""
    if parents and "/./" in pattern:
        pivot, _, pattern = pattern.partition("/./")
    cleaned = posixpath.normpath("/" + pattern).strip("/")
    base = posixpath.normpath("/" + pivot).strip("/") if pivot else ""
    full = posixpath.join(base, cleaned).strip("/")
    if parents and "**" in full:
        paths = _walked(root, full)
    else:  # two stars are one
        single = re.sub(r"\*+", "*", full)
        paths = _matching(root, single) if _WILD.search(full) else (full,)
    found = []
    for path in paths:
        is_folder = _is_folder(root, path, pattern)
        kept = ""
        if parents:
            inside = path.removeprefix(f"{base}/") if base else path
            kept = inside if is_folder else posixpath.dirname(inside)
        found.append(Found(path, is_folder, kept))
    return tuple(found)


def _matching(root: int, pattern: str) -> tuple[str, ...]:
    """Component by component, so that only folders that fit are looked into."""
    paths = [""]
    for name in pattern.split("/"):
        expression = _compiled([name])
        following = []
        for path in paths:
            names = _names(root, path) if _WILD.search(name) else [name]
            for each in names:
                if not _WILD.search(name) or expression.fullmatch(each):
                    following.append(posixpath.join(path, each))
        paths = following
    return tuple(sorted(path for path in paths if _exists(root, path)))


def _compiled(names: Sequence[str]) -> re.Pattern[str]:
    try:
        return re.compile(path_expression(names), re.DOTALL)
    except re.error:
        raise InvalidRequest(f"syntax error in pattern {'/'.join(names)!r}") from None


def _walked(root: int, pattern: str) -> tuple[str, ...]:
    expression = _compiled(pattern.split("/"))
    found, waiting = [], [""]
    while waiting:
        path = waiting.pop()
        for name in _names(root, path):
            below = posixpath.join(path, name)
            if expression.fullmatch(below):
                found.append(below)
            waiting.append(below)
    return tuple(sorted(found))


def _names(root: int, path: str) -> list[str]:
    """Of what is in a folder; none in what is no folder."""
    try:
        folder = open_in_root(root, path or ".", _DIRECTORY | os.O_NOFOLLOW)
    except KernelError:
        return []
    try:
        return sorted(os.listdir(folder))
    finally:
        os.close(folder)


def _exists(root: int, path: str) -> bool:
    try:
        os.close(open_in_root(root, path or "."))
    except KernelError:
        return False
    return True


def _is_folder(root: int, path: str, shown: str) -> bool:
    try:
        descriptor = open_in_root(root, path or ".")
    except KernelError:
        raise not_found(shown) from None
    try:
        return stat.S_ISDIR(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)


def not_found(path: str) -> NotFound:
    return NotFound(f"stat {path}: file does not exist")


def is_archive(root: int, path: str) -> bool:
    """Whether ADD unpacks it: a tar, plain or compressed."""
    descriptor = open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK)
    with open(descriptor, "rb", buffering=0) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            return False
        try:
            return _begins_as_tar(decompressed(stream))
        except InvalidRequest:
            return False


def _begins_as_tar(source: Source) -> bool:
    block = b""
    while len(block) < 512 and (chunk := source.read(512 - len(block))):
        block += chunk
    if len(block) < 512 or not block.strip(b"\0"):
        return False
    said = block[148:156].strip(b" \0")
    return said.isdigit() and int(said, 8) == sum(block[:148] + b" " * 8 + block[156:])


def digest_of_sources(
    root: int, found: Sequence[Found], attributes: Attributes, ignored: Sequence[Pattern]
) -> str:
    """Of names, content, owners and modes; times don't count."""
    checksum = hashlib.sha256()
    for each in found:
        checksum.update(f"{each.path}\0{each.is_folder}\0{each.kept}\0{each.is_archive}\0".encode(
            errors="surrogateescape"
        ))  # fmt: skip
        packing = Packing(
            checksum.update,
            lambda member: replace(attributes.of(member), mtime=0),
            lambda name: not is_ignored(ignored, name),
        )
        _pack(packing, root, each, "file" if not each.is_folder else "")
    return checksum.hexdigest()


def copy_sources(
    source: int,
    found: Sequence[Found],
    target: int,
    destination: str,
    attributes: Attributes,
    ignored: Sequence[Pattern],
) -> None:
    """Into `destination`, an absolute path below the root `target`: a folder where it ends in a
    slash, is one, or where several things are copied. Links of that path are followed."""
    destination = followed(target, destination)
    into_folder = destination.endswith("/") or len(found) > 1 or _is_folder_at(target, destination)
    for each in found:
        if each.is_archive:
            make_folders(target, destination, attributes)
            descriptor = open_in_root(source, each.path, os.O_RDONLY | os.O_NONBLOCK)
            with open(descriptor, "rb", buffering=0) as stream:
                reader = _Changed(decompressed(stream), attributes.explicit)
                unpack_archive(reader, target, below=destination)
            continue
        folder, name = destination, posixpath.basename(each.path)
        if each.kept:
            folder = posixpath.join(destination, each.kept)
        elif not each.is_folder and not into_folder:
            folder, name = posixpath.split(destination)
        make_folders(target, folder, attributes.of_target if each.is_folder else attributes)
        if not each.is_folder and _is_folder_at(target, below := posixpath.join(folder, name)):
            raise InvalidRequest(f"cannot replace the directory {below} with a file")
        packing = Packing(
            lambda chunk: None,
            attributes.of,
            lambda inside: not is_ignored(ignored, inside),
        )
        _transfer(packing, source, each, "" if each.is_folder else name, target, folder)


def _transfer(
    packing: Packing, source: int, found: Found, name: str, target: int, folder: str
) -> None:
    """One thread reads, this one writes; the pipe between them holds 64 KB."""
    reader, writer = os.pipe()
    failures: list[BaseException] = []

    def put(chunk: bytes) -> None:
        view = memoryview(chunk)
        while view:
            view = view[os.write(writer, view) :]

    packing.sink = put

    def pack() -> None:
        try:
            _pack(packing, source, found, name)
            put(END)
        except BrokenPipeError:
            return  # the writing side has failed, and says why
        except BaseException as error:  # noqa: BLE001 - handed to the caller, whole
            failures.append(error)
        finally:
            os.close(writer)

    thread = threading.Thread(target=pack, name="copy")
    thread.start()
    try:
        with open(reader, "rb", buffering=0) as stream:
            unpack_archive(TarReader(stream), target, below=folder)
    except InvalidRequest:
        thread.join()
        if not failures:
            raise
    finally:
        thread.join()
    if failures:
        raise failures[0]


def _pack(packing: Packing, root: int, found: Found, name: str) -> None:
    """A folder's content, or a file under the name `name`. A link as source stands for what it
    leads to inside the tree."""
    if found.is_folder:
        top = open_in_root(root, found.path or ".", _DIRECTORY)
        try:
            add_tree(packing, top, "")
        finally:
            os.close(top)
        return
    real = real_path(root, found.path)
    folder = open_in_root(root, posixpath.dirname(real) or ".", _DIRECTORY)
    try:
        add_entry(packing, folder, posixpath.basename(real), name)
    finally:
        os.close(folder)


def real_path(root: int, path: str) -> str:
    """Where the kernel ends up, said from the root. Raises NotFound."""
    try:
        descriptor = open_in_root(root, posixpath.normpath("/" + path).strip("/") or ".")
    except KernelError:
        raise not_found(path) from None
    try:
        top = os.readlink(f"/proc/self/fd/{root}")
        found = os.readlink(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    return found.removeprefix(top.rstrip("/")).strip("/")


def followed(root: int, path: str) -> str:
    """An absolute path with the links in it replaced by where they lead inside of the root,
    whether that is there or not. Raises InvalidRequest for a circle."""
    done: list[str] = []
    left = path.split("/")[::-1]
    links = 0
    while left:
        name = left.pop()
        if name == "..":
            done = done[:-1]
        elif name not in ("", "."):
            link = _link_at(root, "/".join((*done, name)))
            if not link:
                done.append(name)
                continue
            links += 1
            if links > _MOST_LINKS:
                raise InvalidRequest(f"cannot copy to {path}: too many links")
            if link.startswith("/"):
                done = []
            left += link.split("/")[::-1]
    found = "/" + "/".join(done)
    return f"{found}/" if path.endswith("/") and done else found


def _link_at(root: int, path: str) -> str:
    """What a link says; "" where there is none."""
    try:
        descriptor = open_in_root(root, path, os.O_PATH | os.O_NOFOLLOW)
    except KernelError:
        return ""
    try:
        is_link = stat.S_ISLNK(os.fstat(descriptor).st_mode)
        return os.readlink("", dir_fd=descriptor) if is_link else ""
    finally:
        os.close(descriptor)


def _is_folder_at(root: int, path: str) -> bool:
    """Not by a link."""
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        os.close(open_in_root(root, path, flags))
    except KernelError:
        return False
    return True


def make_folders(root: int, path: str, attributes: Attributes) -> None:
    """Those of `path` that aren't there, as directories of mode 0755. Links on the way stay
    inside."""
    names = [name for name in path.split("/") if name]
    for end in range(1, len(names) + 1):
        here = "/".join(names[:end])
        try:
            os.close(open_in_root(root, here, os.O_PATH | os.O_DIRECTORY))
            continue
        except KernelError:
            above = open_in_root(root, "/".join(names[: end - 1]) or ".", _DIRECTORY)
        try:
            os.mkdir(names[end - 1], 0o755, dir_fd=above)
            made = os.open(names[end - 1], _DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
            try:
                os.fchown(made, attributes.uid or 0, attributes.gid or 0)
                mode = attributes.mode_of_folders
                os.fchmod(made, 0o755 if mode is None else mode)  # mkdir heeds the umask
            finally:
                os.close(made)
        except FileExistsError:
            raise InvalidRequest(f"cannot make {path}: /{here} is not a directory") from None
        finally:
            os.close(above)


def clamp_times(folder: Path, epoch: int) -> None:
    """No file or folder below is newer than that second; nor is the folder itself."""
    limit = epoch * 10**9
    root = os.open(folder, _DIRECTORY | os.O_NOFOLLOW)
    try:
        for _, folders, files, here in os.fwalk(dir_fd=root, topdown=False):
            for name in (*files, *folders):
                found = os.lstat(name, dir_fd=here)
                if found.st_mtime_ns > limit:
                    os.utime(name, ns=(limit, limit), dir_fd=here, follow_symlinks=False)
        os.utime(root, ns=(limit, limit))
    finally:
        os.close(root)


def parse_mode(text: str) -> tuple[Callable[[int, bool], int], int | None]:
    """Of --chmod: octal, or symbolic as `u=rwX,go=rX`; and what folders made on the way get, if
    it says so. Raises InvalidRequest."""
    if text.isdecimal():
        if not re.fullmatch(r"0*[0-7]{1,4}", text):
            raise InvalidRequest(
                f"invalid chmod parameter: {text!r}. "
                "it should be octal string and between 0 and 07777"
            )
        bits = int(text, 8)
        return lambda mode, is_folder: bits, bits
    clauses = [re.fullmatch(r"([ugoa]*)([-+=])([rwxXst]*|[ugo])", each) for each in text.split(",")]
    if not text or not all(clauses):
        raise InvalidRequest(f"invalid chmod parameter: {text!r}")

    def change(mode: int, is_folder: bool) -> int:
        for clause in clauses:
            assert clause is not None
            mode = _changed(mode, clause[1] or "a", clause[2], clause[3], is_folder)
        return mode

    return change, None


def _changed(mode: int, who: str, operator: str, what: str, is_folder: bool) -> int:
    bits = 0
    mask = 0
    if what in ("u", "g", "o"):  # `g=u`: as the others have it
        what = "".join(
            sign for sign, bit in (("r", 4), ("w", 2), ("x", 1)) if mode >> _SHIFT[what] & bit
        )
    for shift, letter in ((6, "u"), (3, "g"), (0, "o")):
        if letter in who or "a" in who:
            mask |= 7 << shift
            for sign, bit in (("r", 4), ("w", 2), ("x", 1)):
                bits |= bit << shift if sign in what else 0
            if "X" in what and (is_folder or mode & 0o111):
                bits |= 1 << shift
            if letter in _SET_ID:
                # chmod(1): of a folder these bits stay unless they are named.
                mask |= 0 if is_folder else _SET_ID[letter]
                bits |= _SET_ID[letter] if "s" in what else 0
    if "t" in what and set(who) != {"o"}:  # as chmod(1) of FreeBSD has it
        bits |= stat.S_ISVTX
    match operator:
        case "+":
            return mode | bits
        case "-":
            return mode & ~bits
    return mode & ~mask | bits
