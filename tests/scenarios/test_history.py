"""Revisions: what was applied is kept, compared, returned to; plans on file; commits; locks."""

from __future__ import annotations

import json
import re

import pytest

from tests.scenarios.project import Project

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(120)]

STACK = """\
services:
  web:
    image: rootfs:/
    command: sleep infinity
    stop_signal: SIGKILL
    environment:
      GREETING: hello
    configs: [motd]
  db:
    image: rootfs:/
    command: sleep infinity
    stop_signal: SIGKILL
    label_file: db.labels
configs:
  motd: {file: ./motd.txt}
"""


@pytest.fixture
def stack(stack: Project) -> Project:
    stack.write("first\n", "motd.txt")
    stack.write("kept=yes\n", "db.labels")
    return stack


def history(stack: Project) -> list[dict[str, object]]:
    found = json.loads(stack("history", "--format", "json").stdout)
    assert isinstance(found, list)
    return found


def greeting(stack: Project) -> object:
    config = stack.inspect(f"{stack.folder.name}-web-1")["Config"]
    assert isinstance(config, dict)
    return next(each for each in config["Env"] if each.startswith("GREETING="))


def motd(stack: Project) -> str:
    return stack("exec", "-T", "web", "cat", "/motd").stdout


def test_each_change_is_a_revision_and_can_be_returned_to(stack: Project) -> None:
    stack.git("init", "-q", "-b", "main")
    stack.git("add", ".")
    stack.git("commit", "-qm", "Greet politely")
    stack("up", "--detach")
    stack("up", "--detach")  # nothing to do: no revision
    first = history(stack)
    assert [each["number"] for each in first] == [1]
    assert first[0]["git"] == {
        "commit": stack.git("rev-parse", "HEAD").strip(),
        "subject": "Greet politely",
        "dirty": False,
    }
    assert first[0]["command"] == "up"
    assert "@" in str(first[0]["who"])
    db = stack.ids()[f"{stack.folder.name}-db-1"]

    stack.replace("GREETING: hello", "GREETING: hi")
    stack.write("second\n", "motd.txt")
    assert "web.environment.GREETING hello -> hi" in stack("diff").stdout
    stack("up", "--detach")
    assert [each["number"] for each in history(stack)] == [2, 1]
    assert history(stack)[0]["git"]["dirty"] is True  # type: ignore[index]
    assert "-dirty Greet politely" in stack("history").stdout
    assert greeting(stack) == "GREETING=hi"
    shown = stack("diff", "1", "2", "--show-values").stdout
    assert 'services.web.environment.GREETING "hello" -> "hi"' in shown  # as JSON
    assert stack("diff", "running", "files").stdout == ""

    # One command brings it back: variables and the content of the config as they were.
    stack("rollback")
    assert greeting(stack) == "GREETING=hello"
    assert motd(stack) == "first\n"
    assert stack.ids()[f"{stack.folder.name}-db-1"] == db  # not touched by any of this
    assert history(stack)[0]["command"] == "rollback 1"
    assert stack("diff", "1", "running").stdout == ""
    assert (stack.folder / "motd.txt").read_text() == "second\n"
    again = stack("rollback", "3")
    assert "already" in again.stderr

    unknown = stack("rollback", "9", check=False)
    assert unknown.returncode == 1
    assert "has no revision 9" in unknown.stderr


def test_services_that_came_since_go_with_a_rollback(stack: Project) -> None:
    stack("up", "--detach")
    extra = "  extra: {image: rootfs:/, command: sleep infinity, stop_signal: SIGKILL}\n"
    stack.replace("services:\n", f"services:\n{extra}")
    stack("up", "--detach")
    assert f"{stack.folder.name}-extra-1" in stack.ids()
    stack("rollback")
    assert f"{stack.folder.name}-extra-1" not in stack.ids()
    stack("rollback")  # and back again
    assert f"{stack.folder.name}-extra-1" in stack.ids()


def test_a_commit_is_brought_up_while_the_working_tree_stays(stack: Project) -> None:
    folder = stack.folder
    (folder / "app").mkdir()
    stack.write("FROM rootfs:/\nCOPY said /said\n", "app/Dockerfile")
    stack.write("old\n", "app/said")
    stack.write("SECRET=kept out of git\n", ".env")
    stack.write(".env\n", ".gitignore")
    stack.replace("image: rootfs:/", "build: ./app")
    stack.replace("GREETING: hello", "GREETING: ${SECRET}")
    stack.git("init", "-q", "-b", "main")
    stack.git("add", ".")
    stack.git("commit", "-qm", "Old")
    stack.git("tag", "v1")
    stack.replace("GREETING: ${SECRET}", "GREETING: new")
    stack.write("new\n", "app/said")
    stack.write("new motd\n", "motd.txt")
    stack("up", "--detach")
    assert stack("exec", "-T", "web", "cat", "/said").stdout == "new\n"

    assert "web.environment.GREETING kept out of git -> new" in stack("diff", "v1", "files").stdout
    stack("up", "--detach", "--ref", "v1")
    assert stack("diff", "v1", "running").stdout == ""
    assert stack("exec", "-T", "web", "cat", "/said").stdout == "old\n"
    assert greeting(stack) == "GREETING=kept out of git"
    assert motd(stack) == "first\n"
    assert (folder / "app" / "said").read_text() == "new\n"
    newest = history(stack)[0]
    assert newest["command"] == "up --ref v1"
    assert newest["git"]["subject"] == "Old"  # type: ignore[index]
    assert stack.git("status", "--porcelain") != ""

    wrong = stack("up", "--detach", "--ref", "nowhere", check=False)
    assert wrong.returncode == 1
    assert "git knows no commit 'nowhere'" in wrong.stderr


def test_a_failed_up_says_what_runs_and_atomic_returns_to_it(stack: Project) -> None:
    stack("up", "--detach")
    stack.replace("command: sleep infinity", "command: /no/such/program")
    failed = stack("up", "--detach", check=False)
    assert failed.returncode == 1
    assert "revision 1 runs on as before" in failed.stderr

    stack.write(STACK.replace("GREETING: hello", "GREETING: hi").replace(
        "  db:\n    image: rootfs:/\n    command: sleep infinity",
        "  db:\n    image: rootfs:/\n    command: sh -c 'exit 3'",
    ))  # fmt: skip
    failed = stack("up", "--detach", "--wait", "--atomic", check=False)
    assert failed.returncode == 1
    assert "exited with code 3" in failed.stderr
    assert "returned to revision 1" in failed.stderr
    assert greeting(stack) == "GREETING=hello"
    assert stack("diff", "1", "running").stdout == ""
    assert [each["number"] for each in history(stack)] == [1]


def test_a_plan_on_file_is_done_as_it_is_or_not_at_all(stack: Project) -> None:
    stack("up", "--detach")
    stack.replace("GREETING: hello", "GREETING: hi")
    planned = stack("plan", "-o", "saved.plan", check=False)
    assert planned.returncode == 2
    assert "recreate web.1" in planned.stdout
    assert "interrupted meanwhile: web.1" in planned.stdout
    stack.replace("GREETING: hi", "GREETING: something else")
    stack("up", "--plan", "saved.plan")
    assert greeting(stack) == "GREETING=hi"

    stack("plan", "-o", "saved.plan", check=False)
    stack("rm", "--stop", "--force", "db")
    refused = stack("up", "--plan", "saved.plan", check=False)
    assert refused.returncode == 1
    assert "now: create db.1" in refused.stderr
    assert greeting(stack) == "GREETING=hi"


def test_a_lock_is_insisted_on(stack: Project) -> None:
    (stack.folder / "app").mkdir()
    stack.write("FROM rootfs:/\nCOPY said /said\n", "app/Dockerfile")
    stack.write("old\n", "app/said")
    stack.replace("image: rootfs:/", "build: ./app")
    missing = stack("up", "--detach", "--locked", check=False)
    assert missing.returncode == 1
    assert "there is no compose.lock.yaml" in missing.stderr
    stack("lock")
    stack("up", "--detach", "--locked")
    stack.write("new\n", "app/said")
    refused = stack("up", "--detach", "--locked", check=False)
    assert refused.returncode == 1
    place = re.search(r"compose.yaml:3:\d+: services.web.build: (.*)", refused.stderr)
    assert place is not None
    assert place[1] == "the build context is another one than in compose.lock.yaml"


def test_down_with_volumes_forgets(stack: Project) -> None:
    stack("up", "--detach")
    stack("down")
    assert [each["number"] for each in history(stack)] == [1]
    stack("down", "--volumes")
    assert history(stack) == []
