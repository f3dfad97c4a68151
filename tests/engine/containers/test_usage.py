from dataclasses import replace

from engine.containers.model import (
    Attachment,
    ContainerConfig,
    HostConfig,
    MountPoint,
    Record,
)
from engine.containers.usage import usage_of
from engine.networks.model import Endpoint

DATA = MountPoint("volume", "/data", name="data")
PLAIN = Record(
    id="1" * 64,
    name="one",
    created=1,
    config=ContainerConfig(image="x"),
    host=HostConfig(),
    image_id="sha256:x",
    path="sh",
    args=(),
)


def test_each_container_counts_once_for_its_image_and_for_a_volume_it_mounts_twice() -> None:
    twice = replace(PLAIN, mounts=(DATA, replace(DATA, destination="/again")))
    usage = usage_of([twice, replace(PLAIN, mounts=(DATA,)), PLAIN])
    assert usage.images == {"sha256:x": 3}
    assert usage.volumes == {"data": 2}
    assert usage.volumes["other"] == usage.images["sha256:other"] == 0


def test_a_network_is_used_by_those_that_have_an_endpoint_in_it() -> None:
    front = Attachment("front", network_id="f")
    back = Attachment("back", network_id="b", endpoint=Endpoint("e", "b", "back", "1", "one"))
    assert usage_of([replace(PLAIN, attachments=(front, back))]).networks == {"b"}
