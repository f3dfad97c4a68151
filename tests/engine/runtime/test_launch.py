"""Whole lives of containers, through the daemon's handle."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import re
import select
import shutil
import signal
import sys
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.runtime.birth import SOCKET
from engine.runtime.cgroup_tree import Cgroup, detect
from engine.runtime.handle import Lost, Shim, StartFailed
from engine.runtime.remains import ExitStatus, read_exit
from engine.runtime.request import LogTarget
from engine.runtime.seccomp import compile_filter, parse_profile
from engine.runtime.users import Identity
from tests.benchmarks.measures import own_memory
from tests.engine.apparmor import needs_apparmor, profile
from tests.engine.runtime import tracing
from tests.engine.runtime.laboratory import (
    DAEMON,
    PREFIX,
    Laboratory,
    ended,
    exec_request,
    is_running,
    read_log,
    unframe,
)

pytestmark = pytest.mark.kernel

ROOT = Identity(0, 0, (0,), "/root")
# Execs are scripts where it is known who they will be.
WAYS = pytest.mark.parametrize("identity", [ROOT, None], ids=["script", "interpreter"])
LETS_ALL_PASS = compile_filter(
    parse_profile('{"defaultAction": "SCMP_ACT_ALLOW"}'), frozenset(), kernel=(6, 1)
)


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 0)])
async def test_exit_code(lab: Laboratory, script: str, code: int) -> None:
    # The first process of a PID namespace does not die by its own SIGKILL.
    status = (await lab.run("sh", "-c", script)).status
    assert (status.code, status.signal, status.oom_killed) == (code, None, False)


@pytest.mark.parametrize("init", [False, True])
async def test_killed_container_says_so(lab: Laboratory, init: bool) -> None:
    shim = await lab.start("sleep", "100", init=init)
    await shim.kill(signal.SIGKILL)
    status = await shim.exited
    assert (status.code, status.signal) == (137, signal.SIGKILL)
    assert not status.oom_killed


async def test_init_forwards_signals_and_reaps(lab: Laboratory) -> None:
    script = "trap 'echo got; exit 5' TERM; (sleep 0.01 &) ; echo up; while :; do sleep 1; done"
    shim = await lab.launch(lab.request("sh", "-c", script, init=True))
    reader, writer = await shim.attach(stdin=False, stdout=True, stderr=True)
    await shim.go()
    assert (await reader.readexactly(11)).endswith(b"up\n")
    await shim.kill(signal.SIGTERM)
    assert b"got" in await reader.read()
    writer.close()
    assert (await shim.exited).code == 5


async def test_init_has_a_name_of_its_own(lab: Laboratory) -> None:
    ran = await lab.run("cat", "/proc/1/cmdline", "/proc/1/comm", init=True, user="1000")
    command, program, *_, name = ran.stdout.split(b"\0")
    assert (command, name) == (b"pycompose-init", b"pycompose-init\n")
    assert program.endswith(b"/cat")


async def test_init_reports_a_signalled_payload_as_shells_do(lab: Laboratory) -> None:
    status = (await lab.run("sh", "-c", "kill -KILL $$", init=True)).status
    assert status.code == 137


async def test_output_of_both_streams_is_framed_and_logged(lab: Laboratory) -> None:
    request = lab.request("sh", "-c", "echo out; echo err >&2")
    ran = await lab.run_request(request)
    assert (ran.stdout, ran.stderr) == (b"out\n", b"err\n")
    log = Path(request.log.path).read_text()
    assert '"log":"out\\n","stream":"stdout","time":"' in log
    assert '"log":"err\\n","stream":"stderr"' in log


async def test_every_attached_client_gets_all(lab: Laboratory) -> None:
    shim = await lab.launch(lab.request("seq", "20000"))
    streams = [await shim.attach(stdin=False, stdout=True, stderr=True) for _ in range(3)]
    await shim.go()
    outputs = await asyncio.gather(*(reader.read() for reader, _ in streams))
    expected = b"".join(b"%d\n" % number for number in range(1, 20001))
    assert [unframe(output)[0] for output in outputs] == [expected] * 3
    for _, writer in streams:
        writer.close()


async def test_large_output_is_logged_to_the_last_byte(lab: Laboratory) -> None:
    text = 'a line with "quotes", a back\\slash and 0123456789 ' * 3
    request = lab.request("sh", "-c", f"yes '{text}' | head -c 100M")
    shim = await lab.start_request(request)
    await shim.exited
    await shim.release()
    size = 0
    record = json.dumps({"log": f"{text}\n", "stream": "stdout"}, separators=(",", ":"))[:-1]
    start = record.encode() + b',"time":"'
    others = []
    with open(request.log.path, "rb") as log:
        for line in log:
            if line.startswith(start):
                size += len(text) + 1
            else:
                others.append(json.loads(line)["log"])
    assert len(others) == 1  # the last line is cut off by head
    assert size + len(others[0]) == 100 << 20


async def test_slow_client_holds_the_process_and_loses_nothing(lab: Laboratory) -> None:
    shim = await lab.launch(lab.request("seq", "1000000"))
    reader, writer = await shim.attach(stdin=False, stdout=True, stderr=False)
    transport = writer.transport
    assert isinstance(transport, asyncio.ReadTransport)
    transport.pause_reading()
    await shim.go()
    await held(shim)
    assert not shim.exited.done()
    memory = Path(f"/proc/{shim.shim_pid}/status").read_text()
    resident = int(memory.partition("RssAnon:")[2].split()[0])
    assert resident < 14 * 1024  # kB: it does not gather what is not read
    transport.resume_reading()
    output = unframe(await reader.read())[0]
    assert output == b"".join(b"%d\n" % number for number in range(1, 1000001))
    assert (await shim.exited).code == 0
    writer.close()


async def held(shim: Shim) -> None:
    """Returns when the container's first process waits for room in its pipe."""
    async with asyncio.timeout(20):
        while "pipe_write" not in Path(f"/proc/{shim.pid}/wchan").read_text():
            await asyncio.sleep(0.01)


async def test_input_reaches_the_process_and_ends_with_the_client(lab: Laboratory) -> None:
    shim = await lab.launch(lab.request("cat", open_stdin=True, stdin_once=True))
    reader, writer = await shim.attach(stdin=True, stdout=True, stderr=True)
    await shim.go()
    sent = os.urandom(300_000)
    writer.write(sent)
    writer.write_eof()
    assert unframe(await reader.read())[0] == sent
    assert (await shim.exited).code == 0
    writer.close()


async def test_input_stays_open_for_the_next_client_unless_once(lab: Laboratory) -> None:
    shim = await lab.start("head", "-n", "2", open_stdin=True)
    for line in (b"one\n", b"two\n"):
        _, writer = await shim.attach(stdin=True, stdout=False, stderr=False)
        writer.write(line)
        writer.write_eof()
        await writer.drain()
        writer.close()
    assert (await shim.exited).code == 0


async def test_terminal(lab: Laboratory) -> None:
    script = "tty; ls -l /dev/console | cut -c1; stty size; "
    script += "read line < /dev/tty; echo got $line; stty size"
    shim = await lab.launch(lab.request("sh", "-c", script, terminal=True, open_stdin=True))
    reader, writer = await shim.attach(stdin=True, stdout=True, stderr=True)
    await shim.go()
    await shim.resize(31, 97)
    output = b""
    while output.count(b"\n") < 3:
        output += await reader.read(100)
    writer.write(b"hello\n")
    output += await reader.read()
    writer.close()
    lines = output.replace(b"\r", b"").split(b"\n")
    assert lines[0] == b"/dev/pts/0"
    assert lines[1] == b"c"
    assert b"got hello" in lines
    assert lines[-2] == b"31 97"


@WAYS
async def test_exec_joins_everything(lab: Laboratory, identity: Identity | None) -> None:
    shim = await lab.start("sleep", "100", env=("X=1",))
    script = (
        "for n in mnt pid net ipc uts cgroup; do"
        " [ $(readlink /proc/self/ns/$n) = $(readlink /proc/1/ns/$n) ] || echo differs $n; done;"
        " diff /proc/self/cgroup /proc/1/cgroup && ls /proc/self/fd && exit 3"
    )
    process = await shim.exec(exec_request("sh", "-c", script, identity=identity))
    assert process.reader is not None
    assert process.writer is not None
    output = unframe(await process.reader.read())
    # The exit code is known before the end of the stream is.
    assert process.exited.done()
    assert process.exited.result().code == 3
    assert output == (b"0\n1\n2\n3\n", b"")
    assert is_running(shim.pid)
    process.writer.close()


@WAYS
async def test_exec_with_terminal_and_input(lab: Laboratory, identity: Identity | None) -> None:
    shim = await lab.start("sleep", "100")
    request = exec_request(
        "sh",
        "-c",
        "tty; read x < /dev/tty; echo $x",
        terminal=True,
        attach_stdin=True,
        identity=identity,
    )
    process = await shim.exec(request)
    assert process.reader is not None
    assert process.writer is not None
    await process.resize(10, 20)
    process.writer.write(b"word\n")
    output = await process.reader.read()
    assert b"/dev/pts/0" in output
    assert output.count(b"word") == 2  # its echo and the answer
    process.writer.close()


@WAYS
async def test_exec_gets_into_a_container_that_has_all_the_processes_that_it_may(
    lab: Laboratory, identity: Identity | None
) -> None:
    shim = await lab.start("sleep", "100", resources={"pids": {"limit": 1}})
    # It counts there, as it may have no child.
    script = (
        "for n in self 1; do while read -r line; do echo $n $line; done < /proc/$n/cgroup; done;"
        " true & wait"
    )
    for terminal in (False, True):
        request = exec_request("sh", "-c", script, identity=identity, terminal=terminal)
        process = await shim.exec(request)
        assert process.reader is not None
        assert process.writer is not None
        output = (await process.reader.read()).replace(b"\r", b"")
        assert b"ork" in output.splitlines()[-1]  # cannot fork
        own = re.findall(rb"self (\d+:.*)", output)
        assert own
        assert own == re.findall(rb"1 (\d+:.*)", output)
        assert (await process.exited).code != 0
        process.writer.close()


async def test_exec_ends_with_the_container(lab: Laboratory) -> None:
    shim = await lab.start("sleep", "100")
    process = await shim.exec(exec_request("sleep", "100"))
    await shim.kill(signal.SIGKILL)
    assert (await process.exited).code == 137
    assert process.writer is not None
    process.writer.close()


@pytest.mark.parametrize("by", ["us", "others"])
async def test_a_script_is_not_begun_where_nothing_runs(lab: Laboratory, by: str) -> None:
    """The shim would wait for it, and who could thaw it would wait for the shim."""
    shim = await lab.start("sleep", "100")
    if by == "us":
        await shim.pause()
    else:
        Cgroup(detect(), f"/{PREFIX}/{shim.container_id}").freeze(True)
    for _ in range(2):
        with pytest.raises(StartFailed, match="the container is paused: unpause it before"):
            await shim.exec(exec_request("true", identity=ROOT))
    await shim.resume()
    process = await shim.exec(exec_request("true", identity=ROOT))
    assert (await process.exited).code == 0
    assert process.writer is not None
    process.writer.close()


# All that a process can see of how it was made, but for what has another number each time.
SURVEY = r"""
cut -d' ' -f4- /proc/self/mountinfo | sed 's:self/fd/[0-9]*:FD:g; s/,mode=7[01][01]//'
find /dev /sys/fs/cgroup -maxdepth 2 ! -path '/dev/pts/*' ! -path '*/pycompose-test-*/*' \
  -printf '%p %y %m %U:%G %l\n' | sort
grep -E '^(Umask|Uid|Gid|Groups|NoNewPrivs|Seccomp|Sig[BIC]|Cap)' /proc/self/status
cat /proc/self/limits /proc/self/oom_score_adj /proc/keys
ls -l /proc/self/fd | sed 's/.* \([0-9]\) -> //; s/:.*//'
hostname; pwd; env | sort; cat /proc/sys/net/ipv4/ip_forward /proc/1/comm
stat -c '%u %a' /proc/self/fd/1 /data /etc/hosts /root /run/some; ls -l /.dockerenv /etc/mtab
"""


@pytest.mark.parametrize("changes", [
    {},
    {"user": "www-data", "cwd": "/data/made/here", "no_new_privileges": True},
    {"terminal": True, "init": True},
    {"open_stdin": True, "resources": {"pids": {"limit": 77}}},
], ids=["usual", "user", "terminal", "limits"])  # fmt: skip
async def test_a_script_and_the_interpreter_make_the_same(
    lab: Laboratory, tmp_path: Path, changes: dict[str, object]
) -> None:
    """What is seen from inside; with limits, devices, sysctls and mounts."""
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n")
    mounts = (
        {"destination": "/data", "type": "bind", "source": str(tmp_path), "options": ["rbind"]},
        {"destination": "/etc/hosts", "type": "bind", "source": str(tmp_path / "hosts"),
         "options": ["rbind", "rro"]},
        {"destination": "/scratch", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "mode=1777", "size=65536"]},
        # As open as what it covers; and by a link, where there is nothing yet.
        {"destination": "/root", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"]},
        {"destination": "/var/run/some/where", "type": "bind", "source": str(tmp_path),
         "options": ["rbind"]},
    )  # fmt: skip
    seen = []
    for by_script in (True, False):
        limit = {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}
        request = lab.request("sh", "-c", SURVEY, sysctl={"net.ipv4.ip_forward": "1"},
                              rlimits=(limit,), mounts=mounts, seccomp=LETS_ALL_PASS,
                              **changes)  # type: ignore[arg-type]  # fmt: skip
        (Path(request.rootfs.upper) / "scratch").mkdir()
        (Path(request.rootfs.upper) / "data").mkdir()
        ran = await lab.run_request(request, by_script=by_script)
        assert ran.status.code == 0, ran
        assert lab.scripted[-1] is by_script
        identifier = request.container_id
        text = (ran.stdout + ran.stderr).decode().replace(identifier, "ID")
        seen.append(text.replace(identifier[:12], "SHORT"))
    assert seen[0].splitlines() == seen[1].splitlines()


async def test_whatever_a_script_opens_there_is_room_for_more(lab: Laboratory) -> None:
    """Each of these settings takes a descriptor; as many as bring it to any of the places that
    others have."""
    folder = Path("/proc/sys/net/ipv4/conf/lo")
    names = [path.name for path in folder.iterdir() if path.stat().st_mode & 0o200]
    for count in range(25):
        sysctl = {f"net.ipv4.conf.lo.{name}": "0" for name in names[:count]}
        await lab.run_request(lab.request("true", sysctl=sysctl))
        assert lab.scripted[-1], count


async def test_pause_and_resume(lab: Laboratory) -> None:
    shim = await lab.start("sh", "-c", "while :; do :; done")
    await shim.pause()
    before = cpu_ticks(shim.pid)
    assert cpu_ticks(shim.pid) == before
    await shim.resume()
    async with asyncio.timeout(10):
        while cpu_ticks(shim.pid) == before:
            await asyncio.sleep(0.01)


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


async def test_out_of_memory_is_seen(lab: Laboratory) -> None:
    hungry = "import sys; x = bytearray(200 << 20)"
    limit = {"memory": {"limit": 32 << 20, "swap": 32 << 20}}
    ran = await lab.run("/usr/bin/python3", "-c", hungry, resources=limit)
    assert ran.status.code == 137
    assert ran.status.oom_killed


async def test_network_sockets_belong_to_the_container(lab: Laboratory) -> None:
    shim = await lab.launch(lab.request("sleep", "100", dns=True))
    assert shim.sockets is not None
    assert os.fstat(shim.sockets.namespace).st_ino != os.stat("/proc/self/ns/net").st_ino
    await shim.go()
    assert os.fstat(shim.sockets.namespace).st_ino == os.stat(f"/proc/{shim.pid}/ns/net").st_ino
    process = await shim.exec(exec_request("cat", "/proc/net/udp", "/proc/net/tcp"))
    assert process.reader is not None
    tables = unframe(await process.reader.read())[0]
    assert tables.count(b"0B00007F:") == 2  # 127.0.0.11
    again = await shim.network_sockets()
    again.close()
    assert process.writer is not None
    process.writer.close()


async def test_container_shares_the_namespaces_of_another(lab: Laboratory) -> None:
    first = await lab.start("sleep", "100")
    names = {kind: f"/proc/{first.pid}/ns/{file}" for kind, file in _FILES.items()}
    ran = await lab.run(
        "sh",
        "-c",
        "readlink /proc/self/ns/net /proc/self/ns/ipc /proc/self/ns/uts /proc/self/ns/pid",
        namespaces=names,
        own_network=False,
        sysctl={},
    )
    expected = [
        os.readlink(f"/proc/{first.pid}/ns/{name}") for name in ("net", "ipc", "uts", "pid")
    ]
    assert ran.stdout.decode().split() == expected


_FILES = {"network": "net", "ipc": "ipc", "uts": "uts", "pid": "pid"}


async def test_host_namespaces_are_shared_one_by_one(lab: Laboratory) -> None:
    for kind, file in _FILES.items():
        ran = await lab.run(
            "readlink",
            *(f"/proc/self/ns/{name}" for name in _FILES.values()),
            namespaces={kind: "host"},
            own_network=kind != "network",
        )
        seen = dict(zip(_FILES.values(), ran.stdout.decode().split(), strict=True))
        own = {name: os.readlink(f"/proc/self/ns/{name}") for name in _FILES.values()}
        assert [name for name in own if own[name] == seen[name]] == [file]


# --- crashes ----------------------------------------------------------------------------------


async def test_adoption_finds_the_running_container(lab: Laboratory) -> None:
    request = lab.request("cat", open_stdin=True, stdin_once=True)
    first = await lab.launch(request)
    await first.go()
    pid = first.pid
    first.disconnect()
    second = await Shim.adopt(request.exec_dir)
    assert isinstance(second, Shim)
    lab.shims.append(second)
    assert (second.pid, second.container_id, second.started) == (pid, request.container_id, True)
    reader, writer = await second.attach(stdin=True, stdout=True, stderr=True)
    writer.write(b"still here")
    writer.write_eof()
    assert unframe(await reader.read())[0] == b"still here"
    assert (await second.exited).code == 0
    writer.close()


async def test_end_that_nobody_saw_is_on_record(lab: Laboratory) -> None:
    request = lab.request("sh", "-c", "read x; echo last words; exit 9", open_stdin=True)
    shim = await lab.start_request(request)
    _, writer = await shim.attach(stdin=True, stdout=False, stderr=False)
    writer.write(b"\n")
    shim_pid = shim.shim_pid
    await writer.drain()
    shim.disconnect()
    writer.close()
    await ended(shim_pid)
    status = await Shim.adopt(request.exec_dir)
    assert isinstance(status, ExitStatus)
    assert status.code == 9
    assert read_log(request.log.path) == b"last words\n"
    await nothing_left(request.container_id)


async def test_a_silent_end_is_on_record_if_nobody_takes_it(lab: Laboratory) -> None:
    request = lab.request("sh", "-c", "exit 9")
    shim = await lab.start_request(request)
    assert (await shim.exited).code == 9
    assert own_memory(shim.shim_pid) < 1.3  # who gets up for that has 1.6
    shim.disconnect()
    await ended(shim.shim_pid)
    status = await Shim.adopt(request.exec_dir)
    assert isinstance(status, ExitStatus)
    assert status.code == 9
    await nothing_left(request.container_id)


async def test_a_silent_end_is_told_to_the_next_daemon(lab: Laboratory) -> None:
    request = lab.request("sh", "-c", "exit 9")
    first = await lab.start_request(request)
    told = await first.exited
    second = await Shim.adopt(request.exec_dir)
    assert isinstance(second, Shim)
    assert (await second.exited).code == told.code == 9
    first.disconnect()
    await second.release()
    await ended(first.shim_pid)
    await nothing_left(request.container_id)


async def test_a_silent_end_takes_with_it_what_is_in_its_cgroup(lab: Laboratory) -> None:
    request = lab.request("true")
    shim = await lab.launch(request)
    stray = await asyncio.create_subprocess_exec("sleep", "100")
    group = Cgroup(detect(), f"{PREFIX}/{request.container_id}")
    for directory in group.directories:
        Path(directory, "cgroup.procs").write_text(str(stray.pid))
    await shim.go()
    assert (await shim.exited).code == 0
    await shim.release()
    assert await stray.wait() == -signal.SIGKILL
    await ended(shim.shim_pid)
    await nothing_left(request.container_id)


async def test_killed_daemon_loses_nothing(lab: Laboratory) -> None:
    """A daemon in a process of its own, killed by SIGKILL while its container runs."""
    request = lab.request("sh", "-c", "echo one; read x; echo two; exit 4", open_stdin=True)
    daemon = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", DAEMON, pickle.dumps(request).hex()),
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert daemon.stdout is not None
    assert await daemon.stdout.readline() == b"started\n"
    daemon.kill()
    await daemon.wait()
    shim = await Shim.adopt(request.exec_dir)
    assert isinstance(shim, Shim)
    lab.shims.append(shim)
    _, writer = await shim.attach(stdin=True, stdout=False, stderr=False)
    writer.write(b"\n")
    assert (await shim.exited).code == 4
    writer.close()
    assert read_log(request.log.path) == b"one\ntwo\n"


async def test_killed_shim_is_reported_and_leaves_nothing(lab: Laboratory) -> None:
    request = lab.request("sh", "-c", "sleep 100 & sleep 100")
    shim = await lab.start_request(request)
    os.kill(shim.shim_pid, signal.SIGKILL)
    assert (await shim.exited).code == 137
    await ended(shim.pid)
    await shim.release()
    await nothing_left(request.container_id)


async def test_end_is_told_where_somebody_swept_up_the_empty_cgroup(lab: Laboratory) -> None:
    request = lab.request("sh", "-c", "until test -e /end; do sleep 0.01; done; exit 4")
    shim = await lab.start_request(request)
    os.kill(shim.shim_pid, signal.SIGSTOP)
    Path(f"/proc/{shim.pid}/root/end").touch()
    await ended(shim.pid)
    Cgroup(detect(), f"/{PREFIX}/{request.container_id}").remove()
    os.kill(shim.shim_pid, signal.SIGCONT)
    assert (await shim.exited).code == 4
    await shim.release()
    await nothing_left(request.container_id)


async def test_start_leaves_nothing_whose_shim_is_killed_before_the_end_of_it(
    lab: Laboratory,
) -> None:
    request = lab.request("sleep", "100")
    shim = await lab.launch(request)
    os.kill(shim.shim_pid, signal.SIGKILL)
    with pytest.raises(Lost):
        await shim.go()
    await shim.abandon()
    assert os.listdir(request.exec_dir) == []
    await nothing_left(request.container_id)


async def test_shim_killed_unseen_is_cleaned_up_by_adoption(lab: Laboratory) -> None:
    request = lab.request("sleep", "100")
    shim = await lab.start_request(request)
    pid, shim_pid = shim.pid, shim.shim_pid
    shim.disconnect()
    os.kill(shim_pid, signal.SIGKILL)
    await ended(shim_pid)
    assert await Shim.adopt(request.exec_dir) is None
    await ended(pid)
    await nothing_left(request.container_id)


async def test_spawner_that_is_killed_as_it_starts_is_started_again(lab: Laboratory) -> None:
    os.kill(lab.spawner.pid, signal.SIGKILL)
    await ended(lab.spawner.pid)
    run = asyncio.create_task(lab.run("echo", "again"))
    while (pid := lab.spawner.pid) == 0 or not Path(f"/proc/{pid}").exists():
        await asyncio.sleep(0)
    os.kill(pid, signal.SIGKILL)
    assert (await run).stdout == b"again\n"
    assert lab.spawner.pid != pid


async def test_spawner_is_started_again(lab: Laboratory) -> None:
    running = await lab.start("sleep", "100")
    os.kill(lab.spawner.pid, signal.SIGKILL)
    await ended(lab.spawner.pid)
    assert (await lab.run("echo", "again")).stdout == b"again\n"
    assert is_running(running.pid)


async def test_shim_goes_on_whose_spawner_was_killed_before_it_could_tell(lab: Laboratory) -> None:
    request = lab.request("sleep", "100")
    spawner, maker = lab.spawner.pid, child_of(lab.spawner.pid)
    starting = asyncio.create_task(lab.start_request(request))
    async with asyncio.timeout(60):
        held = await tracing.next_child(spawner)
        await tracing.hold_before(held, "clone3")
    os.kill(spawner, signal.SIGKILL)
    await ended(maker)
    tracing.let_go(held)
    shim = await starting
    assert shim.shim_pid == held
    shim.disconnect()
    adopted = await Shim.adopt(request.exec_dir)
    assert isinstance(adopted, Shim)
    assert adopted.pid == shim.pid
    await adopted.abandon()
    await nothing_left(request.container_id)


@pytest.mark.parametrize("whom", ["spawner", "maker"])
async def test_killed_before_there_is_a_shim_others_are_asked(lab: Laboratory, whom: str) -> None:
    request = lab.request("echo", "again")
    spawner, maker = lab.spawner.pid, child_of(lab.spawner.pid)
    os.kill(spawner, signal.SIGSTOP)
    running = asyncio.create_task(lab.run_request(request))
    async with asyncio.timeout(60):
        while not Path(request.exec_dir, SOCKET).exists():
            await asyncio.sleep(0)
    os.kill(spawner if whom == "spawner" else maker, signal.SIGKILL)
    assert (await running).stdout == b"again\n"
    assert lab.spawner.pid != spawner
    await nothing_left(request.container_id)


async def test_shim_whose_folder_is_gone_ends_with_its_container(lab: Laboratory) -> None:
    request = lab.request("sleep", "100")
    shim = await lab.start_request(request)
    shutil.rmtree(request.exec_dir)  # as a removal does that a daemon doesn't live to finish
    shim.disconnect()
    os.kill(shim.pid, signal.SIGKILL)
    await ended(shim.shim_pid)
    await nothing_left(request.container_id)


async def test_start_that_nobody_finishes_is_undone(lab: Laboratory) -> None:
    request = lab.request("sleep", "100")
    shim = await lab.launch(request)
    pid, shim_pid = shim.pid, shim.shim_pid
    shim.disconnect()
    await ended(shim_pid)
    await ended(pid)
    await nothing_left(request.container_id)
    assert read_exit(request.exec_dir) is None


async def test_container_killed_before_it_began_ends(lab: Laboratory) -> None:
    request = lab.request("sleep", "100")
    shim = await lab.launch(request)
    await shim.kill_all()
    assert (await shim.exited).code == 137
    await shim.release()
    await nothing_left(request.container_id)
    assert read_exit(request.exec_dir) is None


async def test_adoption_undoes_a_start_that_was_left_half_way(lab: Laboratory) -> None:
    request = lab.request("sleep", "100")
    shim = await lab.launch(request)  # this daemon still holds on
    assert await Shim.adopt(request.exec_dir) is None
    await shim.exited
    await ended(shim.pid)
    await nothing_left(request.container_id)


async def test_failed_start_leaves_nothing(lab: Laboratory) -> None:
    request = lab.request("nosuch")
    shim = await lab.launch(request)
    with pytest.raises(StartFailed):
        await shim.go()
    await nothing_left(request.container_id)
    assert os.listdir(request.exec_dir) == []


async def test_spec_that_is_wrong_is_refused_at_launch(lab: Laboratory) -> None:
    request = lab.request("true", namespaces={"time": ""})
    with pytest.raises(StartFailed, match="'time' namespaces are not supported"):
        await lab.launch(request)
    await nothing_left(request.container_id)


@needs_apparmor
async def test_a_script_applies_a_profile(lab: Laboratory) -> None:
    request = lab.request("cat", "/proc/self/attr/current")
    process = request.spec["process"]
    assert isinstance(process, dict)
    with profile() as process["apparmorProfile"]:
        assert (await lab.run_request(request)).stdout == b"pycompose-test (enforce)\n"
    assert lab.scripted == [True]


async def test_a_profile_that_cannot_be_applied_ends_the_start(lab: Laboratory) -> None:
    request = lab.request("true")
    process = request.spec["process"]
    assert isinstance(process, dict)
    process["apparmorProfile"] = "no-such-profile"
    with pytest.raises(StartFailed, match="cannot apply AppArmor profile 'no-such-profile'"):
        await (await lab.launch(request)).go()
    await nothing_left(request.container_id)


async def test_released_container_leaves_nothing(lab: Laboratory) -> None:
    request = lab.request("true")
    shim = await lab.launch(request)
    pid, shim_pid = shim.pid, shim.shim_pid
    await shim.go()
    await shim.exited
    await shim.release()
    await ended(shim_pid)
    await ended(pid)
    await nothing_left(request.container_id)
    assert os.listdir(request.exec_dir) == []


async def test_a_container_can_be_started_again_on_the_same_root(lab: Laboratory) -> None:
    request = lab.request("sh", "-c", "cat /kept; echo more >> /kept")
    outputs = [(await lab.run_request(request)).stdout for _ in range(3)]
    assert outputs == [b"", b"more\n", b"more\nmore\n"]
    assert (
        read_log(request.log.path) == b"cat: /kept: No such file or directory\nmore\nmore\nmore\n"
    )


async def test_nothing_leaks_in_the_shim(lab: Laboratory) -> None:
    shim = await lab.start("sleep", "100")
    await shim.kill(signal.SIGCONT)  # it does something: until then it has less open
    before = open_files(shim.shim_pid)
    for _ in range(3):
        for request in (
            exec_request("true"),
            exec_request("tty", terminal=True),
            exec_request("true", attach_stdout=False, attach_stderr=False),
        ):
            process = await shim.exec(request)
            if process.reader is not None and process.writer is not None:
                await process.reader.read()
                process.writer.close()
            await process.exited
        with pytest.raises(StartFailed):
            await shim.exec(exec_request("nosuch"))
        _, writer = await shim.attach(stdin=True, stdout=True, stderr=True)
        writer.close()
        (await shim.network_sockets()).close()
    async with asyncio.timeout(10):  # it sees the closed clients at its next turn
        while open_files(shim.shim_pid) != before:
            await asyncio.sleep(0.01)


async def test_shim_of_a_silent_container_sleeps_and_costs_little(lab: Laboratory) -> None:
    shim = await lab.start("sh", "-c", "read x; echo $x", open_stdin=True, stdin_once=True)
    assert own_memory(shim.shim_pid) < 0.9
    reader, writer = await shim.attach(stdin=True, stdout=True, stderr=False)
    writer.write(b"heard\n")
    assert unframe(await reader.read()) == (b"heard\n", b"")
    writer.close()


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


async def test_many_start_at_once(lab: Laboratory) -> None:
    outputs = await asyncio.gather(*(lab.run("echo", str(number)) for number in range(8)))
    assert [ran.stdout for ran in outputs] == [b"%d\n" % number for number in range(8)]


async def test_no_log_is_written_when_none_is_wanted(lab: Laboratory) -> None:
    request = replace(lab.request("echo", "x"), log=LogTarget("", 0, 1))
    assert (await lab.run_request(request)).stdout == b"x\n"


async def nothing_left(container_id: str) -> None:
    """A process that told its last may still be on its way out."""
    async with asyncio.timeout(5):
        while found := leftovers(container_id):
            await asyncio.sleep(0.01)
    assert found == []


def child_of(pid: int) -> int:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def leftovers(container_id: str) -> list[str]:
    """Cgroups and processes that still carry the container's id."""
    groups = [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/{PREFIX}/{container_id}")]
    processes = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if container_id.encode() in words and b"pycompose-shim" in words:
            processes.append(str(path))
    return groups + processes


async def cancelled_too_late(shim: Shim, asked: Coroutine[Any, Any, object]) -> None:
    """The answer is there, and whoever asked ends before it is taken."""
    task = asyncio.create_task(asked)
    await asyncio.sleep(0)  # it asks
    select.select([shim._connection], [], [], 10)
    shim._on_readable()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_answer_that_nobody_takes_any_more_stays_open_nowhere(lab: Laboratory) -> None:
    shim = await lab.start("sleep", "1000", dns=True)
    before = len(os.listdir("/proc/self/fd"))
    await cancelled_too_late(shim, shim.attach(stdin=False, stdout=True, stderr=True))
    await cancelled_too_late(shim, shim.network_sockets())
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_limit_that_the_kernel_refuses_is_told(lab: Laboratory) -> None:
    for by_script in (True, False):
        request = lab.request("true", resources={"pids": {"limit": 10**12}})
        with pytest.raises(StartFailed, match=r"write '1000000000000'.*pids\.max"):
            await lab.run_request(request, by_script=by_script)
