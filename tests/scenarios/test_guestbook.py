"""The guestbook as its user lives with it: what the README promises, and what must survive."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator

import pytest

from tests.host import Host, host
from tests.scenarios.project import Project, example

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(100)]

SERVICES = {"api", "migrate", "queue", "web", "worker"}


@pytest.fixture(scope="module")
def shared() -> Iterator[Project]:
    """One guestbook that runs, for tests that leave it as it was, and for the last."""
    with host() as place:
        guestbook = example(place, "guestbook")
        guestbook("up", "--detach", "--wait")
        yield guestbook
        guestbook("down", "-v")


def page(guestbook: Project, port: int = 8080) -> str:
    return guestbook.host.fetch("127.0.0.1", port).decode()


def test_the_page_comes_through_the_published_port(shared: Project) -> None:
    assert "Welcome! Sign below." in page(shared)


def test_all_services_run_and_the_job_is_done(shared: Project) -> None:
    rows = {str(row["Service"]): row for row in shared.ps()}
    assert set(rows) == SERVICES
    assert (rows["migrate"]["State"], rows["migrate"]["ExitCode"]) == ("exited", 0)
    for service in ("api", "queue", "web"):
        assert (rows[service]["State"], rows[service]["Health"]) == ("running", "healthy")


def test_a_second_up_does_nothing(shared: Project) -> None:
    before = shared.containers()
    shared("up", "--detach", "--wait")
    after = shared.containers()
    assert {n: r["Id"] for n, r in before.items()} == {n: r["Id"] for n, r in after.items()}
    document = json.loads(shared("plan", "--format", "json").stdout)
    assert document["changes"] == []


def test_an_entry_is_kept_and_its_words_are_counted(shared: Project) -> None:
    script = (
        "import json, time, urllib.request as u\n"
        "body = json.dumps({'name': 'ann', 'text': 'three little words'}).encode()\n"
        "answer = u.urlopen(u.Request('http://127.0.0.1:8000/entries', body))\n"
        "number = json.load(answer)['id']\n"
        "for _ in range(100):\n"
        "    entry = json.load(u.urlopen('http://127.0.0.1:8000/entries/%d' % number))\n"
        "    if entry['words'] is not None: break\n"
        "    time.sleep(0.1)\n"
        "print(entry['words'])\n"
    )
    done = shared("exec", "-T", "api", "python3", "-c", script)
    assert done.stdout.strip() == "3"
    assert "three little words" in page(shared)


def test_the_front_reaches_the_api_but_not_the_queue(shared: Project) -> None:
    reach = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"
    ok = shared("exec", "-T", "web", "python3", "-c", reach, "api", "8000", check=False)
    assert ok.returncode == 0, ok.stderr
    name = shared("exec", "-T", "web", "python3", "-c", reach, "queue", "7000", check=False)
    assert name.returncode != 0
    assert "gaierror" in name.stderr
    networks = shared.inspect("guestbook-queue-1")["NetworkSettings"]
    assert isinstance(networks, dict)
    address = networks["Networks"]["guestbook_back"]["IPAddress"]
    direct = shared("exec", "-T", "web", "python3", "-c", reach, address, "7000", check=False)
    assert direct.returncode != 0


def test_the_secret_and_the_limits_are_there(shared: Project) -> None:
    done = shared("exec", "-T", "api", "cat", "/run/secrets/moderator_token")
    assert done.stdout == "change-me-in-a-real-deployment\n"
    limits = shared.inspect("guestbook-web-1")["HostConfig"]
    assert isinstance(limits, dict)
    assert limits["Memory"] == 128 * 1024**2
    assert limits["NanoCpus"] == 500_000_000
    assert limits["PidsLimit"] == 64
    assert limits["RestartPolicy"]["Name"] == "unless-stopped"


def test_host_secrets_are_not_readable_inside(shared: Project) -> None:
    script = (
        "import os\n"
        "for path in ('/etc/shadow', '/root', '/home', '/etc/ssh'):\n"
        "    try: print(path, os.listdir(path) if os.path.isdir(path) else open(path).read())\n"
        "    except OSError as error: print(path, error.strerror)\n"
    )
    text = shared("exec", "-T", "-u", "0", "web", "python3", "-c", script).stdout
    assert "root:" not in text
    assert re.search(r"^/root (\[\]|No such file.*|Permission denied)$", text, re.M), text
    assert not re.search(r"ssh_host_\w+_key'", text)


def test_logs_are_merged_and_prefixed(shared: Project) -> None:
    text = shared("logs", "--no-color").stdout
    assert re.search(r"^web-1 +\| web: listening on port 8000$", text, re.M)
    assert re.search(r"^migrate-1 +\| migrate: the schema is at version 3$", text, re.M)


def test_kill_nine_of_the_daemon_loses_nothing(shared: Project) -> None:
    guestbook, host = shared, shared.host
    before = {name: guestbook.inspect(name)["State"]["Pid"] for name in guestbook.ids()}  # type: ignore[index]
    guestbook.daemon.kill()
    # Ports go on without the daemon; names, which it serves, come back with it.
    assert host.fetch("127.0.0.1", 8080, "/health") == b"ok\n"
    guestbook.daemon = host.daemon()
    after = {name: guestbook.inspect(name)["State"]["Pid"] for name in guestbook.ids()}  # type: ignore[index]
    assert after == before
    assert "Welcome" in page(guestbook)
    done = guestbook("exec", "-T", "web", "python3", "-c",
                     "import socket; print(socket.gethostbyname('api'))")  # fmt: skip
    assert done.stdout.startswith("172.")
    guestbook("up", "--detach", "--wait")
    assert {n: guestbook.inspect(n)["State"]["Pid"] for n in guestbook.ids()} == before  # type: ignore[index]


def test_a_killed_process_comes_back_by_its_policy(shared: Project) -> None:
    guestbook = shared
    events = guestbook.start("events", "--json", "--since", f"{time.time():.9f}")
    state = guestbook.inspect("guestbook-web-1")["State"]
    assert isinstance(state, dict)
    os.kill(int(state["Pid"]), signal.SIGKILL)
    assert events.stdout is not None
    for line in events.stdout:
        event = json.loads(line)
        if event["service"] == "web" and event["action"] == "health_status: healthy":
            break
    assert "Welcome" in page(guestbook)
    events.kill()
    assert guestbook.inspect("guestbook-web-1")["RestartCount"] == 1


def test_data_outlives_down_and_goes_with_volumes(host: Host) -> None:
    guestbook = example(host, "guestbook")
    guestbook("up", "--detach", "--wait")
    add = (
        "import urllib.request as u, json\n"
        "u.urlopen(u.Request('http://127.0.0.1:8000/entries',"
        " json.dumps({'name': 'bo', 'text': 'still here'}).encode()))"
    )
    guestbook("exec", "-T", "api", "python3", "-c", add)
    guestbook("down")
    assert guestbook.containers() == {}
    guestbook("up", "--detach", "--wait")
    assert "still here" in page(guestbook)
    guestbook("down", "-v")
    status, answer = guestbook.daemon.call("GET", "/volumes")
    assert status == 200
    assert not answer["Volumes"]  # type: ignore[index, call-overload]
    guestbook("up", "--detach", "--wait")
    assert "still here" not in page(guestbook)
    guestbook("down", "-v")
    assert guestbook.containers() == {}


def test_watch_applies_an_edit_and_leaves_the_stack_alone_on_a_broken_one(shared: Project) -> None:
    guestbook = shared
    before = guestbook.ids()
    watching = guestbook.start("watch", "--no-up")
    assert watching.stdout is not None
    read_until(watching.stdout, "watching")
    guestbook.replace("image: rootfs:/   ", "imgae: rootfs:/   ")
    told = read_until(watching.stdout, "stays as it is")
    assert re.search(r"compose\.yaml:\d+:\d+", told), told
    assert guestbook.ids() == before
    guestbook.replace("imgae: rootfs:/   ", "image: rootfs:/   ")
    guestbook.replace(
        "pids_limit: 32\n\nnetworks", "pids_limit: 32\n    hostname: scribe\n\nnetworks"
    )
    read_until(watching.stdout, "is up to date")
    after = guestbook.ids()
    assert {name for name in before if before[name] != after[name]} == {"guestbook-worker-1"}
    watching.kill()


def read_until(stream: object, words: str) -> str:
    text = ""
    for line in stream:  # type: ignore[attr-defined]
        text += line
        if words in line:
            return text
    raise AssertionError(f"the output ended before {words!r}:\n{text}")
