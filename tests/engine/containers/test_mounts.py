import os
import stat
from pathlib import Path

import pytest

from engine.containers.model import ContainerConfig, HostConfig, MountPoint, MountRequest
from engine.containers.mount_sources import require_source
from engine.containers.mounts import inherit, parse_bind, tmpfs_options, wanted_mounts
from engine.errors import InvalidRequest, Unsupported


def wanted(host: HostConfig, **config: object) -> list[tuple[str, str, str]]:
    found = wanted_mounts(
        ContainerConfig(**config),
        host,
        image_volumes=("/data",),
        inherited=(),  # type: ignore[arg-type]
    )
    return [(mount.destination, mount.type, mount.source or mount.name) for mount in found]


def test_what_lies_inside_comes_later() -> None:
    host = HostConfig(binds=("/c:/a/b/c", "/x:/a-x", "/b:/a/b", "/a:/a"))
    assert wanted(host) == [
        ("/a", "bind", "/a"),
        ("/a/b", "bind", "/b"),
        ("/a/b/c", "bind", "/c"),
        ("/a-x", "bind", "/x"),
        ("/data", "volume", ""),
    ]


def test_a_volume_of_the_image_gives_way() -> None:
    assert wanted(HostConfig(binds=("mine:/data",))) == [("/data", "volume", "mine")]
    assert wanted(HostConfig(tmpfs={"/data/": ""})) == [("/data", "tmpfs", "")]


def test_two_of_one_place_are_refused() -> None:
    host = HostConfig(binds=("/a:/x",), mounts=(MountRequest("tmpfs", "/x/"),))
    with pytest.raises(InvalidRequest, match="Duplicate mount point: /x"):
        wanted(host)


@pytest.mark.parametrize(
    "bind",
    ["", ":/x", "/a:", "/a:x", "/a:/", "/a:/proc", "/a:/proc/sys", "/a:/x/..", "/a:/x:huh",
     "/a:/x:ro,rw", "a:/x:shared", "/a:/x:ro:z", "x y:/x", "../up:/x"],
)  # fmt: skip
def test_nonsense_is_refused(bind: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_bind(bind)


def test_bind_options() -> None:
    assert parse_bind("/a/../b:/x:ro,rslave") == MountPoint(
        "bind", "/x", source="/b", mode="ro,rslave", read_only=True, propagation="rslave"
    )
    with pytest.raises(InvalidRequest, match="nocopy is for volumes"):
        parse_bind("/data:/x:nocopy")
    named = parse_bind("data:/x:nocopy")
    assert (named.type, named.name, named.no_copy, named.mode) == ("volume", "data", True, "nocopy")
    assert parse_bind("/data").anonymous


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (MountRequest("bind", "/x"), InvalidRequest),
        (MountRequest("bind", "/x", "relative"), InvalidRequest),
        (MountRequest("bind", "/x", "/a", propagation="odd"), InvalidRequest),
        (MountRequest("tmpfs", "/x", "/a"), InvalidRequest),
        (MountRequest("odd", "/x"), InvalidRequest),
        (MountRequest("volume", "x"), InvalidRequest),
        (MountRequest("npipe", "/x"), InvalidRequest),
        (MountRequest("volume", "/x", "v", volume_driver="nfs"), Unsupported),
    ],
)
def test_mounts_that_can_not_be(request_: MountRequest, error: type[Exception]) -> None:
    with pytest.raises(error):
        wanted(HostConfig(mounts=(request_,)))


def test_tmpfs_options_are_a_list_of_known_ones() -> None:
    assert tmpfs_options("size=64m,mode=1777,noexec") == ("size=64m", "mode=1777", "noexec")
    for bad in ("size=x", "lowerdir=/", "mode=9", "remount"):
        with pytest.raises(InvalidRequest, match="invalid tmpfs option"):
            tmpfs_options(bad)


def test_volumes_of_another_container_can_be_made_read_only() -> None:
    mounts = (
        MountPoint("volume", "/v", name="n", anonymous=True),
        MountPoint("tmpfs", "/t"),
    )
    assert inherit(mounts, "ro") == (
        MountPoint("volume", "/v", name="n", read_only=True, anonymous=True),
    )


def test_volume_of_one_letter_is_told_to_be_too_short() -> None:
    short = "create d: volume name is too short, names should be at least two alphanumeric"
    for host in (HostConfig(binds=("d:/data",)),
                 HostConfig(mounts=(MountRequest("volume", "/data", source="d"),))):  # fmt: skip
        with pytest.raises(InvalidRequest, match=short):
            wanted(host)
    with pytest.raises(InvalidRequest, match=short):  # what the docker CLI makes of -v d:/data
        wanted(HostConfig(), volumes=("d:/data",))


def test_a_missing_source_is_made_so_that_anybody_gets_in(tmp_path: Path) -> None:
    source = tmp_path / "a" / "b"
    before = os.umask(0o077)  # as the engine has it
    try:
        require_source(MountPoint("bind", "/x", source=str(source)))
    finally:
        os.umask(before)
    assert {stat.S_IMODE(made.stat().st_mode) for made in (source, source.parent)} == {0o755}
    (tmp_path / "leads").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InvalidRequest, match="File exists"):
        require_source(MountPoint("bind", "/x", source=str(tmp_path / "leads")))
