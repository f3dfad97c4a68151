"""Real groups in the hierarchies of this machine, whatever they are: v1, hybrid or v2."""

import contextlib
import os
import select
import stat
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import InvalidRequest, Unsupported
from engine.runtime import devices
from engine.runtime.cgroup_counters import read_counters
from engine.runtime.cgroup_tree import Cgroup, Hierarchy, detect

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def hierarchy() -> Hierarchy:
    return detect()


@pytest.fixture
def group(hierarchy: Hierarchy) -> Iterator[Cgroup]:
    made = Cgroup(hierarchy, f"/pycompose-test-{uuid.uuid4().hex}/{uuid.uuid4().hex}")
    yield made
    made.kill()
    made.remove()
    assert not any(os.path.exists(path) for path in folders(made))


def folders(group: Cgroup) -> list[str]:
    return [
        group.directory(tree.controllers[0]) for tree in group.hierarchy.trees if tree.controllers
    ]


@contextlib.contextmanager
def inside(group: Cgroup, program: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Python program that runs in the group from its first line on; it is killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=group.enter,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


SLEEPER = "import sys; print('ready', flush=True); sys.stdin.read()"


def ready(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"


def limit_file(group: Cgroup, v1: tuple[str, str], v2: tuple[str, str]) -> str:
    controller, file = v2 if group.hierarchy.is_v2 else v1
    return Path(group.directory(controller), file).read_text().strip()


def test_process_is_in_the_group_of_every_hierarchy(group: Cgroup) -> None:
    group.create({})
    with inside(group, SLEEPER) as process:
        ready(process)
        lines = Path(f"/proc/{process.pid}/cgroup").read_text().splitlines()
        listed = len(group.hierarchy.trees)
        assert sum(line.endswith("/" + group.path) for line in lines) == listed
        assert group.pids() == [process.pid]


def test_limits_are_set_before_anything_runs(group: Cgroup) -> None:
    group.create(
        {
            "memory": {"limit": 64 << 20, "reservation": 32 << 20},
            "cpu": {"shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0"},
            "pids": {"limit": 33},
        }
    )
    memory = ("memory", "memory.limit_in_bytes"), ("memory", "memory.max")
    assert limit_file(group, *memory) == str(64 << 20)
    assert limit_file(group, ("pids", "pids.max"), ("pids", "pids.max")) == "33"
    cpus = ("cpuset", "cpuset.cpus"), ("cpuset", "cpuset.cpus")
    assert limit_file(group, *cpus) == "0"
    if group.hierarchy.is_v2:
        assert limit_file(group, ("", ""), ("cpu", "cpu.max")) == "50000 100000"
        assert limit_file(group, ("", ""), ("memory", "memory.low")) == str(32 << 20)
    else:
        assert limit_file(group, ("cpu", "cpu.cfs_quota_us"), ("", "")) == "50000"
        assert limit_file(group, ("cpu", "cpu.shares"), ("", "")) == "512"
        assert limit_file(group, ("memory", "memory.memsw.limit_in_bytes"), ("", "")) == str(
            128 << 20
        )


def test_limits_may_be_read_by_any_user_whatever_the_umask(group: Cgroup) -> None:
    before = os.umask(0o077)
    try:
        group.create({"pids": {"limit": 7}})
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    assert {os.stat(folder).st_mode & 0o777 for folder in folders(group)} == {0o755}


def test_update_grows_and_shrinks_memory(group: Cgroup) -> None:
    group.create({"memory": {"limit": 64 << 20, "swap": 64 << 20}})
    for size in (512 << 20, 32 << 20):
        group.update({"memory": {"limit": size, "swap": size}})
        memory = ("memory", "memory.limit_in_bytes"), ("memory", "memory.max")
        assert limit_file(group, *memory) == str(size)
        assert read_counters(group).memory_limit == size


def test_refused_limits_leave_no_group(group: Cgroup) -> None:
    with pytest.raises(OSError, match=r"cpuset\.cpus"):
        group.create({"cpu": {"cpus": "4000"}})
    with pytest.raises(InvalidRequest, match="Memory limit"):
        group.create({"memory": {"swap": 1 << 30}})
    with pytest.raises(Unsupported, match="kernel"):
        group.create({"memory": {"kernel": 1 << 30}})
    assert not any(os.path.exists(path) for path in folders(group))
    assert not any(os.path.exists(os.path.dirname(path)) for path in folders(group))


def test_share_of_a_block_device_that_nobody_shares_out_is_no_mistake(group: Cgroup) -> None:
    loop = Path("/sys/block/loop0/dev")  # it has no I/O scheduler that knows weights
    if not loop.exists():
        pytest.skip("there is no loop device")
    major, minor = map(int, loop.read_text().split(":"))
    device = {"major": major, "minor": minor, "weight": 100}
    group.create({"blockIO": {"weightDevice": [device]}})


def test_fork_beyond_the_pids_limit_fails(group: Cgroup) -> None:
    group.create({"pids": {"limit": 5}})
    program = """
import errno, os, time
forked = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(60)
        forked += 1
except OSError as error:
    print(forked, errno.errorcode[error.errno], flush=True)
"""
    with inside(group, program) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"4 EAGAIN\n"
        assert read_counters(group).pids_limit == 5
        group.kill()


def test_kill_ends_a_fork_bomb_and_its_nested_groups(group: Cgroup) -> None:
    group.create({"pids": {"limit": 64}})
    program = """
import os
print("ready", flush=True)
while True:
    try:
        os.fork()
    except OSError:
        pass
"""
    with inside(group, program) as process:
        ready(process)
        group.kill()
        group.remove()
    assert group.pids() == []


def test_frozen_processes_do_not_run_and_can_be_killed(group: Cgroup) -> None:
    group.create({})
    program = """
import sys
print('ready', flush=True)
for line in sys.stdin:
    print('answer', flush=True)
"""
    with inside(group, program) as process:
        ready(process)
        assert process.stdin is not None
        assert process.stdout is not None
        group.freeze(True)
        process.stdin.write(b"question\n")
        process.stdin.flush()
        assert select.select([process.stdout], [], [], 0.2)[0] == []
        group.freeze(False)
        assert process.stdout.readline() == b"answer\n"
        group.freeze(True)
        group.kill()
        assert process.wait(timeout=20) == -9


def test_out_of_memory_is_told_and_counted(group: Cgroup) -> None:
    group.create({"memory": {"limit": 32 << 20, "swap": 32 << 20}})
    assert group.oom_kills() == 0
    event = group.oom_fd()
    try:
        poll = select.poll()
        poll.register(event, select.POLLIN)
        assert poll.poll(0) == []
        with inside(group, "x = b'x' * (200 << 20)") as process:
            assert poll.poll(30_000)
            assert process.wait(timeout=30) == -9
        assert group.oom_kills() == 1
        assert os.read(event, 4096)
    finally:
        os.close(event)


def test_devices_open_only_by_rule(group: Cgroup, tmp_path: Path) -> None:
    group.create({"devices": [rule.to_oci() for rule in devices.DEFAULT_RULES]})
    program = """
import errno, os, stat, sys
os.chdir(sys.argv[1])
def attempt(kind, major, minor, flags):
    name = f"node-{major}-{minor}"
    os.mknod(name, kind | 0o600, os.makedev(major, minor))
    try:
        os.close(os.open(name, flags | os.O_NONBLOCK))
        return "ok"
    except OSError as error:
        return errno.errorcode[error.errno]
    finally:
        os.unlink(name)
print(
    attempt(stat.S_IFCHR, 1, 3, os.O_RDWR),
    attempt(stat.S_IFCHR, 1, 5, os.O_RDONLY),
    attempt(stat.S_IFCHR, 1, 1, os.O_RDONLY),
    attempt(stat.S_IFCHR, 1, 11, os.O_WRONLY),
    attempt(stat.S_IFBLK, 7, 0, os.O_RDONLY),
    flush=True,
)
"""
    with inside(group, program, str(tmp_path)) as process:
        assert process.stdout is not None
        # null, zero; mem, kmsg, loop0: EPERM comes before any driver is asked.
        assert process.stdout.read() == b"ok ok EPERM EPERM EPERM\n"


def test_a_device_is_let_through_later(group: Cgroup, tmp_path: Path) -> None:
    node = tmp_path / "kmsg"
    os.mknod(node, stat.S_IFCHR | 0o600, os.makedev(1, 11))
    denied = [rule.to_oci() for rule in devices.DEFAULT_RULES]
    kmsg = devices.parse_rule("c 1:11 r").to_oci()
    program = """
import errno, sys
for line in sys.stdin:
    try:
        open(line.strip(), "rb" if line[0] == "/" else "wb", buffering=0).close()
        print("ok", flush=True)
    except OSError as error:
        print(errno.errorcode[error.errno], flush=True)
"""
    group.create({"devices": denied})
    with inside(group, program) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def opens() -> bytes:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{node}\n".encode())
            process.stdin.flush()
            return process.stdout.readline().strip()

        assert opens() == b"EPERM"
        group.update({"devices": [*denied, kmsg]})
        assert opens() == b"ok"
        group.update({"devices": denied})
        assert opens() == b"EPERM"


def test_counters_count(group: Cgroup) -> None:
    group.create({"memory": {"limit": 256 << 20}, "pids": {"limit": 10}})
    program = """
import sys
kept = bytearray(b"x" * (20 << 20))
n = 0
for i in range(2_000_000):
    n += i
print('ready', flush=True)
sys.stdin.read()
"""
    with inside(group, program) as process:
        ready(process)
        counters = read_counters(group)
        assert counters.cpu_total > 1_000_000
        assert 0 < counters.cpu_user <= counters.cpu_total + 50_000_000
        assert counters.memory_usage is not None
        assert counters.memory_usage > 20 << 20
        assert counters.memory_limit == 256 << 20
        assert counters.pids == 1
        assert counters.pids_limit == 10


def test_an_empty_leftover_of_the_same_name_is_replaced(group: Cgroup) -> None:
    group.create({"pids": {"limit": 3}})
    again = Cgroup(group.hierarchy, group.path)
    again.create({})
    assert read_counters(group).pids_limit == -1


def test_a_populated_group_is_not_replaced(group: Cgroup) -> None:
    group.create({"pids": {"limit": 3}})
    with inside(group, SLEEPER) as process:
        ready(process)
        with pytest.raises(FileExistsError):
            Cgroup(group.hierarchy, group.path).create({})
        assert read_counters(group).pids_limit == 3


def test_removing_what_is_not_there_is_no_error(group: Cgroup) -> None:
    group.remove()


def test_nested_groups_go_with_the_container(group: Cgroup) -> None:
    group.create({})
    for folder in folders(group):
        os.makedirs(f"{folder}/inner/most")
    group.remove()
    assert not any(os.path.exists(path) for path in folders(group))


def test_a_group_goes_at_once_if_nothing_is_in_it(group: Cgroup) -> None:
    assert group.remove_empty()  # it isn't there
    group.create({})
    with inside(group, SLEEPER) as process:
        ready(process)
        assert not group.remove_empty()
        assert group.pids() == [process.pid]
    os.makedirs(f"{folders(group)[-1]}/inner")
    assert not group.remove_empty()
    os.rmdir(f"{folders(group)[-1]}/inner")
    assert group.remove_empty()
    assert not any(os.path.exists(os.path.dirname(path)) for path in folders(group))


def test_a_neighbour_keeps_what_is_above_both(group: Cgroup) -> None:
    neighbour = Cgroup(group.hierarchy, f"{os.path.dirname(group.path)}/neighbour")
    neighbour.create({})
    group.create({})
    assert group.remove_empty()
    assert all(os.path.exists(path) for path in folders(neighbour))
    neighbour.remove()
    assert not any(os.path.exists(os.path.dirname(path)) for path in folders(group))


def test_path_cannot_leave_the_tree(hierarchy: Hierarchy) -> None:
    for path in ("", "/", "a/../../b", "./x"):
        with pytest.raises(InvalidRequest):
            Cgroup(hierarchy, path)


def test_groups_come_and_go_side_by_side(hierarchy: Hierarchy) -> None:
    """Whoever leaves last takes the parent along; whoever comes meanwhile makes it again."""
    parent = f"pycompose-test-{uuid.uuid4().hex}"
    children = []
    for number in range(3):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                for _ in range(60):
                    made = Cgroup(hierarchy, f"{parent}/{number}")
                    made.create({"pids": {"limit": 7}, "cpu": {"cpus": "0"}})
                    made.remove()
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert not any(os.path.exists(path) for path in folders(Cgroup(hierarchy, parent)))


def test_processes_of_another_pid_namespace_stay_where_they_are(hierarchy: Hierarchy) -> None:
    unified = next((tree for tree in hierarchy.trees if tree.unified and tree.controllers), None)
    if unified is None:
        pytest.skip("the unified hierarchy has no controllers here")
    base = Path(f"{unified.point}/pycompose-test-{uuid.uuid4().hex}")
    base.mkdir()
    try:
        program = (
            "import sys; from engine.runtime.cgroup_tree import Cgroup, Hierarchy, Tree\n"
            "tree = Tree(sys.argv[1], (sys.argv[3],), unified=True)\n"
            "base = Hierarchy((tree,), sys.argv[2])\n"
            "Cgroup(base, 'group').create({})\n"
            "assert Cgroup(Hierarchy((tree,), ''), sys.argv[2]).pids() == [1]"
        )
        arguments = (unified.point, f"/{base.name}", unified.controllers[0])
        subprocess.run(  # unshare itself is outside, as who enters a container is
            ["unshare", "--pid", "--fork", sys.executable, "-c", program, *arguments],
            check=True, timeout=20, cwd=Path(__file__).parents[3],
            preexec_fn=lambda: (base / "cgroup.procs").write_text("0"),
        )  # fmt: skip
        assert [path.name for path in base.iterdir() if path.is_dir()] == ["group"]
    finally:
        for path in (*base.glob("*/"), base):
            path.rmdir()
