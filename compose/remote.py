"""Compose files that another machine has, brought here once for each state that they were in.

https://host/shop.git#REF:FOLDER    from git, which is asked anew what a branch or tag means;
                                    the `git` program knows keys, credentials and proxies
oci://registry/team/shop:TAG        from a registry: what `publish` put there

~/.cache/pycompose/remote/COMMIT-OR-DIGEST/...    XDG_CACHE_HOME is heeded
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from compose import artifact
from compose.client.errors import ClientError
from compose.errors import Problem, ProjectError
from compose.load.files import NAMES

_COMMIT = re.compile(r"[0-9a-f]{40}")


def fetch(reference: str, environment: Mapping[str, str], insecure: tuple[str, ...] = ()) -> Path:
    """The Compose file in question, on this machine. Raises ProjectError."""
    name = reference.removeprefix("oci://")
    if name != reference:
        place = artifact.Place(name, environment, insecure)
        # A loop of its own: a project is also loaded inside of one that runs.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, _from_registry(place, reference)).result()
    return _from_git(reference, environment)


async def _from_registry(place: artifact.Place, reference: str) -> Path:
    try:
        digest = await artifact.digest(place)
        folder = _cache(place.environment) / digest.partition(":")[2]
        if not folder.is_dir():
            files = await artifact.files(place, digest)
            with _made_aside(folder) as made:
                for name, content in files.items():
                    (made / name).write_bytes(content)
    except ClientError as error:
        hint = "it is oci://REGISTRY/REPOSITORY:TAG; publish puts a project there"
        raise _refusal(reference, str(error), hint) from error
    return folder / artifact.MAIN


def _from_git(reference: str, environment: Mapping[str, str]) -> Path:
    address, _, rest = reference.partition("#")
    name, _, below = rest.partition(":")
    commit = name if _COMMIT.fullmatch(name) else _commit_of(address, name or "HEAD", reference)
    folder = _cache(environment) / commit
    if not folder.is_dir():
        with _made_aside(folder) as made:
            _check_out(address, commit, made, reference)
    found = Path(os.path.normpath(folder / below.lstrip("/")))
    if not found.is_relative_to(folder):
        raise _refusal(reference, f"{below} leads out of the repository", "")
    if found.is_dir():
        files = [found / each for each in NAMES if (found / each).is_file()]
        if not files:
            hint = f"looked for {', '.join(NAMES)}; another one is named behind the colon"
            raise _refusal(reference, "there is no Compose file", hint)
        return files[0]
    return found


def _cache(environment: Mapping[str, str]) -> Path:
    home = environment.get("XDG_CACHE_HOME") or Path(environment.get("HOME", "/")) / ".cache"
    return Path(home) / "pycompose" / "remote"


def _commit_of(address: str, name: str, reference: str) -> str:
    said = _git(reference, "ls-remote", "--exit-code", "--", address, name)
    commit = said.split(maxsplit=1)[0] if said else ""
    if not _COMMIT.fullmatch(commit):
        raise _refusal(reference, f"git answered {commit!r}", "")
    return commit


@contextlib.contextmanager
def _made_aside(folder: Path) -> Iterator[Path]:
    """Filled under another name, and then renamed: it is there whole or not at all."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".new-"))  # 0700
    try:
        yield made
        try:
            os.rename(made, folder)
        except OSError:
            if not folder.is_dir():  # nobody else was as fast
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _check_out(address: str, commit: str, made: Path, reference: str) -> None:
    _git(reference, "init", "--quiet", str(made))
    at = ("-C", str(made))
    _git(reference, *at, "fetch", "--quiet", "--depth=1", "--", address, commit)
    _git(reference, *at, "checkout", "--quiet", "--detach", "FETCH_HEAD")
    shutil.rmtree(made / ".git")


def _git(reference: str, *arguments: str) -> str:
    environment = {"GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
                   **os.environ, "LC_ALL": "C"}  # fmt: skip
    try:
        done = subprocess.run(
            ["git", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            env=environment, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise _refusal(reference, "git isn't installed", "install git") from None
    if done.returncode == 0:
        return done.stdout
    said = done.stderr.strip().splitlines()[-1:] or ["there is no such branch, tag or commit"]
    raise _refusal(reference, said[0], "it is URL#BRANCH:FOLDER; try: git ls-remote URL")


def _refusal(reference: str, reason: str, hint: str) -> ProjectError:
    return ProjectError(Problem(f"cannot read {reference}: {reason}", hint=hint))
