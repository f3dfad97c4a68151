"""Attacks from inside: real containers with the engine's own spec, and a process in them that
says what it is and what it could do. Numbers in parentheses are isolation requirements."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from engine.containers import spec
from engine.containers.machine import host_devices, read_machine
from engine.containers.model import ContainerConfig, HostConfig, Record, Ulimit
from engine.ids import new_id
from engine.oci.rootfs import Rootfs
from engine.runtime import capabilities
from engine.runtime.cgroup_tree import detect
from engine.runtime.handle import ExecRequest, Lost, Shim, StartFailed
from engine.runtime.launch import Spawner
from engine.runtime.remains import ExitStatus
from engine.runtime.request import LaunchRequest, LogTarget
from engine.runtime.syscalls import X86_64
from tests.engine.runtime.laboratory import unframe
from tests.engine.runtime.test_seccomp import CLOSED

pytestmark = pytest.mark.kernel

PYTHON = "/usr/bin/python3"
PROBE = (Path(__file__).parent / "isolation_probe.py").read_text()
PARENT = "/pycompose-test-isolation"

# What the probe is to try; requirement 9 has the paths.
WRITES = (
    *("/proc/sys/kernel/hostname", "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger"),
    *("/proc/sys/net/ipv4/ip_forward", "/proc/irq/default_smp_affinity", "/sys/kernel/mm/ksm/run"),
    *("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/devices/devices.allow"),
    "/sys/fs/cgroup/cgroup.procs",
)
ORDER = json.dumps(
    {
        "write": [path for path in WRITES if os.path.exists(path)],
        "masked": [*spec.MASKED_PATHS],
        "calls": {name: X86_64[name] for name in CLOSED.split()},
        "clone": [0x10000000, 0x20000000, 0x40000000, 0x20000],
    }
)
# For cells with the rights to do harm: only what stays in their own namespaces.
HARMLESS_ORDER = json.dumps(
    {"write": ["/proc/sys/net/ipv4/ip_forward"], "masked": [], "calls": {}, "clone": []}
)


@dataclass
class Cell:
    """A container that was launched; `shim.go()` runs its command."""

    shim: Shim
    record: Record
    host: HostConfig

    async def output(
        self, while_running: Awaitable[None] | None = None
    ) -> tuple[bytes, ExitStatus]:
        reader, writer = await self.shim.attach(stdin=False, stdout=True, stderr=True)
        try:
            await self.shim.go()
            if while_running is not None:
                await while_running
            stdout, stderr = unframe(await reader.read())
        finally:
            await close(writer)
        status = await self.shim.exited
        assert not stderr, stderr.decode()
        return stdout, status

    async def exec(self, *command: str, user: str = "", privileged: bool = False) -> bytes:
        names = spec.capability_names(replace(self.host, privileged=privileged), MACHINE)
        process: dict[str, object] = {
            "args": list(command),
            "env": spec.environment(self.record),
            "cwd": "/",
            "capabilities": spec.capability_sets(names),
            "noNewPrivileges": spec.has_no_new_privileges(self.host),
            "oomScoreAdj": 0,
        }
        request = ExecRequest(
            process, user, (), spec.seccomp_filter(self.host, MACHINE), False, True, True
        )
        ran = await self.shim.exec(request)
        assert ran.reader is not None
        assert ran.writer is not None
        stdout, stderr = unframe(await ran.reader.read())
        await close(ran.writer)
        await ran.exited
        assert not stderr, stderr.decode()
        return stdout


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):  # the other side may be gone already
        await writer.wait_closed()


MACHINE = read_machine()


@contextlib.asynccontextmanager
async def prison() -> AsyncIterator[Callable[..., Awaitable[Cell]]]:
    """Makes cells, and takes all of them down at the end."""
    folder = Path(tempfile.mkdtemp(prefix="pycompose-isolation-", dir="/var/tmp"))
    spawner = await Spawner.start()
    shims: list[Shim] = []

    async def cell(
        *command: str,
        user: str = "",
        host: HostConfig | None = None,
        init: bool = False,
        cwd: str = "",
        mounts: tuple[dict[str, object], ...] = (),
        prepare: Callable[[Path], None] = lambda upper: None,
    ) -> Cell:
        chosen = replace(host or HostConfig(), cgroup_parent=PARENT)
        identifier = new_id()
        place = folder / identifier
        for name in ("upper", "work", "exec"):
            (place / name).mkdir(parents=True)
        (place / "exec").chmod(0o700)
        prepare(place / "upper")
        for name in ("hosts", "hostname", "resolv.conf"):
            (place / name).write_text("\n")
        record = Record(
            id=identifier,
            name="cell",
            created=0,
            config=ContainerConfig(hostname=identifier[:12], user=user, working_dir=cwd),
            host=chosen,
            image_id="",
            path=command[0],
            args=command[1:],
            hosts_path=str(place / "hosts"),
            hostname_path=str(place / "hostname"),
            resolv_conf_path=str(place / "resolv.conf"),
        )
        around = spec.Surroundings(mounts, host_devices=host_devices(chosen))
        request = LaunchRequest(
            container_id=identifier,
            spec=spec.make_spec(record, MACHINE, around),
            seccomp=spec.seccomp_filter(chosen, MACHINE),
            user=user,
            groups=chosen.group_add,
            rootfs=Rootfs(
                ("/",), str(place / "upper"), str(place / "work"), chosen.readonly_rootfs
            ),
            exec_dir=str(place / "exec"),
            log=LogTarget("", 0, 1),
            open_stdin=False,
            stdin_once=False,
            init=init,
            own_network=True,
            dns=False,
        )
        # As a container's start does it.
        for by_script in (True, False):
            shim = await spawner.prepare(request, by_script=by_script)
            shims.append(shim)
            try:
                await spawner.launch(shim, request)
                break
            except Lost:
                if shim.sockets is not None:
                    shim.sockets.close()
                if not shim.is_unfit:
                    raise
        if shim.sockets is not None:
            shim.sockets.close()
        return Cell(shim, record, chosen)

    try:
        yield cell
    finally:
        for shim in shims:
            # Nothing to end where the start was refused: that clears itself away.
            with contextlib.suppress(Lost):
                if not shim.exited.done():
                    await shim.kill_all()
                    await shim.exited
                await shim.release()
        await spawner.close()
        shutil.rmtree(folder)


NO_NEW = ("no-new-privileges",)
_SEEN: dict[str, dict[str, Any]] = {}


def probe(host: HostConfig | None = None, user: str = "", *, init: bool = False) -> dict[str, Any]:
    """What the probe says as the first process of a container; asked once for each kind."""

    # The attacks are for those who cannot succeed: a privileged process changes the machine.
    chosen = host or HostConfig()
    is_confined = not chosen.privileged and not chosen.security_opt and not chosen.cap_add
    order = ORDER if is_confined or chosen.security_opt == NO_NEW else HARMLESS_ORDER

    async def ran() -> bytes:
        async with prison() as cell:
            command = (PYTHON, "-I", "-S", "-c", PROBE, order)
            made = await cell(*command, host=host, user=user, init=init)
            output, status = await made.output()
            assert status.code == 0
            return output

    key = repr((host, user, init))
    if key not in _SEEN:
        _SEEN[key] = json.loads(asyncio.run(ran()))
    return _SEEN[key]


def run(*command: str, **options: object) -> tuple[bytes, ExitStatus]:
    """The output and end of a command in a container of its own."""

    async def ran() -> tuple[bytes, ExitStatus]:
        async with prison() as cell:
            return await (await cell(*command, **options)).output()

    return asyncio.run(ran())


def mask(found: dict[str, Any], name: str) -> int:
    return int(found["status"][name], 16)


# --- default posture -----------------------------------------------------------------------------


def test_root_holds_fourteen_capabilities_and_hands_none_on() -> None:
    """(1)"""
    found = probe()
    assert [mask(found, f"Cap{name}") for name in ("Bnd", "Prm", "Eff", "Inh", "Amb")] == [
        0xA80425FB,
        0xA80425FB,
        0xA80425FB,
        0,
        0,
    ]


def test_an_ordinary_user_holds_none() -> None:
    """(2)"""
    found = probe(user="1234:1234")
    assert [mask(found, f"Cap{name}") for name in ("Bnd", "Prm", "Eff", "Inh", "Amb")] == [
        0xA80425FB,
        0,
        0,
        0,
        0,
    ]
    assert found["status"]["Uid"].split() == ["1234"] * 4
    assert found["status"]["Groups"].split() == ["1234"]  # (5): never the engine's


def test_capabilities_are_added_and_dropped_bit_by_bit() -> None:
    """(3)"""
    found = probe(HostConfig(cap_add=("SYS_TIME",), cap_drop=("CHOWN", "cap_kill")))
    expected = set(capabilities.DEFAULT) - {"CAP_CHOWN", "CAP_KILL"} | {"CAP_SYS_TIME"}
    assert mask(found, "CapBnd") == mask(found, "CapEff") == capabilities.mask(expected)
    assert mask(probe(HostConfig(cap_drop=("ALL",))), "CapBnd") == 0


def test_privileged_has_what_the_engine_has() -> None:
    """(3)"""
    found = probe(HostConfig(privileged=True))
    assert mask(found, "CapEff") == mask(found, "CapBnd") == capabilities.mask(MACHINE.bounding)
    assert found["status"]["Seccomp"] == "0"
    assert found["written"]["/proc/sys/net/ipv4/ip_forward"] == "ok"
    assert found["opened"]["c 1:11"] == "ok"


def test_new_privileges_are_forbidden_only_where_asked() -> None:
    """(4)"""
    assert probe()["status"]["NoNewPrivs"] == "0"
    forbidden = HostConfig(security_opt=NO_NEW)
    assert probe(forbidden)["status"]["NoNewPrivs"] == "1"
    assert probe(forbidden, user="1234")["status"]["NoNewPrivs"] == "1"
    assert probe(forbidden, user="1234")["calls"] == probe()["calls"]


def test_root_is_switched_for_good() -> None:
    """(7)"""
    found = probe()
    assert found["climb"] == 0
    assert found["root_of_1"] == "/"
    assert sorted(found["parent"]) == sorted(found["root"])


def test_mount_table_is_this_and_nothing_else() -> None:
    """(8)"""
    table = [(row[0], set(row[1].split(",")), *row[2:]) for row in probe()["mounts"]]
    assert all("shared" not in word for row in table for word in row if isinstance(word, str))
    found = {target: (options, rest[rest.index("-") + 1]) for target, options, *rest in table}
    assert len(found) == len(table)
    hardened = {"nosuid", "nodev", "noexec"}
    assert found["/"][1] == "overlay"
    for target, kind, options in (
        ("/proc", "proc", hardened | {"rw"}),
        ("/dev", "tmpfs", {"nosuid", "rw"}),
        ("/dev/pts", "devpts", {"nosuid", "noexec"}),
        ("/sys", "sysfs", hardened | {"ro"}),
        ("/sys/fs/cgroup", "cgroup2" if detect().is_v2 else "tmpfs", hardened | {"ro"}),
        ("/dev/mqueue", "mqueue", hardened),
        ("/dev/shm", "tmpfs", hardened),
        *((path, "proc", {"ro"}) for path in spec.READONLY_PATHS if path in found),
    ):
        assert found[target][1] == kind, target
        assert options <= found[target][0], target
    expected = {"/", "/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/mqueue"}
    expected |= {"/dev/shm", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}
    others = found.keys() - expected - {*spec.MASKED_PATHS, *spec.READONLY_PATHS}
    others -= {*MACHINE.thermal_paths}
    assert all(target.startswith("/sys/fs/cgroup/") for target in others), others
    for target in others:
        assert hardened | {"ro"} <= found[target][0]


def test_masked_paths_tell_nothing() -> None:
    """(9, 10)"""
    for path, seen in probe()["masked"].items():
        assert seen in ("absent", "c 1:3, 0 bytes", "directory of 0, mkdir EROFS"), path


def test_the_machine_s_settings_cannot_be_written() -> None:
    """(8, 9)"""
    assert probe()["written"]
    for path, result in probe()["written"].items():
        assert result in ("EROFS", "EACCES"), path


def test_devices_are_six_and_others_do_not_open() -> None:
    """(11)"""
    found = probe()
    assert found["devices"] == sorted(
        [
            "fd",
            "full",
            "mqueue",
            "null",
            "ptmx",
            "pts",
            "random",
            "shm",
            "stderr",
            "stdin",
            "stdout",
            "tty",
            "urandom",
            "zero",
        ]
    )
    assert found["nodes"] == {
        "/dev/null": "c 1:3 666",
        "/dev/zero": "c 1:5 666",
        "/dev/full": "c 1:7 666",
        "/dev/random": "c 1:8 666",
        "/dev/urandom": "c 1:9 666",
    }
    assert found["tty"] == "c 5:0 666"
    opened = dict(found["opened"])
    assert (opened.pop("c 1:3"), opened.pop("c 1:9")) == ("ok", "ok")
    assert set(opened.values()) == {"EPERM"}
    assert found["links"] == {
        "fd": "/proc/self/fd",
        "ptmx": "pts/ptmx",
        "stdin": "/proc/self/fd/0",
        "stdout": "/proc/self/fd/1",
        "stderr": "/proc/self/fd/2",
    }


def test_process_starts_with_nothing_of_the_engine() -> None:
    """(13, 16, 17)"""
    found = probe()
    assert found["fds"].keys() == {"0", "1", "2"}
    assert found["fds"]["0"] == "/dev/null"
    assert found["session"] == [1, 1, 1]
    assert found["processes"] == [1]
    assert found["umask"] == 0o22
    niceness = os.nice(0)  # of whoever runs this
    assert (found["nice"], found["scheduler"], found["oom_score_adj"]) == (niceness, 0, "0")
    assert found["personality"].strip() == "00000000"
    assert found["control"] == {
        "dumpable": 1,
        "securebits": 0,
        "timer slack": 50_000,
        "subreaper": 0,
        "pdeathsig": 0,
    }


def test_init_hands_on_as_little() -> None:
    """(16, 17)"""
    found = probe(init=True)
    assert found["fds"].keys() == {"0", "1", "2"}
    assert len(found["processes"]) == 2
    assert found["calls"] == probe()["calls"]
    assert mask(found, "CapEff") == 0xA80425FB


def test_signals_are_all_in_their_default_state() -> None:
    """(14): python, which the probe is, would ignore two of its own."""
    output, _ = run("/bin/grep", "-E", "^Sig(Ign|Blk):", "/proc/self/status")
    assert output == b"SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"


def test_environment_is_exactly_what_was_asked_for() -> None:
    """(15)"""
    names = [entry.partition("=")[0] for entry in probe()["environment"]]
    assert sorted(names) == ["HOME", "HOSTNAME", "PATH"]


def test_session_keyring_is_the_container_s_own() -> None:
    """(17): asked without a filter, which closes keyctl."""
    found = probe(HostConfig(security_opt=("seccomp=unconfined",)))
    kind, _, _, _, name = found["keyring"].split(";")
    assert kind == "keyring"
    assert name.startswith("_ses.")
    assert found["hostname"] in name


def test_sysctls_of_the_private_network() -> None:
    """(18)"""
    assert probe()["sysctls"] == {
        "net/ipv4/ip_unprivileged_port_start": ["0"],
        "net/ipv4/ping_group_range": ["0", "2147483647"],
    }


def test_closed_system_calls_are_closed() -> None:
    """(24, 26, 27)"""
    found = probe()
    assert found["status"]["Seccomp"] == "2"
    assert set(found["calls"].values()) == {"EPERM"}
    assert len(found["calls"]) >= 66
    assert set(found["clone"].values()) == {"EPERM"}
    assert found["sockets"] == {"2": "ok", "38": "EPERM", "40": "EPERM", str(1 << 32 | 40): "EPERM"}


def test_read_only_root_takes_no_write() -> None:
    """(20)"""
    script = (
        "for f in /new /etc/hosts /etc/hostname /etc/resolv.conf /usr/new /dev/shm/new; do "
        '(echo x > $f) 2>/dev/null && echo "$f"; done; true'
    )
    output, _ = run("/bin/sh", "-c", script, host=HostConfig(readonly_rootfs=True))
    assert output.split() == [b"/dev/shm/new"]


def test_limits_of_users_reach_the_process() -> None:
    """(13, 72)"""
    found = probe(HostConfig(ulimits=(Ulimit("nofile", 100, 200), Ulimit("core", 0, 0))))
    assert found["limits"]["RLIMIT_NOFILE"] == [100, 200]
    assert found["limits"]["RLIMIT_CORE"] == [0, 0]


# --- entering ------------------------------------------------------------------------------------


def test_exec_is_held_as_tightly_as_the_first_process() -> None:
    """(1, 14, 16, 24, 31, 35)"""

    async def ran() -> tuple[bytes, bytes, bytes]:
        async with prison() as cell:
            made = await cell("/bin/sleep", "1000")
            await made.shim.go()
            return (
                await made.exec(PYTHON, "-I", "-S", "-c", PROBE, ORDER),
                await made.exec("/bin/grep", "-E", "^Sig(Ign|Blk):", "/proc/self/status"),
                await made.exec("/usr/bin/id", "-u", user="4321"),
            )

    text, signals, user = asyncio.run(ran())
    inside, first = json.loads(text), probe()
    assert inside["fds"].keys() == {"0", "1", "2"}
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"):
        assert inside["status"][name] == first["status"][name], name
    for name in ("calls", "sockets", "written", "masked", "opened", "limits", "control", "umask"):
        assert inside[name] == first[name], name
    # In the group that its own namespace of groups begins at.
    assert all(line.endswith(":/") for line in inside["cgroup"])
    assert set(signals.split()) == {b"SigBlk:", b"SigIgn:", b"0000000000000000"}
    assert user == b"4321\n"


HUNTER = """
import fcntl, os, sys, time
own = os.stat("/").st_dev
caught = {}
print("ready", flush=True)
while not os.path.exists("/tmp/enough"):
    for name in os.listdir("/proc"):
        if not name.isdigit() or name == "1":
            continue
        for what in ("exe", "root", "cwd"):
            try:
                flags = os.O_RDONLY if what == "exe" else os.O_RDONLY | os.O_DIRECTORY
                fd = os.open(f"/proc/{name}/{what}", flags)
            except OSError:
                continue
            key = (what, os.readlink(f"/proc/self/fd/{fd}"), os.fstat(fd).st_dev == own)
            if key in caught:
                os.close(fd)
            else:
                caught[key] = fd
print(len(caught))
for (what, link, inside), fd in caught.items():
    if inside:
        continue
    if what != "exe":
        print("LEAK", what, link)
        continue
    time.sleep(0.1)
    try:
        again = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY)
        os.write(again, b"#!/bin/sh")
        print("WRITTEN", link)
    except OSError as error:
        print("refused", error.errno)
"""


@pytest.mark.parametrize("added", [(), ("SYS_PTRACE",)])
def test_what_enters_shows_no_program_of_the_host_writable(added: tuple[str, ...]) -> None:
    """(31, 32): CVE-2019-5736, CVE-2024-21626, also with the right to look."""

    async def ran() -> bytes:
        async with prison() as cell:
            made = await cell(PYTHON, "-I", "-S", "-c", HUNTER, host=HostConfig(cap_add=added))

            async def enter() -> None:
                for _ in range(20):
                    await made.exec("/bin/true")
                await made.exec("/bin/touch", "/tmp/enough")

            return (await made.output(enter()))[0]

    lines = asyncio.run(ran()).decode().splitlines()
    assert lines[0] == "ready"
    assert not [line for line in lines if line.startswith(("LEAK", "WRITTEN"))], lines


@pytest.mark.parametrize("number", range(3, 30, 3))
def test_working_directory_cannot_be_a_descriptor_of_the_engine(number: int) -> None:
    """(33): CVE-2024-21626"""
    with pytest.raises(StartFailed, match=r"mkdir|chdir|cwd|directory"):
        run("/bin/pwd", cwd=f"/proc/self/fd/{number}")


# --- paths ---------------------------------------------------------------------------------------


def test_mount_targets_resolve_inside_the_root() -> None:
    """(37, 38, 41): symlinks of the image that point to the host are the container's own."""
    outside = Path(tempfile.mkdtemp(prefix="pycompose-isolation-outside-", dir="/var/tmp"))
    source = Path(tempfile.mkdtemp(prefix="pycompose-isolation-source-", dir="/var/tmp"))
    (source / "here").write_text("here")

    def prepare(upper: Path) -> None:
        (upper / "absolute").symlink_to(outside)
        (upper / "climbing").symlink_to(f"../../../../../../..{outside}")
        (upper / "etc").mkdir()
        (upper / "etc" / "hosts").symlink_to(outside / "hosts")

    mounts = tuple(
        {"destination": target, "type": "bind", "source": str(source), "options": ["rbind"]}
        for target in ("/absolute/one", "/climbing/two", "/climbing/../absolute/three")
    )
    try:
        script = "cat /absolute/one/here /climbing/two/here /absolute/three/here"
        output, _ = run("/bin/sh", "-c", script, mounts=mounts, prepare=prepare)
        assert output == b"hereherehere"
        assert list(outside.iterdir()) == []
    finally:
        shutil.rmtree(outside)
        shutil.rmtree(source)


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_image_with_a_system_folder_that_leads_away(name: str) -> None:
    """(41): nothing is mounted or made where the link leads on the host."""
    outside = Path(tempfile.mkdtemp(prefix="pycompose-isolation-outside-", dir="/var/tmp"))

    def prepare(upper: Path) -> None:
        (upper / name).symlink_to(outside)

    try:
        output, _ = run("/bin/stat", "-c", "%F", f"/{name}", prepare=prepare)
        assert output == b"directory\n"
        assert list(outside.iterdir()) == []
        assert str(outside) not in Path("/proc/self/mountinfo").read_text()
    finally:
        shutil.rmtree(outside)


@pytest.mark.parametrize("target", ["/", "/..", "relative", "/proc/self", "/proc/1/ns", "/proc"])
def test_a_mount_over_the_root_or_proc_is_refused(target: str) -> None:
    """(39)"""
    mount = {"destination": target, "type": "bind", "source": "/var/tmp", "options": ["rbind"]}
    with pytest.raises(StartFailed, match=r"mount|destination|proc"):
        run("/bin/true", mounts=(mount,))


# --- limits --------------------------------------------------------------------------------------


def test_forks_beyond_the_limit_fail() -> None:
    """(72)"""
    program = (
        "import os, time\nn = 0\ntry:\n  while True:\n    n += 1\n"
        "    if os.fork() == 0: time.sleep(60)\nexcept OSError as e: print(n, e.errno)"
    )
    output, _ = run(PYTHON, "-I", "-S", "-c", program, host=HostConfig(pids_limit=12))
    assert output == b"12 11\n"


def test_memory_beyond_the_limit_kills_and_is_told() -> None:
    """(72)"""
    limit = HostConfig(memory=48 << 20, memory_swap=48 << 20)
    _, status = run(PYTHON, "-I", "-S", "-c", "x = b'x' * (256 << 20)", host=limit)
    assert (status.code, status.signal, status.oom_killed) == (137, signal.SIGKILL, True)


def test_a_child_out_of_memory_does_not_end_the_container() -> None:
    """(72)"""
    limit = HostConfig(memory=48 << 20, memory_swap=48 << 20)
    script = f"exec 2>&1; {PYTHON} -I -S -c 'x = b\"x\" * (256 << 20)' 2>&1; echo $?"
    output, status = run("/bin/sh", "-c", script, host=limit)
    assert output.split()[-1] == b"137"
    assert status.code == 0


def test_nothing_of_the_cells_is_left() -> None:
    """(78)"""
    run("/bin/sh", "-c", "sleep 1000 & sleep 1000 & true")
    for tree in detect().trees:
        assert not os.path.exists(tree.point + PARENT)
    assert "pycompose-isolation" not in Path("/proc/self/mountinfo").read_text()
