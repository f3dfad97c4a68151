"""A shim's whole life, tried in the spawner before it forks the first: a made-up container, whose
first process is a child that plays one.

The interpreter writes into a function's code until it has specialised it, and into what it looks up
until that is in its caches: each shim would do so anew, and own the pages.
"""

import contextlib
import os
import signal
import socket
from collections.abc import Mapping
from dataclasses import replace
from typing import NoReturn

from engine.kernel import process
from engine.runtime import birth, channel, lead_in, newborn, sleeping
from engine.runtime.birth import Birth
from engine.runtime.cgroup_tree import Cgroup, Hierarchy
from engine.runtime.script import SUPERVISOR, Known, Script
from engine.runtime.shim import Shim
from engine.runtime.stdio import STDOUT
from engine.runtime.steps import EnterPidNamespace
from engine.runtime.users import Identity

_LINES = b'a "line"\nand another\n'
_ORDERS: dict[str, object] = {
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
    reading, writing = os.pipe()
    message, descriptors = birth.pack(_made_up(theirs.detach()))
    born = birth.unpack(message, descriptors)
    os.write(writing, b"!")
    _bear(born, hierarchy)
    known = sleeping.live(born, hierarchy, lambda own, _: _play(own, reading, writing), ())
    shim = Shim(born, hierarchy)
    shim.keep(*known)
    for _ in range(2):
        shim.poller.turn()
        os.write(writing, b"!")
    _execute(shim)
    ours.close()
    process.send_signal(shim.pidfd, signal.SIGKILL)
    os.waitid(os.P_PIDFD, shim.pidfd, os.WEXITED)
    with contextlib.suppress(ChildProcessError):  # until the joiner is gone, too
        while True:
            os.waitpid(-1, 0)
    for descriptor in (reading, writing):
        os.close(descriptor)
    return shim


def _bear(born: Birth, hierarchy: Hierarchy) -> None:
    """A walker, too: for want of a cgroup it ends at once."""
    lead_in.put(lead_in.pattern(Cgroup(hierarchy, born.cgroup)))
    nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    scripted = replace(born, is_scripted=True, supervisor=nowhere)
    _, pidfd = sleeping.fork(scripted, hierarchy, lambda own, _: _play(own, -1, -1))
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)
    os.close(nowhere)


def _execute(shim: Shim) -> None:
    """An exec, that only the cgroup and the namespaces are left out of."""
    lead_in.put(lead_in.pattern(Cgroup(Hierarchy((), ""), shim.birth.cgroup)))
    to = Script(SUPERVISOR)
    EnterPidNamespace().write(to, Known(Identity(0, 0, (0,), "/")))
    to.say({"state": "executing", "program": "none"})
    to.call("write", STDOUT, to.text(_LINES), len(_LINES))
    to.call("exit_group", 0)
    document = to.written().document()
    wanted = {**dict.fromkeys(("stdin", "terminal"), False), "stdout": True, "stderr": True}
    message = channel.Message({"key": "rehearsal", **wanted}, (document,))
    answers: list[Mapping[str, object]] = []
    execs = shim.all_execs()
    execs.start(message, shim.pidfd, lambda body, _: answers.append(body))
    while not answers or execs.are_running():
        shim.poller.turn()
    os.close(document)


def _made_up(connection: int) -> Birth:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind("")  # the kernel chooses a name
        listener.listen()
        supervisor, heard = (one.detach() for one in channel.pair())
        return Birth(
            container_id="rehearsal",
            exec_path="/",
            cgroup="/rehearsal",
            namespaces=0,
            pid_namespace="",
            ids=None,
            owner=(0, 0),
            is_spare=True,
            is_scripted=False,
            daemon=connection,
            supervisor=supervisor,
            heard=heard,
            orders=os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC),
            exec_dir=os.open("/", os.O_PATH | os.O_CLOEXEC),
            listener=listener.detach(),
            oom=os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK),
            network=os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC),
            **{name: os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC) for name in _ANY},
        )


_ANY = ("dns_udp", "dns_tcp")


def _play(own: Birth, signals: int, others: int) -> NoReturn:
    """What a first process says; then lines of output, as often as it is told to. `others`: the
    spawner's end, or its death would not be heard."""
    os.close(others)
    supervisor = socket.socket(fileno=own.supervisor)
    newborn.use_stdio({**_ORDERS, "ahead": True}, supervisor)
    channel.send(supervisor, {"state": "mounts"}, (signals,))
    channel.send(supervisor, {"state": "going"})
    channel.send(supervisor, {"state": "executing", "program": "none"})
    supervisor.close()
    while os.read(signals, 1):
        os.write(STDOUT, _LINES)
    os._exit(0)
