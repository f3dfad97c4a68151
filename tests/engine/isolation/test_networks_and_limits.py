"""Containers that reach for other networks, and for more than their share. Numbers in parentheses
are isolation requirements (docs/isolation.md)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine.api.dialogue import Dialogue
from tests.engine.isolation.conftest import Prison

pytestmark = pytest.mark.kernel

PYTHON = "/usr/bin/python3"

SERVER = """
import socket
tcp = socket.create_server(("0.0.0.0", 80))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("0.0.0.0", 80))
print("ready", flush=True)
while True:
    _, sender = udp.recvfrom(100)
    udp.sendto(b"heard", sender)
"""

# Tries at once, before anything else: TCP, UDP, an echo request; by the routes that there are, and
# with the device as the way.
REACHER = """
import json, socket, struct, sys
there, found = sys.argv[1], {}
def attempt(name, action):
    for device in ("", "eth0"):
        try:
            action(device)
            found[name + device] = "reached"
        except OSError as error:
            found[name + device] = type(error).__name__
def opened(kind, protocol, device):
    made = socket.socket(socket.AF_INET, kind, protocol)
    made.settimeout(0.7)
    if device:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        made.setsockopt(socket.SOL_SOCKET, socket.SO_DONTROUTE, 1)
    return made
def tcp(device):
    opened(socket.SOCK_STREAM, 0, device).connect((there, 80))
def udp(device):
    made = opened(socket.SOCK_DGRAM, 0, device)
    made.sendto(b"x", (there, 80))
    made.recv(100)
def icmp(device):
    made = opened(socket.SOCK_RAW, 1, device)
    made.sendto(struct.pack("!BBHHH", 8, 0, 0xF7FE, 1, 0), (there, 0))
    while True:
        if made.recv(200)[20] == 0:
            return
attempt("tcp", tcp), attempt("udp", udp), attempt("icmp", icmp)
print(json.dumps(found))
"""


@pytest.fixture
def networks(prison: Prison) -> Iterator[None]:
    for name in ("front", "back"):
        assert prison.daemon.call("POST", "/networks/create", {"Name": name})[0] == 201
    yield
    prison.clear()
    assert prison.daemon.call("POST", "/networks/prune")[0] == 200


def server(prison: Prison) -> str:
    """The address of a container that listens on the network `back`."""
    name = prison.run(PYTHON, "-I", "-c", SERVER, NetworkMode="back")
    while not prison.logs(name):
        pass
    _, found = prison.daemon.call("GET", f"/containers/{name}/json")
    assert isinstance(found, dict)
    return str(found["NetworkSettings"]["Networks"]["back"]["IPAddress"])


def reached(prison: Prison, network: str, address: str) -> set[str]:
    code, said = prison.finish(
        PYTHON, "-I", "-c", REACHER, address, NetworkMode=network, CapAdd=["NET_ADMIN"]
    )
    assert code == 0, said
    return {name for name, result in json.loads(said).items() if result == "reached"}


def test_no_protocol_reaches_another_network_from_the_first_moment(
    prison: Prison, networks: None
) -> None:
    """(65, 69): TCP, UDP and ICMP, with NET_ADMIN, as the first thing that a container does."""
    address = server(prison)
    assert reached(prison, "back", address) >= {"tcp", "udp", "icmp"}  # the attack is real
    for network in ("front", "bridge", "none"):
        assert reached(prison, network, address) == set(), network


@pytest.mark.parametrize(
    "body",
    [
        {"Name": "../x"}, {"Name": ""}, {"Name": "a/b"}, {"Name": 1},
        {"Name": "n", "IPAM": {"Config": [{"Subnet": "10.0.0.0/99"}]}},
        {"Name": "n", "IPAM": {"Config": [{"Subnet": "x"}]}},
        {"Name": "n", "IPAM": {"Config": [{"Subnet": "10.9.8.0/24", "Gateway": "1.2.3.4"}]}},
        {"Name": "n", "Options": {"com.docker.network.bridge.name": "../../x"}},
        {"Name": "n", "Options": {"com.docker.network.bridge.name": "x" * 16}},
        {"Name": "n", "Options": {"com.docker.network.bridge.name": "a b"}},
        {"Name": "n", "Options": {"com.docker.network.driver.mtu": "-1"}},
        {"Name": "n", "Options": {"com.docker.network.driver.mtu": "9" * 30}},
    ],
    ids=str,
)  # fmt: skip
def test_a_network_that_makes_no_sense_is_refused(prison: Prison, body: object) -> None:
    """(71): names of bridges and numbers are looked at before the kernel is asked."""
    before = prison.daemon.call("GET", "/networks")
    prison.refused("POST", "/networks/create", body)
    assert prison.daemon.call("GET", "/networks") == before


def test_limits_hold_from_the_first_instruction(prison: Prison) -> None:
    """(72): a command that does nothing else first finds all of them."""
    wanted = (("nofile", 64, 128), ("core", 0, 0))
    code, said = prison.finish(
        "sh", "-c", "ulimit -n; ulimit -c; df -k /dev/shm | tail -1; grep Cpus_allowed_list "
        "/proc/self/status; sleep 1 & sleep 1 & sleep 1 & sleep 1 & sleep 1",
        Ulimits=[{"Name": name, "Soft": soft, "Hard": hard} for name, soft, hard in wanted],
        ShmSize=1 << 20, CpusetCpus="0", PidsLimit=4,
    )  # fmt: skip
    assert code != 0
    lines = said.decode().splitlines()
    assert lines[:2] == ["64", "0"]
    assert lines[2].split()[1] == "1024"
    assert lines[3].split() == ["Cpus_allowed_list:", "0"]
    assert "fork" in lines[4].lower() or "temporarily" in lines[4]


def own_memory(pids: list[int]) -> int:
    """Bytes that the largest of the processes holds for itself."""
    places = [Path(f"/proc/{pid}/status") for pid in pids]
    texts = [place.read_text() for place in places if place.exists()]
    found = [re.search(r"RssAnon:\s+(\d+) kB", text) for text in texts]
    return max(int(one[1]) for one in found if one) << 10


def shims(prison: Prison) -> list[int]:
    place = Path(f"/proc/{prison.host.pid}/ns/mnt").readlink()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                name = (entry / "comm").read_text()
                if name.startswith("pycompose-") and (entry / "ns/mnt").readlink() == place:
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@pytest.mark.parametrize("stream", ["exec", "attach"])
def test_output_that_nobody_reads_is_held_back(
    prison: Prison, talk: Callable[[], Dialogue], stream: str
) -> None:
    """(73): CVE-2022-31030, CVE-2025-64329: the writer waits, the engine does not grow."""
    flood = ["sh", "-c", "echo > /tmp/go; exec cat /dev/zero"]
    client = talk()
    if stream == "exec":
        name = prison.run("sleep", "1000")
        body = {"Cmd": flood, "AttachStdout": True}
        _, made = prison.daemon.call("POST", f"/containers/{name}/exec", body)
        assert isinstance(made, dict)
        before = own_memory([*prison.processes(), *shims(prison)])
        client.request("POST", f"/exec/{made['Id']}/start", {})
    else:
        name = prison.create(*flood, LogConfig={"Type": "none"})
        client.request("POST", f"/containers/{name}/attach?stream=1&stdout=1", upgrade=True)
        client.head()
        before = own_memory([*prison.processes(), *shims(prison)])
        assert prison.start(name) == (204, None)
    while prison.execute(name, "test", "-e", "/tmp/go")[0] != 0:
        pass
    for _ in range(100):  # a hundred execs later it has had time for gigabytes
        prison.execute(name, "true")
    assert own_memory([*prison.processes(), *shims(prison)]) - before < 16 << 20
