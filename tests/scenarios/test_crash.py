"""The engine is killed while a project comes up or goes down: the next command ends the work."""

from __future__ import annotations

from random import Random

import pytest

from tests.engine.moments import killed_at
from tests.host import Host
from tests.scenarios.project import Project, project
from tests.scenarios.test_commands import await_line

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(180)]

STACK = """\
services:
  store:
    image: rootfs:/
    command: sh -c 'date > /data/since; exec sleep 1000'
    init: true
    volumes: ["data:/data"]
    networks: [back]
    healthcheck:
      {test: [CMD, test, -s, /data/since], interval: 1s, start_period: 5s, start_interval: 0.1s}
  job:
    image: rootfs:/
    command: getent hosts store
    networks: [back]
    depends_on: {store: {condition: service_healthy}}
  web:
    image: rootfs:/
    command: python3 -m http.server 80
    working_dir: /etc/alternatives
    init: true
    ports: ["127.0.0.1:8080:80"]
    networks: [back, front]
    restart: unless-stopped
    depends_on: {job: {condition: service_completed_successfully}}
networks: {back: , front: }
volumes: {data: }
"""


def test_up_and_down_converge_after_crashes_in_their_middle(host: Host) -> None:
    moments = Random(7)
    shop = project(host, STACK)
    for number in (moments.randint(2, 20), moments.randint(20, 80)):
        with killed_at(shop.daemon, number):
            shop("up", "--detach", "--wait", check=False)
        shop.daemon = host.daemon()
        shop("up", "--detach", "--wait")
        runs_as_declared(shop)
        with killed_at(shop.daemon, number // 2):
            shop("down", "-v", "-t", "0", check=False)
        shop.daemon = host.daemon()
        shop("down", "-v", "-t", "0")
        assert shop.containers() == {}
        volumes = shop.daemon.call("GET", "/volumes")[1]
        assert isinstance(volumes, dict)
        assert not volumes["Volumes"]


def runs_as_declared(shop: Project) -> None:
    ids = shop.ids()
    assert set(ids) == {"shop-store-1", "shop-job-1", "shop-web-1"}
    states = {str(row["Service"]): (row["State"], row["ExitCode"]) for row in shop.ps()}
    assert states == {"store": ("running", 0), "job": ("exited", 0), "web": ("running", 0)}
    name = shop("exec", "-T", "web", "getent", "hosts", "store").stdout
    assert "store" in name
    port = shop("port", "web", "80").stdout.strip()
    assert port == "127.0.0.1:8080"
    shop("up", "--detach", "--wait")
    assert shop.ids() == ids


def test_what_happens_to_a_project_while_its_engine_is_away_is_caught_up(host: Host) -> None:
    shop = project(host, STACK)
    shop("up", "--detach", "--wait")
    ids = shop.ids()
    shop.daemon.kill()
    shop.daemon = host.daemon()
    shop("up", "--detach", "--wait")
    assert shop.ids() == ids
    runs_as_declared(shop)
    shop("down", "-v", "-t", "0")


def test_who_follows_is_told_in_words_that_the_engine_has_gone(host: Host) -> None:
    shop = project(
        host, "services:\n  web: {image: 'rootfs:/', command: sh -c 'echo up; exec sleep 1000'}\n"
    )
    following = [shop.start("up")]
    await_line(following[0].stdout, r"\| up$")
    following += [shop.start("logs", "--follow"), shop.start("wait", "web")]
    await_line(following[1].stdout, r"\| up$")
    await_line(following[2].stdout, "waiting for")
    shop.daemon.kill()
    for process in following:
        assert process.stdout is not None
        text = process.stdout.read()
        assert process.wait(30) == 1
        what, hint = text.splitlines()
        assert what.startswith(f"lost the connection to the engine at {shop.daemon.address}"), text
        assert "containers go on running" in hint
    shop.daemon = host.daemon()
    assert {row["State"] for row in shop.ps()} == {"running"}
    shop("down", "-t", "0")


def test_names_that_are_asked_for_meanwhile_are_answered_once_all_are_known(host: Host) -> None:
    shop = project(
        host,
        "services:\n"
        "  store: {image: 'rootfs:/', init: true, command: sleep 1000}\n"
        "  web:\n    image: rootfs:/\n    stop_signal: SIGKILL\n    scale: 8\n"
        "    command: sh -c 'while sleep 0.1; do getent hosts store || echo lost; done'\n"
        "networks: {default: {internal: true}}\n",  # what isn't known is denied at once
    )
    shop("up", "--detach", "--wait")
    for _ in range(3):
        shop.daemon.kill()
        shop.daemon = host.daemon()
        shop("exec", "-T", "web", "getent", "hosts", "store")
    assert "lost" not in shop("logs", "--no-log-prefix", "web").stdout
    shop("down", "-t", "0")
