"""The files of a git repository at an http(s) address, by dulwich: there is no git program here.

Objects come from anywhere: their files are unpacked as a tar's are, so that no name and no link in
a tree leads out of its folder.
"""

import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from engine.builder.context import unpack_context
from engine.builder.remote import GitAddress
from engine.errors import Failure, InvalidRequest, NotFound
from engine.images.tar_reader import Kind, Member
from engine.images.tar_writer import END, member_head, padding

if TYPE_CHECKING:
    from dulwich.object_store import BaseObjectStore
    from dulwich.objects import ObjectID

_PATIENCE = 60  # seconds without a byte
_SUBMODULE = 0o160000
_NO_NAMES = (b"", b".", b"..", b".git")


def check_out(address: GitAddress, folder: Path, *, is_cancelled: Callable[[], bool]) -> str:
    """Puts the files below `folder`, which is made, and returns the commit. Blocks; for a thread.
    Raises InvalidRequest, NotFound, Failure."""
    # Where it is needed: 200 ms.
    from dulwich.client import HttpGitClient, HTTPUnauthorized
    from dulwich.config import ConfigFile
    from dulwich.errors import GitProtocolError, NotGitRepository
    from dulwich.object_store import peel_sha
    from dulwich.objects import Commit, ObjectID
    from dulwich.repo import Repo
    from urllib3.exceptions import HTTPError

    def progress(_: bytes) -> None:
        if is_cancelled():
            raise Failure(f"the clone of {address.url} was cancelled")

    store = folder.with_name(f"{folder.name}.repository")
    store.mkdir()
    client = HttpGitClient(address.url, config=ConfigFile(), timeout=_PATIENCE)
    with Repo.init(str(store)) as repo:
        try:
            advertised = {
                bytes(name): bytes(sha)
                for name, sha in client.get_refs(b"").refs.items()
                if sha is not None
            }
            wanted = ObjectID(_wanted(address, advertised))

            def want(refs: object, depth: int | None = None) -> list[ObjectID]:
                return [wanted]

            try:
                client.fetch(b"", repo, want, progress=progress, depth=1)
            except GitProtocolError:
                # A commit that no name leads to: some servers give it only with all the rest.
                client.fetch(b"", repo, progress=progress)
            _, commit = peel_sha(repo.object_store, wanted)
        except HTTPUnauthorized as error:
            raise Failure(
                f"cannot fetch {address.url}: it wants to know who asks; "
                "this engine fetches public repositories only"
            ) from error
        except (GitProtocolError, NotGitRepository, HTTPError, KeyError) as error:
            raise Failure(f"cannot fetch {address.url}: {error}") from error
        if not isinstance(commit, Commit):
            raise InvalidRequest(f"cannot fetch {address.url}: {address.ref} is no commit")
        sha = commit.id.decode()
        if not sha.startswith(address.checksum):
            raise InvalidRequest(
                f"cannot fetch {address.url}: it is at commit {sha}, not {address.checksum}"
            )
        folder.mkdir(mode=0o755)
        unpack_context(_Stream(_tar(repo.object_store, commit.tree)), folder)
    if address.keep_git:
        (store / ".git/HEAD").write_text(f"{sha}\n")
        (store / ".git").rename(folder / ".git")
    shutil.rmtree(store)
    _set_times(folder)
    if address.folder:
        _keep_only(folder, address)
    return sha


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


def _tar(objects: "BaseObjectStore", top: "ObjectID") -> Iterator[bytes]:
    yield from _entries(objects, top, "")
    yield END


def _entries(objects: "BaseObjectStore", tree: "ObjectID", prefix: str) -> Iterator[bytes]:
    """Only what the file system has to know: links, who may run it, and nothing of the rest."""
    for name, mode, sha in objects[tree].items():  # type: ignore[attr-defined]
        path = prefix + os.fsdecode(name)
        if name.lower() in _NO_NAMES or b"/" in name:
            raise InvalidRequest(f"invalid repository: it holds {path!r}")
        if stat.S_ISDIR(mode) or mode == _SUBMODULE:  # what is in a submodule stays there
            yield member_head(Member(path, Kind.DIRECTORY, 0o755, 0, 0, 0, 0))
        if stat.S_ISDIR(mode):
            yield from _entries(objects, sha, f"{path}/")
        elif stat.S_ISLNK(mode):
            link = os.fsdecode(objects[sha].as_raw_string())
            yield member_head(Member(path, Kind.SYMLINK, 0o777, 0, 0, 0, 0, link=link))
        elif stat.S_ISREG(mode):
            content = objects[sha].as_raw_string()
            bits = 0o755 if mode & 0o111 else 0o644
            yield member_head(Member(path, Kind.FILE, bits, 0, 0, len(content), 0))
            yield content + padding(len(content))


def _wanted(address: GitAddress, advertised: Mapping[bytes, bytes]) -> bytes:
    """The hash that a ref means. Raises NotFound."""
    ref = address.ref.encode()
    names = (ref, b"refs/heads/" + ref, b"refs/tags/" + ref) if ref else (b"HEAD",)
    for name in names:
        if name in advertised:
            return advertised[name]
    if len(ref) == 40 and not ref.strip(b"0123456789abcdef"):
        return ref
    raise NotFound(f"cannot fetch {address.url}: there is no {address.ref or 'HEAD'} in it")


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
            raise NotFound(f"cannot fetch {address.url}: there is no folder {address.folder} in it")
    aside = folder.with_name(f"{folder.name}.inner")
    inner.rename(aside)
    shutil.rmtree(folder)
    aside.rename(folder)
