"""The files of a git repository at an address, by dulwich: there is no git program here.

Objects come from anywhere: their files are unpacked as a tar's are, so that no name and no link in
a tree leads out of its folder.
"""

import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from engine.builder.access import Access
from engine.builder.context import unpack_context
from engine.builder.remote import GitAddress, parse_git_server, shown, submodule_url
from engine.errors import InvalidRequest, NotFound
from engine.images.tar_reader import Kind, Member
from engine.images.tar_writer import END, member_head, padding

if TYPE_CHECKING:
    from dulwich.object_store import BaseObjectStore
    from dulwich.objects import Commit, ObjectID
    from dulwich.repo import Repo

_SUBMODULE = 0o160000
_NO_NAMES = (b"", b".", b"..", b".git")
_MOST_SUBMODULES = 1000


def check_out(address: GitAddress, folder: Path, access: Access) -> str:
    """Puts the files below `folder`, which is made, and returns the commit. Blocks; for a thread.
    Raises InvalidRequest, NotFound, Failure."""
    store = folder.with_name(f"{folder.name}.repository")
    clones = _Clones(store, access, address.submodules)
    try:
        commit = clones.clone(address.url, address.ref)
        sha = commit.id.decode()
        if not sha.startswith(address.checksum):
            raise InvalidRequest(
                f"cannot fetch {shown(address.url)}: it is at commit {sha}, not {address.checksum}"
            )
        folder.mkdir(mode=0o755)
        unpack_context(_Stream(clones.tar(address.url, commit)), folder)
    finally:
        clones.close()
    if address.keep_git:
        (store / "0/.git/HEAD").write_text(f"{sha}\n")
        (store / "0/.git").rename(folder / ".git")
    shutil.rmtree(store)
    _set_times(folder)
    if address.folder:
        _keep_only(folder, address)
    return sha


@dataclass(slots=True)
class _Clones:
    """A repository and its submodules, each in a folder of its own."""

    folder: Path
    access: Access
    with_submodules: bool
    opened: "list[Repo]" = field(default_factory=list)

    def clone(self, url: str, ref: str) -> "Commit":
        from engine.builder.git_server import fetch  # where it is needed: 200 ms

        if len(self.opened) > _MOST_SUBMODULES:
            raise InvalidRequest(f"cannot fetch it: more than {_MOST_SUBMODULES} submodules")
        place = self.folder / str(len(self.opened))
        repo, commit = fetch(url, ref, place, self.access, is_own=not self.opened)
        self.opened.append(repo)
        return commit

    def close(self) -> None:
        for repo in self.opened:
            repo.close()

    def tar(self, url: str, commit: "Commit") -> Iterator[bytes]:
        yield from self._files(url, commit, "")
        yield END

    def _files(self, url: str, commit: "Commit", prefix: str) -> Iterator[bytes]:
        objects = self.opened[-1].object_store
        modules = _modules(objects, commit.tree) if self.with_submodules else {}
        yield from self._entries(url, objects, commit.tree, prefix, "", modules)

    def _entries(
        self,
        url: str,
        objects: "BaseObjectStore",
        tree: "ObjectID",
        prefix: str,
        inside: str,
        modules: dict[str, str],
    ) -> Iterator[bytes]:
        """Only what the file system has to know: links, who may run it, and nothing of the rest.
        `prefix`: where the repository lies in the whole; `inside`: where the tree lies in it."""
        for name, mode, sha in objects[tree].items():  # type: ignore[attr-defined]
            own = inside + os.fsdecode(name)
            path = prefix + own
            if name.lower() in _NO_NAMES or b"/" in name:
                raise InvalidRequest(f"invalid repository: it holds {path!r}")
            if stat.S_ISDIR(mode) or mode == _SUBMODULE:
                yield member_head(Member(path, Kind.DIRECTORY, 0o755, 0, 0, 0, 0))
            if stat.S_ISDIR(mode):
                yield from self._entries(url, objects, sha, prefix, f"{own}/", modules)
            elif mode == _SUBMODULE and own in modules:
                below = submodule_url(url, modules[own])
                parse_git_server(below)  # a path of this machine is none
                yield from self._files(below, self.clone(below, sha.decode()), f"{path}/")
            elif stat.S_ISLNK(mode):
                link = os.fsdecode(objects[sha].as_raw_string())
                yield member_head(Member(path, Kind.SYMLINK, 0o777, 0, 0, 0, 0, link=link))
            elif stat.S_ISREG(mode):
                content = objects[sha].as_raw_string()
                bits = 0o755 if mode & 0o111 else 0o644
                yield member_head(Member(path, Kind.FILE, bits, 0, 0, len(content), 0))
                yield content + padding(len(content))


def _modules(objects: "BaseObjectStore", tree: "ObjectID") -> dict[str, str]:
    """Path -> address, as .gitmodules has them."""
    from io import BytesIO

    from dulwich.config import ConfigFile, parse_submodules

    for name, mode, sha in objects[tree].items():  # type: ignore[attr-defined]
        if name == b".gitmodules" and stat.S_ISREG(mode):
            try:
                config = ConfigFile.from_file(BytesIO(objects[sha].as_raw_string()))
            except ValueError as error:
                raise InvalidRequest(f"invalid repository: its .gitmodules: {error}") from error
            found = parse_submodules(config)
            return {os.fsdecode(path): os.fsdecode(url) for path, url, _ in found}
    return {}


class _Stream:
    """A Source of pieces."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = piece
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken


def _set_times(folder: Path) -> None:
    """A commit has no times of files: all get the same, so that layers are the same."""
    for path, _, files in os.walk(folder, topdown=False):
        for name in files:
            os.utime(os.path.join(path, name), (0, 0), follow_symlinks=False)
        os.utime(path, (0, 0))


def _keep_only(folder: Path, address: GitAddress) -> None:
    """A subdirectory takes the place of the whole. Links on the way lead nowhere."""
    inner = folder
    for name in address.folder.split("/"):
        inner = inner / name
        if name == ".." or inner.is_symlink() or not inner.is_dir():
            raise NotFound(
                f"cannot fetch {shown(address.url)}: there is no folder {address.folder} in it"
            )
    aside = folder.with_name(f"{folder.name}.inner")
    inner.rename(aside)
    shutil.rmtree(folder)
    aside.rename(folder)
