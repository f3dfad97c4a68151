"""Real engines for tests: dockerd and pyengine, each on a `Host` of its own, with one image.

The image `busybox:test` is made of the machine's static busybox: nothing is downloaded.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

from tests.host import Host, UnixConnection, open_host

BUSYBOX = Path("/bin/busybox")
IMAGE = "busybox:test"
APPLETS = ("sh", "sleep", "cat", "echo", "true", "false", "id", "ls", "env", "touch", "stat",
           "test", "kill", "hostname", "ip", "nslookup", "wget", "httpd", "mkdir", "rm", "tail",
           "readlink", "grep", "nc")  # fmt: skip


def missing(kind: str) -> str:
    """Why this engine can't run here; empty if it can."""
    if os.geteuid() != 0:
        return "needs root"
    if not BUSYBOX.exists():
        return "busybox-static is not installed"
    if kind == "dockerd" and not shutil.which("dockerd"):
        return "dockerd is not installed"
    return ""


def busybox_tar() -> bytes:
    """A root filesystem: /bin with busybox and its names, /etc, /tmp."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for folder, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("root", 0o700)):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        text = BUSYBOX.read_bytes()
        entry = tarfile.TarInfo("bin/busybox")
        entry.size, entry.mode = len(text), 0o755
        tar.addfile(entry, io.BytesIO(text))
        for name in APPLETS:
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
        for name, text in (("passwd", b"root:x:0:0::/root:/bin/sh\n"), ("group", b"root:x:0:\n")):
            entry = tarfile.TarInfo(f"etc/{name}")
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text))
    return written.getvalue()


@contextlib.contextmanager
def running_engine(kind: str) -> Iterator[tuple[Host, str]]:
    """The host and the socket's path of a served engine that holds the image."""
    host = open_host()
    with contextlib.ExitStack() as ending:
        ending.callback(host.close)
        is_ours = kind == "pyengine"
        path = host.daemon().socket if is_ours else ending.enter_context(dockerd(host))
        _import_image(path)
        yield host, path


def _import_image(path: str) -> None:
    connection = UnixConnection(path, 60)
    try:
        name, tag = IMAGE.split(":")
        connection.request(
            "POST", f"/images/create?fromSrc=-&repo={name}&tag={tag}", busybox_tar(),
            {"Content-Type": "application/x-tar"},
        )  # fmt: skip
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200, text
        assert b'"error"' not in text, text
    finally:
        connection.close()


@contextlib.contextmanager
def dockerd(host: Host) -> Iterator[str]:
    folder = host.folder / "docker"
    folder.mkdir()
    path = str(folder / "d.sock")
    argv = ["dockerd", "-H", f"unix://{path}", "--data-root", str(folder / "data"),
            "--exec-root", str(folder / "exec"), "--pidfile", str(folder / "pid"),
            "--config-file", str(folder / "none.json")]  # fmt: skip
    (folder / "none.json").write_text("{}")
    process = subprocess.Popen(
        host.command(argv), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    said = []
    try:
        for line in process.stderr:
            said.append(line)
            if b"API listen on" in line:
                break
        else:
            raise AssertionError(b"".join(said[-20:]).decode(errors="replace"))
        # Its log has to be read on, or it would block on a full pipe.
        drain = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
        process.stderr.close()
        yield path
    finally:
        process.terminate()
        process.wait(30)
        with contextlib.suppress(UnboundLocalError):
            drain.wait(30)
