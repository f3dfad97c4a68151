"""`watch`: edits reach what runs, and nothing else; what can't be loaded changes nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.host import host
from tests.scenarios.project import Project, project
from tests.scenarios.test_commands import await_line, own

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(120)]

SITE = """\
services:
  web:
    image: rootfs:/
    command: sleep infinity
    stop_signal: SIGKILL
    env_file: web.env
    configs: [motd]
    develop:
      watch:
      - {action: sync, path: ./pages, target: /srv/pages, ignore: ["*.tmp"],
         initial_sync: true}
      - {action: sync+restart, path: ./conf, target: /srv/conf}
      - action: sync+exec
        path: ./code
        target: /srv/code
        exec: {command: [sh, -c, "tee -a /srv/seen < /srv/code/version"]}
  other:
    image: rootfs:/
    command: sleep infinity
    stop_signal: SIGKILL
  built:
    build: ./app
    command: sleep infinity
    stop_signal: SIGKILL
  mounted:
    image: rootfs:/
    command: sh -c 'trap "cat /live >> /seen" USR1; echo ready; while :; do sleep 0.1; done'
    stop_signal: SIGKILL
    volumes: ["./src:/src"]
    configs: [live]
    x-pycompose: {reload: SIGUSR1, files: in-place}
configs:
  motd: {file: ./motd}
  live: {file: ./live}
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Project]:
    with host() as place:
        made = project(place, SITE, "site")
        for folder in ("pages", "conf", "code", "app", "src"):
            (made.folder / folder).mkdir()
        made.write("there from the start", "pages/first")
        made.write("FROM rootfs:/\nCOPY said /said\n", "app/Dockerfile")
        made.write("notes\n", "app/.dockerignore")
        made.write("one\n", "app/said")
        made.write("COLOUR=red\n", "web.env")
        made.write("welcome\n", "motd")
        made.write("first\n", "live")
        yield made


@pytest.fixture(scope="module")
def watching(site: Project) -> Iterator[subprocess.Popen[str]]:
    process = site.start("watch")
    await_line(process.stdout, "^watching")
    yield process
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    site("down")


def inside(site: Project, *command: str) -> str:
    return site("exec", "-T", "web", *command).stdout


def test_watch_brings_the_project_up_first(site: Project, watching: object) -> None:
    assert own(site).keys() == {"web-1", "other-1", "built-1", "mounted-1"}
    assert inside(site, "cat", "/srv/pages/first") == "there from the start"


def test_changed_files_are_synced(site: Project, watching: subprocess.Popen[str]) -> None:
    before = own(site)
    (site.folder / "pages" / "deep").mkdir()
    await_line(watching.stdout, "web: .*deep synced")
    (site.folder / "pages" / "draft.tmp").write_text("not this")
    (site.folder / "pages" / "index.html").write_text("<h1>one</h1>")
    await_line(watching.stdout, "web: .*index.html.* synced")
    assert inside(site, "cat", "/srv/pages/index.html") == "<h1>one</h1>"
    assert "draft.tmp" not in inside(site, "ls", "/srv/pages")
    (site.folder / "pages" / "index.html").unlink()
    await_line(watching.stdout, "web: .*index.html.* synced")
    assert "index.html" not in inside(site, "ls", "/srv/pages")
    assert own(site) == before


def test_sync_and_restart(site: Project, watching: subprocess.Popen[str]) -> None:
    before = site.inspect("site-web-1")["State"]
    (site.folder / "conf" / "app.conf").write_text("x=1\n")
    await_line(watching.stdout, "web: restarted")
    after = site.inspect("site-web-1")["State"]
    assert after["StartedAt"] > before["StartedAt"]  # type: ignore[index]
    assert inside(site, "cat", "/srv/conf/app.conf") == "x=1\n"


def test_sync_and_exec(site: Project, watching: subprocess.Popen[str]) -> None:
    (site.folder / "code" / "version").write_text("v2\n")
    await_line(watching.stdout, "web \\| v2")
    await_line(watching.stdout, "ended with code 0")
    assert "v2" in inside(site, "cat", "/srv/seen")


def test_a_changed_context_is_built_anew(site: Project, watching: subprocess.Popen[str]) -> None:
    before = own(site)
    (site.folder / "app" / "notes").write_text("not part of it")
    (site.folder / "app" / "said").write_text("two\n")
    await_line(watching.stdout, "built: app/said changed")
    await_line(watching.stdout, "built: rebuilt")
    assert site("exec", "-T", "built", "cat", "/said").stdout == "two\n"
    after = own(site)
    assert after["built-1"] != before["built-1"]
    assert after["web-1"] == before["web-1"]


def test_a_bind_mounted_source_sends_a_signal(
    site: Project, watching: subprocess.Popen[str]
) -> None:
    (site.folder / "src" / "app.py").write_text("print()\n")
    await_line(watching.stdout, "mounted: sent SIGUSR1")
    seen = site("exec", "-T", "mounted", "sh", "-c", "until test -e /seen; do sleep 0.05; done")
    assert seen.returncode == 0


def test_a_config_changes_in_place_where_that_is_asked_for(
    site: Project, watching: subprocess.Popen[str]
) -> None:
    before = own(site)
    site.write("second\n", "live")
    await_line(watching.stdout, "is up to date")
    assert own(site) == before
    assert site("exec", "-T", "mounted", "cat", "/live").stdout == "second\n"
    site("exec", "-T", "mounted", "sh", "-c", "until grep -q second /seen; do sleep 0.05; done")
    assert site("plan").stdout == ""


@pytest.mark.parametrize(
    ("name", "text"), [("web.env", "COLOUR=blue\n"), ("motd", "good morning\n")]
)
def test_a_changed_env_file_or_config_recreates_only_its_service(
    site: Project, watching: subprocess.Popen[str], name: str, text: str
) -> None:
    before = own(site)
    site.write(text, name)
    await_line(watching.stdout, "is up to date")
    after = own(site)
    assert after["other-1"] == before["other-1"]
    assert after["web-1"] != before["web-1"]
    shown = inside(site, "sh", "-c", "echo COLOUR=$COLOUR; cat /motd")
    assert text in shown
    assert inside(site, "cat", "/srv/pages/first") == "there from the start"


def test_a_broken_edit_is_told_and_changes_nothing(
    site: Project, watching: subprocess.Popen[str]
) -> None:
    before = own(site)
    text = "image: rootfs:/\n    command: sleep infinity\n    stop_signal: SIGKILL\n  built"
    broken = text.replace("rootfs:/", "[rootfs:/]").replace("infinity", "1000")
    site.replace(text, broken)
    told = await_line(watching.stdout, "stays as it is")
    assert re.search(r"compose\.yaml:\d+:\d+: services\.other\.image", told), told
    assert own(site) == before
    site.replace("image: [rootfs:/]", "image: rootfs:/")
    await_line(watching.stdout, "is up to date")
    after = own(site)
    assert after["web-1"] == before["web-1"]
    assert after["other-1"] != before["other-1"]


def test_a_storm_is_one_round(site: Project, watching: subprocess.Popen[str]) -> None:
    """As a checkout of another branch makes one. How long that takes doesn't matter: the watcher,
    stopped meanwhile as by Ctrl-Z, sees it as one."""
    watching.send_signal(signal.SIGTSTP)
    os.waitid(os.P_PID, watching.pid, os.WSTOPPED)
    for number in range(5000):
        (site.folder / "pages" / f"page{number}").write_text(str(number))
    watching.send_signal(signal.SIGCONT)
    await_line(watching.stdout, "web: .* synced")
    assert inside(site, "sh", "-c", "ls /srv/pages | grep ^page | wc -l") == "5000\n"


def test_up_shows_what_is_written_while_it_watches() -> None:
    with host() as place:
        made = project(
            place,
            "services:\n  a:\n    image: rootfs:/\n    stop_signal: SIGKILL\n"
            "    command: sh -c 'echo hello; sleep infinity'\n"
            "    develop: {watch: [{action: sync, path: ./src, target: /src}]}\n",
            "talk",
        )
        (made.folder / "src").mkdir()
        process = made.start("up", "--watch")
        await_line(process.stdout, "^watching")
        await_line(process.stdout, "a-1.* hello")
        made.write("one\n", "src/page")
        await_line(process.stdout, "a: /src/page synced")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert made.inspect("talk-a-1")["State"]["Running"] is False  # type: ignore[index]
