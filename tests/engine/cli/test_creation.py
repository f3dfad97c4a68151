"""What `create` sends, beside what Docker's own command sends for the same words."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.cli.app import main
from tests.engine.cli.recorder import Recorder, essence, recorder

FILES = {
    "vars": '# a comment\n\nA=1\n  B=2 \nHERE\nNOWHERE\nC="q"\n',
    "labels": "one=1\ntwo=\n",
    "seccomp.json": '{ "defaultAction": "SCMP_ACT_ALLOW" }',
}
ENVIRONMENT = {"HERE": "here", "PATH": os.environ["PATH"], "HOME": "/nonexistent"}
ACCEPTED = """\
image
--name n1 -it -p 80:80 -p 127.0.0.1:8000-8002:90-92/udp -p 7000-7005:85 -p [::1]:81:81 image sh -c x
-p 99 -P --expose 80 --expose 90-92/udp image
-p target=80,published=8080,protocol=udp image
-it=false --tty=true --init=true image
-v /a:/b:ro -v vol:/c -v /anon -v ./rel:/d -v ~/x:/e:z --tmpfs /run --tmpfs /t:size=1m image
--mount type=bind,src=/a,dst=/b,ro,bind-propagation=rprivate,bind-recursive=readonly image
--mount source=v,target=/x,volume-nocopy,volume-label=a=b,volume-opt=o=bind,volume-subpath=sub image
--mount 'type=volume,dst=/x,volume-driver=local,"volume-opt=o=a,b"' image
--mount type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1777 image
--mount type=bind,src=./rel,dst=/x,readonly=false,bind-nonrecursive image
--mount type=image,src=i,dst=/i,image-subpath=q image
-e A=1 -e HERE -e NOWHERE --env-file vars -l a=b -l c --label-file labels image
--network n --network-alias x --ip 1.2.3.4 --mac-address 02:42:ac:11:00:02 --link a:b image
--network name=n,alias=q,driver-opt=a=b,gw-priority=3 --network m --ip6 fd00::2 image
--network host image
--net none image
--health-cmd 'x y' --health-interval 3s --health-retries 2 --health-start-interval 1.5s image
--no-healthcheck --restart on-failure:3 --entrypoint '' --entrypoint /x image
--entrypoint '' image y --rm -x
-m 64m --memory-swap -1 --memory-reservation 32m --memory-swappiness 0 --cpus 1.5 image
--cpu-shares 3 --cpu-period 1000 --cpu-quota 500 --cpuset-cpus 0 --cpuset-mems 0 image
--pids-limit -1 --shm-size 1g --ulimit nofile=10:20 --ulimit core=-1 --oom-kill-disable image
--blkio-weight 10 --blkio-weight-device /dev/sda:20 --device-read-bps /dev/sda:1m image
--device-write-iops /dev/sda:10 --device /dev/a:/dev/b:r --device /dev/a:rw --device /dev/z image
--device vendor.com/net=eth0 --device-cgroup-rule 'c 1:2 rwm' image
--gpus all --cap-add NET_ADMIN --cap-add cap_chown --cap-drop all image
--gpus '"device=1,2",capabilities=utility' --cap-add ALL --cap-drop mknod image
--security-opt no-new-privileges --security-opt seccomp=seccomp.json image
--security-opt systempaths=unconfined --security-opt label:disable --privileged image
--dns 1.1.1.1 --dns-search . --dns-option x --add-host a:1.2.3.4 --add-host b=[::1] image
--add-host c:host-gateway --hostname h --domainname d --stop-signal INT --stop-timeout 0 image
--read-only -u 1 -w /x -t --pid host --ipc host --uts host --userns host --cgroupns private image
--cgroup-parent /p --runtime r --sysctl net.a=b --annotation x=y --storage-opt size=1g image
--group-add g --volumes-from q:ro --volume-driver dd --log-driver x --log-opt a=b image
-a stdin -a STDOUT image
--kernel-memory 50m --disable-content-trust image
-i --oom-score-adj -5 --restart unless-stopped --rm=false --platform linux/amd64 image
"""
REFUSED = """\
--rm --restart=always image
--restart=on-failure:x image
-p 80:80:80:80 image
-p abc image
--memory 1x image
--memory-swappiness 200 image
--mount type=volume image
--mount foo=1 image
--mount type=bind,src=/a,dst=/b,ro,bind-recursive=readonly image
--env-file missing image
--network host --network n image
--network-alias q image
--network n --network n image
-e =x image
--add-host foo image
--ulimit foo=1 image
--security-opt foo image
--cpus 0.0000000001 image
--no-healthcheck --health-cmd x image
--health-interval 1x image
--expose 80:80 image
--log-driver none --log-opt a=b image
--attach foo image
--tty=maybe image
--nosuch image
"""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    with recorder(tmp_path_factory.mktemp("recorder")) as opened:
        yield opened


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("here")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


def sent(engine: Recorder, here: Path, line: str) -> tuple[dict[str, object], dict[str, list[str]]]:
    assert main(["-H", engine.address, "create", *shlex.split(line)], ENVIRONMENT, here) == 0
    return engine.bodies.pop(), engine.queries.pop()


@pytest.mark.peer
@pytest.mark.skipif(shutil.which("docker") is None, reason="there is no docker command here")
@pytest.mark.parametrize("line", ACCEPTED.splitlines())
def test_the_engine_is_told_what_docker_tells(engine: Recorder, here: Path, line: str) -> None:
    ours, our_query = sent(engine, here, line)
    subprocess.run(
        ["docker", "-H", engine.address, "create", *shlex.split(line)],
        cwd=here, env=ENVIRONMENT, check=True, capture_output=True,
    )  # fmt: skip
    assert essence(ours) == essence(engine.bodies.pop())
    assert our_query == engine.queries.pop()


@pytest.mark.parametrize("line", REFUSED.splitlines())
def test_what_docker_refuses_is_refused_before_the_engine_is_asked(
    engine: Recorder, here: Path, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["-H", engine.address, "create", *shlex.split(line)]
    assert main(argv, ENVIRONMENT, here) in (1, 125)
    assert engine.bodies == []
    assert capsys.readouterr().err.startswith("pyengine: ")
    if shutil.which("docker"):
        done = subprocess.run(["docker", *argv], cwd=here, env=ENVIRONMENT, capture_output=True)
        assert done.returncode == 125


def test_ports_and_mounts_by_hand(engine: Recorder, here: Path) -> None:
    line = "--name web -p 127.0.0.1:8080:80 -p 53/udp -v ./data:/data:ro -v /cache image sh"
    body, query = sent(engine, here, line)
    assert query == {"name": ["web"]}
    assert body == {
        "Image": "image",
        "Cmd": ["sh"],
        "AttachStdout": True,
        "AttachStderr": True,
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
        "Volumes": {"/cache": {}},
        "HostConfig": {
            "NetworkMode": "default",
            "PortBindings": {
                "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}],
                "53/udp": [{"HostIp": "", "HostPort": ""}],
            },
            "Binds": [f"{here}/data:/data:ro"],
            "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        },
    }


def test_environment_and_limits_by_hand(engine: Recorder, here: Path) -> None:
    line = "--env-file vars -e HERE -e NOWHERE -e A=2 --cpus 0.5 -m 1g --pids-limit -1 image"
    body, _ = sent(engine, here, line)
    assert body["Env"] == ["A=1", "B=2 ", "HERE=here", 'C="q"', "HERE=here", "NOWHERE", "A=2"]
    host = json.loads(json.dumps(body["HostConfig"]))
    assert (host["NanoCpus"], host["Memory"], host["PidsLimit"]) == (5 * 10**8, 1 << 30, -1)


def test_the_id_is_printed_and_kept_in_the_file(
    engine: Recorder, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sent(engine, here, "--cidfile id image")
    assert capsys.readouterr().out.strip() == (here / "id").read_text()
    assert main(["-H", engine.address, "create", "--cidfile", "id", "image"], {}, here) == 1
    assert "the file is there already" in capsys.readouterr().err
