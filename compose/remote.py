"""`-f` of a git repository: `https://host/shop.git#REF:FOLDER`, fetched once for each commit.

    ~/.cache/pycompose/remote/COMMIT/shop/...    XDG_CACHE_HOME is heeded

The branch or tag is asked for anew each time; what a commit holds never changes. It asks the `git`
program, as docker compose does, which is where keys, credentials and proxies are set up.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from compose.errors import Problem, ProjectError
from compose.load.files import NAMES

_COMMIT = re.compile(r"[0-9a-f]{40}")


def fetch(reference: str, environment: Mapping[str, str]) -> Path:
    """The Compose file in question, on this machine. Raises ProjectError."""
    if reference.startswith("oci://"):
        raise _refusal(
            reference,
            "artifacts of registries aren't read",
            "take them with: docker compose -f ... config -o compose.yaml",
        )
    address, _, rest = reference.partition("#")
    name, _, below = rest.partition(":")
    commit = name if _COMMIT.fullmatch(name) else _commit_of(address, name or "HEAD", reference)
    title = re.split(r"[/:]", address.rstrip("/").removesuffix(".git"))[-1] or "project"
    folder = _cache(environment) / commit / re.sub(r"[^\w.-]", "", title)
    if not folder.is_dir():
        _check_out(address, commit, folder, reference)
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


def _check_out(address: str, commit: str, folder: Path, reference: str) -> None:
    """Whole or not at all: it is made aside, and then renamed."""
    folder.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent.parent, prefix=".new-") as aside:
        made = Path(aside) / folder.name
        _git(reference, "init", "--quiet", str(made))
        at = ("-C", str(made))
        _git(reference, *at, "fetch", "--quiet", "--depth=1", "--", address, commit)
        _git(reference, *at, "checkout", "--quiet", "--detach", "FETCH_HEAD")
        shutil.rmtree(made / ".git")
        os.chmod(aside, 0o700)
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        if not folder.exists():  # somebody else was as fast
            os.rename(made, folder)


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
