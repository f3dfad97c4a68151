"""isolation 82: the disk is full. What can't be done says so and leaves nothing; the rest goes."""

from __future__ import annotations

import pytest

from tests.host import Daemon, Host

pytestmark = pytest.mark.kernel

COUNT = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.005; done"


def create(daemon: Daemon, name: str, *command: str) -> tuple[int, object]:
    body = {"Image": "rootfs:/", "Cmd": list(command), "Volumes": {"/own": {}}}
    return daemon.call("POST", f"/containers/create?name={name}", body)


def states(daemon: Daemon) -> dict[str, str]:
    status, rows = daemon.call("GET", "/containers/json?all=1")
    assert status == 200
    assert isinstance(rows, list)
    return {row["Names"][0]: row["State"] for row in rows}


def test_a_full_disk_stops_nothing_that_runs_and_is_told(host: Host) -> None:
    data = host.folder / "engine" / "data"
    data.mkdir(parents=True)
    options = ("--no-mtab", "-t", "tmpfs", "-o", "size=4m,mode=710", "tmpfs")
    host.run("mount", *options, str(data))
    daemon = host.daemon()
    for name, command in (("counts", ("sh", "-c", COUNT)), ("ends", ("sleep", "1000"))):
        assert create(daemon, name, *command)[0] == 201
        assert daemon.call("POST", f"/containers/{name}/start")[0] == 204
    assert create(daemon, "fresh", "sleep", "1000")[0] == 201
    host.run("dd", "if=/dev/zero", f"of={data}/ballast", "bs=4k", check=False)

    for method, path, body in (
        ("POST", "/containers/create?name=more", {"Image": "rootfs:/", "Cmd": ["true"]}),
        ("POST", "/containers/fresh/start", None),
        ("POST", "/containers/ends/rename?name=other", None),
        ("POST", "/networks/create", {"Name": "front"}),
        ("POST", "/volumes/create", {"Name": "vol"}),
    ):
        status, answer = daemon.call(method, path, body)
        assert status == 500
        assert f"No space left on device: {data}" in str(answer)
    assert states(daemon) == {"/counts": "running", "/ends": "running", "/fresh": "created"}
    assert daemon.call("GET", "/containers/counts/logs?stdout=1&tail=1")[0] == 200
    assert daemon.call("POST", "/containers/ends/stop?t=0")[0] == 204

    daemon.kill()
    daemon = host.daemon()  # it starts, and knows what happened
    assert states(daemon) == {"/counts": "running", "/ends": "exited", "/fresh": "created"}
    status, ends = daemon.call("GET", "/containers/ends/json")
    assert isinstance(ends, dict)
    assert ends["State"]["ExitCode"] == 137
    assert daemon.call("DELETE", "/containers/ends?v=1")[0] == 204
    assert daemon.call("DELETE", "/containers/fresh?v=1")[0] == 204

    host.run("rm", f"{data}/ballast")
    before = newest_line(daemon)
    while newest_line(daemon) == before:  # the log writer has lived through it
        pass
    assert create(daemon, "fresh", "sleep", "1000")[0] == 201
    assert daemon.call("POST", "/containers/fresh/start")[0] == 204
    daemon.remove_containers()
    assert daemon.call("GET", "/volumes")[1] == {"Volumes": [], "Warnings": None}
    assert daemon.stop() == 0
    assert host.run("find", str(data), "-mindepth", "1").stdout == ""
    host.run("umount", str(data))


def newest_line(daemon: Daemon) -> str:
    return str(daemon.call("GET", "/containers/counts/logs?stdout=1&tail=1")[1])
