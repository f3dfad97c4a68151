"""What clients may send, and what they are told. Numbers in parentheses are isolation requirements
(docs/isolation.md)."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.engine.api.dialogue import Dialogue
from tests.engine.images.archives import entry, tar
from tests.engine.isolation.conftest import Prison

pytestmark = pytest.mark.kernel

Talk = Callable[[], Dialogue]

WRONG_CONFIG: list[dict[str, object]] = [
    {"Cmd": 1}, {"Cmd": [1]}, {"Cmd": [None]}, {"Cmd": {"a": 1}}, {"Cmd": ["a\0b"]},
    {"Env": "A=b"}, {"Env": [1]}, {"Env": ["=x"]}, {"Image": 1}, {"Image": []}, {"Image": ""},
    {"Image": "UPPER CASE"}, {"Image": "../../etc"}, {"Labels": []}, {"Labels": {"a": 1}},
    {"Hostname": "x" * 65}, {"Hostname": "a\nb"}, {"Hostname": 1}, {"User": 1},
    {"WorkingDir": "relative"}, {"WorkingDir": 1}, {"Volumes": []}, {"Volumes": {"relative": {}}},
    {"Volumes": {"/": {}}}, {"Volumes": {"/proc": {}}}, {"ExposedPorts": {"0/tcp": {}}},
    {"ExposedPorts": {"99999": {}}}, {"ExposedPorts": {"x": {}}}, {"ExposedPorts": ["80"]},
    {"Tty": "yes"}, {"Tty": 1}, {"OpenStdin": []}, {"StopSignal": "NOSUCH"}, {"StopTimeout": "x"},
    {"Healthcheck": []}, {"Healthcheck": {"Test": "x"}}, {"Healthcheck": {"Test": ["ODD", "x"]}},
    {"Healthcheck": {"Interval": -1}}, {"Healthcheck": {"Retries": -1}},
    {"Entrypoint": {"a": 1}}, {"MacAddress": "12:34"}, {"HostConfig": []}, {"HostConfig": "x"},
    {"NetworkingConfig": []}, {"NetworkingConfig": {"EndpointsConfig": []}},
]  # fmt: skip
WRONG_HOST: list[dict[str, object]] = [
    {"Memory": "1g"}, {"Memory": 1}, {"Memory": -1}, {"Memory": 1.5}, {"Memory": True},
    {"Memory": 1 << 70}, {"MemorySwap": 1 << 30}, {"MemorySwappiness": 101}, {"NanoCpus": 1},
    {"NanoCpus": 10**15}, {"NanoCpus": "1"}, {"CpuPeriod": 1}, {"CpuQuota": 1}, {"CpuShares": "x"},
    {"CpusetCpus": "0-99999999999"}, {"CpusetCpus": "1-0"}, {"CpusetCpus": "x"}, {"CpusetCpus": 0},
    {"CpusetMems": "0-99999999999"}, {"PidsLimit": "x"}, {"ShmSize": -1},
    {"OomScoreAdj": 5000}, {"CapAdd": {"ALL": 1}}, {"CapAdd": ["NOSUCH"]}, {"CapDrop": ["NOSUCH"]},
    {"CapAdd": [1]}, {"Privileged": "yes"}, {"SecurityOpt": ["odd=1"]},
    {"SecurityOpt": ["seccomp={"]}, {"SecurityOpt": ['seccomp={"defaultAction":"ODD"}']},
    {"SecurityOpt": ["no-new-privileges:perhaps"]}, {"Sysctls": {"kernel.panic": "1"}},
    {"Sysctls": {"net/../kernel/panic": "1"}}, {"Sysctls": []}, {"Ulimits": [{"Name": "odd"}]},
    {"Ulimits": [{"Name": "nofile", "Soft": 2, "Hard": 1}]}, {"Ulimits": {}},
    {"RestartPolicy": {"Name": "sometimes"}}, {"RestartPolicy": []},
    {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 3}},
    {"PortBindings": {"80": [{"HostPort": "70000"}]}},
    {"PortBindings": {"80": [{"HostPort": "x"}]}},
    {"PortBindings": {"80": [{"HostPort": "1-9999999999"}]}}, {"PortBindings": {"x": []}},
    {"PortBindings": {"80": [{"HostIp": "here", "HostPort": "1"}]}}, {"PortBindings": []},
    {"Binds": "x"}, {"Binds": ["/a"]  * 2}, {"Binds": ["/a:/proc"]}, {"Binds": ["/a:relative"]},
    {"Binds": ["/a:/b:odd"]}, {"Binds": [1]}, {"Mounts": {}}, {"Mounts": [{"Type": "odd"}]},
    {"Tmpfs": {"/a": "lowerdir=/"}}, {"Tmpfs": []}, {"Tmpfs": {"relative": ""}},
    {"Dns": ["nowhere"]}, {"Dns": "x"}, {"ExtraHosts": ["name"]}, {"ExtraHosts": ["a:nowhere"]},
    {"PidMode": "odd"}, {"IpcMode": "container:"}, {"UTSMode": "odd"}, {"CgroupnsMode": "odd"},
    {"NetworkMode": "container:"}, {"Runtime": "kata"}, {"LogConfig": {"Type": "odd"}},
    {"LogConfig": {"Type": "json-file", "Config": {"odd": "1"}}}, {"LogConfig": []},
    {"Devices": [{"PathOnHost": "relative"}]}, {"Devices": {}}, {"DeviceCgroupRules": ["odd"]},
    {"GroupAdd": [1]}, {"CgroupParent": "/../../up"}, {"ReadonlyRootfs": "x"}, {"Init": "x"},
]  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [*WRONG_CONFIG, *({"HostConfig": host} for host in WRONG_HOST)],
    ids=lambda body: json.dumps(body)[:60],
)
def test_a_request_that_makes_no_sense_is_refused(prison: Prison, body: dict[str, object]) -> None:
    """(57, 63): by 400 and in words, at once, and nothing is made."""
    whole = {"Image": "rootfs:/", "Cmd": ["true"], **body}
    status, answer = prison.daemon.call("POST", "/containers/create", whole)
    assert status == 400, answer
    assert isinstance(answer, dict)
    assert answer["message"]
    assert prison.daemon.call("GET", "/containers/json?all=1") == (200, [])
    _, volumes = prison.daemon.call("GET", "/volumes")
    assert isinstance(volumes, dict)
    assert not volumes["Volumes"]


NAMES = [
    "../x",
    "a/b",
    ".x",
    "-x",
    "a b",
    "a\n",
    "\u00e4",
    "%2e%2e",
    "a;b",
    "$(a)",
    "a\x1b[2J",
    "a:b",
]


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_a_name_is_of_few_letters(prison: Prison, name: str) -> None:
    """(58): of containers and volumes."""
    cell = prison.create("true")
    body = {"Image": "rootfs:/", "Cmd": ["true"]}
    prison.refused("POST", f"/containers/create?name={quote(name)}", body)
    prison.refused("POST", f"/containers/{cell}/rename?name={quote(name)}", None)
    prison.refused("POST", "/volumes/create", {"Name": name})


@pytest.mark.parametrize(
    "name",
    ["../x", ".x", "-x", "a b", "a\n", "\u00e4", "%2e%2e", "a;b", "a//b", "a/B", "a:" + "x" * 129],
)
def test_a_name_of_an_image_follows_the_grammar(prison: Prison, name: str) -> None:
    """(58)"""
    assert prison.import_(tar([entry("x")]), "known")[0] == 200
    prison.refused("POST", f"/images/known/tag?repo={quote(name)}", None)
    prison.refused("POST", f"/images/create?fromImage={quote(name)}", None)
    prison.refused("POST", "/containers/create", {"Image": name, "Cmd": ["true"]})
    assert prison.import_(tar([entry("x")]), quote(name))[0] == 400


@pytest.mark.parametrize(
    "identifier",
    ["..%2f..%2fetc", "%2fetc%2fpasswd", "..", "%2e%2e", "*", "%25s", "x%0ay", "a%5cb"],
)
def test_an_id_is_looked_up_and_never_a_path(prison: Prison, identifier: str) -> None:
    """(58)"""
    for method, path in (
        ("GET", "/containers/{}/json"), ("DELETE", "/containers/{}?force=1&v=1"),
        ("POST", "/containers/{}/start"), ("GET", "/containers/{}/logs?stdout=1"),
        ("GET", "/volumes/{}"), ("DELETE", "/volumes/{}?force=1"), ("GET", "/networks/{}"),
        ("DELETE", "/networks/{}"), ("GET", "/exec/{}/json"), ("GET", "/images/{}/json"),
        ("DELETE", "/images/{}"), ("GET", "/images/{}/get"),
    ):  # fmt: skip
        status, answer = prison.daemon.call(method, path.format(identifier))
        assert status in (400, 404) or (method == "DELETE" and status == 204), (path, answer)
    assert prison.daemon.data_root.is_dir()


@pytest.mark.parametrize(
    "path", ["/debug/pprof/", "/debug/vars", "/metrics", "/debug/requests", "/v1.51/debug/pprof/"]
)
def test_there_is_no_door_for_debugging(prison: Prison, path: str) -> None:
    """(60)"""
    assert prison.daemon.call("GET", path) == (404, {"message": "page not found"})


def test_refusals_tell_nothing_of_the_program(prison: Prison) -> None:
    """(60): neither its files nor its folders."""
    cell = prison.run("sleep", "1000")
    told = []
    for method, path, body in (
        ("POST", f"/containers/{cell}/exec", {"Cmd": ["x"], "User": "nosuch"}),
        ("POST", "/containers/create", {"Image": "nosuch"}),
        ("POST", f"/containers/{cell}/rename?name={cell}", None),
        ("GET", f"/containers/{cell}/archive?path=/nosuch", None),
        ("POST", "/images/load", {}),
        ("POST", f"/containers/{cell}/resize?h=x", None),
        ("POST", f"/containers/{cell}/kill?signal=x", None),
        ("GET", f"/containers/{cell}/top?ps_args=x", None),
        ("POST", "/volumes/create", {"Name": "v", "DriverOpts": {"type": "odd"}}),
        ("POST", "/networks/create", {"Name": "n", "Driver": "odd"}),
    ):
        status, answer = prison.daemon.call(method, path, body)
        if status >= 400:
            assert isinstance(answer, dict)
            assert answer.keys() == {"message"}
        told.append(str(answer))
    for where in (str(prison.host.folder), "engine/", ".py", "Traceback", " object at 0x"):
        assert where not in "\n".join(told), where


# --- logs ----------------------------------------------------------------------------------------

HOSTILE = (
    b"\x1b[2J\x1b]0;title\x07\r\x08\x00\xff\xfe\xc3\x28",
    b'{"log":"forged\\n","stream":"stderr","time":"2000-01-01T00:00:00Z"}',
    b'","stream":"stderr","time":"2000-01-01T00:00:00Z"}',
    b"\xe2\x80\xa8 \xe2\x80\xa9 \xc2\x85 \x0b \x0c end",
)


def test_a_log_holds_what_was_written_and_nothing_else(prison: Prison) -> None:
    """(61): any bytes come back as they were, and no line makes a record of its own."""
    text = b"\n".join(HOSTILE) + b"\n"
    escaped = "".join(f"\\{byte:03o}" for byte in text)
    code, said = prison.finish("sh", "-c", f"printf '{escaped}'")
    assert (code, said) == (0, text)
    (log,) = (prison.daemon.data_root / "containers").glob("*/*.log")
    records = [json.loads(line) for line in log.read_bytes().split(b"\n") if line]
    assert [record["stream"] for record in records] == ["stdout"] * len(HOSTILE)
    assert not [record for record in records if record["time"].startswith("2000")]


def test_a_log_stays_in_its_bounds(prison: Prison) -> None:
    """(61)"""
    limits = {"Type": "json-file", "Config": {"max-size": "20k", "max-file": "2"}}
    prison.finish("sh", "-c", "seq 1 20000", LogConfig=limits)
    logs = list((prison.daemon.data_root / "containers").glob("*/*.log*"))
    assert len(logs) == 2
    assert all(log.stat().st_size <= 20 << 10 for log in logs)


# --- what lies on the disk -----------------------------------------------------------------------


def test_secrets_are_for_the_engine_only(prison: Prison) -> None:
    """(62): environment and content of containers, readable by no other user of the host."""
    prison.finish(
        "sh", "-c", "echo $PASSWORD", config={"Env": ["PASSWORD=s3cret"]}, Binds=["vol:/v"]
    )
    found = 0
    for place in (prison.daemon.data_root, prison.daemon.exec_root):
        for path in place.rglob("*"):
            if stat.S_ISREG(path.lstat().st_mode) and b"s3cret" in path.read_bytes():
                found += 1
                assert path.stat().st_mode & 0o077 == 0, path
                assert path.stat().st_uid == 0
    assert found >= 2  # its configuration, its log
    _, listed = prison.daemon.call("GET", "/containers/json?all=1")
    assert "s3cret" not in json.dumps(listed)
    assert "s3cret" not in prison.daemon.log


def test_a_setuid_program_in_a_volume_is_out_of_reach(prison: Prison) -> None:
    """(62): CVE-2021-41091"""
    make = "cp /bin/true /v/su; chmod 4755 /v/su"
    assert prison.finish("sh", "-c", make, Binds=["vol:/v"])[0] == 0
    (program,) = (prison.daemon.data_root / "volumes").rglob("su")
    assert program.stat().st_mode & stat.S_ISUID
    tried = prison.host.run(
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "sh",
        "-c",
        str(program),
        check=False,
    )
    assert tried.returncode == 126
    assert "Permission denied" in tried.stderr


def test_sockets_are_files_that_only_the_engine_reaches(prison: Prison) -> None:
    """(54, 70): CVE-2020-15257: no name that containers of the host's network could connect to."""
    prison.run("sleep", "1000", NetworkMode="host")
    rows = Path(f"/proc/{prison.host.pid}/net/unix").read_text().splitlines()[1:]
    names = [row.split()[7] for row in rows if len(row.split()) > 7]
    assert [name for name in names if name.startswith("@")] == []
    ours = [Path(name) for name in names if name.startswith(str(prison.host.folder))]
    assert Path(prison.daemon.socket) in ours
    for path in ours:
        if path.exists() and path != Path(prison.daemon.socket):
            assert os.stat(path).st_mode & 0o007 == 0 or path.parent.stat().st_mode & 0o007 == 0
