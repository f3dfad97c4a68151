"""Exec instances: further processes in a running container. Health probes are some, too."""

import asyncio
import contextlib
import logging
import os
import signal
from dataclasses import replace

from engine.containers import health, legacy_links, spec
from engine.containers.checks import check_exec
from engine.containers.container import Container, Exec
from engine.containers.model import ExecConfig, Status
from engine.containers.parts import Parts
from engine.containers.streams import MessageStreams, ProcessStreams, parse_detach_keys
from engine.errors import Conflict, InvalidRequest, NotFound
from engine.ids import new_id
from engine.runtime import accounts
from engine.runtime.handle import ExecProcess, ExecRequest, Lost, StartFailed
from engine.runtime.users import UnknownUser

log = logging.getLogger(__name__)

# Clients ask for the exit code after the end; so many ended ones are kept for a container.
KEPT = 100
NOT_RUN = 126  # what inspect says of one that could not start where the runtime has no word for it


async def create(parts: Parts, container: Container, config: ExecConfig) -> Exec:
    check_exec(config)
    demand_running(container)
    if config.user:
        # In a thread: what lies in the container's place of the files may be slow.
        await asyncio.to_thread(_check_user, container.record.state.pid, config.user)
    made = Exec(new_id(), container.id, config)
    ended = [exec.id for exec in container.execs.values() if exec.exit_code is not None]
    for exec_id in ended[: max(0, len(ended) - KEPT)]:
        del container.execs[exec_id]
    container.execs[made.id] = made
    parts.publish(container.record, f"exec_create: {_said(config)}", execID=made.id)
    return made


def _check_user(pid: int, user: str) -> None:
    """Docker looks the user up already now; what counts is what the exec itself finds.

    Raises InvalidRequest."""
    with contextlib.suppress(OSError):  # it ended meanwhile, or its files can't be read
        try:
            accounts.find(user, (), f"/proc/{pid}/root")
        except UnknownUser as error:
            raise InvalidRequest(str(error)) from None


def _said(config: ExecConfig) -> str:
    """As Docker puts it together, with a blank after a command of one word."""
    return f"{config.cmd[0]} {' '.join(config.cmd[1:])}"


def demand_up(container: Container) -> None:
    """Raises Conflict where nothing of it runs, paused or not."""
    if container.record.state.status not in (Status.RUNNING, Status.PAUSED):
        raise Conflict(f"container {container.id} is not running")


def demand_running(container: Container) -> None:
    match container.record.state.status:
        case Status.RUNNING:
            return
        case Status.PAUSED:
            raise Conflict(
                f"Container {container.record.name} is paused, unpause the container before exec"
            )
        case Status.RESTARTING:
            raise Conflict(
                f"Container {container.id} is restarting, wait until the container is running"
            )
        case _:
            raise Conflict(f"container {container.id} is not running")


async def run(
    parts: Parts,
    container: Container,
    wanted: Exec,
    *,
    detach: bool,
    tty: bool,
    console_size: tuple[int, int],
) -> ProcessStreams | MessageStreams | None:
    """Starts it; None if detached. Raises what a detached one can't start for.

    `tty` says that the client wants the output as it is; a terminal's comes in frames otherwise.
    """
    demand_up(container)
    if wanted.is_claimed:
        message = f"exec command {wanted.id} has already run"
        if detach:
            raise Conflict(message)
        return MessageStreams(message, tty=tty)
    demand_running(container)
    wanted.is_claimed = True
    if any(console_size):
        wanted.config = replace(wanted.config, console_size=console_size)
    config = wanted.config
    parts.publish(container.record, f"exec_start: {_said(config)}", execID=wanted.id)
    try:
        process = await _start(parts, container, config, detach=detach)
    except StartFailed as error:
        message = str(error)
        wanted.exit_code = error.exit_code if error.exit_code in (126, 127, 128) else NOT_RUN
        if detach:
            raise InvalidRequest(message) from error
        return MessageStreams(message, tty=tty)
    finally:
        wanted.started.set()
    wanted.process = process
    parts.tasks.watch(_settle(parts, container, wanted, process), f"exec {wanted.id}")
    if detach:
        return None
    streams = ProcessStreams(
        tty=config.tty,
        framed=config.tty and not tty,
        detach_keys=parse_detach_keys(config.detach_keys) if config.attach_stdin else b"",
        when_detached=lambda: parts.publish(container.record, "exec_detach", execID=wanted.id),
    )
    streams.ends_with_input = config.tty and config.attach_stdin
    if process.reader is None:
        streams.never_connects()  # nothing of it was asked for: as in Docker, the answer ends
    else:
        streams.connect(process.reader, process.writer, wanted.settled)
    return streams


async def _start(
    parts: Parts, container: Container, config: ExecConfig, *, detach: bool
) -> ExecProcess:
    if container.shim is None:
        raise Conflict(f"container {container.id} is not running")
    try:
        return await container.shim.exec(_request(parts, container, config, detach=detach))
    except Lost as error:  # it ended meanwhile
        raise Conflict(f"container {container.id} is not running") from error


def _request(
    parts: Parts, container: Container, config: ExecConfig, *, detach: bool
) -> ExecRequest:
    record = container.record
    host = record.host
    privileged = config.privileged or host.privileged
    names = spec.capability_names(host, parts.machine, privileged=privileged)
    process: dict[str, object] = {
        "terminal": config.tty,
        "user": {"uid": 0, "gid": 0},
        "args": list(config.cmd),
        "env": spec.environment(
            record,
            config.env,
            tty=config.tty,
            linked=legacy_links.variables(legacy_links.links_of(parts, record)),
        ),
        "cwd": config.working_dir or record.config.working_dir or "/",
        "capabilities": spec.capability_sets(names),
        "rlimits": spec.rlimits(host),
        "noNewPrivileges": spec.has_no_new_privileges(host),
        "oomScoreAdj": host.oom_score_adj,
        "apparmorProfile": spec.apparmor_profile(host, parts.machine, privileged=privileged),
    }
    if any(config.console_size):
        height, width = config.console_size
        process["consoleSize"] = {"height": height, "width": width}
    user = config.user or record.config.user
    return ExecRequest(
        process=process,
        user=user,
        groups=host.group_add,
        # The container's, also where the exec is privileged, as Docker's.
        seccomp=spec.seccomp_filter(host, parts.machine),
        attach_stdin=config.attach_stdin and not detach,
        attach_stdout=config.attach_stdout and not detach,
        attach_stderr=config.attach_stderr and not detach,
        identity=accounts.find_near(user, host.group_add, f"/proc/{record.state.pid}/root"),
    )


async def _settle(parts: Parts, container: Container, ran: Exec, process: ExecProcess) -> None:
    try:
        status = await asyncio.shield(process.exited)
        if ran.exit_code is None:
            ran.exit_code = status.code
            exit_code = str(status.code)
            parts.publish(container.record, "exec_die", execID=ran.id, exitCode=exit_code)
    finally:
        ran.settled.set()


async def settle_all(container: Container) -> None:
    """The container is down, so are they: killed, unless their end was seen."""
    for ran in container.execs.values():
        if ran.is_running:
            ran.exit_code = 128 + signal.SIGKILL
            ran.settled.set()


def find(containers: "dict[str, Container]", exec_id: str) -> tuple[Container, Exec]:
    for container in containers.values():
        if (found := container.execs.get(exec_id)) is not None:
            return container, found
    raise NotFound(f"No such exec instance: {exec_id}")


# --- health probes ----------------------------------------------------------------------------


async def probe(
    parts: Parts, container: Container, command: tuple[str, ...], timeout: float
) -> tuple[int, str]:
    """(exit code, output) of one health probe; -1 when it took longer than `timeout` seconds."""
    config = ExecConfig(command, attach_stdout=True, attach_stderr=True)
    exec_id = new_id()
    text = _said(config)
    parts.publish(container.record, f"exec_create: {text}", execID=exec_id)
    try:
        process = await _start(parts, container, config, detach=False)
    except (StartFailed, Conflict) as error:
        return 1, str(error)
    parts.publish(container.record, f"exec_start: {text}", execID=exec_id)
    output = bytearray()
    try:
        async with asyncio.timeout(timeout):
            await _collect(process, output)
            status = await asyncio.shield(process.exited)
    except TimeoutError:
        return -1, health.timed_out(timeout, bytes(output))
    finally:
        # Also when the container ends or the daemon does: a probe must not stay behind.
        _kill(process)
        if process.writer is not None:
            process.writer.close()
    parts.publish(container.record, "exec_die", execID=exec_id, exitCode=str(status.code))
    return status.code, health.kept_output(bytes(output))


def _kill(process: ExecProcess) -> None:
    if not process.exited.done():
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


async def _collect(process: ExecProcess, output: bytearray) -> None:
    """What it prints, without the frames; more than is kept is read and dropped, so that the
    probe isn't held up."""
    if process.reader is None:
        return
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while header := await process.reader.read(8):
            if len(header) < 8:
                header += await process.reader.readexactly(8 - len(header))
            rest = int.from_bytes(header[4:], "big")
            while rest and (piece := await process.reader.read(min(rest, 65536))):
                rest -= len(piece)
                if len(output) <= health.LARGEST_OUTPUT:
                    output += piece
