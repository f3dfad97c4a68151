"""What is refused: each says what, where and what to do, and leaves what ran before as it was."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.host import ROOT, Daemon, Host, host
from tests.scenarios.project import PYCOMPOSE, Project, project

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(120)]

STEADY = """\
services:
  steady:
    image: rootfs:/
    command: sleep infinity
    stop_signal: SIGKILL
    ports: ["18080:80"]
"""


@pytest.fixture(scope="module")
def steady() -> Iterator[Project]:
    """A project that runs all the while, on the engine that the others share."""
    with host() as place:
        made = project(place, STEADY, "steady")
        made("up", "--detach")
        yield made


def kept(daemon: Daemon) -> dict[str, object]:
    """All that an engine holds: containers with their processes, networks, volumes."""
    found: dict[str, object] = {}
    _, rows = daemon.call("GET", "/containers/json?all=1")
    assert isinstance(rows, list)
    for row in rows:
        _, details = daemon.call("GET", f"/containers/{row['Id']}/json")
        assert isinstance(details, dict)
        found[f"container {row['Names'][0]}"] = (row["Id"], details["State"]["Pid"])
    _, networks = daemon.call("GET", "/networks")
    assert isinstance(networks, list)
    found |= {f"network {network['Name']}": network["Id"] for network in networks}
    _, volumes = daemon.call("GET", "/volumes")
    assert isinstance(volumes, dict)
    found |= {f"volume {volume['Name']}": "" for volume in volumes["Volumes"] or ()}
    return found


class Bench:
    """A project that fails, beside one that runs."""

    def __init__(self, steady: Project, name: str) -> None:
        self.host = steady.host
        self.project = project(steady.host, "", name, steady.daemon)

    def refused(self, text: str, *arguments: str, code: int = 1) -> str:
        """What `up` of that file says. It changed nothing."""
        self.project.write(text)
        before = kept(self.project.daemon)
        done = self.project(*(arguments or ("up", "--detach")), check=False)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        assert kept(self.project.daemon) == before
        return done.stderr


@pytest.fixture
def bench(steady: Project, request: pytest.FixtureRequest) -> Iterator[Bench]:
    name = re.sub(r"\W", "", request.node.name.removeprefix("test_"))[:40]
    made = Bench(steady, name)
    yield made
    assert [name for name in made.project.ids() if not name.startswith("steady")] == []


def test_yaml_that_cannot_be_read(bench: Bench) -> None:
    said = bench.refused("services:\n  web:\n    image: rootfs:/\n   command: sleep\n")
    assert said.startswith("compose.yaml:4:4: this is not valid YAML")
    assert "hint: check the indentation" in said


def test_unknown_keys_name_the_nearest_one(bench: Bench) -> None:
    said = bench.refused("services:\n  web:\n    imgae: rootfs:/\n")
    assert 'compose.yaml:3:5: services.web.imgae: unknown key "imgae"' in said
    assert 'did you mean "image"?' in said


def test_wrong_types_are_told_all_at_once(bench: Bench) -> None:
    said = bench.refused(
        "services:\n  web:\n    image: rootfs:/\n    ports: 80\n    environment: [1]\n"
    )
    assert "compose.yaml:4:12: services.web.ports: must be a list, not the number 80" in said
    assert "compose.yaml:5:19: services.web.environment[0]: must be text" in said


def test_undefined_references(bench: Bench) -> None:
    said = bench.refused(
        "services:\n  web:\n    image: rootfs:/\n    depends_on: [db]\n    networks: [front]\n"
        "    volumes: [files:/files]\n    secrets: [token]\n    configs: [site]\n"
    )
    lines = [line for line in said.splitlines() if not line.startswith("  hint: ")]
    assert [line.split(": ")[2] for line in lines] == [
        'there is no service "db"',
        'there is no network "front"',
        'there is no volume "files"',
        'there is no secret "token"',
        'there is no config "site"',
    ]
    assert [line.split(":")[1] for line in lines] == ["4", "5", "6", "7", "8"]


def test_dependency_cycles_are_printed(bench: Bench) -> None:
    said = bench.refused(
        "services:\n"
        "  a: {image: 'rootfs:/', depends_on: [b]}\n"
        "  b: {image: 'rootfs:/', depends_on: [c]}\n"
        "  c: {image: 'rootfs:/', depends_on: [a]}\n"
    )
    assert re.search(
        r"a needs b \(compose.yaml:2:\d+\), b needs c \(compose.yaml:3:\d+\),"
        r" c needs a \(compose.yaml:4:\d+\)",
        said,
    )


def test_an_env_file_that_is_missing(bench: Bench) -> None:
    said = bench.refused("services:\n  web:\n    image: rootfs:/\n    env_file: web.env\n")
    assert "compose.yaml:4:15: services.web.env_file[0]: env file web.env not found" in said
    assert "hint: create it" in said


def test_an_image_that_is_missing(bench: Bench) -> None:
    said = bench.refused("services:\n  web:\n    image: nowhere.invalid/app:3\n")
    assert "compose.yaml:3:12" in said
    assert "nowhere.invalid/app:3" in said
    assert "hint: " in said


def test_an_image_directory_that_is_missing(bench: Bench) -> None:
    said = bench.refused("services:\n  web:\n    image: rootfs:/no/such/folder\n")
    assert "compose.yaml:3:12: services.web.image: cannot use rootfs:/no/such/folder" in said
    assert "hint: " in said


def test_a_bind_source_that_is_missing(bench: Bench) -> None:
    said = bench.refused(
        "services:\n  web:\n    image: rootfs:/\n    volumes:\n"
        "    - {type: bind, source: ./pages, target: /pages, bind: {create_host_path: false}}\n"
    )
    assert re.search(r"compose.yaml:5:\d+: services.web.volumes\[0\]", said)
    assert "pages" in said
    assert "hint: " in said


def test_a_port_of_another_project(bench: Bench) -> None:
    said = bench.refused('services:\n  web:\n    image: rootfs:/\n    ports: ["18080:80"]\n')
    assert (
        "compose.yaml:4:13: services.web.ports[0]: cannot publish port 18080/tcp:"
        " container steady-steady-1 has it" in said
    )
    assert "hint: publish another port" in said


def test_a_port_of_a_process_of_the_machine(bench: Bench) -> None:
    def listen() -> socket.socket:
        return socket.create_server(("0.0.0.0", 18081))

    with bench.host.call(listen):
        said = bench.refused(
            "services:\n"
            "  first: {image: 'rootfs:/', command: sleep infinity, stop_signal: SIGKILL}\n"
            '  web:\n    image: rootfs:/\n    depends_on: [first]\n    ports: ["18081:80"]\n'
        )
    assert "compose.yaml:6:" in said
    assert "18081/tcp: a process of this machine has it" in said
    assert "hint: " in said


def test_a_port_that_two_services_want(bench: Bench) -> None:
    said = bench.refused(
        "services:\n"
        "  a: {image: 'rootfs:/', ports: ['18082:80']}\n"
        "  b: {image: 'rootfs:/', ports: ['18082:90']}\n"
    )
    assert "compose.yaml:3:" in said
    assert "host port 18082/tcp is published twice" in said
    assert "compose.yaml:2:" in said


def test_a_container_name_that_is_taken(bench: Bench) -> None:
    said = bench.refused(
        "services:\n  web:\n    image: rootfs:/\n    container_name: steady-steady-1\n"
    )
    assert "compose.yaml:4:21: services.web.container_name" in said
    assert "of project steady" in said
    assert "hint: " in said


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("nosuchcommand", "executable file not found in $PATH"),
        ("/etc/hostname", "permission denied"),
    ],
)
def test_a_command_that_cannot_be_run(bench: Bench, command: str, reason: str) -> None:
    bench.project.write(
        "services:\n"
        "  web:\n"
        "    image: rootfs:/\n"
        f"    command: {command}\n"
        "    volumes: [files:/files]\n"
        "volumes: {files: {}}\n"
    )
    done = bench.project("up", "--detach", check=False)
    assert done.returncode == 1
    assert "compose.yaml:4:5: cannot start web.1" in done.stderr
    assert reason in done.stderr
    assert "hint: " in done.stderr
    assert bench.project.containers().keys() == {"steady-steady-1"}
    bench.project("down", "--volumes")


def test_what_the_engine_refuses_is_placed_at_the_attribute(bench: Bench) -> None:
    for attribute in (
        "working_dir: srv",
        "user: nosuchuser",
        "group_add: [nosuchgroup]",
        "security_opt: [odd]",
        "tmpfs: [run]",
        "ulimits: {nofil: 1}",
        "cap_add: [SYS_FOO]",
        "cap_drop: [SYS_FOO]",
        "logging: {driver: odd}",
        "sysctls: {kernel.hostname: a}",
        "dns: [300.1.1.1]",
        "devices: [/dev/nope]",
        "stop_signal: SIGFOO",
        "platform: linux/s390x",
        "runtime: odd",
        "ipc: odd",
        "pid: odd",
        "network_mode: nowhere",
        "mem_limit: 1k",
        "cpus: 9000",
        "cpuset: '9000'",
        "memswap_limit: 1g",
        "extra_hosts: ['a=300.1.1.1']",
    ):
        said = bench.refused(
            f"services:\n  web:\n    image: rootfs:/\n    {attribute}\n    command: sleep 1\n"
        )
        assert "compose.yaml:4:" in said, said
        assert re.search(r"\n  hint: (?!to return|revision)", said), said


def test_a_dependency_that_fails(bench: Bench) -> None:
    bench.project.write(
        "services:\n"
        "  web:\n    image: rootfs:/\n"
        "    depends_on: {job: {condition: service_completed_successfully}}\n"
        "  job: {image: 'rootfs:/', command: sh -c 'echo no database here; exit 4'}\n"
    )
    done = bench.project("up", "--detach", check=False)
    assert done.returncode == 1
    assert re.search(
        r"^compose.yaml:5:3: job did not complete: container \S+ exited with code 4\n"
        r"  no database here\n",
        done.stderr, re.MULTILINE,
    )  # fmt: skip
    bench.project("down")


def test_exit_codes_of_run_and_exec_are_those_of_the_command(bench: Bench) -> None:
    bench.project.write(
        "services:\n  web:\n    image: rootfs:/\n    command: sleep infinity\n"
        "    stop_signal: SIGKILL\n"
    )
    commands = {("nosuchcommand",): 127, ("/etc/hostname",): 126, ("sh", "-c", "exit 3"): 3}
    for command, code in commands.items():
        done = bench.project("run", "--rm", "web", *command, check=False)
        # As Docker Compose: what never ran has no code of its own.
        assert done.returncode == (1 if code > 100 else code), done.stderr
    bench.project("up", "--detach")
    for command, code in commands.items():
        done = bench.project("exec", "-iT", "web", *command, check=False)
        assert done.returncode == code, done.stderr
    bench.project("down")


def test_a_service_that_is_not_running(bench: Bench) -> None:
    text = "services:\n  web:\n    image: rootfs:/\n"
    said = bench.refused(text, "exec", "web", "true")
    assert 'service "web" is not running' in said
    assert "hint: start it with: pycompose up -d web" in said
    said = bench.refused(text, "logs", "wbe")
    assert "no such service: wbe" in said


def test_a_folder_without_a_file(bench: Bench) -> None:
    empty = bench.project.folder / "empty"
    empty.mkdir()
    (bench.project.folder / "compose.yaml").unlink()
    done = bench.host.run(*PYCOMPOSE, "up", cwd=empty, env=bench.project.environment, check=False)
    assert done.returncode == 1
    assert "compose.yaml" in done.stderr
    assert "hint: " in done.stderr


def test_wrong_usage_ends_with_one(bench: Bench) -> None:
    said = bench.refused(STEADY, "up", "--detahc", code=1)
    assert "--detahc" in said
    assert "hint: pycompose up --help" in said
    said = bench.refused(STEADY, "pss", code=1)
    assert "did you mean ps?" in said


def as_user(*argv: str) -> tuple[str, ...]:
    return ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", *argv)


def test_an_ordinary_user(steady: Project) -> None:
    runtime = steady.host.folder / "runtime"
    runtime.mkdir()
    runtime.chmod(0o777)
    environment = {
        "PYTHONPATH": str(ROOT), "XDG_RUNTIME_DIR": str(runtime), "HOME": str(runtime),
        "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    steady.host.folder.chmod(0o755)
    done = steady.host.run(
        *as_user(*PYCOMPOSE, "up", "--detach"), cwd=steady.folder, env=environment, check=False
    )
    if "No module named" in done.stderr or "Permission denied" in done.stderr:
        pytest.skip("an ordinary user can't read this checkout")
    assert done.returncode == 1
    assert "as an ordinary user" in done.stderr
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr
    # Someone else's engine.
    environment["PYCOMPOSE_HOST"] = steady.daemon.address
    done = steady.host.run(
        *as_user(*PYCOMPOSE, "ps"), cwd=steady.folder, env=environment, check=False
    )
    assert done.returncode == 1
    assert f"{steady.daemon.address}: permission denied" in done.stderr
    assert "hint: " in done.stderr


def test_an_engine_that_is_not_there(bench: Bench) -> None:
    for variable in ("PYCOMPOSE_HOST", "DOCKER_HOST"):
        environment = {"PYTHONPATH": str(ROOT), variable: "unix:///no/such/engine.sock"}
        bench.project.write(STEADY)
        done = bench.host.run(
            *PYCOMPOSE, "up", "--detach", cwd=bench.project.folder, env=environment, check=False
        )
        assert done.returncode == 1
        assert "/no/such/engine.sock" in done.stderr
        assert "hint: " in done.stderr
    done = bench.host.run(
        *PYCOMPOSE, "-H", "tcp://127.0.0.1:9", "ps", cwd=bench.project.folder,
        env={"PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "127.0.0.1:9" in done.stderr
    assert "refused" in done.stderr


class OldEngine(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Api-Version", "1.20")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"OK")

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_an_engine_of_another_version(bench: Bench) -> None:
    server = bench.host.call(lambda: HTTPServer(("127.0.0.1", 0), OldEngine))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        said = bench.refused(STEADY, "-H", f"tcp://127.0.0.1:{server.server_port}", "up", "-d")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert "1.20" in said
    assert "hint: " in said


WITHOUT_CGROUPS = """
import os, sys
lines = open("/proc/self/mounts").read().splitlines()
for line in reversed(lines):
    if line.split()[2] in ("cgroup", "cgroup2"):
        os.system("umount -l " + line.split()[1])
os.execv(sys.argv[1], sys.argv[1:])
"""

# The rule's system call fails as on a kernel without it.
WITHOUT_CALL = """
import ctypes, json, os, sys
from engine.runtime.seccomp import compile_filter, parse_profile
profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{
    "action": "SCMP_ACT_ERRNO", RULE}]}
code = compile_filter(parse_profile(json.dumps(profile)), frozenset(), kernel=(6, 0))
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Program(len(code) // 8, code)), 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""

# socket(AF_NETLINK, ..., NETLINK_NETFILTER): EPROTONOSUPPORT
WITHOUT_NFTABLES = WITHOUT_CALL.replace(
    "RULE",
    """
    "names": ["socket"], "errnoRet": 93, "args": [
        {"index": 0, "value": 16, "op": "SCMP_CMP_EQ"},
        {"index": 2, "value": 12, "op": "SCMP_CMP_EQ"}]""",
)
# ENOSYS
OLD = WITHOUT_CALL.replace("RULE", '"names": ["mount_setattr"], "errnoRet": 38')


@pytest.mark.parametrize(
    ("wrapper", "reason"),
    [
        (WITHOUT_CGROUPS, "no cgroups are mounted"),
        (WITHOUT_NFTABLES, "no nftables"),
        (OLD, "is too old: it has to be 5.12 or newer"),
    ],
    ids=["cgroups", "nftables", "old"],
)
def test_a_kernel_without_what_is_needed(host: Host, wrapper: str, reason: str) -> None:
    """The built-in engine says it, and pycompose, which starts it, passes it on."""
    folder = host.folder / "shop"
    folder.mkdir()
    (folder / "compose.yaml").write_text(STEADY)
    # Folders of a machine of its own for the built-in engine.
    host.run("mount", "-t", "tmpfs", "none", "/run")
    host.run("mount", "-t", "tmpfs", "none", "/var/lib")
    argv = ["unshare", "--mount", sys.executable, "-c", wrapper, *PYCOMPOSE, "up", "--detach"]
    done = host.run(*argv, cwd=folder, env={"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 1, done.stderr
    assert "cannot run containers on this kernel" in done.stderr
    assert reason in done.stderr
    assert "hint: its log is /run/pycompose/engine.log" in done.stderr


def test_a_full_disk(host: Host) -> None:
    data = host.folder / "small" / "data"
    data.mkdir(parents=True)
    host.run("mount", "-t", "tmpfs", "-o", "size=2m,mode=711", "small", str(data))
    daemon = host.daemon("small")
    steady = project(host, STEADY, "steady", daemon)
    steady("up", "--detach")
    before = kept(daemon)
    host.run("sh", "-c", f"head -c 4m /dev/zero > {data}/ballast", check=False)
    shop = project(host, STEADY.replace("18080", "18090"), "shop", daemon)
    done = shop("up", "--detach", check=False)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    host.run("rm", f"{data}/ballast")
    left = {name: what for name, what in kept(daemon).items() if "shop" not in name}
    assert left == before
    shop("up", "--detach")
    shop("down")
    steady("down")
    assert not [name for name in kept(daemon) if "shop" in name or "steady" in name]
    daemon.remove_containers()
    daemon.stop()
    host.run("umount", str(data))


@pytest.mark.parametrize("deploy", ["", "    deploy: {update_config: {monitor: 1ms}}\n"])
def test_on_a_nearly_full_disk_what_ran_runs_on_or_is_replaced(host: Host, deploy: str) -> None:
    """However much room is left: where it lasts until the old one is stopped, and no longer."""
    data = host.folder / "small" / "data"
    data.mkdir(parents=True)
    host.run("mount", "-t", "tmpfs", "-o", "size=4m,mode=711", "small", str(data))
    daemon = host.daemon("small")
    steady = project(host, STEADY, "steady", daemon)
    steady("up", "--detach")
    ballast, room, failures, done = data / "ballast", 0, 0, None
    while done is None or done.returncode:
        steady.write(f"{STEADY}{deploy}    environment: [ROOM={room}]\n")
        host.run("rm", "-f", str(ballast))
        free = int(host.run("df", "--output=avail", "-k", str(data)).stdout.split()[-1])
        host.run("dd", "if=/dev/zero", f"of={ballast}", "bs=1k", f"count={free - room}")
        done = steady("up", "--detach", check=False)
        failures += done.returncode
        assert "No space left on device" in done.stderr or not done.returncode
        _, rows = daemon.call("GET", "/containers/json?all=1")
        assert isinstance(rows, list)
        assert [(row["Names"], row["State"]) for row in rows] == [(["/steady-steady-1"], "running")]
        room += 4
    assert failures > 4
    host.run("rm", str(ballast))
    steady("down")
    daemon.stop()
    host.run("umount", str(data))


SLOW = """\
services:
  job:
    image: rootfs:/
    command: sh -c 'read line < /gate/pipe'
    volumes: ["./gate:/gate"]
  web:
    image: rootfs:/
    command: sleep infinity
    stop_signal: SIGKILL
    depends_on: {job: {condition: service_completed_successfully}}
"""


def test_two_at_once_on_one_project(bench: Bench) -> None:
    folder: Path = bench.project.folder
    (folder / "gate").mkdir()
    subprocess.run(["mkfifo", folder / "gate" / "pipe"], check=True)
    bench.project.write(SLOW)
    first = bench.project.start("up", "--detach")
    assert first.stdout is not None
    for line in first.stdout:
        if "job.1  started" in line or "job.1  created" in line:
            break
    second = bench.project("up", "--detach", check=False)
    assert second.returncode == 1
    assert re.search(r"another pycompose is changing project \w+: up, process \d+", second.stderr)
    assert "hint: " in second.stderr
    (folder / "gate" / "pipe").write_text("go\n")
    rest = first.stdout.read()
    assert first.wait(30) == 0, rest
    bench.project("down")
