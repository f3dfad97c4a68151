import socket
from collections.abc import Iterator, Sequence

import pytest

from engine.errors import Failure, InvalidRequest, Unsupported
from engine.networks.model import PortBinding, PortRequest
from engine.networks.ports import EPHEMERAL_RANGE, HostPorts, check

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("own_network")]


@pytest.fixture
def ports(own_network: None) -> Iterator[HostPorts]:
    ports = HostPorts()
    yield ports
    ports.close()


def reserve(
    ports: HostPorts, container_id: str, wishes: Sequence[PortRequest]
) -> tuple[PortBinding, ...]:
    """For a container without IPv6."""
    for wish in wishes:
        check(wish)
    return ports.reserve(container_id, [(wish, (wish.host_ip or "0.0.0.0",)) for wish in wishes])


def test_ephemeral_ports_come_from_the_kernel_range_and_go_round(ports: HostPorts) -> None:
    first, last = (int(word) for word in EPHEMERAL_RANGE.read_text().split())
    one, two = reserve(ports, "a", (PortRequest(80), PortRequest(81)))
    assert one.host_ip == "0.0.0.0"
    assert first <= one.host_port < two.host_port <= last
    ports.release("a")
    (three,) = reserve(ports, "a", (PortRequest(80),))
    assert three.host_port == two.host_port + 1


def test_first_free_port_of_a_range_is_taken(ports: HostPorts) -> None:
    wish = PortRequest(80, host_port=8000, host_port_end=8001)
    assert [reserve(ports, each, (wish,))[0].host_port for each in "ab"] == [8000, 8001]
    with pytest.raises(Failure, match=r"Bind for 0.0.0.0:8001 failed: port is already allocated"):
        reserve(ports, "c", (wish,))


def test_all_ports_of_a_request_or_none(ports: HostPorts) -> None:
    reserve(ports, "a", (PortRequest(80, host_port=8001),))
    wishes = (PortRequest(80, host_port=8000), PortRequest(81, host_port=8001))
    with pytest.raises(Failure, match="8001"):
        reserve(ports, "b", wishes)
    assert ports.bindings("b") == ()
    assert reserve(ports, "b", wishes[:1]) == (PortBinding(80, "tcp", "0.0.0.0", 8000),)


def test_same_number_serves_other_protocols_and_addresses(ports: HostPorts) -> None:
    reserve(ports, "a", (PortRequest(53, host_ip="127.0.0.1", host_port=53),))
    reserve(ports, "a", (PortRequest(53, "udp", host_port=53),))
    reserve(ports, "b", (PortRequest(53, host_ip="127.0.0.2", host_port=53),))
    with pytest.raises(Failure, match=r"0\.0\.0\.0:53 failed: port is already allocated"):
        reserve(ports, "c", (PortRequest(53, host_port=53),))


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_port_of_a_host_program_is_refused(ports: HostPorts, kind: int, family: int) -> None:
    protocol = "tcp" if kind == socket.SOCK_STREAM else "udp"
    with socket.socket(family, kind) as program:
        program.bind(("", 8080))
        if kind == socket.SOCK_STREAM:
            program.listen()
        with pytest.raises(Failure, match=f"0.0.0.0:8080/{protocol}: address already in use"):
            reserve(ports, "a", (PortRequest(80, protocol, host_port=8080),))


def test_held_port_is_refused_to_host_programs_but_nobody_listens(ports: HostPorts) -> None:
    reserve(ports, "a", (PortRequest(80, host_port=8080),))
    with socket.socket() as program:
        program.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            program.bind(("127.0.0.1", 8080))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", 8080))
    ports.release("a")
    socket.create_server(("127.0.0.1", 8080)).close()


def test_connections_that_are_just_closing_are_in_nobodys_way(ports: HostPorts) -> None:
    with socket.create_server(("127.0.0.1", 8080)) as server:
        client = socket.create_connection(("127.0.0.1", 8080))
        accepted, _ = server.accept()
        accepted.close()  # first to close: TIME_WAIT stays on port 8080
        assert client.recv(1) == b""
        client.close()
    assert reserve(ports, "a", (PortRequest(80, host_port=8080),))


@pytest.mark.parametrize(
    ("request_", "kind", "words"),
    [
        (PortRequest(80, host_port=70000), InvalidRequest, "cannot publish port 70000"),
        (PortRequest(0), InvalidRequest, "cannot publish port 0"),
        (PortRequest(80, host_port=9, host_port_end=8), InvalidRequest, "range"),
        (PortRequest(80, "dccp"), Unsupported, "80/dccp"),
        (PortRequest(80, host_ip="localhost"), InvalidRequest, "invalid host address"),
        (PortRequest(80, host_ip="192.0.2.9"), Failure, "cannot assign requested address"),
    ],
)
def test_port_that_cannot_be_is_refused(
    ports: HostPorts, request_: PortRequest, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        reserve(ports, "a", (request_,))
    assert ports.bindings("a") == ()


def test_ports_are_held_again_after_a_restart(ports: HostPorts) -> None:
    binding = PortBinding(80, "tcp", "0.0.0.0", 8080)
    with socket.create_server(("127.0.0.1", 8080)):
        assert ports.hold_again("a", [binding]) == ["0.0.0.0:8080/tcp: Address already in use"]
    assert ports.bindings("a") == (binding,)
    with pytest.raises(Failure, match="already allocated"):
        reserve(ports, "b", (PortRequest(80, host_port=8080),))


def test_port_is_the_same_on_all_addresses_of_a_request(ports: HostPorts) -> None:
    wish = PortRequest(80, host_port=8080, host_port_end=8081)
    with socket.create_server(("::1", 8080), family=socket.AF_INET6):
        bound = ports.reserve("a", [(wish, ("0.0.0.0", "::"))])
    assert [(each.host_ip, each.host_port) for each in bound] == [("0.0.0.0", 8081), ("::", 8081)]
    with pytest.raises(Failure, match=r"Bind for \[::1\]:8081 failed: port is already allocated"):
        ports.reserve("b", [(PortRequest(80, host_ip="::1", host_port=8081), ("::1",))])
    # What was tried in vain is not held.
    socket.create_server(("127.0.0.1", 8080)).close()


def test_same_number_serves_both_ip_versions(ports: HostPorts) -> None:
    for container, host_ip in (("a", "0.0.0.0"), ("b", "::")):
        wish = PortRequest(80, host_ip=host_ip, host_port=8080)
        assert ports.reserve(container, [(wish, (host_ip,))])
