"""A shim's whole life, tried in the spawner before it forks the first: a made-up container, whose
first process is a child that plays one.

The interpreter writes into a function's code until it has specialised it, and into what it looks up
until that is in its caches: each shim would do so anew, and own the pages.
"""

import os
import signal
import socket
from typing import NoReturn

from engine.kernel import process
from engine.runtime import birth, channel, orders
from engine.runtime.birth import Birth
from engine.runtime.cgroup_tree import Hierarchy
from engine.runtime.shim import Shim

_LINES = b'a "line"\nand another\n'
_ORDERS = {
    "dns": True,
    "log": {
        "path": os.devnull,
        "max_size": 0,
        "max_file": 1,
        "attributes": "",
        "compress": False,
        "buffer": 0,
    },
    "terminal": False,
    "open_stdin": False,
    "stdin_once": False,
}


def try_life(hierarchy: Hierarchy) -> Shim:
    """The shim, with descriptors that are not closed yet; its first process is no more."""
    ours, theirs = channel.pair()
    document = orders.write(_ORDERS, ())
    reading, writing = os.pipe()
    with ours:
        message, descriptors = birth.pack(_made_up(theirs.detach()))
        shim = Shim(
            birth.unpack(message, descriptors), hierarchy, lambda _, own, __: _play(own, reading)
        )
        shim.be_born()
        ours.setblocking(False)
        _await(shim, ours, "event", "prepared")
        channel.send(ours, {"id": 0, "call": "launch"}, (document,))
        _await(shim, ours, "id", 0)
        channel.send(ours, {"id": 1, "call": "go"})
        _await(shim, ours, "event", "started")
        for _ in range(2):
            os.write(writing, b"!")
            shim.poller.turn()
    process.send_signal(shim.pidfd, signal.SIGKILL)
    os.waitid(os.P_PIDFD, shim.pidfd, os.WEXITED)
    for descriptor in (document, reading, writing):
        os.close(descriptor)
    return shim


def _await(shim: Shim, daemon: socket.socket, key: str, value: object) -> None:
    while True:
        try:
            message = channel.receive(daemon)
        except BlockingIOError:
            shim.poller.turn()
            continue
        assert message is not None
        for descriptor in message.descriptors:
            os.close(descriptor)
        if message.body.get(key) == value:
            return


def _made_up(connection: int) -> Birth:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind("")  # the kernel chooses a name
        listener.listen()
        return Birth(
            container_id="rehearsal",
            exec_path="/",
            cgroup="/rehearsal",
            namespaces=0,
            pid_namespace="",
            ids=None,
            owner=(0, 0),
            is_spare=True,
            daemon=connection,
            exec_dir=os.open("/", os.O_PATH | os.O_CLOEXEC),
            listener=listener.detach(),
            oom=os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK),
            network=os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC),
            **{name: os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC) for name in _ANY},
        )


_ANY = ("route", "netfilter", "dns_udp", "dns_tcp")


def _play(supervisor: socket.socket, signals: int) -> NoReturn:
    """What a first process says; then lines of output, as often as it is told to."""
    message = channel.receive(supervisor)
    if message is None:
        os._exit(1)
    channel.send(supervisor, {"state": "ready"})
    channel.receive(supervisor)
    channel.send(supervisor, {"state": "executing", "program": "none"})
    supervisor.close()
    while os.read(signals, 1):
        os.write(message.descriptors[2], _LINES)
    os._exit(0)
