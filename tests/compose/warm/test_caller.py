"""A command that a warm process runs is like one that its caller started."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.compose.warm.conftest import Warm, until
from tests.scenarios.project import PYCOMPOSE

pytestmark = pytest.mark.kernel
COLD = {"PYCOMPOSE_WARM": "0"}
Facts = dict[str, object]


@contextmanager
def following(
    warm: Warm, change: Callable[[], object], *, is_warm: bool, **options: object
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`logs -f` of somebody who is as `change` makes him, and the pid that does the work."""
    environment = {**warm.stack.environment, **({} if is_warm else COLD)}
    # Not in the host's command: nsenter would come first, with the change already made.
    process = subprocess.Popen(
        warm.stack.host.command([*PYCOMPOSE, "logs", "-f"], cwd=warm.stack.folder),
        stdout=subprocess.PIPE, env=warm.stack.host.environment(environment),
        preexec_fn=change, **options,
    )  # type: ignore[call-overload]  # fmt: skip
    try:
        assert b"hello" in process.stdout.readline()
        yield process, warm.child() if is_warm else process.pid
    finally:
        process.kill()
        process.stdout.close()
        process.wait()
        until(lambda: not warm.children(), "the end of the command")


def facts(pid: int) -> Facts:
    """What proc(5) shows, but for what belongs to a process alone."""
    folder = Path(f"/proc/{pid}")
    status = dict(
        line.split(":", 1) for line in (folder / "status").read_text().splitlines()
    )  # fmt: skip
    named = ("Umask", "Uid", "Gid", "Groups", "SigBlk", "SigIgn", "CapEff", "CapBnd", "NoNewPrivs",
             "Seccomp", "Cpus_allowed")  # fmt: skip
    open_files = {path.name: os.readlink(path) for path in (folder / "fd").iterdir()}
    return {
        **{name: status[name].strip() for name in named},
        **{name: (folder / name).read_text() for name in ("limits", "cgroup", "oom_score_adj")},
        "nice": os.getpriority(os.PRIO_PROCESS, pid),
        "cwd": os.readlink(folder / "cwd"),
        "files": {
            number: target
            for number, target in open_files.items()
            if not target.startswith(("socket:", "pipe:", "anon_inode:"))
        },
        "count": len(open_files),
        "namespaces": [os.readlink(each) for each in sorted((folder / "ns").iterdir())],
    }


def odd() -> None:
    os.umask(0o027)
    os.nice(5)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    resource.setrlimit(resource.RLIMIT_CORE, (0, 4096))
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))
    Path("/proc/self/oom_score_adj").write_text("77")


@pytest.mark.parametrize("change", [lambda: None, odd])
def test_it_has_all_that_its_caller_has(warm: Warm, change: Callable[[], object]) -> None:
    with open("/etc/passwd") as inherited:
        options = {"pass_fds": (inherited.fileno(),)}
        with following(warm, change, is_warm=False, **options) as (_, pid):
            wanted = facts(pid)
        with following(warm, change, is_warm=True, **options) as (_, pid):
            assert facts(pid) == wanted


@pytest.mark.parametrize("version", [1, 2])
def test_it_is_in_the_cgroup_of_its_caller(warm: Warm, version: int) -> None:
    tree = Path("/sys/fs/cgroup")
    roots = (tree / "pids",) if version == 1 else (tree, tree / "unified")
    root = next((each for each in roots if (each / "cgroup.procs").exists()), None)
    if root is None:
        pytest.skip(f"this machine has no cgroups of version {version}")
    group = root / f"pycompose-test-{os.getpid()}"
    group.mkdir()

    def enter() -> None:
        (group / "cgroup.procs").write_text("0")

    try:
        with following(warm, enter, is_warm=True) as (_, pid):
            assert group.name in Path(f"/proc/{pid}/cgroup").read_text()
        server = warm.start()
        assert group.name not in Path(f"/proc/{server}/cgroup").read_text()
    finally:
        until(lambda: not (group / "cgroup.procs").read_text(), "an empty group")
        group.rmdir()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_files_are_closed_there_too(warm: Warm, closed: str) -> None:
    command = f"{' '.join(PYCOMPOSE)} ps --services {closed}; echo $?"
    said = [
        warm.stack.host.run(
            "sh", "-c", command, cwd=warm.stack.folder,
            env={**warm.stack.environment, **switch},
        )
        for switch in (COLD, {})
    ]  # fmt: skip
    assert (said[0].stdout, said[0].stderr) == (said[1].stdout, said[1].stderr)
    assert said[1].stdout.endswith("0\n")


def test_a_file_of_the_shells_own_is_read(warm: Warm) -> None:
    """Process substitution: the file is /dev/fd/63."""
    command = (
        f"{' '.join(PYCOMPOSE)} -f <(echo 'services: {{one: {{image: x}}}}') config --services"
    )
    done = warm.stack.host.run(
        "bash", "-c", command, cwd=warm.stack.folder, env=warm.stack.environment
    )
    assert done.stdout == "one\n"


def test_much_is_handed_over(warm: Warm) -> None:
    services = [f"service{number:05}" for number in range(20_000)]  # 240 kB
    large = {f"LARGE{number}": "x" * 100_000 for number in range(5)}
    done = warm.stack("ps", *services, check=False, env=large)
    assert done.returncode == 1
    assert "no such service: service00000" in done.stderr


def test_its_input_and_output_are_the_callers(warm: Warm) -> None:
    """Also what a container writes is in order, and the reader of a pipe may go."""
    stack = warm.stack
    done = stack.host.run(
        *PYCOMPOSE, "exec", "-T", "web", "sh", "-c", "tr a-z A-Z; echo end", input="some text\n",
        cwd=stack.folder, env=stack.environment,
    )  # fmt: skip
    assert done.stdout == "SOME TEXT\nend\n"
    command = f"{' '.join(PYCOMPOSE)} logs --no-color | head -c 1; echo ${{PIPESTATUS[0]}}"
    stack("exec", "-T", "web", "sh", "-c", "seq 100000 > /proc/1/fd/1")
    done = stack.host.run("bash", "-c", command, cwd=stack.folder, env=stack.environment)
    assert done.stdout.endswith("141\n")
