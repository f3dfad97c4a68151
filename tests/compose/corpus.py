"""Compares `config` with Docker Compose's on a folder of other people's projects.

    python -m tests.compose.corpus FOLDER

Compose is found under PEER_ROOT, or in the PATH. Says how many files come out equal, and what
differs. What differs on purpose: docs/compatibility.md.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from compose.cli.main import main

PLUGIN = "usr/libexec/docker/cli-plugins/docker-compose"
TIMEOUT = 20  # seconds: a few files keep Compose busy for ever


def find_compose() -> str | None:
    peer = os.environ.get("PEER_ROOT")
    path = Path(peer, PLUGIN) if peer else Path("/", PLUGIN)
    return str(path) if path.is_file() else shutil.which("docker-compose")


def files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".yml", ".yaml") and path.is_file():
            text = path.read_text(errors="replace")
            if re.search(r"^(\"?services\"?|include):", text, re.MULTILINE):
                yield path


def compare(compose: str, path: Path) -> str:
    """ "equal", "both refuse", or what differs."""
    home = {"HOME": os.environ.get("HOME", "/"), "PATH": os.environ["PATH"]}
    arguments = ["-f", str(path), "config", "--format", "json"]
    try:
        theirs = subprocess.run(
            [compose, *arguments], cwd=path.parent, env=home, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=TIMEOUT,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "Compose doesn't come to an end"
    code, text, said = ours(arguments, home, path.parent)
    if theirs.returncode and code:
        return "both refuse"
    if theirs.returncode:
        return f"only Compose refuses: {theirs.stderr.strip()[-200:]}"
    if code:
        return f"only we refuse: {said.strip()[-300:]}"
    return next(differences(json.loads(theirs.stdout), json.loads(text), ""), "equal")


def ours(arguments: list[str], environment: dict[str, str], folder: Path) -> tuple[int, str, str]:
    out, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said):
        code = main(arguments, environment, folder)
    return code, out.getvalue(), said.getvalue()


def differences(theirs: object, ours: object, place: str) -> Iterator[str]:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted(theirs.keys() | ours.keys()):
            absent = object()
            yield from differences(theirs.get(key, absent), ours.get(key, absent), f"{place}.{key}")
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for index, (one, other) in enumerate(zip(theirs, ours, strict=True)):
            yield from differences(one, other, f"{place}[{index}]")
    elif type(theirs) is not type(ours) or theirs != ours:
        yield f"{place}: Compose {shown(theirs)}, we {shown(ours)}"


def shown(value: object) -> str:
    return "nothing" if type(value) is object else repr(value)[:100]


def run(compose: str, folder: Path) -> dict[str, list[Path]]:
    """What came out -> the files of which it did."""
    results: dict[str, list[Path]] = {}
    for path in files(folder):
        results.setdefault(compare(compose, path), []).append(path)
    return results


def report(results: dict[str, list[Path]]) -> str:
    counts = {key: len(paths) for key, paths in results.items()}
    equal, refused = counts.get("equal", 0), counts.get("both refuse", 0)
    lines = [
        f"{path}: {result}"
        for result, paths in sorted(results.items())
        if result not in ("equal", "both refuse")
        for path in paths
    ]
    return "\n".join([*lines, f"equal {equal}   both refuse {refused}   other {len(lines)}"])


if __name__ == "__main__":
    program = find_compose()
    if program is None:
        sys.exit("there is no docker-compose here: set PEER_ROOT, or put it into the PATH")
    print(report(run(program, Path(sys.argv[1]).absolute())))
