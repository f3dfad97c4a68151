import socket
from collections.abc import Iterator

import pytest

from engine.errors import Failure, InvalidRequest, Unsupported
from engine.networks.model import PortBinding, PortRequest
from engine.networks.ports import EPHEMERAL_RANGE, HostPorts

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("own_network")]


@pytest.fixture
def ports(own_network: None) -> Iterator[HostPorts]:
    ports = HostPorts()
    yield ports
    ports.close()


def test_ephemeral_ports_come_from_the_kernel_range_and_go_round(ports: HostPorts) -> None:
    first, last = (int(word) for word in EPHEMERAL_RANGE.read_text().split())
    one, two = ports.reserve("a", (PortRequest(80), PortRequest(81)))
    assert one.host_ip == "0.0.0.0"
    assert first <= one.host_port < two.host_port <= last
    ports.release("a")
    (three,) = ports.reserve("a", (PortRequest(80),))
    assert three.host_port == two.host_port + 1


def test_first_free_port_of_a_range_is_taken(ports: HostPorts) -> None:
    wish = PortRequest(80, host_port=8000, host_port_end=8001)
    assert [ports.reserve(each, (wish,))[0].host_port for each in "ab"] == [8000, 8001]
    with pytest.raises(Failure, match=r"Bind for 0.0.0.0:8001 failed: port is already allocated"):
        ports.reserve("c", (wish,))


def test_all_ports_of_a_request_or_none(ports: HostPorts) -> None:
    ports.reserve("a", (PortRequest(80, host_port=8001),))
    wishes = (PortRequest(80, host_port=8000), PortRequest(81, host_port=8001))
    with pytest.raises(Failure, match="8001"):
        ports.reserve("b", wishes)
    assert ports.bindings("b") == ()
    assert ports.reserve("b", wishes[:1]) == (PortBinding(80, "tcp", "0.0.0.0", 8000),)


def test_same_number_serves_other_protocols_and_addresses(ports: HostPorts) -> None:
    ports.reserve("a", (PortRequest(53, host_ip="127.0.0.1", host_port=53),))
    ports.reserve("a", (PortRequest(53, "udp", host_port=53),))
    ports.reserve("b", (PortRequest(53, host_ip="127.0.0.2", host_port=53),))
    with pytest.raises(Failure, match=r"0\.0\.0\.0:53 failed: port is already allocated"):
        ports.reserve("c", (PortRequest(53, host_port=53),))


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_port_of_a_host_program_is_refused(ports: HostPorts, kind: int, family: int) -> None:
    protocol = "tcp" if kind == socket.SOCK_STREAM else "udp"
    with socket.socket(family, kind) as program:
        program.bind(("", 8080))
        if kind == socket.SOCK_STREAM:
            program.listen()
        with pytest.raises(Failure, match=f"0.0.0.0:8080/{protocol}: address already in use"):
            ports.reserve("a", (PortRequest(80, protocol, host_port=8080),))


def test_held_port_is_refused_to_host_programs_but_nobody_listens(ports: HostPorts) -> None:
    ports.reserve("a", (PortRequest(80, host_port=8080),))
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
    assert ports.reserve("a", (PortRequest(80, host_port=8080),))


@pytest.mark.parametrize(
    ("request_", "kind", "words"),
    [
        (PortRequest(80, host_port=70000), InvalidRequest, "cannot publish port 70000"),
        (PortRequest(0), InvalidRequest, "cannot publish port 0"),
        (PortRequest(80, host_port=9, host_port_end=8), InvalidRequest, "range"),
        (PortRequest(80, "sctp"), Unsupported, "80/sctp"),
        (PortRequest(80, host_ip="::1"), Unsupported, "::1"),
        (PortRequest(80, host_ip="localhost"), InvalidRequest, "invalid host address"),
        (PortRequest(80, host_ip="192.0.2.9"), Failure, "cannot assign requested address"),
    ],
)
def test_port_that_cannot_be_is_refused(
    ports: HostPorts, request_: PortRequest, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        ports.reserve("a", (request_,))
    assert ports.bindings("a") == ()


def test_ports_are_held_again_after_a_restart(ports: HostPorts) -> None:
    binding = PortBinding(80, "tcp", "0.0.0.0", 8080)
    with socket.create_server(("127.0.0.1", 8080)):
        assert ports.hold_again("a", [binding]) == ["0.0.0.0:8080/tcp: Address already in use"]
    assert ports.bindings("a") == (binding,)
    with pytest.raises(Failure, match="already allocated"):
        ports.reserve("b", (PortRequest(80, host_port=8080),))
