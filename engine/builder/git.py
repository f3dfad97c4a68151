"""The files of a git repository at an http(s) address, by dulwich: there is no git program here."""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from engine.builder.remote import GitAddress
from engine.errors import Failure, InvalidRequest, NotFound

_PATIENCE = 60  # seconds without a byte


def check_out(address: GitAddress, folder: Path, *, is_cancelled: Callable[[], bool]) -> str:
    """Puts the files below `folder`, which is made, and returns the commit. Blocks; for a thread.
    Raises InvalidRequest, NotFound, Failure."""
    # Where it is needed: 200 ms.
    from dulwich.client import HttpGitClient, HTTPUnauthorized
    from dulwich.config import ConfigFile
    from dulwich.errors import GitProtocolError, NotGitRepository
    from dulwich.index import build_index_from_tree
    from dulwich.object_store import peel_sha
    from dulwich.objects import Commit, ObjectID
    from dulwich.repo import Repo
    from urllib3.exceptions import HTTPError

    def progress(_: bytes) -> None:
        if is_cancelled():
            raise Failure(f"the clone of {address.url} was cancelled")

    folder.mkdir()
    client = HttpGitClient(address.url, config=ConfigFile(), timeout=_PATIENCE)
    with Repo.init(str(folder)) as repo:
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
        build_index_from_tree(str(folder), repo.index_path(), repo.object_store, commit.tree)
        (folder / ".git/HEAD").write_text(f"{sha}\n")
    if not address.keep_git:
        shutil.rmtree(folder / ".git")
    _set_times(folder)
    if address.folder:
        _keep_only(folder, address)
    return sha


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
