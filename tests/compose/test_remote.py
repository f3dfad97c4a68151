"""Compose files of git repositories and of registries, from servers on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from compose.errors import ProjectError
from compose.remote import fetch
from tests.compose.corpus import ours
from tests.engine.registry.server import Registry, serving

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


def test_its_files_are_a_project_of_the_folder_where_one_is(served: str, tmp_path: Path) -> None:
    """As with Docker Compose: name and variables come from here, paths start in the repository."""
    here = tmp_path / "shop-of-ann"
    here.mkdir()
    (here / ".env").write_text("N=9\n")
    environment = {"HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"]}
    code, text, said = ours(["-f", served, "config"], environment, here)
    assert code == 0, said
    assert text.startswith("name: shop-of-ann\n")
    assert '"N": "9"' in text
    commit = git(tmp_path / "served" / "shop.git", "rev-parse", "HEAD")
    assert f"source: {tmp_path}/home/.cache/pycompose/remote/{commit}/data\n" in text
    code, text, said = ours(["-f", f"{served}#main:deep/other.yaml", "config"], environment, here)
    assert code == 0, said
    assert text.startswith("name: inner\n")


def test_it_is_included_and_extended(served: str, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(
        f"include: ['{served}']\n"
        f"services: {{more: {{extends: {{file: '{served}', service: web}}, image: z}}}}\n"
    )
    environment = {"HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"]}
    code, text, said = ours(["config", "--format", "json"], environment, tmp_path)
    assert code == 0, said
    services = json.loads(text)["services"]
    assert services["web"]["environment"] == {"N": "7"}  # the included project's own .env
    assert services["more"]["environment"] == {"N": "1"}
    assert services["more"]["volumes"] == services["web"]["volumes"]
    (tmp_path / "compose.yaml").write_text(f"include:\n  - {served}#nosuch\n")
    code, _, said = ours(["config"], environment, tmp_path)
    assert code == 1
    assert said.startswith(f"compose.yaml:2:5: include[0]: cannot read {served}#nosuch: ")


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


# ---- registries


@pytest.fixture
def registry() -> Iterator[Registry]:
    """A registry that answers while the test's own thread runs a command."""
    loop = asyncio.new_event_loop()
    serves = threading.Thread(target=loop.run_forever)
    serves.start()
    opened = serving()
    yield asyncio.run_coroutine_threadsafe(opened.__aenter__(), loop).result()
    asyncio.run_coroutine_threadsafe(opened.__aexit__(None, None, None), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    serves.join()
    loop.close()


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A project of two files, with env files, one of them of a service that is extended."""
    folder = tmp_path / "shop"
    (folder / "sub").mkdir(parents=True)
    (folder / "compose.yaml").write_text(
        "services:\n"
        "  web:\n"
        "    image: ${IMAGE:-nginx}\n"
        "    env_file: [sub/a.env, {path: none.env, required: false}]\n"
        "  more:\n"
        "    extends: {file: 'sub/base.yaml', service: base}\n"
    )
    (folder / "more.yaml").write_text("services: {web: {ports: ['80']}}\n")
    (folder / "sub" / "base.yaml").write_text(
        "services:\n  base:\n    image: busybox\n    env_file: &b\n      - b.env\n"
    )
    (folder / "sub" / "a.env").write_text("A=1\n")
    (folder / "sub" / "b.env").write_text("B=2\n")
    return folder


def test_what_is_published_is_the_project_anywhere(
    registry: Registry, shop: Path, tmp_path: Path
) -> None:
    environment = {"HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"]}
    files = ["-f", "compose.yaml", "-f", "more.yaml", "-p", "shop"]
    name = f"{registry.host}/team/shop:1"
    code, _, said = ours([*files, "publish", "--with-env", "-y", name], environment, shop)
    assert code == 0, said
    _, content = registry.manifests["team/shop:1"]
    manifest = json.loads(content)
    assert manifest["artifactType"] == "application/vnd.docker.compose.project"
    assert [layer["mediaType"].rpartition(".")[2] for layer in manifest["layers"]] == [
        *("file+yaml",) * 3, "envfile", "envfile",
    ]  # fmt: skip

    code, wanted, said = ours([*files, "config"], environment, shop)
    assert code == 0, said
    code, found, said = ours(["-f", f"oci://{name}", "-p", "shop", "config"], environment, tmp_path)
    assert (code, found) == (0, wanted), said
    # What was fetched is kept: only what the tag stands for is asked again.
    asked = len(registry.asked("/blobs/"))
    ours(["-f", f"oci://{name}", "config", "-q"], environment, tmp_path)
    assert len(registry.asked("/blobs/")) == asked


def test_an_old_registry_gets_the_form_without_a_type(
    registry: Registry, shop: Path, tmp_path: Path
) -> None:
    environment = {"HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"]}
    name = f"{registry.host}/team/shop"
    command = ["publish", "--oci-version", "1.0", "--with-env", "-y", name]
    code, _, said = ours(command, environment, shop)
    assert code == 0, said
    assert "artifactType" not in json.loads(registry.manifests["team/shop:latest"][1])
    code, _, said = ours(["-f", f"oci://{name}", "config", "-q"], environment, tmp_path)
    assert code == 0, said


def test_what_is_told_is_agreed_to(
    registry: Registry, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {"HOME": str(shop.parent), "PATH": os.environ["PATH"]}
    name = f"{registry.host}/team/shop"
    code, _, said = ours(["publish", "-y", name], environment, shop)
    assert code == 1
    assert "compose.yaml:4:5: services.web.env_file: this would be published" in said
    with open(os.devnull) as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        code, text, said = ours(["publish", "--with-env", name], environment, shop)
    assert code == 130, said
    assert text.endswith("Go on? [y/N] ")
    code, text, said = ours(["--dry-run", "publish", "--with-env", "-y", name], environment, shop)
    assert (code, text) == (
        0, f"DRY-RUN MODE - {name} publishing\nDRY-RUN MODE - {name} published\n",
    ), said  # fmt: skip
    assert not registry.manifests


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("services: {a: {build: .}}", "compose.yaml:1:12: services.a: cannot publish a service"),
        (
            "include: [other.yaml]\nservices: {a: {image: x}}",
            "compose.yaml:1:11: include[0]: cannot publish what includes a file of this machine",
        ),
    ],
)
def test_what_others_could_not_use_is_not_published(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "compose.yaml").write_text(text)
    (tmp_path / "other.yaml").write_text("services: {b: {image: y}}")
    code, _, said = ours(["publish", "-y", "x/y"], {"HOME": str(tmp_path)}, tmp_path)
    assert code == 1
    assert said.startswith(told)


def test_what_is_no_project_is_refused(registry: Registry, tmp_path: Path) -> None:
    registry.add_image("team/image:1", [b""])
    with pytest.raises(ProjectError, match=r"is no application/vnd.docker.compose.project, but "):
        fetch(f"oci://{registry.host}/team/image:1", {"HOME": str(tmp_path)})
    file = "application/vnd.docker.compose.file+yaml"
    told = {"com.docker.compose.extends": "true", "com.docker.compose.file": "../../x.yaml"}
    manifest = {
        "schemaVersion": 2,
        "artifactType": "application/vnd.docker.compose.project",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", **registry.add_blob(b"{}")},
        "layers": [{"mediaType": file, "annotations": told, **registry.add_blob(b"{x: 1}")}],
    }
    registry.add_manifest("team/evil:1", manifest, "application/vnd.oci.image.manifest.v1+json")
    with pytest.raises(ProjectError, match=r"a file in it is called '\.\./\.\./x.yaml'"):
        fetch(f"oci://{registry.host}/team/evil:1", {"HOME": str(tmp_path)})
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
