"""Containers in networks that ask for more than the default."""

import asyncio

import pytest

from engine.containers.model import (
    ContainerConfig,
    CreateRequest,
    EndpointSettings,
    ExecConfig,
    HealthCheck,
    HostConfig,
    PublishedPort,
)
from engine.errors import Forbidden, InvalidRequest
from engine.networks.model import (
    ENDPOINT_IFNAME,
    ENDPOINT_SYSCTLS,
    OPTION_IFNAME_PREFIX,
    OPTION_INHIBIT,
    SHARED_PORTS,
    AddressPool,
    NetworkSpec,
)
from tests.engine.containers.conftest import Engine, event, unframed

pytestmark = pytest.mark.kernel


async def start(engine: Engine, *command: str, settings: EndpointSettings, host: HostConfig) -> str:
    config = ContainerConfig(image="rootfs:/", cmd=command)
    wanted = CreateRequest(config, host, {host.network_mode: settings})
    identifier = (await engine.containers.create(wanted)).id
    ended = engine.containers.wait(identifier, condition="next-exit")
    await engine.containers.start(identifier)
    assert (await ended).status_code == 0, await engine.output(identifier)
    return await engine.output(identifier)


async def test_interface_is_as_asked_for(engine: Engine) -> None:
    pools = (AddressPool("10.7.0.0/24"), AddressPool("fd00:7::/64"))
    await engine.networks.create(NetworkSpec("front", pools=pools, enable_ipv6=True))
    settings = EndpointSettings(
        ipv4_address="10.7.0.9",
        ipv6_address="fd00:7::9",
        mac_address="02:00:00:00:00:11",
        link_local_ips=("169.254.8.8", "fe80::99"),
        driver_opts={
            ENDPOINT_IFNAME: "dmz0",
            ENDPOINT_SYSCTLS: "net.ipv4.conf.IFNAME.log_martians=1",
        },
    )
    script = (
        "ip -o addr show dmz0; ip -o link show dmz0; ip -6 route;"
        "cat /proc/sys/net/ipv4/conf/dmz0/log_martians /proc/sys/net/ipv6/conf/dmz0/accept_ra;"
        "cat /etc/hosts; bash -c ': > /dev/tcp/here/9' 2>&1; true"
    )
    host = HostConfig(network_mode="front", extra_hosts=("here:host-gateway",))
    said = await start(engine, "sh", "-c", script, settings=settings, host=host)
    for words in (
        "inet 10.7.0.9/24", "inet6 fd00:7::9/64", "inet 169.254.8.8/16", "inet6 fe80::99/64",
        "02:00:00:00:00:11", "default via fd00:7::1 dev dmz0", "\n1\n0\n", "fd00:7::9\t",
        "10.7.0.1\there\n", "Connection refused",  # by this machine, which has no such port
    ):  # fmt: skip
        assert words in said, (words, said)


async def test_network_names_its_interfaces_and_may_hide_the_host(engine: Engine) -> None:
    options = {OPTION_IFNAME_PREFIX: "wan", OPTION_INHIBIT: "true"}
    await engine.networks.create(NetworkSpec("front", options=options))
    host = HostConfig(network_mode="front")
    said = await start(engine, "ip", "-o", "route", settings=EndpointSettings(), host=host)
    assert "dev wan0" in said
    assert "default via 172.18.0.1" in said  # by another router, if there is one


async def test_endpoint_that_cannot_be_is_refused(engine: Engine) -> None:
    await engine.networks.create(NetworkSpec("front"))
    identifier = await engine.run("sleep", "1000")
    for settings, words in (
        (EndpointSettings(link_local_ips=("10.0.0.1",)), "10.0.0.1 is no link-local address"),
        (EndpointSettings(driver_opts={ENDPOINT_IFNAME: "a/b"}), "invalid interface name"),
        (EndpointSettings(driver_opts={ENDPOINT_IFNAME: "eth0"}), "an interface eth0 already"),
        (EndpointSettings(ipv6_address="fd00::1"), "networks with user configured subnets"),
        (
            EndpointSettings(driver_opts={ENDPOINT_SYSCTLS: "net.ipv4.conf.IFNAME.nosuch=1"}),
            r"cannot set sysctl net.ipv4.conf.eth1.nosuch to '1': no such file",
        ),
    ):
        with pytest.raises(InvalidRequest, match=words):
            await engine.containers.connect("front", identifier, settings)
    # Nothing of the tries is left: the last one had a link already.
    await engine.containers.connect("front", identifier, EndpointSettings())


async def test_ports_are_published_on_both_versions(engine: Engine) -> None:
    await engine.networks.create(NetworkSpec("front", enable_ipv6=True))
    script = (
        "import socket; s = socket.create_server(('::', 80), family=socket.AF_INET6,"
        " dualstack_ipv6=True)\nwhile True: s.accept()[0].sendall(b'hello')"
    )
    host = HostConfig(network_mode="front", port_bindings={"80/tcp": (PublishedPort("", "8080"),)})
    identifier = await engine.run("python3", "-c", script, host=host)
    record = engine.get(identifier)
    assert [(port.host_ip, port.host_port) for port in record.ports] == [
        ("0.0.0.0", 8080),
        ("::", 8080),
    ]
    gateway = engine.networks.get("front").pools[1].gateway
    for address in ("127.0.0.1", gateway):
        assert await hello(address, 8080) == b"hello", address


async def hello(address: str, port: int) -> bytes:
    """Until the server is up; the test's time limit is pytest's."""
    while True:
        try:
            reader, writer = await asyncio.open_connection(address, port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.02)
            continue
        try:
            return await reader.read(5)
        finally:
            writer.close()


# Who got through before it is told to end is still answered. Its health is a file, for a probe that
# connects would keep it from ever being idle.
SERVER = """
import pathlib, signal, socket, sys
ending = []
signal.signal(signal.SIGTERM, lambda *_: ending.append(1))
s = socket.create_server(("", 80))
s.settimeout(0.2)
pathlib.Path("/tmp/ready").touch()
while True:
    try:
        c, _ = s.accept()
    except TimeoutError:
        if ending:
            sys.exit()
        continue
    c.sendall(sys.argv[1].encode())
    c.close()
"""


async def test_one_at_rest_keeps_its_place_where_it_is_connected_again(engine: Engine) -> None:
    """Docker's: that is no error, and changes nothing."""
    pools = (AddressPool("10.7.0.0/24"),)
    await engine.networks.create(NetworkSpec("front", pools=pools))
    identifier = await engine.create("sleep", "100", host=HostConfig(network_mode="none"))
    await engine.containers.disconnect("none", identifier)
    for address in ("10.7.0.77", "10.7.0.78"):
        settings = EndpointSettings(ipv4_address=address)
        await engine.containers.connect("front", identifier, settings)
    await engine.containers.start(identifier)
    (place,) = engine.containers.get(identifier).attachments
    assert place.endpoint is not None
    assert place.endpoint.ipv4_address == "10.7.0.77"
    with pytest.raises(Forbidden, match="already exists in network front"):
        await engine.containers.connect("front", identifier, EndpointSettings())


async def test_one_at_rest_is_in_a_network_that_was_made_anew(engine: Engine) -> None:
    """Connected to it as if it weren't, it could never be started again."""
    await engine.networks.create(NetworkSpec("front"))
    identifier = await engine.run("sleep", "100", host=HostConfig(network_mode="front"))
    await engine.containers.kill(identifier)
    await engine.networks.remove("front")
    anew = await engine.networks.create(NetworkSpec("front"))
    await engine.containers.connect("front", identifier, EndpointSettings())
    await engine.containers.start(identifier)
    (place,) = engine.containers.get(identifier).attachments
    assert place.network_id == anew.id

    await engine.containers.kill(identifier)
    await engine.networks.remove("front")
    await engine.networks.create(NetworkSpec("front"))
    await engine.containers.disconnect("front", identifier)
    assert engine.containers.get(identifier).attachments == ()


async def test_names_follow_a_rename_while_it_runs_and_aliases_stay(engine: Engine) -> None:
    network = await engine.networks.create(NetworkSpec("front"))
    wanted = CreateRequest(
        ContainerConfig(image="rootfs:/", cmd=("sleep", "1000"), hostname="host"),
        HostConfig(network_mode="front"),
        {"front": EndpointSettings(aliases=("web", "www"))},
        name="web",
    )
    web = (await engine.containers.create(wanted)).id
    await engine.containers.start(web)
    await engine.containers.rename(web, "old")
    (place,) = engine.get(web).attachments
    assert place.dns_names == ("old", "web", "www", web[:12], "host")
    assert place.endpoint is not None
    assert place.endpoint.dns_names == place.dns_names
    await engine.containers.stop(web, timeout=0)
    await engine.networks.create(NetworkSpec("back"))
    with engine.events.subscribe() as told:
        await engine.containers.connect("back", web, EndpointSettings(aliases=("db",)))
        assert engine.get(web).attachments[1].dns_names == ("old", "db", web[:12], "host")
        await engine.containers.start(web)
        joined = []
        while len(joined) < 2:
            event = await anext(aiter(told))
            joined += [event.id] if event.action == "connect" else []
    assert joined[0] == network.id  # that of "back" was told at the start, too, and not before


async def test_predefined_networks_know_no_aliases(engine: Engine) -> None:
    config = ContainerConfig(image="rootfs:/", cmd=("true",))
    wanted = CreateRequest(config, HostConfig(), {"bridge": EndpointSettings(aliases=("other",))})
    with pytest.raises(InvalidRequest, match="alias is supported only for containers in user"):
        await engine.containers.create(wanted)


async def test_port_moves_between_containers_without_a_refused_connection(engine: Engine) -> None:
    host = HostConfig(port_bindings={"80/tcp": (PublishedPort("127.0.0.1", "8080"),)})
    check = HealthCheck(
        test=("CMD", "test", "-e", "/tmp/ready"),
        interval=20_000_000,
        start_interval=20_000_000,
        retries=1000,
    )

    async def run(name: str) -> str:
        wanted = {"labels": {SHARED_PORTS: "true"}, "healthcheck": check}
        with engine.events.subscribe() as events:
            identifier = await engine.run("python3", "-c", SERVER, name, host=host, **wanted)
            await event(events, "health_status: healthy")
        return identifier

    old = await run("old")
    heard: list[bytes] = []
    ending = asyncio.Event()

    async def ask_on() -> None:
        while not ending.is_set():
            reader, writer = await asyncio.open_connection("127.0.0.1", 8080)
            heard.append(await reader.read(3))
            writer.close()

    asking = asyncio.create_task(ask_on())
    await run("new")
    await engine.containers.stop(old)
    count = len(heard)
    while len(heard) < count + 5:
        await asyncio.sleep(0.01)
        assert not asking.done()
    ending.set()
    await asking
    assert set(heard) <= {b"old", b"new"}
    assert heard[-3:] == [b"new"] * 3


async def test_container_without_networks_leaves_none_before_it_joins_one(engine: Engine) -> None:
    await engine.networks.create(NetworkSpec("front"))
    identifier = await engine.run("sleep", "1000", host=HostConfig(network_mode="none"))
    for network in ("host", "none", "front"):
        with pytest.raises(InvalidRequest, match=r"cannot connect|cannot be connected"):
            await engine.containers.connect(network, identifier, EndpointSettings())
    await engine.containers.disconnect("none", identifier)
    await engine.containers.connect("front", identifier, EndpointSettings())
    (attachment,) = engine.get(identifier).attachments
    assert attachment.network == "front"
    assert attachment.endpoint is not None
    # It was started without a name service.
    web = await engine.run("sleep", "1000", name="web", host=HostConfig(network_mode="front"))
    wish = ExecConfig(("getent", "hosts", "web"), attach_stdout=True)
    made = await engine.containers.exec_create(identifier, wish)
    streams = await engine.containers.exec_start(made.id, detach=False, tty=False)
    assert streams is not None
    said = unframed([piece async for piece in streams])
    (found,) = engine.get(web).attachments
    assert found.endpoint is not None
    assert said.split() == [found.endpoint.ipv4_address, "web"]
    alone = await engine.run("sleep", "1000", host=HostConfig(network_mode="host"))
    with pytest.raises(InvalidRequest, match="created in host network mode"):
        await engine.containers.disconnect("host", alone)


async def test_a_container_gets_its_address_again_unless_somebody_has_it(engine: Engine) -> None:
    """As with dockerd, whoever remembers the address finds it after a restart."""

    def address(container: str) -> str:
        endpoint = engine.get(container).attachments[0].endpoint
        assert endpoint is not None
        return endpoint.ipv4_address

    spec = NetworkSpec("front", pools=(AddressPool("10.123.0.0/29"),))
    await engine.networks.create(spec)
    host = HostConfig(network_mode="front")
    first = await engine.run("sleep", "1000", host=host)
    before = address(first)
    await engine.run("sleep", "1000", host=host)
    await engine.containers.restart(first, timeout=0)
    assert address(first) == before
    await engine.containers.stop(first, timeout=0)
    wish = {"front": EndpointSettings(ipv4_address=before)}
    config = ContainerConfig(image="rootfs:/", cmd=("sleep", "1000"))
    other = (await engine.containers.create(CreateRequest(config, host, wish))).id
    await engine.containers.start(other)
    await engine.containers.start(first)
    assert (address(other), address(first) == before) == (before, False)
