"""The daemon's life: start, refusals, orderly stop, crash and return."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.claims import claim, holders
from engine.errors import Failure
from tests.engine.api.dialogue import Dialogue, output
from tests.host import ROOT, Daemon, Host, leftovers

pytestmark = pytest.mark.kernel
CLI = (sys.executable, "-m", "engine.cli.main")


def pyengine(host: Host, *arguments: str) -> subprocess.CompletedProcess[str]:
    return host.run(*CLI, *arguments, check=False)


def run_container(daemon: Daemon, name: str, *command: str, **host_config: object) -> None:
    body = {
        "Image": "rootfs:/",
        "Cmd": list(command),
        "HostConfig": {"NetworkMode": "none", **host_config},
    }
    status, answer = daemon.call("POST", f"/containers/create?name={name}", body)
    assert status == 201, answer
    assert daemon.call("POST", f"/containers/{name}/start") == (204, None)


def inspect(daemon: Daemon, name: str) -> dict[str, object]:
    status, answer = daemon.call("GET", f"/containers/{name}/json")
    assert status == 200, answer
    assert isinstance(answer, dict)
    state = answer["State"]
    assert isinstance(state, dict)
    return state


def test_after_a_stop_without_containers_nothing_is_left(host: Host) -> None:
    daemon = host.daemon()
    run_container(daemon, "job", "true")
    daemon.call("POST", "/containers/job/wait")
    daemon.call("POST", "/networks/create", {"Name": "front"})
    daemon.call("POST", "/volumes/create", {"Name": "vol"})
    daemon.remove_containers()
    assert daemon.call("DELETE", "/networks/front")[0] == 204
    assert daemon.call("DELETE", "/volumes/vol")[0] == 204
    assert daemon.stop() == 0
    left = sorted(str(path.relative_to(host.folder)) for path in host.folder.rglob("*"))
    assert left == ["engine", "engine/daemon.log"]
    assert leftovers(host.folder, host.pid) == []
    host.daemons.clear()


def test_a_stop_takes_no_empty_folder_of_anybody_else(host: Host) -> None:
    """Volumes without content, containers that wrote nothing, or only folders."""
    daemon = host.daemon()
    daemon.call("POST", "/volumes/create", {"Name": "vol"})
    body = {"Image": "rootfs:/", "Cmd": ["true"], "HostConfig": {"Binds": ["vol:/vol"]}}
    assert daemon.call("POST", "/containers/create?name=fresh", body)[0] == 201
    run_container(daemon, "ended", "mkdir", "/srv/folder")
    daemon.call("POST", "/containers/ended/wait")
    before = {path for path in daemon.data_root.rglob("*") if path.is_dir()}
    assert any(path.name == "folder" for path in before)
    assert daemon.stop() == 0
    kept = {path for path in before if {"images", "builder"}.isdisjoint(path.parts)}
    assert {path for path in kept if not path.is_dir()} == set()
    daemon = host.daemon()
    assert daemon.call("POST", "/containers/fresh/start") == (204, None)
    assert daemon.call("POST", "/containers/ended/start") == (204, None)


def test_its_own_log_goes_with_an_empty_exec_root(host: Host) -> None:
    folder = host.folder / "exec"
    folder.mkdir(mode=0o711)
    reader, writer = os.pipe()
    with open(folder / "engine.log", "wb") as log:
        process = subprocess.Popen(
            host.command([*CLI, "daemon", "--exec-root", str(folder), "--data-root",
                          str(host.folder / "data"), "--ready-fd", str(writer)]),
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(writer,), cwd=ROOT,
        )  # fmt: skip
    os.close(writer)
    with open(reader, "rb") as ready:
        assert ready.read() == b"\n"
    process.terminate()
    assert process.wait(20) == 0
    assert list(host.folder.iterdir()) == []


def test_containers_live_through_a_stop_and_are_found_again(host: Host) -> None:
    daemon = host.daemon()
    run_container(daemon, "long", "sh", "-c", "while :; do sleep 1; done")
    before = inspect(daemon, "long")
    assert daemon.stop() == 0
    os.kill(int(str(before["Pid"])), 0)  # it lives
    daemon = host.daemon()
    after = inspect(daemon, "long")
    assert (after["Pid"], after["StartedAt"]) == (before["Pid"], before["StartedAt"])


def test_a_crash_loses_no_exit_code_and_no_output(host: Host) -> None:
    """isolation 74 and 75"""
    daemon = host.daemon()
    script = "echo one; until test -e /end; do sleep 0.05; done; echo two; exit 7"
    run_container(daemon, "ends", "sh", "-c", script)
    run_container(daemon, "stays", "cat")
    pid = inspect(daemon, "ends")["Pid"]
    process = os.pidfd_open(int(str(pid)))
    daemon.kill()
    Path(f"/proc/{pid}/root/end").touch()
    select.select([process], [], [], 10)  # it ends while no daemon is there
    os.close(process)
    daemon = host.daemon()
    state = inspect(daemon, "ends")
    assert (state["Status"], state["ExitCode"]) == ("exited", 7)
    log = daemon.call("GET", "/containers/ends/logs?stdout=1")[1]
    assert "one\n" in str(log)
    assert "two\n" in str(log)


def test_a_crash_interrupts_nobody(host: Host) -> None:
    """isolation 74: ports and names go on or come back; what was running can be worked with."""
    daemon = host.daemon()
    daemon.call("POST", "/networks/create", {"Name": "front"})
    serve = "import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=80)"
    body = {
        "Image": "rootfs:/",
        "Cmd": ["python3", "-c", serve],
        "WorkingDir": "/etc/alternatives",
        "HostConfig": {
            "NetworkMode": "front",
            "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]},
        },
    }
    status, answer = daemon.call("POST", "/containers/create?name=web", body)
    assert status == 201, answer
    assert daemon.call("POST", "/containers/web/start") == (204, None)
    wait_for_port(host, 8080)
    daemon.kill()
    assert b"Directory listing" in host.fetch("127.0.0.1", 8080)
    daemon = host.daemon()
    assert b"Directory listing" in host.fetch("127.0.0.1", 8080)
    body = {"Cmd": ["getent", "hosts", "web"], "AttachStdout": True}
    status, answer = daemon.call("POST", "/containers/web/exec", body)
    assert status == 201
    assert isinstance(answer, dict)
    client = Dialogue(daemon.socket)
    client.request("POST", f"/exec/{answer['Id']}/start", {})
    client.head()
    assert b"web" in output(client.rest())
    client.close()
    assert daemon.call("DELETE", "/containers/web?force=1")[0] == 204
    assert daemon.call("DELETE", "/networks/front")[0] == 204


def wait_for_port(host: Host, port: int) -> None:
    end = time.monotonic() + 100  # an emulated machine is slow
    while True:
        try:
            host.fetch("127.0.0.1", port)
        except OSError:
            assert time.monotonic() < end, f"nothing serves port {port}"
            time.sleep(0.05)
        else:
            return


def test_waits_and_streams_end_when_the_daemon_stops(host: Host) -> None:
    """isolation 76: in less than ten seconds, whatever clients wait for."""
    daemon = host.daemon()
    run_container(daemon, "long", "sleep", "100")
    clients = []
    for method, path in (
        ("POST", "/containers/long/wait"),
        ("GET", "/containers/long/logs?stdout=1&follow=1"),
        ("GET", "/events"),
        ("POST", "/containers/long/attach?stream=1&stdout=1"),
    ):
        clients.append(Dialogue(daemon.socket))
        clients[-1].request(method, path)
        assert clients[-1].head().status == 200
    idle, stopping = Dialogue(daemon.socket), Dialogue(daemon.socket)
    stopping.request("POST", "/containers/long/stop?t=600")  # PID 1 doesn't hear SIGTERM
    clients += [idle, stopping]
    assert daemon.stop(timeout=9.5) == 0
    for client in clients:
        with contextlib.suppress(ConnectionResetError):
            client.rest()
        client.close()


def test_one_engine_a_folder(host: Host) -> None:
    """isolation 83"""
    daemon = host.daemon()
    done = pyengine(host, "daemon", "-H", f"unix://{host.folder}/other.sock", "--data-root",
                    str(daemon.data_root), "--exec-root", str(host.folder / "other"))  # fmt: skip
    assert done.returncode == 1
    assert f"cannot use {daemon.data_root}: another engine works there (pid " in done.stderr
    assert "`pyengine stop`" in done.stderr
    assert daemon.call("GET", "/_ping") == (200, "OK")


def test_two_engines_with_their_own_folders_live_side_by_side(host: Host) -> None:
    first, second = host.daemon("first"), host.daemon("second")
    run_container(first, "web", "sleep", "100")
    assert second.call("GET", "/containers/json") == (200, [])
    run_container(second, "web", "sleep", "100")


def test_a_living_socket_is_not_taken_over_and_a_stale_one_is(host: Host) -> None:
    path = host.folder / "s.sock"
    options = ("--data-root", str(host.folder / "d"), "--exec-root", str(host.folder / "e"))
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        done = pyengine(host, "daemon", "-H", f"unix://{path}", *options)
        assert done.returncode == 1
        assert "another program serves it" in done.stderr
    assert path.exists()
    daemon = Daemon(process=None, folder=host.folder)  # type: ignore[arg-type]
    path.rename(daemon.socket)
    host.daemon("stale").stop()
    (host.folder / "stale").mkdir(exist_ok=True)
    os.rename(daemon.socket, host.folder / "stale" / "engine.sock")
    assert host.daemon("stale").call("GET", "/_ping") == (200, "OK")


def test_a_file_in_the_sockets_place_is_left_alone(host: Host) -> None:
    path = host.folder / "s.sock"
    path.write_text("precious")
    done = pyengine(host, "daemon", "-H", f"unix://{path}", "--data-root", f"{host.folder}/d",
                    "--exec-root", f"{host.folder}/e")  # fmt: skip
    assert done.returncode == 1
    assert "there is a file of this name" in done.stderr
    assert path.read_text() == "precious"
    assert not (host.folder / "d").exists()


def test_an_open_folder_is_no_place_for_a_socket(host: Host) -> None:
    folder = host.folder / "open"
    folder.mkdir()
    folder.chmod(0o777)
    done = pyengine(host, "daemon", "-H", f"unix://{folder}/s.sock", "--data-root",
                    f"{host.folder}/d", "--exec-root", f"{host.folder}/e")  # fmt: skip
    assert done.returncode == 1
    assert "everyone may write" in done.stderr


def test_status_and_stop_say_what_they_find(host: Host) -> None:
    daemon = host.daemon()
    folder = ("--exec-root", str(daemon.exec_root))
    run_container(daemon, "long", "sleep", "100")
    found = pyengine(host, "status", *folder)
    assert found.returncode == 0
    assert found.stdout.startswith("running (pid ")
    assert f"socket      unix://{daemon.socket}" in found.stdout
    assert "containers  1 running" in found.stdout
    stopped = pyengine(host, "stop", *folder)
    assert stopped.returncode == 0
    assert "1 running container goes on" in stopped.stderr
    assert daemon.process.wait(10) == 0
    gone = pyengine(host, "status", *folder)
    assert (gone.returncode, gone.stdout) == (3, "not running\n")
    assert pyengine(host, "stop", *folder).returncode == 0


def test_a_crashed_engine_is_not_running(host: Host) -> None:
    daemon = host.daemon()
    daemon.kill()
    assert (daemon.exec_root / "engine.json").exists()
    assert pyengine(host, "status", "--exec-root", str(daemon.exec_root)).returncode == 3


def test_an_ordinary_user_is_told_why_not() -> None:
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *CLI, "daemon"],
        cwd=ROOT, capture_output=True, text=True, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    if "No module named" in done.stderr or "Permission denied" in done.stderr:
        pytest.skip("an ordinary user can't read this checkout")
    assert done.returncode == 1
    assert "cannot run containers as an ordinary user" in done.stderr
    assert "sudo" in done.stderr


def test_a_second_signal_changes_nothing(host: Host) -> None:
    daemon = host.daemon()
    daemon.process.send_signal(signal.SIGTERM)
    daemon.process.send_signal(signal.SIGINT)
    assert daemon.process.wait(10) == 0


def test_the_folders_are_not_for_others(host: Host) -> None:
    """isolation 62"""
    daemon = host.daemon()
    assert daemon.data_root.stat().st_mode & 0o777 == 0o710
    run_container(daemon, "one", "true", NetworkMode="none")
    for path in daemon.data_root.rglob("*.json"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_claim_is_exclusive_and_leaves_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "root"
    descriptor = claim(folder, 0o710)
    assert holders(folder) == {os.getpid()}
    with pytest.raises(Failure, match=f"another engine works there .pid {os.getpid()}."):
        claim(folder, 0o710)
    os.close(descriptor)
    assert holders(folder) == set()
    assert list(folder.iterdir()) == []


def test_engines_in_folders_of_the_same_inode_number(host: Host) -> None:
    daemons = []
    for name in ("one", "other"):
        folder = host.folder / name / "exec"  # a file system of its own, as /run is
        folder.mkdir(parents=True)
        host.run("mount", "--no-mtab", "-t", "tmpfs", "-o", "mode=711", "tmpfs", str(folder))
        daemons.append(host.daemon(name))
    inodes = host.run("stat", "-c", "%i", *(str(each.exec_root) for each in daemons)).stdout
    assert len({*inodes.split()}) == 1
    for daemon in daemons:
        found = pyengine(host, "status", "--exec-root", str(daemon.exec_root))
        assert f"running (pid {daemon.process.pid})" in found.stdout
    for daemon in daemons:
        assert daemon.stop() == 0
        host.run("umount", str(daemon.exec_root))


def test_the_record_tells_where_it_serves(host: Host) -> None:
    daemon = host.daemon()
    record = json.loads((daemon.exec_root / "engine.json").read_text())
    assert record["hosts"] == [daemon.address]


def test_a_file_says_what_containers_and_networks_get(host: Host) -> None:
    file = host.folder / "daemon.json"
    file.write_text(
        json.dumps(
            {
                "labels": ["place=cellar"],
                "insecure-registries": ["reg.example:5000", "10.0.0.0/8"],
                "registry-mirrors": ["https://mirror.example"],
                "default-address-pools": [{"base": "10.77.0.0/16", "size": 24}],
                "mtu": 1400,
                "log-driver": "local",
                "log-opts": {"max-file": "3", "max-size": "1m"},
                "dns": ["10.0.0.53"],
                "dns-search": ["example.org"],
            }
        )
    )
    daemon = host.daemon("engine", "--config-file", str(file))
    _, info = daemon.call("GET", "/info")
    assert isinstance(info, dict)
    assert (info["Labels"], info["LoggingDriver"]) == (["place=cellar"], "local")
    assert info["RegistryConfig"]["Mirrors"] == ["https://mirror.example/"]
    assert info["RegistryConfig"]["InsecureRegistryCIDRs"] == [
        "::1/128",
        "127.0.0.0/8",
        "10.0.0.0/8",
    ]
    indexes = info["RegistryConfig"]["IndexConfigs"]
    assert (indexes["docker.io"]["Secure"], indexes["reg.example:5000"]["Secure"]) == (True, False)
    for number, name in enumerate(("bridge", "front")):
        daemon.call("POST", "/networks/create", {"Name": name})
        _, network = daemon.call("GET", f"/networks/{name}")
        assert isinstance(network, dict)
        assert network["IPAM"]["Config"][0]["Subnet"] == f"10.77.{number}.0/24"
    script = "cat /sys/class/net/eth0/mtu /etc/resolv.conf"
    run_container(daemon, "web", "sh", "-c", script, NetworkMode="bridge")
    daemon.call("POST", "/containers/web/wait")
    _, output = daemon.call("GET", "/containers/web/logs?stdout=1")
    for words in ("1400\n", "nameserver 10.0.0.53\n", "search example.org\n"):
        assert words in str(output)
    _, about = daemon.call("GET", "/containers/web/json")
    assert isinstance(about, dict)
    log_config = {"Type": "local", "Config": {"max-file": "3", "max-size": "1m"}}
    assert about["HostConfig"]["LogConfig"] == log_config
    own = {"Type": "local", "Config": {"max-file": "2"}}
    body = {"Image": "rootfs:/", "Cmd": ["true"], "HostConfig": {"LogConfig": own}}
    daemon.call("POST", "/containers/create?name=other", body)
    _, about = daemon.call("GET", "/containers/other/json")
    assert isinstance(about, dict)
    assert about["HostConfig"]["LogConfig"]["Config"] == {"max-file": "2", "max-size": "1m"}
    daemon.call("DELETE", "/networks/front")


def test_what_a_file_says_wrong_keeps_the_daemon_from_starting(host: Host) -> None:
    file = host.folder / "daemon.json"
    file.write_text('{"hosts": ["unix:///x"], "log-driver": "fluentd"}')
    done = pyengine(
        host, "daemon", "-H", f"unix://{host.folder}/s.sock", "--config-file", str(file)
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"pyengine: unable to configure the daemon with file {file}: ")
    file.write_text('{"log-driver": "fluentd"}')
    done = pyengine(host, "daemon", "-H", f"unix://{host.folder}/s.sock", "--config-file",
                    str(file), "--data-root", f"{host.folder}/d", "--exec-root",
                    f"{host.folder}/e")  # fmt: skip
    assert done.returncode == 1
    assert "no log driver named 'fluentd' is registered" in done.stderr
