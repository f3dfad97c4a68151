"""Older clients get the older meanings and the older shapes."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from engine.api.images import image_json, summary_json
from engine.api.wire import read_create
from engine.containers.model import CreateRequest
from engine.errors import InvalidRequest
from engine.images.model import Image
from engine.oci.digest import Digest
from engine.oci.image_config import ImageConfig, ImageDocument
from engine.oci.platform import Platform
from tests.host import Daemon

NEW = {
    "Image": "x",
    "Healthcheck": {"Test": ["CMD", "true"], "StartInterval": 5},
    "HostConfig": {
        "AutoRemove": True,
        "Annotations": {"a": "b"},
        "ConsoleSize": [24, 80],
        "Mounts": [{"Type": "bind", "Source": "/s", "Target": "/t",
                    "BindOptions": {"CreateMountpoint": True}}],
    },
    "NetworkingConfig": {
        "EndpointsConfig": {"n": {"MacAddress": "02:00:00:00:00:01", "GwPriority": 5}}
    },
}  # fmt: skip


def create(version: tuple[int, int], document: Mapping[str, object] = NEW) -> CreateRequest:
    return read_create(document, name="", version=version)


def test_the_newest_version_means_all_that_is_asked() -> None:
    asked = create((1, 51))
    assert asked.host.auto_remove
    assert asked.host.annotations == {"a": "b"}
    assert asked.host.console_size == (24, 80)
    assert asked.host.mounts[0].create_mountpoint
    assert asked.endpoints["n"].gateway_priority == 5
    assert asked.endpoints["n"].mac_address
    assert asked.config.healthcheck is not None
    assert asked.config.healthcheck.start_interval == 5


def test_what_a_version_does_not_know_is_left_out() -> None:
    assert create((1, 47)).endpoints["n"].gateway_priority == 0
    assert create((1, 47)).endpoints["n"].mac_address
    assert not create((1, 43)).endpoints["n"].mac_address
    check = create((1, 43)).config.healthcheck
    assert check is not None
    assert check.start_interval == 0
    assert create((1, 43)).host.annotations == {"a": "b"}
    assert create((1, 42)).host.annotations == {}
    assert create((1, 41)).host.console_size == (0, 0)
    assert not create((1, 41)).host.mounts[0].create_mountpoint
    assert create((1, 39)).host.ipc_mode == "shareable"
    assert not create((1, 24)).host.auto_remove


@pytest.mark.parametrize(
    ("version", "mount", "said"),
    [
        ((1, 43), {"Type": "bind", "BindOptions": {"ReadOnlyForceRecursive": True}}, "1.44"),
        ((1, 44), {"Type": "volume", "VolumeOptions": {"Subpath": "a"}}, "1.45"),
        ((1, 47), {"Type": "image", "Source": "x"}, "1.48"),
    ],
)
def test_what_would_run_differently_without_it_is_refused(
    version: tuple[int, int], mount: dict[str, object], said: str
) -> None:
    document = {"Image": "x", "HostConfig": {"Mounts": [{"Target": "/t", **mount}]}}
    assert create((1, 51), document)
    with pytest.raises(InvalidRequest, match=f"needs API v{said}"):
        create(version, document)


def image(*tags: str) -> Image:
    document = ImageDocument(Platform("linux", "amd64"), ImageConfig(), (), ())
    return Image(Digest("sha256:" + "0" * 64), tags, (), document, "", 7)


def test_images_have_the_fields_of_their_time() -> None:
    assert "VirtualSize" not in summary_json(image(), (1, 44))
    assert summary_json(image(), (1, 43))["VirtualSize"] == 7
    assert summary_json(image(), (1, 43))["RepoTags"] == ()
    assert summary_json(image(), (1, 42))["RepoTags"] == ["<none>:<none>"]
    assert summary_json(image("a:1"), (1, 42))["RepoTags"] == ("a:1",)
    newest, old = image_json(image(), (), (1, 51)), image_json(image(), (), (1, 44))
    assert isinstance(newest["Config"], dict)
    assert isinstance(old["Config"], dict)
    assert old["Config"].keys() - newest["Config"].keys() >= {"Hostname", "Tty", "Image"}
    assert old.keys() - newest.keys() == {"ContainerConfig"}


def test_info_has_the_fields_of_its_time(engine: Daemon) -> None:
    _, newest = engine.call("GET", "/info")
    _, old = engine.call("GET", "/v1.48/info")
    assert isinstance(newest, dict)
    assert isinstance(old, dict)
    assert newest.keys() - old.keys() == {"FirewallBackend"}
    assert old.keys() - newest.keys() == {"BridgeNfIptables", "BridgeNfIp6tables"}
    assert old["RuncCommit"] == {"ID": "", "Expected": ""}


def test_space_is_told_by_part(engine: Daemon) -> None:
    _, found = engine.call("GET", "/system/df?type=volume")
    assert isinstance(found, dict)
    assert {key for key, value in found.items() if value is None} == {
        "Images", "Containers", "BuildCache"
    }  # fmt: skip
    _, everything = engine.call("GET", "/v1.41/system/df?type=volume")
    assert isinstance(everything, dict)
    assert None not in everything.values()
