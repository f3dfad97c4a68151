"""Builds that end early, engines that end during a build, and the cache over time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import pytest

from tests.compose.engines import missing
from tests.engine.builder.conftest import Builds, context_of, import_busybox
from tests.host import Daemon, Host, UnixConnection, host

pytestmark = pytest.mark.kernel
SLOW = "FROM busybox:test\nRUN echo begun; sleep 1000\n"


@pytest.fixture
def own_host() -> Iterator[Host]:
    if reason := missing("pyengine"):
        pytest.skip(reason)
    with host() as opened:
        yield opened


def begin(daemon: Daemon, text: str) -> UnixConnection:
    """A build under way: its first RUN has said something."""
    connection = UnixConnection(daemon.socket, 60)
    archive = context_of({"Dockerfile": text})
    connection.request("POST", "/build?t=slow", archive, {"Content-Type": "application/x-tar"})
    answer = connection.getresponse()
    while "begun\n" not in json.loads(answer.readline()).get("stream", ""):
        pass
    connection.answer = answer  # type: ignore[attr-defined]
    return connection


def send(daemon: Daemon, method: str, path: str, body: bytes = b"") -> bytes:
    connection = UnixConnection(daemon.socket, 60)
    try:
        connection.request(method, path, body, {"Content-Type": "application/x-tar"})
        return connection.getresponse().read()
    finally:
        connection.close()


def until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < limit


def prune(daemon: Daemon, query: str = "") -> dict[str, object]:
    status, pruned = daemon.call("POST", f"/build/prune{query}")
    assert status == 200, pruned
    assert isinstance(pruned, dict)
    return pruned


CACHED = (
    "FROM busybox:test\nENV A=b\nWORKDIR /w\nCOPY --chmod=600 a a\n"
    "ARG V\nRUN echo $V > out\nCMD cat\n"
)


def test_an_image_that_was_built_elsewhere_is_a_cache(builds: Builds) -> None:
    """Of `cache_from` steps are taken by its history. Docker's rule: of nothing else then."""

    def again(text: str = CACHED, v: str = "1", a: str = "a", **query: str) -> int:
        built = builds.ok(text, {"a": a}, t="later", buildargs={"V": v}, **query)
        return built.output.count("Using cache")

    daemon = builds.daemon
    builds.ok(CACHED, {"a": "a"}, t="first", buildargs={"V": "1"})
    archive = send(daemon, "GET", "/images/first/get")
    daemon.call("DELETE", "/images/first?force=1")
    prune(daemon, "?all=1")
    send(daemon, "POST", "/images/load", archive)
    sources = json.dumps(["first"])
    assert again(cachefrom=json.dumps(["nosuch"])) == 0
    daemon.call("DELETE", "/images/later?force=1")
    prune(daemon, "?all=1")
    assert again(cachefrom=sources) == 6
    assert builds.image("later")["RootFS"] == builds.image("first")["RootFS"]
    assert again(cachefrom=sources, v="2") == 4
    assert again(cachefrom=sources, a="changed") == 2
    # BuildKit's, as pycompose asks: beside the own cache, and got from where it is.
    assert again(a="changed", cachesources=json.dumps(["type=registry,ref=first"])) == 6
    told = builds.ok(CACHED, {"a": "a"}, cachesources=json.dumps(["127.0.0.1:1/x"]), buildargs={})
    assert "[Warning] 127.0.0.1:1/x not consulted for the cache: Get" in told.output
    for name in ("first", "later", told.id):
        daemon.call("DELETE", f"/images/{name}?force=1")


def test_a_build_ends_with_its_client(builds: Builds) -> None:
    connection = begin(builds.daemon, SLOW)
    assert builds.containers() != []
    connection.answer.close()  # type: ignore[attr-defined]
    connection.close()
    until(lambda: builds.containers() == [] and builds.leftovers() == [])
    assert builds.daemon.call("GET", "/images/slow/json")[0] == 404


def test_a_killed_engine_leaves_no_build(own_host: Host) -> None:
    daemon = own_host.daemon()
    import_busybox(daemon)
    connection = begin(daemon, SLOW)
    daemon.kill()
    connection.close()
    daemon = own_host.daemon()
    builds = Builds(daemon)
    assert builds.containers() == []
    assert builds.leftovers() == []
    images = daemon.data_root / "images"
    assert list((images / "tmp").iterdir()) == []
    assert len(list((images / "layers").iterdir())) == 1  # of busybox alone


def test_the_cache_survives_the_engine_and_goes_when_asked(own_host: Host) -> None:
    daemon = own_host.daemon()
    import_busybox(daemon)
    text = "FROM busybox:test\nRUN echo 1 > /one\nRUN echo 2 > /two\n"
    first = Builds(daemon).ok(text, t="kept")
    daemon.kill()
    daemon = own_host.daemon()
    builds = Builds(daemon)
    again = builds.ok(text, t="kept")
    assert again.id == first.id
    assert again.output.count("Using cache") == 2
    # The steps are no images to anybody else.
    status, images = daemon.call("GET", "/images/json?all=1")
    assert status == 200
    assert isinstance(images, list)
    assert sorted(image["RepoTags"][0] for image in images) == ["busybox:test", "kept:latest"]
    # What an image stands on goes only when all is to go: it frees nothing. The context does.
    assert len(prune(daemon)["CachesDeleted"]) == 1  # type: ignore[arg-type]
    assert prune(daemon)["CachesDeleted"] is None
    assert len(prune(daemon, "?all=1")["CachesDeleted"]) == 1  # type: ignore[arg-type]
    assert builds.run("kept", "cat", "/one", "/two") == "1\n2\n"
    assert builds.ok(text, t="new").output.count("Using cache") == 0
    status, _ = daemon.call("DELETE", "/images/kept?force=1")
    daemon.call("DELETE", "/images/new?force=1")
    prune(daemon)
    layers = list((daemon.data_root / "images/layers").iterdir())
    assert len(layers) == 1  # of busybox alone


def test_a_build_that_ends_takes_nothing_from_one_that_goes_on(builds: Builds) -> None:
    """Both use the same images, and no others, when the second one ends."""
    shared = "FROM busybox:test\nRUN --mount=type=cache,target=/shared"
    waiting = f"{shared} echo begun; until rm /shared/end; do sleep 0.05; done\n"
    going_on = begin(builds.daemon, waiting)
    assert builds.build(f"{shared} touch /shared/end; exit 3\n").code == 3
    said = going_on.answer.read()  # type: ignore[attr-defined]
    going_on.close()
    assert b"Successfully tagged slow:latest" in said


def test_a_base_that_is_removed_meanwhile_lasts_until_the_end(builds: Builds) -> None:
    builds.ok("FROM busybox:test\nRUN echo below > /below\n", t="leaving")
    text = "FROM leaving\nRUN echo begun; until test -e /go; do :; done\nRUN cat /below > /copy\n"
    connection = begin(builds.daemon, text)
    containers = builds.containers()
    assert isinstance(containers, list)
    name = containers[0]["Id"]
    builds.daemon.call("DELETE", "/images/leaving?force=1")
    builds.daemon.call("POST", "/build/prune?all=1")
    status, made = builds.daemon.call("POST", f"/containers/{name}/exec", {"Cmd": ["touch", "/go"]})
    assert status == 201
    assert isinstance(made, dict)
    builds.daemon.call("POST", f"/exec/{made['Id']}/start", {"Detach": True})
    said = connection.answer.read()  # type: ignore[attr-defined]
    connection.close()
    assert b"Successfully tagged slow:latest" in said
    assert builds.run("slow", "cat", "/copy") == "below\n"


def test_stages_that_need_nothing_of_each_other_run_at_once(builds: Builds) -> None:
    """Each waits for what the other does: one after the other they would never end."""
    meet = (
        "RUN --mount=type=cache,target=/meet,id=meet-{number} --network=none touch /meet/{own}; "
        "until test -e /meet/{other}; do :; done"
    )
    built = builds.ok(
        "FROM busybox:test AS one\n"
        + meet.format(number=id(builds), own="a", other="b")
        + "\nRUN echo one > /out\nFROM busybox:test AS two\n"
        + meet.format(number=id(builds), own="b", other="a")
        + "\nRUN echo two > /out\nFROM busybox:test\n"
        "COPY --from=one /out /one\nCOPY --from=two /out /two\n",
        t="parallel",
    )
    assert builds.run("parallel", "cat", "/one", "/two") == "one\ntwo\n"
    steps = [int(line.split("/")[0][5:]) for line in built.output.splitlines() if "Step " in line]
    assert steps == list(range(1, 10))


def test_a_failing_stage_ends_the_others(builds: Builds) -> None:
    built = builds.build(
        "FROM busybox:test AS slow\nRUN sleep 1000\nFROM busybox:test AS bad\nRUN exit 6\n"
        "FROM busybox:test\nCOPY --from=slow /a /a\nCOPY --from=bad /b /b\n"
    )
    assert built.code == 6


def test_a_container_at_rest_on_the_machine_itself_can_be_copied_from(builds: Builds) -> None:
    builds.ok("FROM rootfs:/\nCOPY own /own\n", {"own": "mine"}, t="on-machine")
    status, created = builds.daemon.call("POST", "/containers/create", {"Image": "on-machine"})
    assert status == 201
    assert isinstance(created, dict)
    try:
        status, said = builds.daemon.call("GET", f"/containers/{created['Id']}/archive?path=/own")
        assert status == 200, said
        assert "mine" in str(said)
    finally:
        builds.daemon.call("DELETE", f"/containers/{created['Id']}?force=1")


def test_the_cache_is_told_and_kept_small(own_host: Host) -> None:
    daemon = own_host.daemon()
    import_busybox(daemon)
    builds = Builds(daemon)
    text = (
        "FROM busybox:test\nRUN --mount=type=cache,target=/c head -c 5000 /dev/zero > /c/f\n"
        "RUN head -c 9000 /dev/zero > /big\nFROM busybox:test\nRUN echo own > /own\n"
        "COPY --from=0 /big /other\n"
    )
    builds.ok(text, t="held")
    _, usage = daemon.call("GET", "/system/df?type=build-cache")
    assert isinstance(usage, dict)
    rows = {(row["Type"], row["Size"]): row for row in usage["BuildCache"]}
    assert rows["exec.cachemount", 5000]["InUse"] is False
    assert "head -c 9000" in rows["regular", 9000]["Description"]
    assert any(row["Shared"] for row in usage["BuildCache"])  # RUN echo: the image stands on it
    # The context is what wasn't used for longest.
    assert len(prune(daemon, "?keep-storage=14100")["CachesDeleted"]) == 1  # type: ignore[arg-type]
    assert prune(daemon, "?keep-storage=14000")["CachesDeleted"] is None
    assert prune(daemon, "?keep-storage=10000")["SpaceReclaimed"] in (5000, 9000)
    prune(daemon)
    _, usage = daemon.call("GET", "/system/df?type=build-cache")
    assert isinstance(usage, dict)
    assert [row["Shared"] for row in usage["BuildCache"]] == [True, True]
