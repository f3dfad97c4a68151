"""Attacks on what enters a container: execs, and the engine's processes beside it. Numbers in
parentheses are isolation requirements (docs/isolation.md)."""

from __future__ import annotations

import json

import pytest

from tests.engine.isolation.conftest import USR, Prison, system

pytestmark = pytest.mark.kernel

PYTHON = "/usr/bin/python3"

# Looks at all processes that come by, until it is told that it is enough, and tells what it saw.
WATCHER = """
import json, os
seen = {"environ": set(), "fd": set(), "maps": set(), "comm": set(), "caps": set()}
own = str(os.getpid())
print("ready", flush=True)
while not os.path.exists("/tmp/enough"):
    for name in os.listdir("/proc"):
        if not name.isdigit() or name == own:
            continue
        place = f"/proc/{name}"
        try:
            with open(f"{place}/comm") as file:
                seen["comm"].add(file.read().strip())
            with open(f"{place}/status") as file:
                seen["caps"] |= {x.split()[1] for x in file if x.startswith(("CapP", "CapE"))}
            with open(f"{place}/environ", errors="replace") as file:
                seen["environ"] |= {x.partition("=")[0] for x in file.read().split("\\0") if x}
            with open(f"{place}/maps", errors="replace") as file:
                seen["maps"] |= {x.split(None, 5)[5].strip() for x in file if len(x.split()) > 5}
            for number in os.listdir(f"{place}/fd"):
                seen["fd"].add(os.readlink(f"{place}/fd/{number}"))
        except OSError:
            continue
print(json.dumps({key: sorted(value) for key, value in seen.items()}))
"""


def test_what_enters_shows_nothing_of_the_host(prison: Prison) -> None:
    """(32): neither open files, nor environment, nor mapped files of the engine."""
    name = prison.run(PYTHON, "-I", "-S", "-c", WATCHER)
    for _ in range(40):
        assert prison.execute(name, "/bin/true") == (0, b"")
    prison.execute(name, "/bin/touch", "/tmp/enough")
    prison.daemon.call("POST", f"/containers/{name}/wait")
    told = prison.logs(name).decode()
    assert told.startswith("ready")
    assert str(prison.host.folder) not in told
    assert "memfd" not in told
    assert "engine" not in told
    assert "PYTHON" not in told


def test_whoever_may_trace_meets_nobody_who_is_more_than_itself(prison: Prison) -> None:
    """(32, 36): with CAP_SYS_PTRACE, files and memory of what enters are open to see and change."""
    name = prison.run(PYTHON, "-I", "-S", "-c", WATCHER, CapAdd=["SYS_PTRACE"])
    for _ in range(40):
        assert prison.execute(name, "/bin/true") == (0, b"")
    prison.execute(name, "/bin/touch", "/tmp/enough")
    prison.daemon.call("POST", f"/containers/{name}/wait")
    told = json.loads(prison.logs(name).partition(b"\n")[2])
    assert {int(found, 16) for found in told["caps"]} == {0xA80425FB | 1 << 19}
    # No namespace, folder or file of the host: what is open is nameless, or the program's own.
    own = ("/dev/null", "pipe:", "socket:", "/memfd:", "/usr/", "/lib", "/etc/ld.so", "/tmp/enough")
    assert [path for path in told["fd"] if not path.startswith(own)] == []
    assert str(prison.host.folder) not in str(told)


FORBIDS_FORKS = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["clone", "clone3"], "action": "SCMP_ACT_ERRNO"}],
}


def test_a_filter_that_forbids_forks_forbids_no_exec(prison: Prison) -> None:
    name = prison.run("sleep", "1000", SecurityOpt=[f"seccomp={json.dumps(FORBIDS_FORKS)}"])
    code, said = prison.execute(name, "sh", "-c", "echo in; true & echo out")
    assert (code, said[:3]) == (2, b"in\n")


@pytest.mark.parametrize("number", [*range(3, 20)])
def test_exec_in_a_descriptor_of_the_engine_is_refused(prison: Prison, number: int) -> None:
    """(33): CVE-2024-21626, also by a link that the container has made."""
    name = prison.run("sleep", "1000")
    assert prison.execute(name, "ln", "-s", f"/proc/self/fd/{number}", "/link") == (0, b"")
    for place in (f"/proc/self/fd/{number}", "/link", f"/proc/self/fd/{number}/../../.."):
        code, said = prison.execute(name, "/bin/pwd", WorkingDir=place)
        assert code in (126, 127), said
        assert b"exec failed" in said, said


def test_exec_in_a_folder_that_only_its_user_may_enter(prison: Prison) -> None:
    """(33): whether it is inside is looked at as the user too."""
    name = prison.run("sleep", "1000")
    assert prison.execute(name, "install", "-d", "-m", "700", "-o", "1234", "/own") == (0, b"")
    assert prison.execute(name, "/bin/pwd", User="1234", WorkingDir="/own") == (0, b"/own\n")


def test_programs_are_found_in_the_containers_path_as_its_user(prison: Prison) -> None:
    """(34): 127 for what isn't there, 126 for what may not be run; never the host's PATH."""
    image = system(prison)
    name = prison.run("/bin/sleep", "1000", image=image, Binds=USR, Tmpfs={"/mine": "exec"})
    prison.execute(name, "/bin/sh", "-c", "printf '#!/bin/sh\\necho mine' > /mine/ls")
    assert prison.execute(name, "ls", Env=["PATH=/mine"])[0] in (126, 127)  # not executable
    prison.execute(name, "/bin/chmod", "700", "/mine/ls")
    assert prison.execute(name, "ls", Env=["PATH=/mine"]) == (0, b"mine\n")
    # The capabilities of root are gone by then: they would run what is not for this user.
    assert prison.execute(name, "ls", Env=["PATH=/mine"], User="1234")[0] == 127
    assert prison.execute(name, "/mine/ls", User="1234")[0] == 126
    assert prison.execute(name, "ls", Env=["PATH=/nosuch"])[0] == 127
    assert prison.execute(name, "/mine")[0] == 126


SEALS = 0xF  # F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE
OVERWRITE = f"""
import fcntl, os
fd = os.open("/proc/self/exe", os.O_RDONLY)
path = os.readlink("/proc/self/exe")
try:
    os.open("/proc/self/exe", os.O_RDWR)
    print("OPENED", path)
except OSError as error:
    print("refused")
if "memfd" in path and fcntl.fcntl(fd, 1034) != {SEALS}:
    print("NOT SEALED")
"""


@pytest.mark.parametrize("program", ["/script", "/link", "/proc/self/exe"])
def test_program_of_the_joiner_cannot_be_overwritten(prison: Prison, program: str) -> None:
    """(31): CVE-2019-5736 by `#!/proc/self/exe` and by a link. What runs then is a sealed copy of
    the joiner, in the container and with no more rights than any other program there."""
    name = prison.run("sleep", "1000")
    make = "printf '#!/proc/self/exe\\n' > /script; chmod 755 /script; ln -s /proc/self/exe /link"
    assert prison.execute(name, "sh", "-c", make) == (0, b"")
    _, said = prison.execute(name, program, "-I", "-S", "-c", OVERWRITE)
    assert b"OPENED" not in said
    assert b"NOT SEALED" not in said
    _, said = prison.execute(
        name, program, "-I", "-S", "-c", "print(open('/proc/self/status').read())"
    )
    if b"CapEff" in said:
        assert b"CapEff:\t00000000a80425fb" in said
        assert b"Seccomp:\t2" in said


@pytest.mark.parametrize("init", [False, True])
def test_whoever_shares_processes_does_not_meet_the_engine(prison: Prison, init: bool) -> None:
    """(36): with the right to trace, in the process namespace of another container."""
    first = prison.run("sleep", "1000", Init=init)
    look = (
        "import os\n"
        "for p in sorted(filter(str.isdigit, os.listdir('/proc')), key=int):\n"
        "    print(open(f'/proc/{p}/comm').read().strip())\n"
        "    try:\n"
        "        print(os.listdir(f'/proc/{p}/root/'))\n"
        "        fd = os.open(f'/proc/{p}/mem', os.O_RDWR); print('mem', p)\n"
        "    except OSError as e: print(e.errno)\n"
    )
    code, said = prison.finish(
        PYTHON, "-I", "-S", "-c", look,
        PidMode=f"container:{first}", CapAdd=["SYS_PTRACE"], Init=False,
    )  # fmt: skip
    assert code == 0, said
    names = [line for line in said.decode().splitlines() if line.startswith("pycompose")]
    # With --init the first process is the engine's own small one, confined as all others are.
    assert len(names) <= (1 if init else 0), said


def test_exec_is_counted_where_the_container_is(prison: Prison) -> None:
    """(35, 72): its groups, its limit on processes, its priority for the killer of processes."""
    name = prison.run("sleep", "1000", PidsLimit=4, OomScoreAdj=500)
    assert prison.execute(name, "cat", "/proc/self/oom_score_adj") == (0, b"500\n")
    _, groups = prison.execute(name, "cat", "/proc/1/cgroup", "/proc/self/cgroup")
    lines = groups.decode().splitlines()
    assert lines[: len(lines) // 2] == lines[len(lines) // 2 :]
    _, said = prison.execute(name, "sh", "-c", "sleep 9 & sleep 9 & sleep 9 & sleep 9 & true")
    assert b"Cannot fork" in said or b"Resource temporarily unavailable" in said, said


def test_a_privileged_exec_is_filtered_as_its_container(prison: Prison) -> None:
    """(30): it has all capabilities, and the calls of the container."""
    name = prison.run("/bin/sleep", "1000")
    own, asked = (
        ("/bin/grep", "-hE", "^(CapEff|Seccomp):", "/proc/self/status"),
        {"Privileged": True},
    )
    _, usual = prison.execute(name, *own)
    _, more = prison.execute(name, *own, **asked)
    assert (usual.split()[3], more.split()[3]) == (b"2", b"2")
    assert int(more.split()[1], 16) > int(usual.split()[1], 16)
