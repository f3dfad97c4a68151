"""Every command, as its user types it: what it does, what it prints, how it ends."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tests import terminal
from tests.host import Host, host
from tests.scenarios.project import PYCOMPOSE, Project, project

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(120)]

SHOP = """\
services:
  db:
    image: rootfs:/
    command: sleep infinity
    stop_signal: SIGKILL
    environment: {KIND: database}
    volumes: ["data:/data"]
  web:
    image: rootfs:/
    command: sh -c 'echo one; sleep 0.01; echo two >&2; exec sleep infinity'
    stop_signal: SIGKILL
    depends_on: [db]
    ports: ["127.0.0.1:8000:80", "90/udp"]
volumes: {data: {}}
"""


@pytest.fixture(scope="module")
def place() -> Iterator[Host]:
    with host() as opened:
        opened.daemon()
        yield opened


@pytest.fixture(scope="module")
def shop(place: Host) -> Iterator[Project]:
    """One that runs, for tests that leave it as it was."""
    made = project(place, SHOP, "shop", place.daemons[0])
    made("up", "--detach")
    yield made
    made("down", "--volumes")


@pytest.fixture
def fresh(place: Host, request: pytest.FixtureRequest) -> Iterator[Project]:
    """An empty folder; its project is taken down in the end."""
    name = re.sub(r"\W", "", request.node.name.removeprefix("test_"))[:40].rstrip("_")
    made = project(place, "", name, place.daemons[0])
    yield made
    made.clear()


def own(made: Project) -> dict[str, str]:
    """Names of this project's containers without its name in front -> their ids."""
    prefix = made.folder.name + "-"
    return {
        name.removeprefix(prefix): identity
        for name, identity in made.ids().items()
        if name.startswith(prefix)
    }


def state(made: Project, name: str) -> dict[str, object]:
    found = made.inspect(f"{made.folder.name}-{name}")["State"]
    assert isinstance(found, dict)
    return found


def await_line(stream: IO[str] | None, pattern: str) -> str:
    """All up to and including the first line that has it."""
    assert stream is not None
    text = ""
    for line in stream:
        text += line
        if re.search(pattern, line):
            return text
    raise AssertionError(f"the output ended before {pattern!r}:\n{text}")


class Terminal(terminal.Terminal):
    """pycompose on a terminal of its own."""

    def __init__(self, made: Project, *arguments: str) -> None:
        command = made.host.command([*PYCOMPOSE, *arguments], cwd=made.folder)
        environment = {**made.environment, "TERM": "xterm", "COLUMNS": "80"}
        super().__init__(command, made.host.environment(environment))


# --- looking


def test_ps_says_what_docker_compose_says(shop: Project) -> None:
    rows = {str(row["Service"]): row for row in shop.ps()}
    assert rows.keys() == {"db", "web"}
    web = rows["web"]
    assert web["Name"] == "shop-web-1"
    assert web["State"] == "running"
    assert web["Project"] == "shop"
    assert web["ExitCode"] == 0
    assert web["Publishers"] == [
        {"URL": "127.0.0.1", "TargetPort": 80, "PublishedPort": 8000, "Protocol": "tcp"},
        *(
            {
                "URL": address, "TargetPort": 90, "Protocol": "udp",
                "PublishedPort": web["Publishers"][1]["PublishedPort"],  # type: ignore[index]
            }
            for address in ("0.0.0.0", "::")
        ),
    ]  # fmt: skip
    assert shop("ps", "--services").stdout.split() == ["db", "web"]
    ids = shop("ps", "--quiet").stdout.split()
    assert sorted(ids) == sorted(own(shop).values())
    assert shop("ps", "--status", "exited", "--format", "json").stdout == ""
    header, *lines = shop("ps").stdout.splitlines()
    assert header.split() == ["NAME", "IMAGE", "COMMAND", "SERVICE", "CREATED", "STATUS", "PORTS"]
    assert len(lines) == 2


def test_port_and_top_and_ls(shop: Project) -> None:
    assert shop("port", "web", "80").stdout == "127.0.0.1:8000\n"
    assert re.fullmatch(r"0\.0\.0\.0:\d+\n", shop("port", "--protocol", "udp", "web", "90").stdout)
    nothing = shop("port", "web", "81", check=False)
    assert nothing.returncode == 1
    assert "81" in nothing.stderr
    assert "sleep infinity" in shop("top", "web").stdout
    listed = json.loads(shop("ls", "--format", "json").stdout)
    assert {"Name": "shop", "Status": "running(2)", "ConfigFiles": f"{shop.folder}/compose.yaml"} \
        in listed  # fmt: skip


def test_commands_work_by_name_outside_of_the_folder(shop: Project) -> None:
    done = shop.host.run(*PYCOMPOSE, "-p", "shop", "ps", "-q", env=shop.environment, cwd=Path("/"))
    assert sorted(done.stdout.split()) == sorted(own(shop).values())
    named = {**shop.environment, "COMPOSE_PROJECT_NAME": "shop"}
    again = shop.host.run(*PYCOMPOSE, "ps", "-q", env=named, cwd=Path("/"))
    assert again.stdout == done.stdout


def test_config_prints_what_can_be_loaded_again(shop: Project) -> None:
    document = json.loads(shop("config", "--format", "json").stdout)
    assert document["name"] == "shop"
    assert document["services"]["web"]["depends_on"] == {
        "db": {"condition": "service_started", "required": True}
    }
    again = shop.folder / "again.yaml"
    shop("config", "--output", str(again))
    assert json.loads(shop("-f", str(again), "config", "--format", "json").stdout) == document
    assert shop("config", "--services").stdout.split() == ["db", "web"]
    assert shop("config", "--volumes").stdout.split() == ["data"]
    assert shop("config", "--quiet").stdout == ""
    hashes = shop("config", "--hash", "*").stdout.splitlines()
    labels = shop.inspect("shop-web-1")["Config"]["Labels"]  # type: ignore[index]
    assert f"web {labels['com.docker.compose.config-hash']}" in hashes


def test_version(shop: Project) -> None:
    number = shop("version", "--short").stdout.strip()
    assert json.loads(shop("version", "--format", "json").stdout) == {"version": number}


def test_every_command_explains_itself(shop: Project) -> None:
    shown = shop("--help").stdout
    commands = re.findall(r"^  (\w+)  +\w", shown.partition("Commands:")[2], re.M)
    assert len(commands) >= 20
    for line in shown.splitlines():
        assert len(line) <= 80, line


def test_a_second_up_does_nothing(shop: Project) -> None:
    before = own(shop)
    done = shop("up", "--detach")
    assert done.stderr == "shop is up to date\n"
    assert done.stdout == ""
    assert own(shop) == before
    assert shop("plan").returncode == 0


def test_logs_by_time_and_in_parts(shop: Project) -> None:
    assert shop("logs", "web").stdout == "web-1  | one\nweb-1  | two\n"
    assert shop("logs", "--tail", "1", "--no-log-prefix", "web").stdout == "two\n"
    stamped = shop("logs", "-t", "--no-log-prefix", "web").stdout.splitlines()
    first, second = (line.split()[0] for line in stamped)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", first)
    assert first < second
    assert shop("logs", "--since", second, "--no-log-prefix", "web").stdout == "two\n"
    assert shop("logs", "--until", first, "--no-log-prefix", "web").stdout == "one\n"
    assert shop("--ansi", "always", "logs", "web").stdout.startswith("\x1b[36mweb-1  | \x1b[0mone")


# --- exec and run


def test_exec(shop: Project) -> None:
    done = shop(
        "exec", "-T", "-u", "65534", "-w", "/tmp", "-e", "A=b c", "-e", "B", "db",
        "sh", "-c", "id -u; pwd; echo $A $B $KIND; echo bad >&2; exit 7", check=False,
        env={"B": "from outside"},
    )  # fmt: skip
    assert done.returncode == 7
    assert done.stdout == "65534\n/tmp\nb c from outside database\n"
    assert done.stderr == "bad\n"


def test_a_variable_named_alone_that_nobody_has_set_is_left_out(shop: Project) -> None:
    assert "KIND" not in shop("exec", "-T", "-e", "KIND", "db", "env").stdout
    given = shop("run", "--rm", "-e", "KIND", "-e", "NONE", "db", "env").stdout
    assert "KIND=database\n" in given
    assert "NONE" not in given
    shop.write("NONE=from the file\n", "some.env")
    found = shop("--env-file", "some.env", "run", "--rm", "-e", "NONE", "db", "env").stdout
    assert "NONE=from the file\n" in found
    found = shop("--env-file", "some.env", "exec", "-T", "-e", "NONE", "db", "env").stdout
    assert "NONE=from the file\n" in found


def test_exec_passes_standard_input_on(shop: Project) -> None:
    command = [*PYCOMPOSE, "exec", "-T", "db", "sha256sum"]
    blob = os.urandom(3_000_000)
    done = subprocess.run(
        shop.host.command(command, cwd=shop.folder), input=blob, capture_output=True, timeout=60,
        env=shop.host.environment(shop.environment),
    )  # fmt: skip
    import hashlib

    assert done.stdout.split()[0].decode() == hashlib.sha256(blob).hexdigest(), done.stderr


def test_exec_on_a_terminal(shop: Project) -> None:
    terminal = Terminal(shop, "exec", "db", "sh")
    terminal.type("test -t 0 && tty && stty size; PS1=; echo ready-$((1+1))\n")
    terminal.read_until(r"/dev/pts/\d+\r\n(.|\n)*ready-2")
    terminal.type("exit 5\n")
    assert terminal.end() == 5


def test_exec_in_the_background(shop: Project) -> None:
    assert shop("exec", "-d", "db", "touch", "/tmp/done").returncode == 0
    shop("exec", "-T", "db", "sh", "-c", "until test -e /tmp/done; do sleep 0.05; done")


def test_run(fresh: Project) -> None:
    fresh.write(SHOP.replace("127.0.0.1:8000:80", "127.0.0.1:8003:80"))
    (fresh.folder / "here").mkdir()
    (fresh.folder / "here" / "note").write_text("hello\n")
    done = fresh(
        "run", "--rm", "-T", "-e", "A=1", "-v", "./here:/here:ro", "web",
        "sh", "-c", "cat /here/note; echo $A; exit 4", check=False,
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert done.stdout == "hello\n1\n"
    # What it depends on runs now, it itself has gone, its ports were never published.
    assert list(own(fresh)) == ["db-1"]
    done = fresh("run", "--rm", "-T", "--no-deps", "--entrypoint", "sh -c", "web", "echo over")
    assert done.stdout == "over\n"
    made = fresh("run", "-d", "-P", "--name", "sidecar", "web", "sleep", "60").stdout.strip()
    assert made == fresh.ids()["sidecar"]
    host_config = fresh.inspect("sidecar")["HostConfig"]
    assert host_config["PortBindings"]["80/tcp"][0]["HostPort"] == "8003"  # type: ignore[index]
    assert "sidecar" not in fresh("ps").stdout
    assert "sidecar" in fresh("ps", "-a").stdout
    fresh.daemon.call("DELETE", "/containers/sidecar?force=1")


def test_run_keeps_a_container_that_is_not_to_be_removed(fresh: Project) -> None:
    fresh.write("services: {job: {image: 'rootfs:/', command: 'true'}}\n")
    assert fresh("run", "-T", "job").returncode == 0
    (name,) = own(fresh)
    assert re.fullmatch(r"job-run-[0-9a-f]{12}", name)
    assert state(fresh, name)["Status"] == "exited"
    fresh("down")
    assert [*own(fresh)] == [name]
    # In .env this is an option's default, as there.
    fresh.write("COMPOSE_REMOVE_ORPHANS=true\n", ".env")
    fresh("down")
    assert own(fresh) == {}


def test_run_on_a_terminal(fresh: Project) -> None:
    fresh.write("services: {job: {image: 'rootfs:/'}}\n")
    terminal = Terminal(fresh, "run", "--rm", "job", "sh")
    terminal.type("tty; echo ready-$((1+1))\n")
    terminal.read_until(r"/dev/(pts/\d+|console)\r\n(.|\n)*ready-2")
    terminal.type("exit 6\n")
    assert terminal.end() == 6


# --- the life of containers


def test_stop_start_restart_kill_rm(fresh: Project) -> None:
    fresh.write(SHOP.replace("127.0.0.1:8000:80", "127.0.0.1:8004:80"))
    fresh("up", "--detach")
    before = own(fresh)
    stopped = fresh("stop").stderr
    assert stopped.index("web.1  stopped") < stopped.index("db.1  stopping")
    assert {row["State"] for row in fresh.ps()} == {"exited"}
    assert fresh("ps").stdout.count("\n") == 1
    started = fresh("start").stderr
    assert started.index("db.1  started") < started.index("web.1  start")
    pid = state(fresh, "db-1")["Pid"]
    fresh("restart", "db")
    assert state(fresh, "db-1")["Pid"] != pid
    fresh("kill", "-s", "SIGUSR1", "web")
    assert own(fresh) == before
    fresh("kill")
    fresh("rm", "--force")
    assert own(fresh) == {}
    none = fresh("start", check=False)
    assert none.returncode == 1
    assert "has no container to start" in none.stderr


def test_down_takes_what_it_is_told(fresh: Project) -> None:
    fresh.write(SHOP.replace("127.0.0.1:8000:80", "127.0.0.1:8005:80"))
    fresh("up", "--detach")
    fresh.write(SHOP.partition("  web:")[0] + "volumes: {data: {}}\n")
    done = fresh("down", check=False)
    assert list(own(fresh)) == ["web-1"], done.stderr
    fresh("down", "--remove-orphans")
    assert own(fresh) == {}
    volume = f"{fresh.folder.name}_data"
    assert fresh.daemon.call("GET", f"/volumes/{volume}")[0] == 200
    fresh("down", "-v")
    assert fresh.daemon.call("GET", f"/volumes/{volume}")[0] == 404
    assert fresh.daemon.call("GET", f"/networks/{fresh.folder.name}_default")[0] == 404
    assert "has nothing to remove" in fresh("down").stderr


def test_up_changes_only_what_was_edited(fresh: Project) -> None:
    fresh.write(SHOP.replace("127.0.0.1:8000:80", "127.0.0.1:8006:80"))
    fresh("up", "--detach")
    before = own(fresh)
    fresh.replace("KIND: database", "KIND: store")
    planned = fresh("plan", check=False)
    assert planned.returncode == 2
    assert re.search(r"recreate container db\.1|recreate.*db", planned.stdout)
    assert "KIND" in planned.stdout
    document = json.loads(fresh("plan", "--format", "json", check=False).stdout)
    assert document["changes"]
    foreseen = "".join(f"DRY-RUN MODE - {line}\n" for line in planned.stdout.splitlines())
    assert fresh("up", "--detach", "--dry-run").stdout == foreseen
    assert own(fresh) == before
    fresh("up", "--detach")
    after = own(fresh)
    assert after["web-1"] == before["web-1"]
    assert after["db-1"] != before["db-1"]
    fresh("up", "--detach", "--force-recreate", "--no-deps", "web")
    assert own(fresh)["web-1"] != after["web-1"]
    assert own(fresh)["db-1"] == after["db-1"]


def test_scale_and_orphans(fresh: Project) -> None:
    fresh.write("services: {web: {image: 'rootfs:/', command: sleep infinity, init: true}}\n")
    fresh("up", "--detach", "--scale", "web=3")
    three = own(fresh)
    assert sorted(three) == ["web-1", "web-2", "web-3"]
    done = fresh("exec", "-T", "--index", "2", "web", "hostname")
    assert three["web-2"].startswith(done.stdout.strip())
    fresh("up", "--detach")
    assert own(fresh) == {"web-1": three["web-1"]}
    fresh.write("services: {other: {image: 'rootfs:/', command: sleep infinity, init: true}}\n")
    assert "web-1" in fresh("up", "--detach").stderr
    assert sorted(own(fresh)) == ["other-1", "web-1"]
    fresh("up", "--detach", "--remove-orphans")
    assert sorted(own(fresh)) == ["other-1"]


def test_wait_is_over_when_all_are_healthy_or_done(fresh: Project) -> None:
    fresh.write(
        "services:\n"
        "  job: {image: 'rootfs:/', command: 'true'}\n"
        "  web:\n"
        "    image: rootfs:/\n"
        "    command: sh -c 'sleep 0.3; touch /tmp/up; exec sleep infinity'\n"
        "    stop_signal: SIGKILL\n"
        "    healthcheck: {test: test -e /tmp/up, interval: 200ms}\n"
    )
    fresh("up", "--wait")
    health = state(fresh, "web-1")["Health"]
    assert health["Status"] == "healthy"  # type: ignore[index]
    fresh.replace("touch /tmp/up", "touch /tmp/down")
    fresh.replace("interval: 200ms", "interval: 100ms, retries: 2")
    failed = fresh("up", "--wait", check=False)
    assert failed.returncode == 1
    assert "web-1" in failed.stderr


def test_a_failing_dependency_shows_its_last_words(fresh: Project) -> None:
    fresh.write(
        "services:\n"
        "  job: {image: 'rootfs:/', command: sh -c 'echo the disk is on fire; exit 9'}\n"
        "  web:\n"
        "    image: rootfs:/\n"
        "    depends_on: {job: {condition: service_completed_successfully}}\n"
    )
    failed = fresh("up", "--detach", check=False)
    assert failed.returncode == 1
    assert "the disk is on fire" in failed.stderr
    assert "9" in failed.stderr
    assert list(own(fresh)) == ["job-1"]


# --- up in the foreground


TALKING = """\
services:
  a:
    image: rootfs:/
    command: sh -c 'trap "echo bye; exit 0" TERM; echo hello; while :; do sleep 0.05; done'
    init: true
  long-name:
    image: rootfs:/
    command: sh -c 'trap "echo farewell; exit 0" TERM; echo hi; while :; do sleep 0.05; done'
    init: true
    depends_on: [a]
"""


def test_up_shows_output_and_stops_in_order_at_ctrl_c(fresh: Project) -> None:
    fresh.write(TALKING)
    running = fresh.start("up")
    text = await_line(running.stdout, r"^long-name-1 +\| hi$")
    assert re.search(r"^a-1          \| hello$", text, re.M)
    running.send_signal(signal.SIGINT)
    assert running.stdout is not None
    rest = running.stdout.read()
    assert running.wait(30) == 130
    assert rest.index("farewell") < rest.index("bye"), rest
    assert {row["State"] for row in fresh.ps()} == {"exited"}


def test_who_stops_reading_ends_the_output_and_nothing_else(fresh: Project) -> None:
    fresh.write(
        "services:\n  talks:\n    image: rootfs:/\n    scale: 2\n    stop_signal: SIGKILL\n"
        "    command: sh -c 'while echo tick; do sleep 0.05; done'\n"
    )
    fresh("--progress", "quiet", "up", "--detach")
    for command in (["up"], ["logs", "--follow"]):
        with fresh.start(*command, stderr=subprocess.PIPE) as running:
            await_line(running.stdout, r"\| tick$")
            assert running.stdout is not None
            assert running.stderr is not None
            running.stdout.close()
            assert running.wait(30) == 141
            assert running.stderr.read() in ("", f"{fresh.folder.name} is up to date\n")
    assert {row["State"] for row in fresh.ps()} == {"running"}


def test_a_second_ctrl_c_kills(fresh: Project) -> None:
    fresh.write(
        "services:\n  deaf:\n    image: rootfs:/\n    stop_grace_period: 1h\n"
        "    command: sh -c 'trap \"\" TERM; echo up; while :; do sleep 0.05; done'\n"
    )
    running = fresh.start("up")
    await_line(running.stdout, r"\| up$")
    running.send_signal(signal.SIGINT)
    await_line(running.stdout, "deaf.1 +stopping")
    running.send_signal(signal.SIGINT)
    assert running.wait(30) == 130
    assert state(fresh, "deaf-1")["ExitCode"] == 137


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--abort-on-container-exit"], 3),
        (["--abort-on-container-failure"], 3),
        (["--exit-code-from", "short"], 3),
        (["--exit-code-from", "long"], 137),
    ],
)
def test_up_ends_with_a_container(fresh: Project, arguments: list[str], code: int) -> None:
    fresh.write(
        "services:\n"
        "  short: {image: 'rootfs:/', command: sh -c 'exit 3'}\n"
        "  long: {image: 'rootfs:/', command: sleep infinity, stop_signal: SIGKILL}\n"
    )
    done = fresh("up", *arguments, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "short-1 exited with code 3" in done.stdout
    assert {row["State"] for row in fresh.ps()} == {"exited"}


def test_up_ends_when_all_have_ended(fresh: Project) -> None:
    fresh.write(
        "services:\n"
        "  a: {image: 'rootfs:/', command: echo first}\n"
        "  b: {image: 'rootfs:/', command: echo second}\n"
    )
    done = fresh("up", "--attach", "a")
    assert "a-1  | first" in done.stdout
    assert "second" not in done.stdout
    assert fresh("up", "--no-log-prefix", "b").stdout.startswith("second\n")


def test_a_terminal_shows_a_table_and_colours(fresh: Project) -> None:
    fresh.write("services: {a: {image: 'rootfs:/', command: echo first}}\n")
    terminal = Terminal(fresh, "up")
    assert terminal.end() == 0
    assert "\x1b[36ma-1  | \x1b[0mfirst" in terminal.text
    assert "✔" in terminal.text
    assert terminal.text.rfind("\x1b[?25h") > terminal.text.rfind("\x1b[?25l")  # the cursor is back
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.text).splitlines()
    rows = [line for line in drawn if "network default" in line]
    assert rows
    assert max(map(len, rows)) == 78  # what ^C is echoed as has room beside it


# --- following


def test_logs_follow_a_container_that_is_replaced(fresh: Project) -> None:
    fresh.write(TALKING)
    fresh("up", "--detach")
    following = fresh.start("logs", "--follow", "a")
    await_line(following.stdout, "hello")
    fresh.replace("echo hello", "echo servus")
    fresh("up", "--detach")
    await_line(following.stdout, "servus")
    fresh("stop")
    assert following.wait(30) == 0
    again = fresh.start("logs", "--follow", "a")
    await_line(again.stdout, "servus")
    fresh("start")
    await_line(again.stdout, "servus")
    again.send_signal(signal.SIGINT)
    assert again.wait(30) == 130


def test_events_are_told_as_they_come(fresh: Project) -> None:
    fresh.write("services: {a: {image: 'rootfs:/', command: echo first}}\n")
    since = f"{time.time():.9f}"
    following = fresh.start("events", "--json", "--since", since)
    fresh("up", "--detach")
    seen = []
    assert following.stdout is not None
    for line in following.stdout:
        event = json.loads(line)
        seen.append(event["action"])
        assert event["service"] == ("" if event["type"] == "project" else "a")
        if {"die", "revision"} <= set(seen):
            break
    assert seen[:2] == ["plan", "create"]
    assert "start" in seen
    following.send_signal(signal.SIGINT)
    assert following.wait(30) == 130
    text = fresh("events", "--since", since, "--until", str(int(time.time()) + 1)).stdout
    assert " container create " in text


# --- pausing, scaling, waiting


def test_pause_and_unpause(fresh: Project) -> None:
    fresh.write(SHOP.replace("127.0.0.1:8000:80", "127.0.0.1:8011:80"))
    fresh("up", "--detach")
    fresh("pause", "web")
    assert (state(fresh, "web-1")["Status"], state(fresh, "db-1")["Status"]) == (
        "paused", "running",
    )  # fmt: skip
    fresh("unpause")
    assert state(fresh, "web-1")["Status"] == "running"
    assert "no such service: wbe" in fresh("pause", "wbe", check=False).stderr


def test_create_then_scale(fresh: Project) -> None:
    fresh.write("services: {a: {image: 'rootfs:/', command: sleep 60, stop_signal: SIGKILL}}\n")
    fresh("create", "--scale", "a=2")
    assert {row["State"] for row in fresh.ps()} == {"created"}
    fresh("scale", "a=3")
    assert [(row["Name"], row["State"]) for row in fresh.ps()] == [
        (f"{fresh.folder.name}-a-{number}", "running") for number in (1, 2, 3)
    ]
    fresh("scale", "a=1")
    assert len(fresh.ps()) == 1
    assert "no such service: b" in fresh("scale", "b=1", check=False).stderr


def test_wait_ends_with_the_code_of_the_container(fresh: Project) -> None:
    fresh.write(
        "services:\n"
        "  a: {image: 'rootfs:/', command: sh -c 'read line; exit 3', stdin_open: true}\n"
        "  b: {image: 'rootfs:/', command: sleep 60, stop_signal: SIGKILL}\n"
        "  c: {image: 'rootfs:/', command: sh -c 'exit 4'}\n"
    )
    fresh("up", "--detach")
    for _ in ("it runs, maybe", "it has ended"):
        assert fresh("wait", "c", check=False).returncode == 4
    identity = own(fresh)["a-1"]
    waiting = fresh.start("wait", "--down-project", "a")
    await_line(waiting.stdout, "waiting for .*a-1")
    terminal = subprocess.run(
        fresh.host.command([*PYCOMPOSE, "attach", "a"], cwd=fresh.folder), input=b"line\n",
        capture_output=True, timeout=60, env=fresh.host.environment(fresh.environment),
    )  # fmt: skip
    assert terminal.returncode == 3, terminal.stderr
    said, _ = waiting.communicate(timeout=60)
    assert f'container "{identity}" exited with status code 3\n' in said
    assert waiting.returncode == 3
    assert own(fresh) == {}
    nothing = fresh("wait", "a", check=False)
    assert (nothing.returncode, "no container of a" in nothing.stderr) == (1, True)


# --- files


def test_cp_out_of_a_container(shop: Project) -> None:
    there = "mkdir -p /tmp/tree/sub; echo a >/tmp/tree/a; echo b >/tmp/tree/sub/b;" \
            " ln -sf /etc/shadow /tmp/tree/link; chmod 751 /tmp/tree/sub"  # fmt: skip
    shop("exec", "-T", "db", "sh", "-c", there)
    here = shop.folder / "out"
    here.mkdir()
    shop("cp", "db:/tmp/tree", "out")
    assert (here / "tree/sub/b").read_text() == "b\n"
    assert os.readlink(here / "tree/link") == "/etc/shadow"
    assert (here / "tree/sub").stat().st_mode & 0o777 == 0o751
    shop("cp", "db:/tmp/tree/.", "out")
    assert (here / "a").read_text() == "a\n"
    shop("cp", "db:/tmp/tree/a", "out/renamed")
    assert (here / "renamed").read_text() == "a\n"
    assert "tree/sub/b" in subprocess.run(
        ["tar", "-t"], capture_output=True, text=True, check=True,
        input=shop("cp", "db:/tmp/tree", "-").stdout,
    ).stdout  # fmt: skip
    wrong = shop("cp", "db:/tmp/missing", "out", check=False)
    assert wrong.returncode == 1
    assert "/tmp/missing" in wrong.stderr
    assert "no folder" in shop("cp", "db:/tmp/tree", "nowhere/tree", check=False).stderr
    assert "onto the file" in shop("cp", "db:/tmp/tree", "out/a", check=False).stderr


def test_cp_into_containers(shop: Project) -> None:
    tree = shop.folder / "in"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub/x").write_text("x\n")
    (tree / "sub/x").chmod(0o640)
    shop("cp", "in", "db:/tmp")
    shop("cp", "in/.", "db:/tmp/in2")
    shop("cp", "in/sub/x", "db:/tmp/y")
    told = shop("exec", "-T", "db", "sh", "-c",
                "cat /tmp/in/sub/x /tmp/in2/sub/x /tmp/y; stat -c %a /tmp/y")  # fmt: skip
    assert told.stdout == "x\nx\nx\n640\n"
    assert "no such file" in shop("cp", "nothing", "db:/tmp", check=False).stderr
    assert "onto the file" in shop("cp", "in", "db:/tmp/y", check=False).stderr
    assert "one of the two" in shop("cp", "in", "out", check=False).stderr
    assert "no such service: dbb" in shop("cp", "in", "dbb:/tmp", check=False).stderr


# --- looking on


def test_stats_once_and_on(shop: Project) -> None:
    rows = [json.loads(line) for line in
            shop("stats", "--no-stream", "--format", "json").stdout.splitlines()]  # fmt: skip
    assert [row["Name"] for row in rows] == ["shop-db-1", "shop-web-1"]
    assert set(rows[0]) == {
        "BlockIO", "CPUPerc", "Container", "ID", "MemPerc", "MemUsage", "Name", "NetIO", "PIDs",
    }  # fmt: skip
    assert int(rows[0]["PIDs"]) >= 1
    assert re.fullmatch(r"[\d.]+[KM]iB / [\d.]+GiB", rows[0]["MemUsage"])
    header = shop("stats", "--no-stream", "web").stdout.splitlines()[0]
    assert re.split(r"  +", header) == [
        "CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O",
        "PIDS",
    ]  # fmt: skip
    following = shop.start("stats", "--format", "json", "web")
    for _ in range(2):
        assert json.loads(await_line(following.stdout, "shop-web-1"))["Name"] == "shop-web-1"
    following.send_signal(signal.SIGINT)
    assert following.wait(20) == 130


def test_images_and_volumes(shop: Project) -> None:
    (row, *_rest) = json.loads(shop("images", "--format", "json", "db").stdout)
    assert (row["ContainerName"], row["Repository"]) == ("shop-db-1", "rootfs:/")
    assert shop("images", "-q").stdout.strip() == row["ID"].removeprefix("sha256:")
    assert shop("volumes").stdout.split() == ["DRIVER", "VOLUME", "NAME", "local", "shop_data"]
    assert shop("volumes", "-q", "web").stdout == ""
    (line,) = shop("volumes", "--format", "json").stdout.splitlines()
    volume = json.loads(line)
    assert (volume["Name"], volume["Driver"]) == ("shop_data", "local")
    assert "com.docker.compose.project=shop" in volume["Labels"]


def test_attach_leaves_by_keys(fresh: Project) -> None:
    fresh.write(
        "services:\n  a:\n    image: rootfs:/\n    tty: true\n    stdin_open: true\n"
        "    command: sh -c 'while read x; do echo got-$$x; done'\n"
    )
    fresh("up", "--detach")
    terminal = Terminal(fresh, "attach", "--detach-keys", "ctrl-x", "a")
    terminal.type("one\n")
    terminal.read_until("got-one")
    terminal.type("\x18")
    assert terminal.end() == 0
    assert state(fresh, "a-1")["Status"] == "running"


def test_formats_and_filters(shop: Project) -> None:
    names = shop("ps", "--format", "{{.Service}}={{upper .State}}").stdout.split()
    assert sorted(names) == ["db=RUNNING", "web=RUNNING"]
    assert shop("ps", "-q", "--filter", "status=exited").stdout == ""
    assert shop("volumes", "--format", "{{.Name}}").stdout == "shop_data\n"
    assert "shop" in shop("ls", "--filter", "name=sho", "-q").stdout
    assert "shop" not in shop("ls", "--filter", "name=elsewhere", "-q").stdout


def test_a_rehearsal_changes_nothing(shop: Project) -> None:
    before = shop.containers()
    for words in (["down", "-v"], ["stop"], ["kill"], ["restart"], ["rm", "-fs"]):
        said = shop("--dry-run", *words).stdout
        assert said.startswith("DRY-RUN MODE - "), words
    assert "recreate web.1" in shop("up", "-d", "--force-recreate", "--dry-run").stdout
    for words, would in (
        (["exec", "-T", "db", "true"], "run in shop-db-1: true"),
        (["run", "db", "true"], "run a container of db"),
        (["cp", "compose.yaml", "db:/"], "copy compose.yaml to shop-db-1: /"),
        (["commit", "db", "kept:1"], "make an image of shop-db-1: kept:1"),
        (["export", "db", "-o", "db.tar"], "write the files of shop-db-1 to db.tar"),
    ):
        assert shop("--dry-run", *words).stdout == f"DRY-RUN MODE - {would}\n"
    assert not (shop.folder / "db.tar").exists()
    assert {name: row["Id"] for name, row in shop.containers().items()} == {
        name: row["Id"] for name, row in before.items()
    }


def test_run_with_variables_of_a_file_and_capabilities(shop: Project) -> None:
    (shop.folder / "more.env").write_text("ONE=1\nTWO=2\n")
    script = "echo $ONE $TWO; grep CapEff /proc/self/status"
    words = ["--env-from-file", "more.env", "-e", "TWO=3", "--cap-drop", "ALL", "--cap-add",
             "NET_ADMIN", "-q", "--no-deps", "--rm", "-T", "db", "sh", "-c", script]  # fmt: skip
    said = shop("run", *words).stdout
    assert said.splitlines()[0] == "1 3"
    assert said.split()[-1] == f"{1 << 12:016x}"


def test_an_external_secret_reaches_its_file(fresh: Project) -> None:
    fresh.write(
        "services:\n"
        "  a:\n"
        "    image: rootfs:/\n"
        "    init: true\n"
        "    command: sleep infinity\n"
        "    stop_signal: SIGKILL\n"
        "    secrets: [{source: db, uid: '7', gid: '8', mode: 0400}]\n"
        "secrets: {db: {external: true, name: shared}}\n"
    )
    store = {"XDG_CONFIG_HOME": str(fresh.folder / "store")}
    missing = fresh("up", "-d", check=False, env=store)
    assert missing.returncode == 1
    assert "pycompose secret create shared" in missing.stderr
    (fresh.folder / "value").write_text("hunter2")
    fresh("secret", "create", "shared", "value", env=store)
    fresh("up", "-d", env=store)
    show = [
        "exec",
        "-T",
        "a",
        "sh",
        "-c",
        "stat -c '%u %g %a' /run/secrets/db; cat /run/secrets/db",
    ]
    assert fresh(*show).stdout == "7 8 400\nhunter2"
    (fresh.folder / "value").write_text("hunter3")
    fresh("secret", "rotate", "shared", "value", env=store)
    fresh("up", "-d", env=store)
    assert fresh(*show).stdout == "7 8 400\nhunter3"
    fresh("down", env=store)


def test_orphans_go_with_a_kill_that_says_so(fresh: Project) -> None:
    two = "services:\n" + "".join(
        f"  {name}: {{image: 'rootfs:/', command: sleep infinity, stop_signal: SIGKILL}}\n"
        for name in ("a", "b")
    )
    fresh.write(two)
    fresh("up", "-d")
    fresh.write("\n".join(two.splitlines()[:2]))
    fresh("kill", "--remove-orphans")
    assert set(own(fresh)) == {"a-1"}


def test_commands_are_about_the_services_of_the_files(fresh: Project) -> None:
    """Of those, the ones that are on; a name alone means all that has it."""
    one = "{image: 'rootfs:/', command: sleep infinity, stop_signal: SIGKILL%s}"
    base = f"services:\n  web: {one % ''}\n  debug: {one % ', profiles: [debug]'}\n"
    fresh.write(base)
    fresh.write(base + f"  more: {one % ''}\n", "more.yaml")

    def states() -> dict[str, str]:
        return {name[:-2]: str(fresh.containers()[f"{fresh.folder.name}-{name}"]["State"])
                for name in own(fresh)}  # fmt: skip

    def all_run() -> None:
        fresh("-f", "more.yaml", "--profile", "debug", "up", "-d")
        assert set(states().values()) == {"running"}

    all_run()
    for words, state in (["stop"], "exited"), (["kill"], "exited"), (["pause"], "paused"):
        fresh(*words)
        assert states() == {"web": state, "debug": "running", "more": "running"}, words
        all_run()
    fresh("rm", "-fs")
    assert states() == {"debug": "running", "more": "running"}
    all_run()
    said = fresh("down").stderr
    assert "profiles that are off stay" in said
    assert "not in the files stay" in said
    assert states() == {"debug": "running", "more": "running"}
    fresh("-p", fresh.folder.name, "down")
    assert states() == {}


def test_progress_as_json_has_the_words_of_docker_compose(fresh: Project) -> None:
    fresh.write("services: {a: {image: 'rootfs:/', command: sleep infinity, init: true}}\n")
    name = fresh.folder.name

    def told(*words: str) -> list[tuple[str, str]]:
        lines = fresh("--progress", "json", *words).stderr.splitlines()
        return [(line["id"], line["status"]) for line in map(json.loads, lines)]

    network, container = f"Network {name}_default", f"Container {name}-a-1"
    made = [(container, word) for word in ("Creating", "Created", "Starting", "Started")]
    assert told("up", "-d") == [(network, "Creating"), (network, "Created"), *made]
    anew = [(container, word) for word in ("Recreate", "Recreated", "Starting", "Started")]
    assert told("up", "-d", "--force-recreate") == anew
    assert told("stop") == [(container, "Stopping"), (container, "Stopped")]


def test_one_thing_at_a_time_on_request(fresh: Project) -> None:
    one = "{image: 'rootfs:/', command: sleep infinity, init: true}"
    fresh.write("services:\n" + "".join(f"  {name}: {one}\n" for name in "abcd"))
    fresh("up", "-d")
    for words in (["--parallel", "1", "stop"], ["--parallel", "1", "start"]):
        lines = fresh("--progress", "json", *words).stderr.splitlines()
        told = [(line["id"], line["status"]) for line in map(json.loads, lines)]
        begun, ended = told[::2], told[1::2]
        assert [name for name, _ in begun] == [name for name, _ in ended]
        assert len({name for name, _ in begun}) == 4
    limited = fresh("--progress", "json", "stop", env={"COMPOSE_PARALLEL_LIMIT": "1"}).stderr
    words_told = [json.loads(line)["status"] for line in limited.splitlines()]
    assert words_told == ["Stopping", "Stopped"] * 4


def test_the_keys_of_up(fresh: Project) -> None:
    fresh.write(
        "services: {a: {image: 'rootfs:/', command: sleep infinity, stop_signal: SIGKILL}}\n"
    )
    terminal, other = pty.openpty()
    process = subprocess.Popen(
        fresh.host.command([*PYCOMPOSE, "up"], cwd=fresh.folder),
        stdin=other, stdout=other, stderr=other,
        env=fresh.host.environment({**fresh.environment, "TERM": "dumb"}),
    )  # fmt: skip
    os.close(other)
    said = b""
    try:
        for key, awaited in (
            (b"w", b"d: detach"),
            (b"d", b"watching 1 file of"),
            (b"", b"detached"),
        ):
            while awaited not in said:
                assert select.select([terminal], [], [], 60)[0], said
                said += os.read(terminal, 4096)
            os.write(terminal, key)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    assert state(fresh, "a-1")["Running"]


def test_up_ends_with_what_was_named(fresh: Project) -> None:
    fresh.write(
        "services:\n"
        "  job: {image: 'rootfs:/', command: sh -c 'echo out; echo err >&2', depends_on: [base]}\n"
        "  base: {image: 'rootfs:/', command: sleep infinity, stop_signal: SIGKILL}\n"
    )
    done = fresh("up", "--attach-dependencies", "job", "--menu=false")
    assert "out" in done.stdout
    assert "err" not in done.stdout
    assert "| err" in done.stderr  # each stream stays itself
    assert state(fresh, "base-1")["Running"]
    assert "up to date" in fresh("up", "--detach", "--menu", "base").stderr  # no keys, no refusal


def test_a_dependency_that_has_ended_does_not_stop_a_run(fresh: Project) -> None:
    fresh.write(
        "services:\n"
        "  a: {image: 'rootfs:/', command: 'true', depends_on: [base]}\n"
        "  base: {image: 'rootfs:/', command: 'true'}\n"
    )
    fresh("run", "--rm", "-T", "a")
    fresh.replace("depends_on: [base]", "depends_on: {base: {condition: service_healthy}}")
    failed = fresh("run", "--rm", "-T", "a", check=False)
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr


def test_exec_finds_a_container_of_run(fresh: Project) -> None:
    fresh.write("services: {a: {image: 'rootfs:/', stop_signal: SIGKILL}}\n")
    # Its standard input stays open, though nobody is there.
    fresh("run", "-d", "a", "cat")
    assert fresh("exec", "-T", "a", "echo", "here").stdout == "here\n"
    failed = fresh("exec", "--index", "1", "-T", "a", "true", check=False)
    assert 'service "a" is not running container #1' in failed.stderr
