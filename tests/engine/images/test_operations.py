from __future__ import annotations

import asyncio
import ctypes
import errno
import gzip
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import zstandard

from engine.api.images import loaded_lines
from engine.builder.changes import edit_of
from engine.errors import Conflict, EngineError, Failure, InvalidRequest, NotFound, Unsupported
from engine.images.model import ImageUser, Loaded, Progress, Removal
from engine.images.operations import Images
from engine.oci.platform import Platform
from tests.engine.images.archives import (
    chunks,
    config,
    digest,
    docker_archive,
    entry,
    folder,
    hardlink,
    in_overlay,
    node,
    symlink,
    tar,
)
from tests.host import ROOT

pytestmark = pytest.mark.kernel


def members_of(archive: bytes) -> list[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return [(each.name, file.read()) for each in opened if (file := opened.extractfile(each))]


def nobody(_: str) -> Sequence[ImageUser]:
    return ()


async def saved(images: Images, *references: str) -> bytes:
    async with images.saving(references) as saving:
        return b"".join([piece async for piece in saving.pieces])


def stored(root: Path) -> list[str]:
    """Names of all blobs and layers, and what else lies about."""
    found = [f"{kind}/{name}" for kind in ("layers", "tmp") for name in os.listdir(root / kind)]
    return sorted(found + [f"blobs/{name}" for name in os.listdir(root / "blobs/sha256")])


@pytest.fixture
async def images(tmp_path: Path) -> AsyncIterator[Images]:
    opened = await Images.open(tmp_path / "data/images")
    yield opened
    await opened.close(containers_left=False)


BASE = tar([folder("etc"), entry("etc/name", b"base\n"), entry("etc/gone", b"x"), folder("old"),
            entry("old/file", b"x"), folder("tmp", 0o1777)])  # fmt: skip
TOP = tar([entry("etc/.wh.gone"), folder("old"), entry("old/.wh..wh..opq"), entry("old/new", b"y"),
           entry("tmp/made", b"z")])  # fmt: skip


async def test_a_loaded_image_is_what_the_archive_said(images: Images, tmp_path: Path) -> None:
    loaded = await images.load(chunks(docker_archive([BASE, TOP], ["box:1", "reg.example/a/b:x"])))
    assert [one.tags for one in loaded] == [("box:1", "reg.example/a/b:x")]
    image = images.resolve("box:1")
    assert image.tags == ("box:1", "reg.example/a/b:x")
    assert image.config.env == ("A=b",)
    assert images.layer_digests(image) == (digest(BASE), digest(TOP))
    seen = in_overlay(images.layers(image), tmp_path, "find", ".", "-printf", "%P %m\n")
    assert sorted(seen.split("\n")) == sorted(
        [
            "",
            " 755",
            "etc 755",
            "etc/name 644",
            "old 755",
            "old/new 644",
            "tmp 1777",
            "tmp/made 644",
        ]
    )
    lines = images.history(image)
    assert [line.created_by for line in lines] == ["step 1", "step 0"]
    assert lines[0].id == image.id
    assert lines[1].id == "<missing>"
    assert lines[0].created == 1767323045


async def test_an_image_is_found_by_every_way_to_call_it(images: Images) -> None:
    await images.load(chunks(docker_archive([BASE], ["box:latest"])))
    image = images.resolve("box")
    for name in (
        "box:latest", "docker.io/library/box", "index.docker.io/library/box:latest",
        image.id, image.id[7:], image.id[7:19], image.id[:15],
    ):  # fmt: skip
        assert images.resolve(name) == image
    with pytest.raises(NotFound, match=r"^No such image: box:2$"):
        images.resolve("box:2")
    with pytest.raises(NotFound, match=r"^No such image: nginx:latest$"):
        images.resolve("nginx")
    with pytest.raises(InvalidRequest, match="must be lowercase"):
        images.resolve("Box")


async def test_images_outlive_the_daemon(images: Images, tmp_path: Path) -> None:
    await images.load(chunks(docker_archive([BASE, TOP])))
    image = images.resolve("box:1")
    await images.tag("box:1", "other", "2")
    again = await Images.open(tmp_path / "data/images")
    assert again.resolve("other:2").id == image.id
    assert again.layers(again.resolve("box:1")) == images.layers(image)
    await again.close()


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress, lambda plain: plain])
async def test_layers_come_compressed_or_not(images: Images, compress: object) -> None:
    assert callable(compress)
    archive = docker_archive([compress(BASE)], diff_ids=[digest(BASE)])
    await images.load(chunks(compress(archive)))
    assert (Path(images.layers(images.resolve("box:1"))[0]) / "etc/name").read_text() == "base\n"


async def test_a_layer_that_came_twice_is_unpacked_once(images: Images, tmp_path: Path) -> None:
    await images.load(chunks(docker_archive([BASE, TOP, BASE])))
    image = images.resolve("box:1")
    assert len(images.layers(image)) == 2
    assert in_overlay(images.layers(image), tmp_path, "ls", "etc").split() == ["gone", "name"]
    await images.load(chunks(docker_archive([BASE, tar([entry("more")])], ["box:2"])))
    assert len(os.listdir(tmp_path / "data/images/layers")) == 3


async def test_a_tag_moves(images: Images) -> None:
    await images.load(chunks(docker_archive([BASE])))
    first = images.resolve("box:1")
    await images.load(chunks(docker_archive([TOP])))
    assert images.resolve("box:1").id != first.id
    assert images.resolve(first.id).tags == ()
    assert [image.id for image in images.list()].count(first.id) == 1


async def test_no_tag_looks_like_a_digest(images: Images) -> None:
    await images.load(chunks(docker_archive([BASE])))
    for repository, tag in ((f"sha256:{'0' * 64}", ""), ("sha256", "abc")):
        with pytest.raises(InvalidRequest, match="refusing to create an ambiguous tag"):
            await images.tag("box:1", repository, tag)


async def test_removing_the_last_name_gives_the_space_back(images: Images, tmp_path: Path) -> None:
    await images.load(chunks(docker_archive([BASE, TOP], ["box:1", "box:2"])))
    image = images.resolve("box:1")
    removed = await images.remove("box:1", users=nobody)
    assert [(one.what, one.name) for one in removed] == [(Removal.UNTAGGED, "box:1")]
    assert images.resolve("box:2").id == image.id
    removed = await images.remove("box:2", users=nobody)
    assert [one.name for one in removed][:2] == ["box:2", image.id]
    assert len(removed) == 4
    assert stored(tmp_path / "data/images") == []
    with pytest.raises(NotFound):
        await images.remove("box:2", users=nobody)


async def test_shared_layers_stay_with_the_other_image(images: Images, tmp_path: Path) -> None:
    await images.load(chunks(docker_archive([BASE, TOP], ["one:1"])))
    await images.load(chunks(docker_archive([BASE], ["two:1"])))
    await images.remove("one:1", users=nobody)
    assert os.listdir(tmp_path / "data/images/layers") == [digest(BASE)[7:]]
    assert Path(images.layers(images.resolve("two:1"))[0]).is_dir()


async def test_an_image_in_use_stays(images: Images) -> None:
    await images.load(chunks(docker_archive([BASE])))
    image = images.resolve("box:1")
    short = image.id[7:19]
    running, stopped = ImageUser("a" * 64, True), ImageUser("b" * 64, False)
    with pytest.raises(Conflict) as refused:
        await images.remove("box:1", users=lambda _: (stopped,))
    assert str(refused.value) == (
        'conflict: unable to remove repository reference "box:1" (must force) - container '
        f"{'b' * 12} is using its referenced image {short}"
    )
    with pytest.raises(Conflict, match=rf"unable to delete {short} \(cannot be forced\) - image is "
                       "being used by running container aaaaaaaaaaaa"):  # fmt: skip
        await images.remove(image.id, force=True, users=lambda _: (running,))
    with pytest.raises(Conflict, match=r"\(must be forced\) - image is being used by stopped"):
        await images.remove(image.id, users=lambda _: (stopped,))
    removed = await images.remove("box:1", force=True, users=lambda _: (running,))
    assert [one.name for one in removed] == ["box:1"]
    assert images.resolve(image.id).tags == ()
    assert Path(images.layers(image)[0]).is_dir()


async def test_an_id_with_names_in_two_repositories_must_be_forced(images: Images) -> None:
    await images.load(chunks(docker_archive([BASE], ["one:1", "two:1"])))
    image = images.resolve("one:1")
    with pytest.raises(Conflict, match="image is referenced in multiple repositories"):
        await images.remove(image.id, users=nobody)
    removed = await images.remove(image.id, force=True, users=nobody)
    assert [one.name for one in removed[:3]] == ["one:1", "two:1", image.id]


async def test_prune_takes_what_is_wanted_and_unused(images: Images) -> None:
    await images.load(chunks(docker_archive([BASE], None)))
    await images.load(chunks(docker_archive([TOP], ["kept:1"])))
    pruned = await images.prune(lambda image: not image.tags, users=nobody)
    assert pruned.reclaimed == len(b"base\n") + 2
    assert [image.tags for image in images.list()] == [("kept:1",)]


async def test_what_was_saved_loads_again(images: Images, tmp_path: Path) -> None:
    await images.load(chunks(docker_archive([gzip.compress(BASE), TOP],
                                            diff_ids=[digest(BASE), digest(TOP)])))  # fmt: skip
    await images.tag("box:1", "reg.example:5000/team/box", "2")
    archive = await saved(images, "box:1", "reg.example:5000/team/box:2")
    members = members_of(archive)
    names = [name for name, _ in members]
    assert {"manifest.json", "index.json", "oci-layout"} <= set(names)
    assert len(names) == len(set(names))
    documents = {name: json.loads(data) for name, data in members if name[:5] != "blobs"}
    top = documents["manifest.json"][0]["LayerSources"][digest(TOP)]
    assert (top["digest"], top["size"]) == (digest(TOP), len(TOP))
    top_id = digest(TOP).removeprefix("sha256:")
    wanted = {"box": {"1": top_id}, "reg.example:5000/team/box": {"2": top_id}}
    assert documents["repositories"] == wanted
    other = await Images.open(tmp_path / "other/images")
    loaded = await other.load(chunks(archive))
    assert [one.tags for one in loaded] == [("box:1", "reg.example:5000/team/box:2")]
    assert other.resolve("box:1").id == images.resolve("box:1").id
    # As an OCI layout alone, too.
    layout = tar([entry(name, data) for name, data in members if name != "manifest.json"])
    third = await Images.open(tmp_path / "third/images")
    loaded = await third.load(chunks(layout))
    assert sorted(loaded[0].tags) == ["box:1", "reg.example:5000/team/box:2"]
    assert third.resolve("box:1").id == images.resolve("box:1").id
    for opened in (other, third):
        await opened.close()


@pytest.mark.peer
@pytest.mark.skipif(not shutil.which("skopeo"), reason="no skopeo here")
async def test_another_program_reads_a_saved_image(images: Images, tmp_path: Path) -> None:
    await images.load(chunks(docker_archive([BASE, TOP])))
    path = tmp_path / "saved.tar"
    path.write_bytes(await saved(images, "box:1"))
    for kind in ("docker-archive", "oci-archive"):
        subprocess.run(["skopeo", "inspect", f"{kind}:{path}"], check=True, capture_output=True)


async def test_a_flat_tar_becomes_an_image(images: Images) -> None:
    image = await images.import_(
        chunks(gzip.compress(BASE)), "flat", "1",
        edit=edit_of(["CMD /bin/echo hi", 'ENV A=1 B="2 3"', "EXPOSE 80", "WORKDIR /srv"]),
    )  # fmt: skip
    assert images.resolve("flat:1").id == image.id
    assert image.config.cmd == ("/bin/sh", "-c", "/bin/echo hi")
    assert image.config.env == ("A=1", "B=2 3")
    assert image.config.exposed_ports == ("80/tcp",)
    assert (Path(images.layers(image)[0]) / "etc/name").read_text() == "base\n"


async def test_archives_of_long_ago_are_put_together(images: Images) -> None:
    low, high = "a" * 64, "b" * 64
    command = {"Cmd": ["/bin/sh", "-c", "#(nop) ADD x"]}
    documents = {
        low: {"id": low, "os": "linux", "created": "2014-01-01T00:00:00Z",
              "container_config": command},
        high: {"id": high, "parent": low, "os": "linux", "architecture": "amd64", "Size": 5,
               "config": {"Cmd": ["/bin/true"], "Env": ["A=b"]}, "comment": "second"},
    }  # fmt: skip
    entries = [
        each
        for (name, document), layer in zip(documents.items(), (BASE, TOP), strict=True)
        for each in (
            entry(f"{name}/VERSION", b"1.0"),
            entry(f"{name}/json", json.dumps(document).encode()),
            entry(f"{name}/layer.tar", layer),
        )
    ]
    names = entry("repositories", json.dumps({"old": {"1": high, "latest": high}}).encode())
    (loaded,) = await images.load(chunks(tar([*entries, names])))
    image = images.resolve("old")
    assert loaded.tags == ("old:1", "old:latest")
    assert images.layer_digests(image) == (digest(BASE), digest(TOP))
    assert (image.config.cmd, image.config.env) == (("/bin/true",), ("A=b",))
    lines = [(line.created_by, line.comment) for line in images.history(image)]
    assert lines == [("", "second"), ("/bin/sh -c #(nop) ADD x", "")]
    with pytest.raises(InvalidRequest, match=f"image '{low}/json' is not in it"):
        await images.load(chunks(tar([*entries[3:], names])))


async def test_of_an_archive_one_platform_can_be_loaded(images: Images) -> None:
    with pytest.raises(InvalidRequest, match="has no image for linux/s390x"):
        async for _ in images.loading(chunks(_layout()), platform=Platform("linux", "s390x")):
            pass
    wanted = images.loading(chunks(_layout()), platform=Platform("linux", "amd64"))
    assert len([step async for step in wanted if isinstance(step, Loaded)]) == 1


async def test_save_refuses_what_is_no_image_of_layers(images: Images) -> None:
    with pytest.raises(Unsupported, match="directory"):
        await saved(images, "rootfs:/")
    with pytest.raises(NotFound, match=r"No such image: none$"):
        await saved(images, "none")
    with pytest.raises(NotFound, match="reference does not exist"):
        await saved(images, "none:1")


async def test_of_a_repository_all_tags_are_saved(images: Images, tmp_path: Path) -> None:
    await images.load(chunks(docker_archive([BASE], ["box:1", "box:2", "chest:1"])))
    archive = await saved(images, "box")
    other = await Images.open(tmp_path / "other/images")
    (loaded,) = await other.load(chunks(archive))
    assert loaded.tags == ("box:1", "box:2")
    await other.close()


async def test_a_removal_meanwhile_takes_nothing_from_a_save(
    images: Images, tmp_path: Path
) -> None:
    await images.load(chunks(docker_archive([BASE, TOP])))
    async with images.saving(["box:1"]) as saving:
        first = await anext(saving.pieces)
        await images.remove("box:1", users=nobody)
        archive = first + b"".join([piece async for piece in saving.pieces])
    assert stored(tmp_path / "data/images") == []
    (again,) = await images.load(chunks(archive))
    assert again.tags == ("box:1",)


def _layout(*, config_digest: str | None = None, manifest: bytes | None = None) -> bytes:
    document = config([digest(BASE)])
    if manifest is None:
        manifest = json.dumps({
            "schemaVersion": 2,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                       "digest": config_digest or digest(document), "size": len(document)},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar",
                        "digest": digest(BASE), "size": len(BASE)}],
        }).encode()  # fmt: skip
    index = json.dumps({
        "schemaVersion": 2,
        "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json",
                       "digest": digest(manifest), "size": len(manifest)}],
    }).encode()  # fmt: skip
    blobs = [entry(f"blobs/sha256/{digest(blob)[7:]}", blob) for blob in (document, manifest, BASE)]
    return tar([entry("index.json", index), *blobs])


BAD_ARCHIVES = {
    "rubbish": (b"not a tar at all" * 100, "archive/tar: invalid tar header"),
    "empty": (tar([]), "none of manifest.json, index.json and"),
    "nothing": (b"", "none of manifest.json, index.json and"),
    "broken json": (tar([entry("manifest.json", b"[{]")]), "no valid JSON"),
    "null": (tar([entry("manifest.json", b"null")]), "expected an array, got null"),
    "null entry": (tar([entry("manifest.json", b"[null]")]), "expected an object, got null"),
    "deep json": (tar([entry("manifest.json", b"[" * 100_000)]), "no valid JSON"),
    "path outside": (docker_archive([BASE], changes={"Config": "/etc/passwd"}), "is not in it"),
    "parent path": (docker_archive([BASE], changes={"Layers": ["../../../etc"]}), "is not in it"),
    "config is a link": (
        docker_archive([BASE], changes={"Config": "c"}, extra=[symlink("c", "/etc/passwd")]),
        "is a link",
    ),
    "layer is a hard link": (
        docker_archive([BASE], changes={"Layers": ["l"]}, extra=[hardlink("l", "0/layer.tar")]),
        "is a link",
    ),
    "fifo": (
        docker_archive([BASE], changes={"Config": "f"}, extra=[node("f", tarfile.FIFOTYPE)]),
        "is a link",
    ),
    "wrong diff id": (docker_archive([BASE], diff_ids=[digest(b"x")]), "its content is sha256:"),
    "md5 diff id": (docker_archive([BASE], diff_ids=["md5:" + "0" * 32]), "unsupported digest"),
    "too few layers": (docker_archive([BASE], changes={"Layers": []}), "has 1 layers"),
    "bad tag": (docker_archive([BASE], ["box:-"]), "invalid reference format"),
    "tag with spaces": (docker_archive([BASE], ["a b:1"]), "invalid reference format"),
    "no tag": (docker_archive([BASE], ["box"]), "invalid tag"),
    "truncated": (docker_archive([BASE])[:3000], "unexpected EOF"),
    "truncated gzip": (gzip.compress(docker_archive([BASE]))[:-20], "unexpected EOF"),
    "md5 config": (_layout(config_digest="md5:" + "0" * 32), "unsupported digest algorithm: md5"),
    "traversal digest": (
        _layout(config_digest="sha256:../../../../etc/passwd"),
        "invalid checksum digest format",
    ),
    "both kinds": (
        _layout(manifest=b'{"schemaVersion":2,"layers":[],"manifests":[]}'),
        "both layers and manifests",
    ),
    "schema 1": (_layout(manifest=b'{"schemaVersion":1,"layers":[]}'), "schema version 2"),
    "null manifest": (_layout(manifest=b"null"), "expected an object, got null"),
}


@pytest.mark.parametrize("case", BAD_ARCHIVES)
async def test_a_bad_archive_leaves_nothing(images: Images, tmp_path: Path, case: str) -> None:
    archive, reason = BAD_ARCHIVES[case]
    with pytest.raises(InvalidRequest) as refused:
        await images.load(chunks(archive))
    assert reason in str(refused.value)
    assert images.list() == ()
    assert stored(tmp_path / "data/images") == []


async def test_a_layer_that_is_there_twice_may_be_a_link(images: Images) -> None:
    """`docker save` of old writes ../<first>/layer.tar for the second."""
    archive = docker_archive(
        [BASE, TOP, BASE],
        changes={"Layers": ["0/layer.tar", "1/layer.tar", "again/layer.tar"]},
        extra=[symlink("again/layer.tar", "../0/layer.tar")],
    )
    await images.load(chunks(archive))
    assert len(images.layer_digests(images.resolve("box:1"))) == 3


async def test_a_failed_load_keeps_what_was_there(images: Images) -> None:
    await images.load(chunks(docker_archive([BASE])))
    bad = docker_archive([BASE, TOP], ["bad:1"], diff_ids=[digest(BASE), digest(b"x")])
    with pytest.raises(InvalidRequest):
        await images.load(chunks(bad))
    assert (Path(images.layers(images.resolve("box:1"))[0]) / "etc/name").exists()


async def test_a_cancelled_upload_leaves_nothing(images: Images, tmp_path: Path) -> None:
    reached = asyncio.Event()

    async def stalled() -> AsyncIterator[bytes]:
        yield docker_archive([BASE])[:2048]
        reached.set()
        await asyncio.Event().wait()

    loading = asyncio.create_task(images.load(stalled()))
    await reached.wait()
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    assert stored(tmp_path / "data/images") == []


async def test_an_upload_that_breaks_off_is_an_error(images: Images, tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield docker_archive([BASE])[:2048]
        raise ConnectionResetError("gone")

    with pytest.raises((EngineError, ConnectionResetError)):
        await images.load(broken())
    assert stored(tmp_path / "data/images") == []


async def test_a_removal_during_a_load_takes_nothing_from_it(images: Images) -> None:
    await images.load(chunks(docker_archive([BASE])))
    archive = docker_archive([BASE, TOP], ["next:1"])
    half = asyncio.Event()
    go_on = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield archive[:5000]
        half.set()
        await go_on.wait()
        yield archive[5000:]

    loading = asyncio.create_task(images.load(slow()))
    await half.wait()
    await images.remove("box:1", users=nobody)
    go_on.set()
    await loading
    assert all(Path(layer).is_dir() for layer in images.layers(images.resolve("next:1")))


_LOADER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from engine.images.operations import Images

async def stdin():
    while chunk := await asyncio.to_thread(sys.stdin.buffer.read1, 65536):
        yield chunk

async def main():
    images = await Images.open(Path(sys.argv[2]))
    print("ready", flush=True)
    await images.load(stdin())
    print("loaded", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("fraction", [0.3, 0.9, 1.0])
async def test_kill_in_the_middle_of_a_load(tmp_path: Path, fraction: float) -> None:
    """isolation: listed means whole, not listed means no piece is left."""
    root = tmp_path / "data/images"
    archive = docker_archive([tar([entry(f"f{n}", os.urandom(3000)) for n in range(200)]), TOP])
    process = subprocess.Popen(
        [sys.executable, "-c", _LOADER, str(ROOT), str(root)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.stdin.write(archive[: int(len(archive) * fraction)])
    process.stdin.flush()
    if fraction == 1.0:
        process.stdin.close()
        assert process.stdout.readline() == b"loaded\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    if not process.stdin.closed:
        process.stdin.close()
    images = await Images.open(root)
    if fraction == 1.0:
        image = images.resolve("box:1")
        assert len(os.listdir(images.layers(image)[1])) == 200
    else:
        assert images.list() == ()
        assert stored(root) == []
        await images.load(chunks(archive))
        assert len(os.listdir(images.layers(images.resolve("box:1"))[1])) == 200
    await images.close()


async def test_a_damaged_image_does_not_stop_the_others(images: Images, tmp_path: Path) -> None:
    await images.load(chunks(docker_archive([BASE], ["good:1"])))
    await images.load(chunks(docker_archive([TOP], ["bad:1"])))
    shutil.rmtree(images.layers(images.resolve("bad:1"))[0])
    again = await Images.open(tmp_path / "data/images")
    assert [image.tags for image in again.list()] == [("good:1",)]
    await again.close()


async def test_a_directory_is_an_image(images: Images, tmp_path: Path) -> None:
    rootfs = tmp_path / "rootfs"
    rootfs.mkdir()
    (rootfs / "file").write_text("x")
    image = images.resolve(f"rootfs:{rootfs}")
    assert images.layers(image) == (str(rootfs),)
    assert image.config.cmd == ("/bin/sh",)
    assert image.tags == (f"rootfs:{rootfs}",)
    assert images.resolve(image.id) == image
    assert image in images.list()
    again = await Images.open(tmp_path / "data/images")
    assert again.resolve(image.id) == image
    await again.close()
    with pytest.raises(Conflict):
        await images.remove(image.id, users=lambda _: [ImageUser("a" * 64, False)])
    await images.remove(image.name, users=nobody)
    assert images.list() == ()


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("rootfs:relative", InvalidRequest, "the path must be absolute"),
        ("rootfs:/nowhere/x", NotFound, "No such image: rootfs:/nowhere/x: no such directory"),
        ("rootfs:/etc/passwd", NotFound, "not a directory"),
    ],
)
async def test_a_directory_that_can_not_be_an_image(
    images: Images, name: str, kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=text):
        images.resolve(name)


async def test_the_engine_is_not_its_own_image(images: Images, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="belongs to the engine itself"):
        images.resolve(f"rootfs:{tmp_path}/data/images")


async def test_the_host_has_a_name_that_all_clients_accept(images: Images) -> None:
    image = images.resolve("rootfs:/")
    for name in ("rootfs", "rootfs:latest", "rootfs:"):
        assert images.resolve(name) == image
    await images.remove("rootfs", users=nobody)
    assert images.list() == ()
    await images.load(chunks(docker_archive([BASE], ["rootfs:latest"])))
    assert images.resolve("rootfs").rootfs_path == ""
    assert images.resolve("rootfs:/").rootfs_path == "/"


async def test_a_full_disk_leaves_nothing_half_made(tmp_path: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    place = tmp_path / "small"
    place.mkdir()
    assert not libc.mount(b"tmpfs", os.fsencode(place), b"tmpfs", 0, b"size=1m")
    try:
        images = await Images.open(place / "images")
        large = docker_archive([tar([entry("f", os.urandom(600_000))])], ["large:1"])
        with pytest.raises(Failure, match=os.strerror(errno.ENOSPC)):
            await images.load(chunks(large))
        assert stored(place / "images") == []
        await images.load(chunks(docker_archive([BASE])))
        assert [image.tags for image in images.list()] == [("box:1",)]
        await images.close()
    finally:
        assert not libc.umount(os.fsencode(place))


async def test_who_builds_on_an_image_keeps_its_layers_when_it_is_removed(
    images: Images, tmp_path: Path
) -> None:
    await images.load(chunks(docker_archive([BASE])))
    async with images.held():
        image = images.resolve("box:1")
        await images.remove("box:1", users=nobody)
        assert not images.is_here(image)
        assert Path(images.layers(image)[0], "etc/name").exists()
        made = await images.steps.add(image.document, None, cache_key="key", is_step=False)
    assert Path(images.layers(made)[0], "etc/name").exists()
    again = await Images.open(tmp_path / "data/images")
    assert again.resolve(made.id).id == made.id
    await again.close()


async def test_what_comes_again_in_another_form_leaves_no_bytes(
    images: Images, tmp_path: Path
) -> None:
    """The same layer, packed and plain; the same image, with and without a manifest."""
    root = tmp_path / "data/images"
    packed = docker_archive([gzip.compress(BASE)], diff_ids=[digest(BASE)])
    await images.load(chunks(packed))
    before = stored(root)
    await images.load(chunks(docker_archive([BASE])))
    assert stored(root) == before
    members = members_of(await saved(images, "box:1"))
    layout = tar([entry(name, data) for name, data in members if name != "manifest.json"])
    await images.load(chunks(layout))
    catalog = json.loads((root / "catalog.json").read_text())
    named = [image[key] for image in catalog["images"] for key in ("id", "manifest")]
    named += [layer["blob"] for layer in catalog["layers"]]
    assert sorted(f"sha256:{name}" for name in os.listdir(root / "blobs/sha256")) == sorted(named)


async def test_a_load_tells_whose_name_it_takes(images: Images) -> None:
    (first,) = await images.load(chunks(docker_archive([BASE], ["box:1", "box:2"])))
    (second,) = await images.load(chunks(docker_archive([TOP], ["box:1"])))
    assert first.replaced == ()
    assert second.replaced == (("box:1", first.image.id),)
    assert loaded_lines(second) == [
        f"The image box:1 already exists, renaming the old one with ID {first.image.id} to empty "
        "string\n",
        "Loaded image: box:1\n",
    ]


async def test_a_load_tells_how_far_each_layer_is(images: Images) -> None:
    steps = [step async for step in images.loading(chunks(docker_archive([BASE, TOP])))]
    told = [step for step in steps if isinstance(step, Progress)]
    assert {step.id for step in told} == {digest(layer)[7:19] for layer in (BASE, TOP)}
    assert {step.status for step in told} == {"Loading layer"}
    assert told[-1].current == told[-1].total == len(TOP)
    (loaded,) = steps[len(told) :]
    assert isinstance(loaded, Loaded)
    assert loaded.tags == ("box:1",)
