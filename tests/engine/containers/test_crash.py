"""kill -9 of the daemon, at moments of its choosing: what is listed works, the rest is gone."""

import http.client
import threading
import time
from collections.abc import Callable

import pytest

from tests.host import Daemon, Host

pytestmark = pytest.mark.kernel


def create(daemon: Daemon, name: str, *command: str, **host: object) -> str:
    body = {"Image": "rootfs:/", "Cmd": list(command), "HostConfig": host}
    status, answer = daemon.call("POST", f"/containers/create?name={name}", body)
    assert status == 201, answer
    assert isinstance(answer, dict)
    return str(answer["Id"])


def inspect(daemon: Daemon, name: str) -> dict[str, object]:
    status, answer = daemon.call("GET", f"/containers/{name}/json")
    assert status == 200, answer
    assert isinstance(answer, dict)
    return answer


def test_a_running_container_survives_with_pid_ports_and_policy(host: Host) -> None:
    daemon = host.daemon()
    script = "python3 -m http.server -d /etc/default 80"
    binding = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}
    create(daemon, "web", "sh", "-c", script, PortBindings=binding)
    create(daemon, "again", "sleep", "1000", RestartPolicy={"Name": "always"})
    for name in ("web", "again"):
        assert daemon.call("POST", f"/containers/{name}/start")[0] == 204
    wait_for(lambda: host.fetch("127.0.0.1", 8080))
    before = inspect(daemon, "web")["State"]
    daemon.kill()
    assert host.fetch("127.0.0.1", 8080)
    daemon = host.daemon()
    assert inspect(daemon, "web")["State"] == before
    assert host.fetch("127.0.0.1", 8080)
    assert daemon.call("POST", "/containers/web/stop?t=0")[0] == 204
    state = inspect(daemon, "again")["State"]
    assert isinstance(state, dict)
    assert state["Running"] is True


def wait_for(attempt: Callable[[], object]) -> None:
    limit = time.monotonic() + 100  # an emulated machine is slow
    while True:
        try:
            attempt()
        except OSError:
            assert time.monotonic() < limit
            time.sleep(0.02)
        else:
            return


@pytest.mark.parametrize("delay", [0.01, 0.03])
def test_killed_in_the_middle_of_many_starts(host: Host, delay: float) -> None:
    daemon = host.daemon()

    def start(name: str) -> None:
        try:
            body = {"Image": "rootfs:/", "Cmd": ["sleep", "1000"], "HostConfig": {}}
            daemon.call("POST", f"/containers/create?name={name}", body)
            daemon.call("POST", f"/containers/{name}/start")
            daemon.call("DELETE", f"/containers/{name}?force=1")
        except (OSError, http.client.HTTPException):
            return  # the daemon is gone

    threads = [threading.Thread(target=start, args=(f"c{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(delay)
    daemon.kill()
    for thread in threads:
        thread.join()
    daemon = host.daemon()
    status, listed = daemon.call("GET", "/containers/json?all=1")
    assert status == 200
    assert isinstance(listed, list)
    for container in listed:
        if container["State"] != "running":
            status, answer = daemon.call("POST", f"/containers/{container['Id']}/start")
            assert status == 204, answer
    for number in range(4):
        if all(f"/c{number}" not in container["Names"] for container in listed):
            create(daemon, f"c{number}", "true")
