"""The built-in engine is started when it is needed, by the first who needs it, and once."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from compose.client.locate import Places, connect_built_in, log_end
from tests.host import ROOT, Host

# Runs in the host's namespaces: prints the engine's process.
CONNECT = """
import asyncio, sys
from pathlib import Path
from compose.client.locate import Places, connect_built_in
folder = Path(sys.argv[1])
environment = {"PATH": "/bin", "SECRET": "x"}
engine = asyncio.run(connect_built_in(Places(folder / "data", folder / "exec"), environment))
print(engine.api_version)
"""


@pytest.fixture
def folder(host: Host) -> Iterator[Path]:
    """Of an engine that is stopped after the test."""
    folder = host.folder / "built-in"
    folder.mkdir()
    yield folder
    for pid in daemons(folder):
        descriptor = os.pidfd_open(pid)
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        assert select.select([descriptor], [], [], 30)[0], "the engine does not end"
        os.close(descriptor)


def daemons(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"daemon" in words and any(str(folder).encode() in word for word in words):
                found.append(int(entry.name))
    return found


def start(host: Host, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        host.command([sys.executable, "-c", CONNECT, str(folder)]),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip


@pytest.mark.kernel
def test_two_at_once_on_a_fresh_machine_share_one(host: Host, folder: Path) -> None:
    both = [start(host, folder) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert out.strip() == "(1, 51)"
    assert len(daemons(folder)) == 1


@pytest.mark.kernel
def test_it_outlives_who_started_it_and_is_found_again(host: Host, folder: Path) -> None:
    for _ in range(2):
        process = start(host, folder)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    (pid,) = daemons(folder)
    # A session of its own: Ctrl-C in the starter's terminal doesn't reach it.
    assert os.getsid(pid) == pid
    assert b"SECRET" not in Path(f"/proc/{pid}/environ").read_bytes()


@pytest.mark.kernel
def test_one_that_dies_at_the_start_is_told_with_the_end_of_its_log(
    host: Host, folder: Path
) -> None:
    (folder / "data").write_text("a file where the folder belongs")
    process = start(host, folder)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "cannot start the built-in engine: it ended with" in err
    assert "hint: its log is" in err
    assert daemons(folder) == []


@pytest.mark.kernel
def test_one_that_fails_late_and_clears_up_is_told_as_well(host: Host, folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "networks").write_text("a file where the folder belongs")
    process = start(host, folder)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "cannot start the built-in engine: it ended with 1\n  pyengine: cannot " in err
    assert "its log is" not in err  # gone with the engine's folder
    assert daemons(folder) == []


async def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    places = Places(tmp_path / "data", tmp_path / "file" / "exec")
    with pytest.raises(Exception, match="cannot start the built-in engine"):
        await connect_built_in(places, {})


def test_only_what_this_start_wrote_is_shown(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("old\nnew\n")
    with open(tmp_path / "log", "rb") as log:
        assert log_end(log, len("old\n")) == "  new"
        assert log_end(log, 8) == "  (it wrote nothing)"
