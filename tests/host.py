"""A machine of its own for a test: network and mount namespace, folders, engine daemons.

Nothing that runs in a `Host` reaches the real network; `close()` ends every process it started and
says what they left behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TypeVar

T = TypeVar("T")

CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
NETLINK_NETFILTER = 12
NFT_MSG_GETTABLE = 0xA01  # NFNL_SUBSYS_NFTABLES << 8 | 1
NFT_MSG_GETRULE = 0xA07
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
FORWARDING = "/proc/sys/net/ipv4/ip_forward"
ROOT = Path(__file__).resolve().parent.parent

# Holds the namespaces open until its standard input ends; SIOCSIFFLAGS brings loopback up.
_HOLDER = """
import ctypes, fcntl, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x40000000 | 0x00020000):
    sys.exit("unshare: errno %d" % ctypes.get_errno())
if libc.mount(b"none", b"/", None, 0x44000, None):
    sys.exit("mount: errno %d" % ctypes.get_errno())
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", 0x41))
print("ready", flush=True)
sys.stdin.read()
"""


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


@dataclass
class Daemon:
    """A running `pyengine daemon` of a host."""

    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def socket(self) -> str:
        return str(self.folder / "engine.sock")

    @property
    def data_root(self) -> Path:
        return self.folder / "data"

    @property
    def exec_root(self) -> Path:
        return self.folder / "exec"

    @property
    def address(self) -> str:
        return f"unix://{self.socket}"

    @property
    def log(self) -> str:
        return (self.folder / "daemon.log").read_text(errors="replace")

    def call(
        self, method: str, path: str, body: object = None, timeout: float = 60
    ) -> tuple[int, object]:
        """Status and decoded JSON (or text, or None) of one API request."""
        connection = UnixConnection(self.socket, timeout)
        try:
            headers = {"Content-Type": "application/json"} if body is not None else {}
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, headers)
            answer = connection.getresponse()
            raw = answer.read()
        finally:
            connection.close()
        try:
            return answer.status, json.loads(raw) if raw else None
        except ValueError:
            return answer.status, raw.decode(errors="replace")

    def kill(self) -> None:
        """SIGKILL: the crash that nothing may be lost by."""
        self.process.kill()
        self.process.wait()

    def stop(self, timeout: float = 20) -> int:
        self.process.terminate()
        return self.process.wait(timeout)

    def zombies(self) -> list[str]:
        """Ended processes that the daemon or its spawner should have waited for."""
        children = [self.process.pid]
        for pid in (self.process.pid, *_children(self.process.pid)):
            children += _children(pid)
        status = [Path(f"/proc/{pid}/stat") for pid in children]
        texts = [path.read_text() for path in status if path.exists()]
        return [f"zombie {text}" for text in texts if ") Z " in text]

    @property
    def has_containers(self) -> bool:
        """On its disk, whether it runs or not."""
        return next(self.data_root.glob("containers/*"), None) is not None

    def remove_containers(self) -> None:
        status, containers = self.call("GET", "/containers/json?all=1")
        assert status == 200, containers
        assert isinstance(containers, list)
        for container in containers:
            self.call("DELETE", f"/containers/{container['Id']}?force=1&v=1")


@dataclass
class Host:
    """Namespaces of a test. `folder` is its scratch space on a real file system."""

    folder: Path
    holder: subprocess.Popen[bytes]
    inside: ThreadPoolExecutor
    processes: list[subprocess.Popen[str]] = field(default_factory=list)
    daemons: list[Daemon] = field(default_factory=list)
    forwarding: str = ""  # as it was before any daemon

    def __post_init__(self) -> None:
        self.forwarding = self.call(lambda: Path(FORWARDING).read_text())

    @property
    def pid(self) -> int:
        return self.holder.pid

    def command(self, argv: Sequence[str], cwd: Path = ROOT) -> list[str]:
        """`argv` as a command that runs in this host's namespaces."""
        prefix = ["nsenter", f"--net=/proc/{self.pid}/ns/net", f"--mount=/proc/{self.pid}/ns/mnt"]
        return [*prefix, f"--wd={cwd}", "--", *argv]

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The test's own without what would steer pycompose, and `more`."""
        steering = ("DOCKER_", "COMPOSE_", "PYCOMPOSE_")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(steering)}
        for name in ("CI", "PYTHONDONTWRITEBYTECODE"):  # quiet progress; each start compiles all
            inherited.pop(name, None)
        return {**inherited, **(more or {})}

    def run(
        self,
        *argv: str,
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
        check: bool = True,
        timeout: float = 100,
        input: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(argv, cwd), env=self.environment(env), capture_output=True, text=True,
            timeout=timeout, input=input,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise AssertionError(f"{argv} ended with {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def serve(self, module: str, *arguments: str) -> None:
        """Run `python -m module`, which says `ready` once it serves, until this host closes."""
        server = subprocess.Popen(
            self.command([sys.executable, "-m", module, *arguments]),
            stdout=subprocess.PIPE, text=True, env=self.environment(),
        )  # fmt: skip
        self.processes.append(server)
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"

    def call(self, function: Callable[[], T]) -> T:
        """The result of `function`, run in a thread that lives in this host's network."""
        return self.inside.submit(function).result()

    def fetch(self, address: str, port: int, path: str = "/", timeout: float = 10) -> bytes:
        """The body of one HTTP GET made inside this host's network."""

        def get() -> bytes:
            connection = http.client.HTTPConnection(address, port, timeout=timeout)
            try:
                connection.request("GET", path)
                return connection.getresponse().read()
            finally:
                connection.close()

        return self.call(get)

    def daemon(
        self,
        name: str = "engine",
        *options: str,
        env: Mapping[str, str] | None = None,
        wait: bool = True,
    ) -> Daemon:
        """Start (or, after a crash, start again) the daemon with the folders of `name`, and
        wait until it serves, unless told not to."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        daemon = Daemon(process=None, folder=folder)  # type: ignore[arg-type]
        reader, writer = os.pipe()
        argv = [sys.executable, "-m", "engine.cli.main", "daemon", "-H", daemon.address]
        argv += ["--data-root", str(daemon.data_root), "--exec-root", str(daemon.exec_root)]
        argv += ["--ready-fd", str(writer), *options]
        with open(folder / "daemon.log", "ab") as log:
            daemon.process = subprocess.Popen(
                self.command(argv), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                pass_fds=(writer,), env=self.environment(env),
            )  # fmt: skip
        os.close(writer)
        with open(reader, "rb") as ready:
            started = ready.read(1) if wait else b"?"
        if not started:
            daemon.process.wait(10)
            raise AssertionError(f"the daemon did not start:\n{daemon.log}")
        self.daemons = [other for other in self.daemons if other.folder != folder] + [daemon]
        return daemon

    def close(self) -> None:
        """End what runs here; raise AssertionError on what the daemons left behind."""
        left: list[str] = []
        try:
            for daemon in self.daemons:
                if daemon.process.poll() == 0 and not daemon.has_containers:
                    continue  # it has cleared up itself, and what it forgot is told below
                if daemon.process.poll() is not None:
                    daemon = self.daemon(daemon.folder.name)
                daemon.remove_containers()
                left += daemon.zombies()
                assert daemon.stop() == 0, daemon.log
            if self.daemons:
                left += self._await_nothing_left()
        finally:
            for process in self.processes:
                process.kill()
                process.wait()
                if process.stdout is not None:
                    process.stdout.close()
            assert self.holder.stdin is not None
            self.inside.shutdown()
            self.holder.stdin.close()
            self.holder.wait()
            assert self.holder.stdout is not None
            self.holder.stdout.close()
            if not left:
                shutil.rmtree(self.folder, ignore_errors=True)
        assert not left, f"left behind: {left}"

    def _await_nothing_left(self) -> list[str]:
        """The kernel takes down namespaces, and the links in them, in its own time."""
        limit = time.monotonic() + 60
        while (left := self.leftovers()) and time.monotonic() < limit:
            time.sleep(0.05)
        return left

    def leftovers(self) -> list[str]:
        """What the daemons of this host have left behind, now that none of them runs."""
        found = leftovers(self.folder, self.pid)
        if self.call(lambda: Path(FORWARDING).read_text()) != self.forwarding:
            found.append(f"{FORWARDING} is not as it was")
        return found


def leftovers(folder: Path, pid: int) -> list[str]:
    """Processes, mounts, links, tables, cgroups and files that belong to daemons whose folders
    lie in `folder` and whose network namespace is that of `pid`."""
    ids = _container_ids(folder)
    found = [*_alive(folder, ids, pid), *_cgroups(ids), *_files(folder)]
    links = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    names = [line.split(":")[0].strip() for line in links]
    found += [f"link {name}" for name in names if name.startswith(("br-", "veth", "pyc"))]
    with ThreadPoolExecutor(1, initializer=enter_network, initargs=(pid,)) as inside:
        found += inside.submit(firewall_leftovers).result()
    return found


def _children(pid: int) -> list[int]:
    with contextlib.suppress(FileNotFoundError):
        tasks = Path(f"/proc/{pid}/task").glob("*/children")
        return [int(child) for task in tasks for child in task.read_text().split()]
    return []


def _alive(folder: Path, ids: Collection[str], pid: int) -> Iterator[str]:
    """What /proc shows, in one pass: on a busy machine it is long. Processes by their command line,
    shims by the container that they name there; spawners and shims, also such as wait for a
    container to come, since they live where their daemon does; mounts in every mount namespace
    that a process is in."""
    wanted = re.compile(b"|".join(re.escape(os.fsencode(word)) for word in (str(folder), *ids)))
    place = os.readlink(f"/proc/{pid}/ns/mnt")
    seen: set[str] = set()
    for process in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{process}/cmdline").read_bytes()
            if not words:
                continue  # of the kernel, or ended
            if wanted.search(words):
                yield f"process {process}: {words.replace(bytes(1), b' ').decode(errors='replace')}"
            namespace = os.readlink(f"/proc/{process}/ns/mnt")
            if namespace == place:
                name = Path(f"/proc/{process}/comm").read_text().strip()
                if name.startswith("pycompose-"):
                    yield f"process {process}: {name}"
            if namespace not in seen:
                seen.add(namespace)
                lines = Path(f"/proc/{process}/mountinfo").read_text().splitlines()
                yield from (f"mount of {process}: {x}" for x in lines if str(folder) in x)


def _cgroups(ids: Collection[str]) -> Iterator[str]:
    for parent, groups, _ in os.walk("/sys/fs/cgroup") if ids else ():
        yield from (f"cgroup {parent}/{name}" for name in groups if name in ids)


def _container_ids(folder: Path) -> set[str]:
    ids = {path.name for path in folder.glob("*/data/containers/*")}
    for log in folder.glob("*/daemon.log"):
        ids |= set(re.findall(r"container ([0-9a-f]{64})", log.read_text(errors="replace")))
    return ids


def _files(folder: Path) -> Iterator[str]:
    """Images, volumes and networks of the user's stay; nothing of a life that is over does."""
    for log in folder.glob("*/daemon.log"):
        engine = log.parent
        yield from (f"file {path}" for path in (engine / "exec").rglob("*"))
        for path in (engine / "data").rglob("*"):
            name = str(path.relative_to(engine / "data"))
            if re.match(r"builder/contexts/[0-9a-f]+/tree/", name):
                continue  # the user's own files, kept for the next build
            if name.startswith("containers/") or re.search(r"(^|/)\.[^/]*$|\.(new|next)$", name):
                yield f"file {path}"
        tag = hashlib.sha256(os.fsencode(engine / "data" / "images")).hexdigest()[:12]
        for memory in (Path("/dev/shm"), Path("/run")):
            if (memory / f"pycompose-masks-{tag}").exists():
                yield f"file {memory}/pycompose-masks-{tag}"


def firewall_leftovers() -> list[str]:
    """Tables of ours in the network namespace of this thread, and rules in tables of others."""
    tables = re.findall(rb"pycompose-[0-9a-z]+", _nftables(NFT_MSG_GETTABLE))
    rules = re.findall(rb"pycompose-[0-9a-z]+: [^\0]+", _nftables(NFT_MSG_GETRULE))
    return [f"table {name.decode()}" for name in tables] + [
        f"rule {comment.decode()}" for comment in rules
    ]


def _nftables(request: int) -> bytes:
    """All that a dump answers."""
    gathered = b""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as netlink:
        # nlmsghdr, and nfgenmsg: any family.
        netlink.send(struct.pack("=IHHII4x", 20, request, NLM_DUMP, 1, 0))
        while True:
            datagram, offset = netlink.recv(1 << 16), 0
            while offset < len(datagram):
                length, kind = struct.unpack_from("=IH", datagram, offset)
                if kind in (NLMSG_ERROR, NLMSG_DONE):
                    return gathered
                gathered += datagram[offset : offset + length]
                offset += -(-length // 4) * 4


def enter_network(pid: int) -> None:
    descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        if _libc().setns(descriptor, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(descriptor)


def open_host(parent: str = "/var/tmp") -> Host:
    # Short: the path of a UNIX socket holds 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="pyc-", dir=parent))
    holder = subprocess.Popen(
        [sys.executable, "-I", "-c", _HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    line = holder.stdout.readline()
    assert line == b"ready\n", "the namespaces of the test could not be made"
    inside = ThreadPoolExecutor(1, "inside", initializer=enter_network, initargs=(holder.pid,))
    return Host(folder=folder, holder=holder, inside=inside)


@contextlib.contextmanager
def host(parent: str = "/var/tmp") -> Iterator[Host]:
    """With its folder in `parent`."""
    opened = open_host(parent)
    try:
        yield opened
    finally:
        opened.close()


def read_stream(stream: IO[bytes], until: bytes) -> bytes:
    """What arrives on `stream` up to and including `until`."""
    gathered = b""
    while until not in gathered:
        chunk = stream.read1(65536) if hasattr(stream, "read1") else stream.read(1)
        assert chunk, f"the stream ended before {until!r}: {gathered!r}"
        gathered += chunk
    return gathered


def terminate(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    process.wait(20)
