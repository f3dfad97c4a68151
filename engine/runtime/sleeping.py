"""A shim for as long as it has nothing to do: it bears the container's first process, tells the
daemon when that has become the payload, and sleeps until the container or a daemon wants something.

A shim owns each page that it writes to, and to run code is to write: to what it counts references
of. So here is what every container needs of its shim, with as little as will do, in every start by
the same few lines; what the first process said meanwhile is kept unread. Most containers end as
they lived, without a word: then so does their shim.
"""

import _socket
import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from engine.kernel import privileges, process, procfs
from engine.runtime import channel, first, lead_in, reaper, refuge, visiting
from engine.runtime.birth import Birth, unlink_files
from engine.runtime.cgroup_tree import Cgroup, Hierarchy
from engine.runtime.clock import uptime
from engine.runtime.script import NETWORK, ORDERS, REAPER, SUPERVISOR

FirstProcess = Callable[[Birth, Cgroup], NoReturn]
Said = list[tuple[bytes, channel.Beside]]

_CHILD_ENDED = int(signal.SIGCHLD)
_EXECUTING = b'{"state":"executing"'
_PIPES, _TERMINAL = b'{"state":"stdio"', b'{"state":"terminal"'  # what brings outputs
_EXITED = (
    b'{"event":"exited","code":%d,"signal":null,"oom_killed":false,"finished_at":%d,"ran_for":%d}'
)
# Around the number of a call that is known by its bytes, and of the answer.
_RELEASE = channel.encode({"id": 0, "call": "release", "record": False}).split(b"0")
_RELEASED = channel.encode({"id": 0}).split(b"0")
_MOST = (4096, *channel.MOST[1:])  # of what a first process says


def live(
    birth: Birth, hierarchy: Hierarchy, first_process: FirstProcess, streams: Sequence[int]
) -> tuple[int, int, Said, int, int]:
    """What is known of the first process when there is something to do: pid and pidfd, what it
    said, and when it started, in nanoseconds since 1970 and of `uptime`; zeros if that is yet to
    come. `streams`: those of the spawner that are not to be kept. Raises OSError: cannot begin."""
    _settle(birth.container_id, streams)
    lead_in.name(birth.cgroup.rpartition("/")[2].encode())
    pid, pidfd = _bear(birth, hierarchy, first_process)
    said, started_at, started_clock, has_ended = _sleep(birth, pidfd)
    if has_ended:
        _end(birth, hierarchy, pidfd, said, started_clock)
    return pid, pidfd, said, started_at, started_clock


def _settle(container_id: str, streams: Sequence[int]) -> None:
    """Be a process of its own."""
    process.default_signal(_CHILD_ENDED)
    privileges.set_name("pycompose-shim")
    procfs.set_command_line(f"pycompose-shim {container_id}")
    for descriptor in streams:
        os.dup2(0, descriptor)
    try:  # noqa: SIM105 - a context manager writes to pages, too
        os.setsid()
    except PermissionError:
        pass  # the spawner, which tries this, has its session already


def _bear(birth: Birth, hierarchy: Hierarchy, first_process: FirstProcess) -> tuple[int, int]:
    """pid and pidfd of a first process that waits for its orders, of which the daemon is told."""
    if birth.pid_namespace:
        with visiting.joined_pid(birth.pid_namespace):
            pid, pidfd = fork(birth, hierarchy, first_process)
    else:
        pid, pidfd = fork(birth, hierarchy, first_process)
    for one in (
        birth.orders,
        birth.supervisor,
        birth.group,
        birth.user,
        birth.files,
        birth.ipc,
        birth.uts,
    ):
        if one >= 0:
            os.close(one)
    _tell(birth, b'{"event":"prepared","pid":%d,"shim":%d}' % (pid, os.getpid()))
    return pid, pidfd


def fork(birth: Birth, hierarchy: Hierarchy, first_process: FirstProcess) -> tuple[int, int]:
    if birth.is_scripted:
        places = {SUPERVISOR: birth.supervisor, ORDERS: birth.orders, REAPER: reaper.DESCRIPTOR}
        if birth.network >= 0:
            places[NETWORK] = birth.network
        return lead_in.bear(
            first.DESCRIPTOR,
            places,
            supervisor=birth.supervisor,
            namespaces=birth.namespaces,
            group=birth.group,
        )
    child = process.clone3(birth.namespaces, cgroup=birth.group)
    if child[0] == 0:
        first_process(birth, Cgroup(hierarchy, birth.cgroup))
    return child


def _sleep(birth: Birth, pidfd: int) -> tuple[Said, int, int, bool]:
    """What was said, when it started, and whether it ended, of which nothing was dealt with.
    Returns when there is something to do that is not done here, and is still to be seen."""
    said: Said = []
    has_terminal = False
    heard = birth.heard
    poll = select.poll()
    poll.register(heard, 0)  # only its end, which is the first process's or comes with execve
    poll.register(birth.daemon, select.POLLIN)
    poll.register(birth.listener, select.POLLIN)
    if poll.poll() != [(heard, select.POLLHUP)]:
        return said, 0, 0, False
    # Without what its class in `socket` does, which writes to more pages than all of this here.
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, heard)
    while True:
        body, beside, _, _ = connection.recvmsg(*_MOST)
        if not body:
            break
        said.append((body, beside))
    connection.detach()
    if not said or not said[-1][0].startswith(_EXECUTING):
        return said, 0, 0, False
    at, clock = time.time_ns(), uptime()
    _tell(birth, b'{"event":"started","started_at":%d,"started_clock":%d}' % (at, clock))
    poll.unregister(heard)
    poll.register(pidfd, select.POLLIN)
    if birth.oom >= 0:
        poll.register(birth.oom, select.POLLIN)
    outputs: list[int] = []
    for state, brought in said:
        if state.startswith((_PIPES, _TERMINAL)):
            outputs.extend(channel.descriptors(brought))
            has_terminal = state.startswith(_TERMINAL)
    for output in outputs:
        poll.register(output, select.POLLIN)
    while True:
        has_ended = False
        for descriptor, events in poll.poll():
            if descriptor == pidfd:
                has_ended = True
            elif events == select.POLLHUP and descriptor in outputs and not has_terminal:
                # For good, while a terminal may be opened again.
                poll.unregister(descriptor)
                outputs.remove(descriptor)
            else:
                return said, at, clock, False
        if has_ended:
            return said, at, clock, not outputs


def _end(birth: Birth, hierarchy: Hierarchy, pidfd: int, said: Said, started_clock: int) -> None:
    """The first process has ended and left nothing to read: tell how, and when that is recorded,
    clear away and be gone. Returns where it goes another way, which then begins anew."""
    found = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
    group = Cgroup(hierarchy, birth.cgroup)
    if found is None or found.si_code != os.CLD_EXITED or group.oom_kills() > 0:
        return
    _tell(birth, _EXITED % (found.si_status, time.time_ns(), uptime() - started_clock))
    for descriptor in (birth.network, birth.dns_udp, birth.dns_tcp):
        if descriptor >= 0:
            os.close(descriptor)
    birth.network = birth.dns_udp = birth.dns_tcp = -1
    poll = select.poll()
    poll.register(birth.daemon, select.POLLIN)
    poll.register(birth.listener, select.POLLIN)
    if poll.poll() != [(birth.daemon, select.POLLIN)]:
        return
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, birth.daemon)
    call = connection.recv(_MOST[0], _socket.MSG_PEEK)
    connection.detach()
    number = call[len(_RELEASE[0]) : -len(_RELEASE[1])]
    if call != number.join(_RELEASE):
        return
    try:
        if not group.remove_empty():
            return
        unlink_files(birth.exec_dir)
        refuge.leave(hierarchy)
    except OSError:
        return  # it is tried once more, by who can say what is wrong
    for _, brought in said:
        for descriptor in channel.descriptors(brought):
            os.close(descriptor)  # its mounts, too
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.read(birth.daemon, _MOST[0])  # what is left unread would be told as a broken connection
    _tell(birth, number.join(_RELEASED))
    os._exit(0)


def _tell(birth: Birth, event: bytes) -> None:
    try:  # noqa: SIM105 - as above
        os.write(birth.daemon, event)
    except BrokenPipeError:
        pass  # it is gone, as is seen next
