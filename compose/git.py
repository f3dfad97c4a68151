"""What git knows of a project's folder, asked of the user's own git.

A program of its own, since repositories come in many shapes (worktrees, submodules, sha256,
filters, partial clones) and only git knows them all. Nothing here writes to the repository.
"""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from compose.dataclass import dataclass
from compose.errors import ComposeError
from compose.load.sources import DISK
from compose.model.project import Project
from compose.model.resources import ConfigFile, Secret

F = TypeVar("F", ConfigFile, Secret)


class GitError(ComposeError):
    """git isn't there, or refuses. `hint` says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class GitState:
    commit: str
    subject: str  # the first line of its message
    dirty: bool  # the project's folder differs from it


class Repository:
    """The working tree around a folder. Each method runs git: milliseconds, in the caller's
    thread."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def around(cls, folder: Path) -> Repository | None:
        for candidate in (folder, *folder.parents):
            if (candidate / ".git").exists():
                return cls(candidate)
        return None

    @property
    def index_lock(self) -> Path:
        """A file that is there while git changes the working tree (a checkout, a merge, a pull)."""
        folder = self.root / ".git"
        if folder.is_file():  # of a further working tree, or a submodule
            folder = self.root / folder.read_text().removeprefix("gitdir:").strip()
        return folder / "index.lock"

    def subject(self, commit: str) -> str:
        return self._text("log", "-1", "--format=%s", commit).strip()

    def state(self, folder: Path) -> GitState:
        """Raises GitError, also where there is no commit yet."""
        commit, _, subject = self._text("log", "-1", "--format=%H%x00%s").partition("\0")
        changed = self._run("status", "--porcelain", "-z", "--", str(folder))
        return GitState(commit, subject.strip(), bool(changed))

    def commit(self, reference: str) -> Commit:
        """What a branch, tag or commit stands for. Raises GitError."""
        found = self._text(
            "rev-parse", "--verify", "--quiet", "--end-of-options", f"{reference}^{{commit}}",
            refusal=f"git knows no commit {reference!r} in {self.root}",
            hint="see git log, git branch and git tag",
        ).strip()  # fmt: skip
        return Commit(self, found)

    def _text(self, *arguments: str, refusal: str = "", hint: str = "") -> str:
        return self._run(*arguments, refusal=refusal, hint=hint).decode("utf-8", "replace")

    def _run(self, *arguments: str, refusal: str = "", hint: str = "") -> bytes:
        import subprocess

        environment = {**os.environ, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
        try:
            done = subprocess.run(
                ["git", "-C", str(self.root), *arguments],
                stdin=subprocess.DEVNULL, capture_output=True, env=environment, check=False,
            )  # fmt: skip
        except FileNotFoundError:
            raise GitError("git isn't installed", hint="install git") from None
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip()
            raise GitError(refusal or f"git {arguments[0]} failed: {said}", hint)
        return done.stdout


class Commit:
    """A Source for loading: files as a commit has them. What git doesn't track, then or now, is
    read from the disk: `.env` files and secrets are kept out of repositories."""

    def __init__(self, repository: Repository, identifier: str) -> None:
        self.repository = repository
        self.id = identifier

    def read(self, path: Path) -> bytes:
        name = self._name(path)
        if name is None:
            return DISK.read(path)
        target = self._followed(name)
        if target in self._folders:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if target in self._files:
            return self.repository._run("cat-file", "blob", self._files[target][1])
        if target in self._tracked_now:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return DISK.read(path)

    def is_file(self, path: Path) -> bool:
        name = self._name(path)
        if name is None:
            return DISK.is_file(path)
        target = self._followed(name)
        return target in self._files or (target not in self._tracked_now and DISK.is_file(path))

    def is_folder(self, path: Path) -> bool:
        name = self._name(path)
        return DISK.is_folder(path) if name is None else self._followed(name) in self._folders

    def is_executable(self, path: Path) -> bool:
        name = self._name(path)
        mode, _ = self._files.get(self._followed(name), ("", "")) if name is not None else ("", "")
        return mode == "100755" if mode else DISK.is_executable(path)

    def tracks(self, path: Path) -> bool:
        name = self._name(path)
        return name is not None and self._followed(name) in self._files

    def holds(self, path: Path) -> bool:
        """Whether the commit has a folder there."""
        name = self._name(path)
        return name is not None and name in self._folders

    def state(self) -> GitState:
        return GitState(self.id, self.repository.subject(self.id), dirty=False)

    def tar(self, path: Path) -> bytes:
        """A folder as a tar of what is in it."""
        name = self._name(path)
        assert name is not None
        tree = f"{self.id}:{name}" if name else self.id
        return self.repository._run("archive", "--format=tar", tree)

    def _name(self, path: Path) -> str | None:
        """Below the root; None: it lies elsewhere."""
        name = os.path.relpath(os.path.abspath(path), self.repository.root)
        if name == os.pardir or name.startswith(os.pardir + os.sep):
            return None
        return "" if name == os.curdir else name

    def _followed(self, name: str) -> str:
        """Where a symbolic link of the commit leads to within it."""
        for _ in range(8):
            mode, blob = self._files.get(name, ("", ""))
            if mode != "120000":
                break
            link = self.repository._run("cat-file", "blob", blob).decode("utf-8", "replace")
            name = posixpath.normpath(posixpath.join(posixpath.dirname(name), link))
        return name

    @cached_property
    def _files(self) -> dict[str, tuple[str, str]]:
        """Name -> mode, blob."""
        found: dict[str, tuple[str, str]] = {}
        listing = self.repository._run("ls-tree", "-r", "-z", "--full-tree", self.id)
        for line in filter(None, listing.split(b"\0")):
            about, _, name = line.partition(b"\t")
            mode, kind, blob = about.decode().split()
            if kind == "blob":
                found[os.fsdecode(name)] = (mode, blob)
        return found

    @cached_property
    def _folders(self) -> frozenset[str]:
        found = {""}
        for name in self._files:
            folder = posixpath.dirname(name)
            while folder and folder not in found:
                found.add(folder)
                folder = posixpath.dirname(folder)
        return frozenset(found)

    @cached_property
    def _tracked_now(self) -> frozenset[str]:
        listing = self.repository._run("ls-files", "-z", "--full-name")
        return frozenset(os.fsdecode(name) for name in listing.split(b"\0") if name)


@contextmanager
def as_of(commit: Commit, project: Project) -> Iterator[Project]:
    """The project with its build contexts as the commit has them, in a folder of their own that
    goes when the block is left, and with configs and secrets that aren't bound from the working
    tree. What the repository doesn't hold stays as it is."""
    import io
    import tarfile
    import tempfile

    with tempfile.TemporaryDirectory(prefix="pycompose-ref-") as folder:
        places: dict[str, str] = {}

        def placed(context: str) -> str:
            if not commit.holds(Path(context)):
                return context
            if context not in places:
                places[context] = os.path.join(folder, str(len(places)))
                with tarfile.open(fileobj=io.BytesIO(commit.tar(Path(context)))) as tar:
                    tar.extractall(places[context], filter="tar")
            return places[context]

        services = {
            name: replace(service, build=replace(service.build, context=placed(context)))
            if service.build is not None and (context := service.build.context)
            else service
            for name, service in project.services.items()
        }
        yield replace(
            project,
            services=services,
            configs={key: _detached(commit, each) for key, each in project.configs.items()},
            secrets={key: _detached(commit, each) for key, each in project.secrets.items()},
        )


def _detached(commit: Commit, item: F) -> F:
    return replace(item, detached=True) if item.file and commit.tracks(Path(item.file)) else item
