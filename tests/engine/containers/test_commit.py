"""A container's files leave it: commit and export of real containers."""

from __future__ import annotations

import io
import tarfile

import pytest

from engine.builder.changes import edit_of
from engine.containers.commit import CommitRequest, committed_config
from engine.containers.model import (
    ContainerConfig,
    CreateRequest,
    HealthCheck,
    HostConfig,
    LogQuery,
    Record,
    Status,
)
from engine.errors import InvalidRequest, NotFound
from tests.engine.containers.conftest import Engine
from tests.engine.containers.test_copies import contents
from tests.engine.images.archives import chunks, entry, folder, symlink, tar

pytestmark = pytest.mark.kernel
PROGRAMS = HostConfig(binds=("/usr:/usr:ro",))


async def layered(engine: Engine, *command: str, name: str = "") -> str:
    """A container at rest, of an image of one layer."""
    links = [symlink(name, f"usr/{name}") for name in ("bin", "lib", "lib64")]
    files = [*links, folder("etc"), entry("etc/kept", b"kept"), entry("etc/gone", b"gone")]
    image = await engine.images.import_(chunks(tar(files)), "small", edit=edit_of(["ENV A=1 B=2"]))
    config = ContainerConfig(image=image.id, cmd=command or ("/none",), env=("B=3",))
    return (await engine.containers.create(CreateRequest(config, PROGRAMS, name=name))).id


async def exported(engine: Engine, reference: str) -> dict[str, bytes]:
    archive = b"".join([piece async for piece in engine.containers.export(reference)])
    found = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        for info in opened:
            stream = opened.extractfile(info) if info.isfile() else None
            found[info.name] = stream.read() if stream else b""
    return found


async def test_a_commit_adds_a_layer_and_the_next_container_has_it(engine: Engine) -> None:
    first = await layered(engine)
    await engine.containers.write_archive(first, "/etc", chunks(tar([entry("new", b"new")])))
    request = CommitRequest(
        ContainerConfig(),
        "made",
        "2",
        author="me",
        comment="why",
        edit=edit_of(["CMD cat /etc/new"]),
    )
    image = await engine.containers.commit(first, request)
    assert image.tags == ("made:2",)
    assert image.parent == engine.get(first).image_id
    assert len(image.document.diff_ids) == 2
    assert image.config.cmd == ("/bin/sh", "-c", "cat /etc/new")
    assert sorted(image.config.env) == ["A=1", "B=3"]
    line, below, *_ = engine.images.history(image)
    assert (line.created_by, line.comment, line.size) == ("/none", "why", 3)
    assert (line.id, below.id) == (image.id, image.parent)
    second = await engine.containers.create(
        CreateRequest(ContainerConfig(image="made:2", cmd=("/none",)))
    )
    assert (await contents(engine, second.id, "/etc"))["etc/new"] == b"new"
    # The container keeps its own files, and the two are apart.
    await engine.containers.write_archive(first, "/etc", chunks(tar([entry("new", b"newer")])))
    assert (await contents(engine, second.id, "/etc"))["etc/new"] == b"new"


async def test_a_commit_without_changes_makes_no_layer(engine: Engine) -> None:
    image = await engine.containers.commit(
        await layered(engine), CommitRequest(ContainerConfig(labels={"a": "b"}))
    )
    assert len(image.document.diff_ids) == 1
    assert image.document.history[-1].empty_layer
    assert (image.tags, image.labels) == ((), {"a": "b"})


async def test_a_running_container_stands_still_while_it_is_committed(engine: Engine) -> None:
    identifier = await layered(
        engine, "sh", "-c", "echo new >/etc/new; rm /etc/gone; echo ok; exec sleep 100"
    )
    await engine.containers.start(identifier)
    pieces = engine.containers.logs(identifier, LogQuery(follow=True))
    assert b"ok" in await anext(pieces)
    changed = {(change.path, change.kind) for change in await engine.containers.changes(identifier)}
    assert changed == {("/etc", 0), ("/etc/new", 1), ("/etc/gone", 2), ("/usr", 1)}
    assert (await exported(engine, identifier))["etc/new"] == b"new\n"
    with engine.events.subscribe() as events:
        request = CommitRequest(ContainerConfig(), edit=edit_of(["CMD cat /etc/new; ls /etc"]))
        image = await engine.containers.commit(identifier, request)
        actions = [(await anext(aiter(events))).action for _ in range(4)]
    assert actions == ["pause", "create", "commit", "unpause"]
    assert engine.get(identifier).state.status is Status.RUNNING
    created = await engine.containers.create(
        CreateRequest(ContainerConfig(image=image.id), PROGRAMS)
    )
    ended = engine.containers.wait(created.id, condition="next-exit")
    await engine.containers.start(created.id)
    assert (await ended).status_code == 0
    assert (await engine.output(created.id)).split() == [
        *("new", "hostname", "hosts", "kept", "mtab", "new", "resolv.conf")
    ]


async def test_what_a_container_of_this_machine_became_is_an_image(engine: Engine) -> None:
    """Its layer lies below the very directory that it lies on."""
    identifier = await engine.create("sh", "-c", "echo new >/srv/new")
    ended = engine.containers.wait(identifier, condition="next-exit")
    await engine.containers.start(identifier)
    assert (await ended).status_code == 0
    made = await engine.containers.commit(identifier, CommitRequest(ContainerConfig(), "grown"))
    config = ContainerConfig(image=made.id, cmd=("cat", "/srv/new"))
    created = await engine.containers.create(CreateRequest(config))
    ended = engine.containers.wait(created.id, condition="next-exit")
    await engine.containers.start(created.id)
    assert (await ended).status_code == 0
    assert await engine.output(created.id) == "new\n"


async def test_refusals_of_a_commit_make_nothing(engine: Engine) -> None:
    identifier = await layered(engine)
    before = engine.images.list()
    for request in (
        CommitRequest(ContainerConfig(), "Upper:Case"),
        CommitRequest(edit=edit_of(["ENV A=${"])),
    ):
        with pytest.raises(InvalidRequest):
            await engine.containers.commit(identifier, request)
    with pytest.raises(NotFound):
        await engine.containers.commit("nosuch", CommitRequest(ContainerConfig()))
    assert engine.images.list() == before


async def test_an_export_has_the_whole_root_but_no_volume(engine: Engine) -> None:
    identifier = await layered(engine)
    await engine.containers.write_archive(identifier, "/etc", chunks(tar([entry("new", b"new")])))
    found = await exported(engine, identifier)
    # A copy makes the places that volumes are mounted on, as a start would.
    assert {name: text for name, text in found.items() if name[0] in "eu"} == {
        "usr": b"", "etc": b"", "etc/gone": b"gone", "etc/kept": b"kept", "etc/new": b"new",
        "etc/hostname": b"", "etc/hosts": b"", "etc/resolv.conf": b"", "etc/mtab": b"",
    }  # fmt: skip
    assert found.keys() >= {"dev", "dev/console", "dev/pts", "dev/shm", "proc", "sys", ".dockerenv"}
    with pytest.raises(NotFound):
        engine.containers.export("nosuch")


async def test_changes_leave_out_what_only_the_runtime_mounts_on(engine: Engine) -> None:
    identifier = await layered(engine, "/nosuch")
    with pytest.raises(InvalidRequest):
        await engine.containers.start(identifier)
    upper = engine.containers.upper_directory(identifier)
    assert [path.name for path in upper.iterdir()] == ["usr"]  # all else is below
    assert [change.path for change in await engine.containers.changes(identifier)] == ["/usr"]


def test_what_the_request_leaves_open_is_the_container_s() -> None:
    own = ContainerConfig(entrypoint=("own",), cmd=("old",), user="u")
    record = Record("id", "name", 0, own, HostConfig(), "sha256:0", "own", ("old",))
    asked = ContainerConfig(cmd=("new",), healthcheck=HealthCheck(("NONE",)))
    config = committed_config(record, CommitRequest(asked, edit=edit_of(["ONBUILD RUN x"])))
    assert (config.entrypoint, config.cmd, config.user) == (("own",), ("new",), "u")
    assert config.on_build == ("RUN x",)
    assert config.healthcheck is not None
    assert config.healthcheck.test == ("NONE",)
