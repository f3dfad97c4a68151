"""What a container on the default bridge learns of those that it links to."""

from __future__ import annotations

from collections.abc import Callable

from engine.containers.legacy_links import Link, hosts, link_names, variables
from engine.containers.model import (
    Attachment,
    ContainerConfig,
    HostConfig,
    Record,
    State,
    Status,
)
from engine.networks.model import Endpoint

NewRecord = Callable[..., Record]


def record(name: str, *, links: tuple[str, ...] = (), address: str = "") -> Record:
    endpoint = Endpoint(
        endpoint_id="e", network_id="n", network_name="bridge", container_id=name,
        container_name=name, ifname="eth0", mac_address="", ipv4_address=address, ipv4_prefix=16,
        gateway="", dns_names=(),
    )  # fmt: skip
    return Record(
        id=f"id-of-{name}", name=name, created=1,
        config=ContainerConfig(
            hostname=f"host-{name}", env=("A=1", "PATH=/x", "B"),
            exposed_ports=("53/udp", "80/tcp"),
        ),
        host=HostConfig(network_mode="bridge", links=links), image_id="i", path="p", args=(),
        attachments=(Attachment("bridge", endpoint=endpoint),), state=State(Status.RUNNING),
    )  # fmt: skip


DB = record("db", address="172.17.0.2")
LINK = Link("store-1", "web/store-1", DB)


def test_the_hosts_file_has_every_name_once() -> None:
    assert hosts([LINK]) == [("store-1 host-db db", "172.17.0.2")]
    assert hosts([Link("db", "web/db", DB)]) == [("db host-db", "172.17.0.2")]


def test_variables_tell_ports_and_variables_of_the_other() -> None:
    assert dict(variables([LINK])) == {
        "STORE_1_NAME": "/web/store-1",
        "STORE_1_PORT": "tcp://172.17.0.2:80",
        "STORE_1_PORT_80_TCP": "tcp://172.17.0.2:80",
        "STORE_1_PORT_80_TCP_ADDR": "172.17.0.2",
        "STORE_1_PORT_80_TCP_PORT": "80",
        "STORE_1_PORT_80_TCP_PROTO": "tcp",
        "STORE_1_PORT_53_UDP": "udp://172.17.0.2:53",
        "STORE_1_PORT_53_UDP_ADDR": "172.17.0.2",
        "STORE_1_PORT_53_UDP_PORT": "53",
        "STORE_1_PORT_53_UDP_PROTO": "udp",
        "STORE_1_ENV_A": "1",
    }


def test_who_is_linked_to_is_listed_by_the_links_name_too() -> None:
    web = record("web", links=("db:store-1", "id-of-db", "gone:x"))
    assert link_names([web, DB]) == {"id-of-db": ("/web/store-1", "/web/id-of-db")}
