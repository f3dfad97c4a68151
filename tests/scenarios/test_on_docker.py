"""The whole story on a real dockerd: what works there as on our own engine."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Iterator

import pytest

from tests.compose.engines import IMAGE, missing, running_engine
from tests.host import Daemon, Host
from tests.scenarios.project import Project, project
from tests.scenarios.test_commands import await_line

pytestmark = [pytest.mark.kernel, pytest.mark.peer, pytest.mark.timeout(150)]

STACK = f"""\
services:
  web:
    image: {IMAGE}
    command: sh -c 'touch /tmp/ok; exec sleep 1000'
    stop_signal: SIGKILL
    environment:
      GREETING: hello
    configs: [motd]
    ports: ["127.0.0.1:8077:80"]
    volumes: ["data:/data"]
    networks: [front]
    mem_limit: 64m
    healthcheck: {{test: test -e /tmp/ok, interval: 200ms, retries: 2}}
  db:
    image: {IMAGE}
    command: sleep 1000
    stop_signal: SIGKILL
configs:
  motd: {{file: ./motd.txt}}
networks: {{front: {{}}}}
volumes: {{data: {{}}}}
"""


class Docker(Daemon):
    """Its socket is where the engine's tests put it."""

    path = ""

    @property
    def socket(self) -> str:
        return self.path


@pytest.fixture(scope="module")
def docker() -> Iterator[tuple[Host, Daemon]]:
    if reason := missing("dockerd"):
        pytest.skip(f"dockerd: {reason}")
    with running_engine("dockerd") as (opened, path):
        daemon = Docker(process=None, folder=opened.folder)  # type: ignore[arg-type]
        daemon.path = path
        yield opened, daemon


@pytest.fixture
def stack(docker: tuple[Host, Daemon], request: pytest.FixtureRequest) -> Iterator[Project]:
    opened, daemon = docker
    made = project(opened, STACK, re.sub(r"\W", "", request.node.name)[5:40].strip("_"), daemon)
    made.write("first\n", "motd.txt")
    made("up", "--detach", "--wait")
    made("exec", "-T", "web", "sh", "-c", "echo precious > /data/kept")
    yield made
    made.write(STACK)
    made("down", "--volumes")
    assert made.containers() == {}


def runs_as_declared(stack: Project) -> bool:
    kept = stack("exec", "-T", "web", "cat", "/data/kept").stdout
    return kept == "precious\n" and stack("drift").returncode == 0


def fails(stack: Project, *command: str) -> str:
    done = stack(*command, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stderr


def test_plan_history_diff_and_rollback(stack: Project) -> None:
    assert stack("plan").returncode == 0
    stack.replace("GREETING: hello", "GREETING: hi")
    stack.write("second\n", "motd.txt")
    planned = stack("plan", "-o", "saved.plan", check=False)
    assert planned.returncode == 2
    assert re.search(r"environment.GREETING hello -> hi +compose.yaml:7:17", planned.stdout)
    assert "interrupted meanwhile: web.1" in planned.stdout
    stack("up", "--plan", "saved.plan")
    assert "services.web.environment.GREETING hello -> hi" in stack("diff", "1", "2").stdout
    assert stack("history", "--quiet").stdout == "2\n1\n"
    stack("rollback")
    assert stack("exec", "-T", "web", "cat", "/motd").stdout == "first\n"
    assert stack("diff", "1", "running").stdout == ""
    stack("plan", "-o", "saved.plan", check=False)
    stack("rm", "--stop", "--force", "db")
    assert "now: create db.1" in fails(stack, "up", "--plan", "saved.plan")
    stack("rollback", "1")
    assert runs_as_declared(stack)


def test_a_commit_and_a_lock(stack: Project) -> None:
    stack.git("init", "-q")
    stack.git("add", ".")
    stack.git("commit", "-qm", "good")
    stack.git("tag", "v1")
    stack.replace("mem_limit: 64m", "mem_limit: 96m")
    stack.git("commit", "-qam", "bad")
    stack("up", "--detach")
    stack("up", "--detach", "--ref", "v1")
    assert stack("diff", "1", "running").stdout == ""
    stack.git("revert", "--no-edit", "HEAD")
    stack("lock")
    stack("up", "--detach", "--wait", "--locked")
    assert runs_as_declared(stack)


def test_a_bad_image_and_bad_yaml_touch_nothing(stack: Project) -> None:
    before = stack.ids()
    stack.replace(f"image: {IMAGE}\n    command: sh", "image: no/such:image\n    command: sh")
    assert "no/such:image" in fails(stack, "up", "--detach")
    stack.write(STACK.replace("  web:", "  web"))
    assert "compose.yaml:" in fails(stack, "up", "--detach")
    stack.write(STACK)
    stack("up", "--detach")
    assert stack.ids() == before


def test_what_does_not_work_is_taken_back(stack: Project) -> None:
    stack.replace("test: test -e /tmp/ok", "test: echo sick; false")
    told = fails(stack, "up", "--detach", "--wait", "--atomic")
    assert "sick" in told
    assert "returned to revision 1" in told
    assert runs_as_declared(stack)
    eater = "x=aaaaaaaa; while true; do x=$$x$$x; done"
    stack.write(STACK.replace("touch /tmp/ok; exec sleep 1000", eater))
    stack.replace("retries: 2", "retries: 1000")  # it is to die first
    told = fails(stack, "up", "--detach", "--wait", "--atomic")
    assert re.search("ran out of memory|exited with code 137", told), told
    assert runs_as_declared(stack)


def test_what_is_taken_away_comes_back(stack: Project) -> None:
    name = stack.folder.name
    body = {"Container": f"{name}-web-1", "Force": True}
    stack.daemon.call("POST", f"/networks/{name}_front/disconnect", body)
    assert stack.daemon.call("DELETE", f"/networks/{name}_front")[0] == 204
    assert stack("drift", check=False).returncode == 2
    stack("up", "--detach", "--wait")
    assert runs_as_declared(stack)
    assert stack.daemon.call("POST", f"/containers/{name}-web-1/rename?name={name}-x")[0] == 204
    stack("up", "--detach", "--wait")
    assert runs_as_declared(stack)
    stack.daemon.call("DELETE", f"/containers/{name}-web-1?force=1")
    assert stack.daemon.call("DELETE", f"/volumes/{name}_data")[0] == 204
    stack("up", "--detach", "--wait")
    assert stack("drift").returncode == 0


def test_a_port_that_another_has(stack: Project) -> None:
    text = STACK.replace("8077", "8078")
    other = project(stack.host, text, "holder", stack.daemon)
    other.write("first\n", "motd.txt")
    other("up", "--detach")
    stack.replace("8077", "8078")
    assert "container holder-web-1 has it" in fails(stack, "up", "--detach")
    assert runs_as_declared(stack)
    other("down", "--volumes")
    stack("up", "--detach", "--wait")
    assert runs_as_declared(stack)


def test_it_is_kept_as_it_is(stack: Project) -> None:
    name = stack.folder.name
    keeper = stack.start("--progress", "plain", "reconcile")
    await_line(keeper.stdout, "is kept as in revision 1")
    stack.daemon.call("DELETE", f"/containers/{name}-web-1?force=1")
    assert "create web.1: missing" in await_line(keeper.stdout, r"web\.1 +started")
    stack.daemon.call("POST", f"/containers/{name}-db-1/stop")
    await_line(keeper.stdout, r"db\.1 +started")
    keeper.send_signal(signal.SIGINT)
    assert keeper.wait(30) == 130


def test_edits_reach_what_runs(stack: Project) -> None:
    (stack.folder / "pages").mkdir()
    develop = (
        "    develop: {watch: [{action: sync, path: ./pages, target: /srv/pages}]}\n    configs"
    )
    stack.replace("    configs", develop)
    watching = stack.start("watch")
    await_line(watching.stdout, "^watching")
    stack.write("one", "pages/index.html")
    await_line(watching.stdout, "index.html synced")
    assert stack("exec", "-T", "web", "cat", "/srv/pages/index.html").stdout == "one"
    db = stack.ids()[f"{stack.folder.name}-db-1"]
    stack.write("second\n", "motd.txt")
    await_line(watching.stdout, "is up to date")
    assert stack("exec", "-T", "web", "cat", "/motd").stdout == "second\n"
    assert stack.ids()[f"{stack.folder.name}-db-1"] == db
    watching.send_signal(signal.SIGINT)
    assert watching.wait(30) == 130


def test_a_port_that_a_process_has(stack: Project) -> None:
    """Docker notices when the container starts: then what ran is put back."""
    before = stack.ids()
    other = stack.host.call(lambda: socket.create_server(("127.0.0.1", 8078)))
    try:
        stack.replace("8077", "8078")
        assert "address already in use" in fails(stack, "up", "--detach")
        assert stack.ids() == before
        assert runs_as_declared(stack)
    finally:
        other.close()
    stack("up", "--detach", "--wait")
    assert runs_as_declared(stack)
