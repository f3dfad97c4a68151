"""Configs and secrets: files of a container's own, that nothing else shows."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.scenarios.project import Project

pytestmark = pytest.mark.kernel

STACK = """\
services:
  web:
    image: rootfs:/
    init: true
    command: sleep infinity
    stop_signal: SIGKILL
    read_only: true
    secrets:
    - {source: from_file, uid: "33", gid: "34", mode: 0400}
    - from_environment
    - {source: from_store, target: /etc/deep/key}
    configs: [{source: motd, target: /etc/motd.d/one}, script]
    post_start: [{command: ["true"]}]
  other:
    image: rootfs:/
    init: true
    command: sleep infinity
    stop_signal: SIGKILL
    secrets: [from_file]
    x-pycompose: {files: in-place}
secrets:
  from_file: {file: ./token}
  from_environment: {environment: TOKEN}
  from_store: {external: true}
configs:
  motd: {content: "welcome, $NAME"}
  script: {file: ./run.sh}
"""
WORDS = ("hunter-file", "hunter-environment", "hunter-store")


@pytest.fixture
def filled(stack: Project) -> Project:
    stack.environment |= {
        "TOKEN": WORDS[1],
        "NAME": "ann",
        "XDG_CONFIG_HOME": str(stack.host.folder / f"store-{stack.folder.name}"),
    }
    stack.write(WORDS[0], "token")
    stack.write("#!/bin/sh\necho ran\n", "run.sh")
    (stack.folder / "token").chmod(0o600)
    (stack.folder / "run.sh").chmod(0o755)
    stack.write(WORDS[2], "value")
    stack("secret", "create", "from_store", "value")
    (stack.folder / "value").unlink()
    return stack


def inside(stack: Project, *command: str, service: str = "web") -> str:
    return stack("exec", "-T", service, *command).stdout


def test_each_is_a_file_with_owner_and_mode(filled: Project) -> None:
    filled("up", "-d")
    paths = ["from_file", "from_environment"]
    files = [f"/run/secrets/{name}" for name in paths] + ["/etc/deep/key", "/etc/motd.d/one"]
    script = "; echo; ".join(f"cat {path}" for path in files)
    assert inside(filled, "sh", "-c", script).splitlines() == [*WORDS, "welcome, ann"]
    owners = inside(filled, "stat", "-c", "%u:%g %a", *files).splitlines()
    assert owners == ["33:34 400", "0:0 444", "0:0 444", "0:0 444"]
    assert inside(filled, "/script") == "ran\n"
    kinds = inside(filled, "stat", "-fc", "%T", *files, "/script").split()
    assert kinds == ["tmpfs"] * 5
    assert inside(filled, "ls", "/run/secrets", service="other") == "from_file\n"


def test_nothing_tells_what_a_secret_is(filled: Project) -> None:
    """Neither commands nor what the engine keeps, but for the files that only root can read."""
    shown = [filled(*words.split(), check=False) for words in (
        "config --no-interpolate", "config --format json", "config --environment", "plan",
        "plan --format json", "plan --output saved.json", "up -d", "ps --format json", "ls",
        "logs", f"events --since 1 --until {int(time.time()) + 1} --json", "history", "lock",
    )]  # fmt: skip
    filled.write("#!/bin/sh\necho again\n", "run.sh")
    shown += [filled(*words.split(), check=False) for words in (
        "diff --format json", "up -d --build", "history --format json", "rollback 1", "images",
    )]  # fmt: skip
    assert [each.args[-2:] for each in shown if each.returncode not in (0, 2)] == []
    shown.append(filled("lint", check=False))
    documents = [filled.inspect(name) for name in filled.containers()]
    assert len(documents) == 2
    text = "".join(each.stdout + each.stderr for each in shown)
    said = {"config --environment": f"TOKEN={WORDS[1]}\n"}  # it was asked for
    text = text.replace(said["config --environment"], "", 1)
    # Of a short secret its plain digest tells all.
    digests = [hashlib.sha256(word.encode()).hexdigest() for word in WORDS]
    for place in (text, json.dumps(documents), filled.daemon.log):
        assert [word for word in (*WORDS, *digests) if word in place] == []
    kept = [filled.daemon.folder, filled.folder, filled.host.folder / "home"]
    found = {
        path
        for top in kept
        for path in top.rglob("*")
        if path.is_file() and not path.is_symlink()
        and any(word.encode() in path.read_bytes() for word in WORDS)
    }  # fmt: skip
    found.discard(filled.folder / "token")
    assert {path.parent.name for path in found} == {"files"}
    assert {path.stat().st_mode & 0o777 for path in found} == {0o600}
    assert all(path.parents[1].name in filled.ids().values() for path in found)
    filled("down")
    while any(path.exists() for path in found):  # what a container had goes after the answer
        time.sleep(0.01)


def test_they_outlive_the_daemon_and_the_container_s_restarts(filled: Project) -> None:
    filled("up", "-d")
    before = filled.ids()
    filled.daemon.kill()
    filled.daemon = filled.host.daemon(filled.daemon.folder)
    assert inside(filled, "cat", "/etc/deep/key") == WORDS[2]
    pid = filled.inspect(next(name for name in before if "web" in name))["State"]["Pid"]  # type: ignore[index]
    os.kill(pid, signal.SIGKILL)
    filled("start", "--wait")
    assert inside(filled, "cat", "/etc/deep/key") == WORDS[2]
    filled("restart", "-t", "0", "web")
    assert inside(filled, "cat", "/etc/deep/key") == WORDS[2]
    assert filled.ids() == before


def test_a_changed_one_makes_a_container_anew_or_is_replaced_in_it(filled: Project) -> None:
    filled("up", "-d")
    before = filled.ids()
    filled.write("rotated", "token")
    filled("up", "-d")
    after = filled.ids()
    assert {name for name in after if after[name] != before[name]} == {
        name for name in after if "web" in name
    }
    for service in ("web", "other"):
        assert inside(filled, "cat", "/run/secrets/from_file", service=service) == "rotated"
    assert filled("plan", check=False).returncode == 0


def test_of_the_engine_s_host_nothing_is_mounted(filled: Project) -> None:
    filled("up", "-d")
    (web,) = (name for name in filled.ids() if "web" in name)
    pid = filled.inspect(web)["State"]["Pid"]  # type: ignore[index]
    table = Path(f"/proc/{pid}/mountinfo").read_text()
    assert str(filled.folder) not in table
    host = Path(f"/proc/{filled.host.pid}/mountinfo").read_text()
    assert "/run/secrets" not in host
