"""`-f` of a git repository, from a git server on loopback."""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from compose.errors import ProjectError
from compose.remote import fetch
from tests.compose.corpus import ours

FILE = 'services: {web: {image: x, environment: {N: "${N:-1}"}, volumes: [./data:/data]}}\n'


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")
    done = subprocess.run(
        ["git", *identity, "-C", str(folder), *arguments],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of a repository with a file at its top and one in a folder."""
    shop = tmp_path / "served" / "shop.git"
    (shop / "deep").mkdir(parents=True)
    git(shop, "init", "-q")
    (shop / "compose.yaml").write_text(FILE)
    (shop / ".env").write_text("N=7\n")
    (shop / "deep" / "other.yaml").write_text("name: inner\nservices: {db: {image: y}}\n")
    git(shop, "add", ".")
    git(shop, "commit", "-qm", "one")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        ["git", "daemon", "--export-all", "--listen=127.0.0.1", f"--port={port}", "--verbose",
         "--reuseaddr", f"--base-path={shop.parent}"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stderr is not None
    assert "Ready" in server.stderr.readline()
    yield f"git://127.0.0.1:{port}/shop.git"
    server.terminate()
    server.communicate()


def test_its_files_are_the_project(served: str, tmp_path: Path) -> None:
    here = {"HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"]}
    code, text, said = ours(["-f", served, "config"], here, tmp_path)
    assert code == 0, said
    assert text.startswith("name: shop\n")
    assert '"N": "7"' in text
    assert "/shop/data" in text
    code, text, said = ours(["-f", f"{served}#main:deep/other.yaml", "config"], here, tmp_path)
    assert code == 0, said
    assert text.startswith("name: inner\n")


def test_a_commit_is_fetched_once_and_a_branch_followed(served: str, tmp_path: Path) -> None:
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    first = fetch(served, cache)
    before = first.stat().st_ino
    assert fetch(served, cache).stat().st_ino == before
    shop = tmp_path / "served" / "shop.git"
    (shop / "compose.yaml").write_text("services: {new: {image: z}}\n")
    git(shop, "commit", "-qam", "two")
    second = fetch(f"{served}#main", cache)
    assert "new" in second.read_text()
    assert first.read_text() == FILE
    assert not [path for path in (tmp_path / "cache").rglob(".new-*")]


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        ("#nosuch", "no such branch"),
        ("#main:../../x", "leads out of the repository"),
        ("#main:deep", "there is no Compose file"),
    ],
)
def test_what_is_not_there_is_told(served: str, tmp_path: Path, rest: str, reason: str) -> None:
    with pytest.raises(ProjectError, match=reason):
        fetch(served + rest, {"HOME": str(tmp_path)})


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=r"cannot read git://127\.0\.0\.1:1/x\.git: "):
        fetch("git://127.0.0.1:1/x.git", {"HOME": str(tmp_path)})
