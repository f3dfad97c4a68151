"""Processes started in a running container: their stdio, their ends."""

import errno
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import cast

from engine.kernel import process
from engine.kernel.libc import KernelError, reason
from engine.runtime import channel, join
from engine.runtime.cgroup_tree import Cgroup
from engine.runtime.channel import Message
from engine.runtime.orders import read_shims_part, read_steps
from engine.runtime.poller import READABLE, Poller
from engine.runtime.starting import CannotStart, Starting
from engine.runtime.stdio import Pipes, Stdio, wanted
from engine.runtime.steps import NO_ROOM, Place

Reply = Callable[[Mapping[str, object], tuple[int, ...]], None]


class Exec:
    """A process started in the container later on."""

    def __init__(self, key: str, stdio: Stdio, starting: Starting, joiner: int) -> None:
        self.key = key
        self.stdio = stdio
        self.starting = starting
        self.joiner = joiner
        self.listen: Callable[[int], None] = lambda _: None
        self.pid = 0
        self.pidfd = -1
        self.ended: tuple[int, int | None] | None = None
        self.reported = False


class Execs:
    def __init__(
        self,
        poller: Poller,
        cgroup: Cgroup,
        broadcast: Callable[[Mapping[str, object]], None],
        owner: tuple[int, int],
    ) -> None:
        """`owner`: what root of the container is out here."""
        self._poller = poller
        self._cgroup = cgroup
        self._broadcast = broadcast
        self._running: dict[str, Exec] = {}
        self._owner = owner

    def are_running(self) -> bool:
        return bool(self._running)

    def terminal(self, key: str) -> int | None:
        """The pty of one; KeyError if it has ended."""
        return self._running[key].stdio.terminal

    def start(self, message: Message, container: int, reply: Reply) -> None:
        """Start what the daemon asks for beside the process behind the pidfd `container`."""
        (document,) = message.descriptors
        is_script = "key" in message.body
        if is_script and self._cgroup.is_frozen():
            # Born into it, it would not run: we would wait, and nobody could ask us to thaw it.
            raise CannotStart("the container is paused: unpause it before")
        request = message.body if is_script else read_shims_part(document)
        key = cast(str, request["key"])
        pipes = (
            None
            if request["terminal"]
            else Pipes(
                stdin=bool(request["stdin"]),
                stdout=bool(request["stdout"]),
                stderr=bool(request["stderr"]),
            )
        )
        ours, theirs = channel.pair()
        try:
            joiner = self._begin(document, request, is_script, theirs, pipes, container)
        except BaseException:
            ours.close()
            if pipes is not None:
                pipes.close()
            raise
        finally:
            theirs.close()
        stdio = Stdio(
            self._poller,
            log=None,
            close_input_after_client=True,
            when_drained=lambda: self._conclude(entry),
        )
        entry = Exec(key, stdio, Starting(ours), joiner)
        self._running[key] = entry
        client = -1
        if request["stdin"] or request["stdout"] or request["stderr"]:
            mine, client = (one.detach() for one in socket.socketpair())
            stdio.attach(
                socket.socket(fileno=mine), wants=wanted(request), stdin=bool(request["stdin"])
            )
        if pipes is not None:
            pipes.close_theirs()
            stdio.use_outputs(pipes.outputs)
            if pipes.input >= 0:
                stdio.use_input(pipes.input)

        def listen(_: int) -> None:
            entry.starting.drain(lambda found: self._says(entry, found))
            if entry.starting.over:
                self._started(entry, client, reply)

        entry.listen = listen
        self._poller.watch(ours.fileno(), READABLE, listen)
        self._poller.watch(joiner, READABLE, lambda _: self._reap_joiner(entry))

    def _begin(
        self,
        document: int,
        request: Mapping[str, object],
        is_script: bool,
        supervisor: socket.socket,
        pipes: Pipes | None,
        container: int,
    ) -> int:
        """The joiner's pidfd."""
        streams = pipes.theirs if pipes else ()
        try:
            if is_script:
                return join.start_script(
                    document, self._cgroup, supervisor.fileno(), streams, container=container
                )
            return join.start(
                lambda: read_steps(document),
                Place(supervisor, self._cgroup, owner=self._owner),
                streams,
                container=container,
                oom_score=cast(int, request["oom_score"]),
                apparmor=cast(str, request.get("apparmor", "")),
                crowded=bool(request.get("crowded")),
            )
        except KernelError as error:
            # Born into the container's cgroup, it counts there.
            if error.errno != errno.EAGAIN:
                raise
            raise CannotStart(f"cannot join the container: {reason(error)}", NO_ROOM) from error

    def _says(self, entry: Exec, message: Message) -> None:
        if message.body["state"] == "joined":
            entry.pid, entry.pidfd = cast(int, message.body["result"]), message.descriptors[0]
            self._poller.watch(entry.pidfd, READABLE, lambda _: self._exited(entry))
        elif message.body["state"] == "terminal":
            entry.stdio.use_terminal(message.descriptors[0])

    def _started(self, entry: Exec, client: int, reply: Reply) -> None:
        connection = entry.starting.connection
        self._poller.forget(connection.fileno())
        connection.close()
        failure = entry.starting.failure
        if failure is not None:
            reply({"error": str(failure), "code": failure.code}, ())
        else:
            reply({"pid": entry.pid}, (client,) if client >= 0 else ())
            self._report(entry)
        if client >= 0:
            os.close(client)
        if failure is not None and entry.pidfd < 0:
            entry.stdio.finish()
            self._forget(entry)

    def _reap_joiner(self, entry: Exec) -> None:
        if process.reap(entry.joiner) is not None:
            self._poller.forget(entry.joiner)
            os.close(entry.joiner)

    def _exited(self, entry: Exec) -> None:
        entry.ended = process.reap(entry.pidfd)
        if entry.ended is None:
            return
        self._poller.forget(entry.pidfd)
        os.close(entry.pidfd)
        if not entry.starting.over:
            entry.listen(0)  # a terminal that it opened may still be on its way here
        entry.stdio.finish()

    def _conclude(self, entry: Exec) -> None:
        if entry.starting.over:
            self._report(entry)

    def _report(self, entry: Exec) -> None:
        """Tell of its end, once it started and its output is read: before its stream ends, so
        that whoever sees the end of the stream can ask for the exit code."""
        if entry.ended is None or not entry.stdio.drained or entry.reported:
            return
        entry.reported = True
        if entry.starting.failure is None:
            code, number = entry.ended
            self._broadcast(
                {
                    "event": "exec_exited",
                    "exec": entry.key,
                    "code": code,
                    "signal": number,
                    "oom_killed": False,
                    "finished_at": time.time_ns(),
                }
            )
        self._forget(entry)

    def _forget(self, entry: Exec) -> None:
        self._running.pop(entry.key, None)
        entry.stdio.close_clients()
