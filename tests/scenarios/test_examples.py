"""The examples that need images of Docker Hub, from a registry that stands in for it.

EXAMPLE_IMAGES names the storage folder of a registry (as docker-registry keeps it) with the images
that they use; it is served as the engine's mirror. Nothing is downloaded from anywhere else, so
what the Flask example gets from PyPI is left to who tries it.

EXAMPLE_PROJECTS names folders of other people's projects that these images are enough for, apart by
colons (of awesome-compose: apache-php, wordpress-mysql); they are run as they are.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.host import Daemon, Host, host
from tests.scenarios.project import ROOT, Project

IMAGES = os.environ.get("EXAMPLE_IMAGES", "")
PROJECTS = os.environ.get("EXAMPLE_PROJECTS", "")
pytestmark = pytest.mark.kernel
with_images = pytest.mark.skipif(
    not IMAGES or shutil.which("docker-registry") is None,
    reason="needs docker-registry, and EXAMPLE_IMAGES: the folder of a registry with images",
)
MIRROR = "127.0.0.1:5000"


@pytest.fixture(scope="module")
def place() -> Iterator[Host]:
    with host() as opened:
        config = opened.folder / "registry.json"
        storage = {
            "filesystem": {"rootdirectory": IMAGES},
            "maintenance": {"readonly": {"enabled": True}},
        }
        config.write_text(
            json.dumps({"version": "0.1", "storage": storage, "http": {"addr": MIRROR}})
        )
        serving = subprocess.Popen(
            opened.command(["docker-registry", "serve", str(config)]),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        limit = time.monotonic() + 20
        while not answers(opened):
            assert time.monotonic() < limit, "the registry does not answer"
        yield opened
        serving.terminate()
        serving.wait(20)


def answers(place: Host) -> bool:
    try:
        place.fetch("127.0.0.1", int(MIRROR.rpartition(":")[2]), "/v2/")
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def engine(place: Host) -> Iterator[Daemon]:
    daemon = place.daemon("engine", "--registry-mirror", f"http://{MIRROR}")
    yield daemon
    # Hidden files in images would be taken for what an engine left behind.
    _, images = daemon.call("GET", "/images/json")
    assert isinstance(images, list)
    for image in images:
        daemon.call("DELETE", f"/images/{image['Id']}?force=1")
    daemon.call("POST", "/build/prune?all=1")


def example(place: Host, engine: Daemon, name: str) -> Project:
    folder = place.folder / name
    shutil.copytree(ROOT / "examples" / name, folder)
    return Project(place, engine, folder)


def page(site: Project, port: int, path: str = "/") -> str:
    return site.host.fetch("127.0.0.1", port, path).decode()


@with_images
def test_a_static_site(place: Host, engine: Daemon) -> None:
    site = example(place, engine, "static-site")
    try:
        site("up", "-d", "--wait")
        assert "<h1>A site made of words</h1>" in page(site, 8080)
        assert "nginx serves it" in page(site, 8080, "/welcome.html")
        site("up", "-d", "--wait", "--build", env={"TITLE": "Another"})
        assert "<h1>Another</h1>" in page(site, 8080)
    finally:
        site.clear()


@with_images
def test_node_under_watch(place: Host, engine: Daemon) -> None:
    web = example(place, engine, "node-watch")
    try:
        web("up", "-d", "--wait")
        assert page(web, 3000) == "hello from version 1.0.0\n"
        watching = web.start("watch")
        assert watching.stdout is not None
        for line in watching.stdout:
            if "watching" in line:
                break
        web.replace('"hello"', '"changed"', "src/server.js")
        until(web, "changed from version 1.0.0\n")
        web.replace("1.0.0", "1.1.0", "package.json")
        until(web, "changed from version 1.1.0\n")
        watching.terminate()
        watching.wait(20)
    finally:
        web.clear()


def until(web: Project, text: str) -> None:
    limit = time.monotonic() + 60
    while True:
        try:
            if page(web, 3000) == text:
                return
        except OSError:
            pass
        assert time.monotonic() < limit, text


@pytest.mark.parametrize("name", ["flask-redis-postgres", "static-site", "node-watch"])
def test_its_file_loads(name: str) -> None:
    file = str(ROOT / "examples" / name / "compose.yaml")
    done = subprocess.run(
        [sys.executable, "-m", "compose", "-f", file, "config", "-q"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@with_images
@pytest.mark.skipif(not PROJECTS, reason="needs EXAMPLE_PROJECTS: folders of projects")
@pytest.mark.parametrize("folder", PROJECTS.split(":"))
def test_other_people_s_projects(place: Host, engine: Daemon, folder: str) -> None:
    copy = place.folder / os.path.basename(folder)
    shutil.copytree(folder, copy)
    theirs = Project(place, engine, copy)
    try:
        theirs("up", "-d", "--wait")
        before = theirs.ids()
        published = [port for row in theirs.ps() for port in row["Publishers"]]  # type: ignore[attr-defined]
        for port in {each["PublishedPort"] for each in published if each["PublishedPort"]}:
            page(theirs, port)
        theirs("up", "-d", "--wait")
        assert theirs.ids() == before
        assert theirs("plan", check=False).returncode == 0
        theirs("down", "--volumes", "--rmi", "local")
        assert theirs.ids() == {}
    finally:
        theirs.clear()
