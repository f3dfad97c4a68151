"""Hostile archives, by each way into an engine: load, import, and copies into containers at rest
and running. Numbers in parentheses are isolation requirements (docs/isolation.md)."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import re
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from tests.engine.images.archives import (
    docker_archive,
    entry,
    folder,
    hardlink,
    node,
    symlink,
    tar,
)
from tests.engine.images.test_unpack import _vectors
from tests.engine.isolation.conftest import USR, Prison, programs

pytestmark = pytest.mark.kernel

MEBI = 1 << 20
WAYS = ("load", "import", "copy to one at rest", "copy to one that runs")


def bring_in(prison: Prison, way: str, archive: bytes, container: str = "") -> str:
    """What the engine says to an archive that comes in on one of the ways."""
    match way:
        case "load":
            return prison.load(docker_archive([archive]))
        case "import":
            return prison.import_(archive, "hostile")[1]
        case _:
            status, raw = prison.raw("PUT", f"/containers/{container}/archive?path=/tmp", archive)
            assert status < 500 or b"cannot overwrite" in raw, raw
            return raw.decode()


def container_for(prison: Prison, way: str) -> str:
    match way:
        case "copy to one at rest":
            return prison.create("true")
        case "copy to one that runs":
            return prison.run("sleep", "1000")
        case _:
            return ""


@pytest.mark.parametrize("way", WAYS)
def test_no_entry_reaches_the_host(prison: Prison, outside: Path, way: str) -> None:
    """(44, 45): the fixture `outside` sees what changed."""
    container = container_for(prison, way)
    around = sorted(os.listdir(prison.host.folder)), sorted(os.listdir(prison.daemon.folder))
    for _, entries in _vectors(str(outside)):
        bring_in(prison, way, tar(entries), container)
        for image in prison.images():
            assert prison.daemon.call("DELETE", f"/images/{image}?force=1")[0] == 200
    assert (sorted(os.listdir(prison.host.folder)), sorted(os.listdir(prison.daemon.folder))) == (
        around
    )
    assert prison.daemon.call("GET", "/_ping") == (200, "OK")


# --- bombs ---------------------------------------------------------------------------------------


def bombs() -> Iterator[tuple[str, Callable[[], bytes]]]:
    zeros = b"\0" * MEBI
    record = b"%d path=%s\n" % (160 * MEBI, b"x" * 100)

    def long_header(kind: bytes) -> bytes:
        info = tarfile.TarInfo("bomb")
        info.type = kind
        info.size = 160 * MEBI
        return info.tobuf(tarfile.USTAR_FORMAT) + record + b"x" * (4 * MEBI)

    def behind_the_end() -> bytes:
        return gzip.compress(tar([entry("small", b"x")]) + zeros * 160, 1)

    yield "PAX header of 160 MiB", lambda: gzip.compress(long_header(tarfile.XHDTYPE), 1)
    yield "name of 160 MiB", lambda: gzip.compress(long_header(tarfile.GNUTYPE_LONGNAME), 1)
    yield "160 MiB behind the end", behind_the_end
    yield "file of 160 MiB", lambda: gzip.compress(tar([entry("large", zeros * 160)]), 1)
    yield "bzip2", lambda: bz2.compress(tar([entry("large", zeros * 160)]))
    yield "zstd", lambda: zstandard.compress(tar([entry("large", zeros * 160)]))


def largest(prison: Prison) -> int:
    """Bytes that the engine's processes held at most, all together."""
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in prison.processes()]
    found = [re.search(r"VmHWM:\s+(\d+) kB", text) for text in texts]
    return sum(int(one[1]) for one in found if one) << 10


@pytest.mark.parametrize("bomb", [name for name, _ in bombs()])
def test_a_bomb_does_not_make_the_engine_grow(prison: Prison, bomb: str) -> None:
    """(46): what is unpacked or refused takes little memory, whatever it claims to be."""
    archive = dict(bombs())[bomb]()
    before = largest(prison)
    prison.import_(archive, "bomb")
    assert largest(prison) - before < 110 * MEBI
    assert prison.daemon.call("GET", "/_ping") == (200, "OK")


def test_a_path_too_deep_is_refused_in_good_time(prison: Prison) -> None:
    """(46)"""
    status, said = prison.import_(tar([entry("d/" * 5000 + "f")]))
    assert (status, prison.images()) == (400, [])
    assert "folders deep" in said


# --- broken streams ------------------------------------------------------------------------------

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}


@pytest.mark.parametrize("kind", COMPRESSORS)
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_broken_stream_is_refused_and_nothing_kept(
    prison: Prison, kind: str, damage: str
) -> None:
    """(47): flipped is the last checksum where the format has one. Docker's import takes that."""
    packed = bytearray(COMPRESSORS[kind](tar([entry("file", os.urandom(3000))])))
    if damage == "cut":
        packed = packed[:-6]
    else:
        packed[{"gzip": -7, "zstd": -2}.get(kind, len(packed) // 2)] ^= 0x55
    status, said = prison.import_(bytes(packed), "broken")
    assert status == 400, said
    assert prison.images() == []
    images = prison.daemon.data_root / "images"
    assert not [path for path in images.rglob("*") if path.is_file() and "layers" in path.parts]


# --- what a layer may hold ------------------------------------------------------------------------


def test_attributes_that_steer_the_overlay_are_not_kept(prison: Prison, outside: Path) -> None:
    """(48): `redirect` would show another directory of the layers below at this place."""
    info, _ = folder("redirected")
    info.pax_headers = {
        "SCHILY.xattr.trusted.overlay.redirect": "/etc",
        "SCHILY.xattr.trusted.overlay.opaque": "y",
        "SCHILY.xattr.trusted.overlay.metacopy": "",
        "SCHILY.xattr.user.kept": "yes",
    }
    for way in ("load", "import"):
        bring_in(prison, way, tar([(info, b"")]))
    places = list((prison.daemon.data_root / "images").rglob("redirected"))
    assert places
    for place in places:
        assert os.listxattr(place) == ["user.kept"]


def test_devices_of_a_layer_are_only_names(prison: Prison) -> None:
    """(48, 11): kept as nodes, opened by nobody; nor by the container that they come with."""
    nodes = [
        node("disk", tarfile.BLKTYPE, 7, 0, 0o666),
        node("kmsg", tarfile.CHRTYPE, 1, 11, 0o666),
    ]
    assert prison.import_(tar([*programs(), *nodes]), "nodes")[0] == 200
    script = "stat -c '%F %Hr:%Lr' /disk /kmsg; for n in /disk /kmsg; do cat $n; done"
    code, said = prison.finish("/bin/sh", "-c", script, image="nodes", Binds=USR)
    assert code == 1
    assert said.count(b"Operation not permitted") == 2, said
    assert b"block special file 7:0\ncharacter special file 1:11\n" in said


def test_files_named_in_a_manifest_are_those_of_the_archive(prison: Prison, outside: Path) -> None:
    """(49): neither a path of the host's disk, nor a member that is a link to one."""
    secret = str(outside / "secret")
    layer = tar([entry("x", b"x")])
    hostile = [
        docker_archive([layer], changes={"Layers": [secret]}),
        docker_archive([layer], changes={"Layers": ["../" * 12 + secret]}),
        docker_archive([layer], changes={"Config": secret}),
        docker_archive([layer], changes={"Layers": ["l"]}, extra=[symlink("l", secret)]),
        docker_archive([layer], changes={"Layers": ["l"]}, extra=[hardlink("l", secret)]),
        docker_archive([layer], changes={"Config": "c"}, extra=[symlink("c", secret)]),
    ]
    for archive in hostile:
        assert "errorDetail" in prison.load(archive)
    assert prison.images() == []


@pytest.mark.parametrize(
    "digest",
    [
        "md5:" + "0" * 32,
        "sha512:" + "0" * 128,
        "sha256:../../../../etc/passwd",
        "sha256:",
        "",
        None,
    ],
)
def test_a_digest_is_checked_before_it_is_a_file_name(prison: Prison, digest: str | None) -> None:
    """(50): an engine died of the first of these."""
    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "x", "digest": digest, "size": 1},
        "layers": [],
    }
    named = {"mediaType": document["mediaType"], "digest": digest, "size": 1}
    for index in ({"manifests": [named]}, document):
        said = prison.load(
            tar([entry("index.json", json.dumps({"schemaVersion": 2, **index}).encode())])
        )
        assert "errorDetail" in said
    assert prison.daemon.call("GET", "/_ping") == (200, "OK")
    assert prison.images() == []


def test_a_layer_with_setuid_programs_is_out_of_reach_for_users_of_the_host(
    prison: Prison,
) -> None:
    """(62): CVE-2021-41091: a user of the host must not get at a program that images bring."""
    assert prison.import_(tar([entry("su", b"#!", mode=0o4755)]), "setuid")[0] == 200
    (program,) = (prison.daemon.data_root / "images").rglob("su")
    assert program.stat().st_mode & stat.S_ISUID
    tried = prison.host.run(
        "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat", str(program),
        check=False,
    )  # fmt: skip
    assert tried.returncode == 1
    assert "Permission denied" in tried.stderr
