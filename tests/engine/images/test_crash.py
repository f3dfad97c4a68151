"""kill -9 of the daemon in the middle of what fills and empties the store: what is listed is whole,
and not a byte is left of what isn't."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from engine.images.catalog import parse_catalog
from engine.oci.digest import digest_of
from tests.compose.engines import busybox_tar
from tests.engine.builder.conftest import context_of
from tests.engine.images.archives import docker_archive, entry, folder, tar
from tests.engine.moments import killed_at
from tests.host import Daemon, UnixConnection, host

pytestmark = pytest.mark.kernel

GONE = (OSError, http.client.HTTPException)  # what a client sees of a daemon that is killed
REGISTRY = "127.0.0.1:5000"
# Seeds of the moments; more of them may be asked for.
SEEDS = range(int(os.environ.get("CRASH_SEEDS", "1")))
LARGE = Random(1).randbytes(1_500_000)
BASE = tar([folder("etc"), entry("etc/base", b"base\n")])
TOP = tar([folder("d"), *(entry(f"d/{n}", LARGE[: n * 20_000]) for n in range(40))])
LAYERS = [BASE, TOP]
ARCHIVE = docker_archive(LAYERS, ["app:1"])
DOCKERFILE = """\
FROM busybox:test AS one
COPY d /d
RUN mkdir /made && for i in 1 2 3 4 5 6 7 8 9; do echo $i > /made/$i; done
FROM busybox:test
COPY --from=one /made /made
RUN rm /bin/nc && echo end > /end
"""
CONTEXT = context_of({"Dockerfile": DOCKERFILE, **{f"d/{n}": f"{n}\n" * 2000 for n in range(30)}})
Step = Callable[[Daemon], object]


def send(daemon: Daemon, method: str, path: str, body: bytes = b"") -> bytes:
    connection = UnixConnection(daemon.socket, 60)
    try:
        connection.request(method, path, body, {"Content-Type": "application/x-tar"})
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status < 300, content[-500:]
        return content
    finally:
        connection.close()


def asked(method: str, path: str, body: bytes = b"") -> Step:
    return lambda daemon: send(daemon, method, path, body)


load = asked("POST", "/images/load", ARCHIVE)
build = asked("POST", "/build?t=built&networkmode=none", CONTEXT)
pull = asked("POST", f"/images/create?fromImage={REGISTRY}/library/shell&tag=1")


def nothing(_: Daemon) -> None:
    pass


def both(*steps: Step) -> Step:
    return lambda daemon: [step(daemon) for step in steps]


WORKS: dict[str, tuple[Step, Step]] = {
    "load": (nothing, load),
    "import": (nothing, asked("POST", "/images/create?fromSrc=-&repo=app&tag=1", TOP)),
    "pull": (nothing, pull),
    "build": (nothing, build),
    "build again": (build, asked("POST", "/build?t=again&networkmode=none&nocache=1", CONTEXT)),
    "tag": (load, both(*(asked("POST", f"/images/app:1/tag?repo=t{n}") for n in range(6)))),
    "rmi": (load, asked("DELETE", "/images/app:1?force=1")),
    "prune": (both(load, pull), asked("POST", '/images/prune?filters={"dangling":["false"]}')),
    "builder prune": (build, asked("POST", "/build/prune?all=1")),
}


@pytest.fixture
def daemon_at() -> Iterator[Callable[[], Daemon]]:
    """In memory: what a process has written outlives it there as well, and no sync takes time."""
    with host("/dev/shm") as opened:
        opened.serve("tests.engine.registry.server", "5000")
        yield opened.daemon


@pytest.mark.timeout(300)  # a daemon starts anew for each moment
@pytest.mark.parametrize("seed", SEEDS)
def test_a_store_is_whole_whenever_the_daemon_is_killed(
    daemon_at: Callable[[], Daemon], seed: int
) -> None:
    moments = Random(seed)
    daemon = daemon_at()
    for name, (prepare, act) in WORKS.items():
        send(daemon, "POST", "/images/create?fromSrc=-&repo=busybox&tag=test", busybox_tar())
        prepare(daemon)
        number = moments.choice((moments.randint(1, 12), moments.randint(1, 300)))
        with killed_at(daemon, number), contextlib.suppress(*GONE, AssertionError):
            act(daemon)
        daemon = daemon_at()
        print(f"{name}, killed after {number} changes")
        everything_is_whole(daemon)
        everything_goes(daemon)


def everything_is_whole(daemon: Daemon) -> None:
    images = json.loads(send(daemon, "GET", "/images/json?all=1"))
    store = daemon.data_root / "images"
    catalog = parse_catalog(json.loads((store / "catalog.json").read_text()))
    assert {image["Id"] for image in images} == {
        record.id for record in catalog.images.values() if not record.is_step
    }
    assert names(store / "blobs/sha256") == {each.partition(":")[2] for each in catalog.blobs()}
    assert names(store / "layers") == {each.partition(":")[2] for each in catalog.layers}
    assert names(store / "tmp") == set()
    assert names(daemon.data_root / "builder/tmp") == set()
    assert json.loads(send(daemon, "GET", "/containers/json?all=1")) == []
    for record in catalog.images.values():
        for digest in (record.id, *(catalog.layers[each].blob for each in record.layers)):
            content = (store / "blobs/sha256" / digest.partition(":")[2]).read_bytes()
            assert digest_of(content) == digest
    for image in images:
        saved = send(daemon, "GET", f"/images/{image['Id']}/get")
        with tarfile.open(fileobj=io.BytesIO(saved)) as archive:
            assert "manifest.json" in archive.getnames()
    if digest_of(TOP) in catalog.layers:
        unpacked_is_what_came(store)


def unpacked_is_what_came(store: Path) -> None:
    place = store / "layers" / digest_of(TOP).partition(":")[2] / "d"
    for number in range(40):
        assert (place / str(number)).read_bytes() == LARGE[: number * 20_000]


def everything_goes(daemon: Daemon) -> None:
    for image in json.loads(send(daemon, "GET", "/images/json?all=1")):
        send(daemon, "DELETE", f"/images/{image['Id']}?force=1")
    send(daemon, "POST", "/build/prune?all=1")
    store = daemon.data_root / "images"
    for folder_ in ("blobs/sha256", "layers", "tmp"):
        assert names(store / folder_) == set()
    assert names(daemon.data_root / "builder/contexts") == set()
    assert "Traceback" not in daemon.log


def names(place: Path) -> set[str]:
    return set(os.listdir(place)) if place.exists() else set()
