"""The docker command does, says and returns the same with this engine as with a real dockerd.

Each session is a list of shell lines that runs on both; what they print is compared, less what
differs from run to run (ids, times, folders).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.compose.engines import IMAGE, missing, running_engine

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.peer,
    pytest.mark.skipif(shutil.which("docker") is None, reason="there is no docker command here"),
]

LOOP = "sh -c 'trap \"exit 7\" TERM; while :; do sleep 0.05; done'"

SESSIONS = {
    "run": f"""
docker run --rm IMAGE sh -c 'echo out; exit 9'
docker run --rm IMAGE sh -c 'echo err >&2; kill -9 $$'
docker run --rm IMAGE sh -c 'kill -TERM $$; sleep 1'
echo in | docker run --rm -i IMAGE cat
echo in | docker run --rm IMAGE cat
echo in | docker run --rm -a stdin -a stdout IMAGE sh -c 'cat; echo err >&2'
head -c 3000000 /dev/zero | docker run -i --rm IMAGE sh -c cat | md5sum
docker run --rm -t IMAGE sh -c 'test -t 1 && echo tty'
docker run --rm -it IMAGE true
docker run --rm --entrypoint /bin/echo IMAGE a b
docker run --rm -w rel IMAGE pwd
docker run --rm -u nouser IMAGE id
docker run --rm -e A=1 -e B -e HOME=/x IMAGE sh -c 'echo $A $B $HOME $PATH; ls -d /.docker*'
docker run --rm -h web --ulimit nofile=100:200 IMAGE sh -c 'hostname; ulimit -n; ulimit -Hn'
docker run --rm --security-opt no-new-privileges IMAGE grep -E 'Cap|NoNew' /proc/self/status
docker run --rm --security-opt foo=bar IMAGE true
docker run --rm --security-opt writable-cgroups=true IMAGE grep -c 'cgroup.*rw,' /proc/mounts
docker run --rm -m 4m IMAGE true
docker run --rm -m 20m --memory-swap 10m IMAGE true
docker run --rm --cpus 100 IMAGE true
docker run --rm --cpus 0.5 --cpu-period 1000 IMAGE true
docker run --rm --cpuset-cpus 99 IMAGE true
docker run --rm --device /dev/nosuch IMAGE true
docker run --rm --oom-score-adj 5000 IMAGE true
docker run --rm --ipc container:nosuch IMAGE true
docker run --rm --uts host -h x IMAGE true
docker run --rm --mount type=volume,dst=/x,readonly IMAGE true
docker run --rm --volumes-from nosuch IMAGE true
docker run --rm --mount type=bind,src=/nosuch2,dst=/x IMAGE true
docker run -d --name dup IMAGE {LOOP}
docker run -d --name dup IMAGE true
docker run --rm --restart always IMAGE true
docker run --rm --stop-signal bad IMAGE true
docker run --rm --health-interval 1us IMAGE true
docker run --rm --log-driver local --log-opt tag=x IMAGE true
docker run --rm --log-opt max-buffer-size=3 IMAGE true
""",
    "exec": f"""
docker run -d --name one IMAGE {LOOP}
docker exec -e A=1 one sh -c 'echo $A; exit 33'
docker exec -w /tmp one pwd
docker exec -w /nosuch one pwd
docker exec -u 5:6 one id
docker exec --privileged one grep CapEff /proc/self/status
docker exec one nosuch
docker exec -d one nosuch
docker exec one ''
docker exec one sh -c 'kill -9 $$'
docker exec -t one tty
echo hi | docker exec -i one cat
echo hi | docker exec one cat
docker exec --detach-keys bad one true
docker exec nosuch true
docker pause one
docker exec one true
docker attach one
docker unpause one
docker attach --detach-keys bad one
docker attach nosuch
docker kill one
docker exec one true
docker attach one
""",
    "programs": f"""
docker run --rm --runtime io.containerd.runc.v2 IMAGE true
docker run --rm --runtime runc IMAGE true
docker run --rm --runtime nosuch IMAGE true
docker create --name first IMAGE /odd
printf 'no program' > odd; chmod 755 odd; docker cp odd first:/odd
docker start -a first
docker inspect -f '{{{{.State.Status}}}} {{{{.State.ExitCode}}}} {{{{.State.Error}}}}' first
docker run -d --name one IMAGE {LOOP}
printf '#!/no/such' > odd; docker cp odd one:/odd
docker exec one /odd
docker exec -t one /odd
docker exec -d one /odd
docker exec one ln -s itself /itself
docker exec one /itself
""",
    "life": f"""
docker create --name once IMAGE sh -c 'echo o; exit 4'
docker start -a once
docker start once nosuch
docker wait once nosuch
docker create -i --name asks IMAGE sh -c 'while read x; do echo got $x; done; exit 3'
printf 'a\\nb\\n' | docker start -a -i asks
docker inspect -f '{{{{.Config.StdinOnce}}}} {{{{.State.Status}}}} {{{{.State.ExitCode}}}}' asks
docker run -d --name one IMAGE {LOOP}
docker pause one nosuch
docker pause one
docker ps --format '{{{{.Names}}}} {{{{.State}}}}'
docker unpause one
docker unpause one
docker kill -s FOO one
docker kill -s 99 one
docker kill nosuch one
docker kill one
docker start one
docker stop -s FOO one
docker stop one nosuch
docker wait one
docker restart one
docker restart nosuch
docker rename one two
docker rename two two
docker rename two once
docker rename two 'bad name'
docker rename nosuch three
docker rm two
docker rm -f two nosuch
docker rm nosuch
docker run -d --name again --restart on-failure:1 IMAGE false
docker wait again
docker run --name big -m 10m --memory-swap 10m IMAGE tail /dev/zero
docker inspect -f '{{{{.State.OOMKilled}}}} {{{{.State.ExitCode}}}}' big
docker container prune -f --filter label=x
""",
    "looking": f"""
docker create --name c1 --label k=v -p 80 --expose 81 IMAGE sh -c 'exit 3'
docker run -d --name c2 --label k=w -v vol1:/data --network host IMAGE {LOOP}
docker run --name c3 IMAGE sh -c 'echo one; echo two; exit 5'
docker logs c3
docker logs -n 1 c3
docker logs -n 0 c3
docker logs -n bad c3
docker logs --since 2040-01-01 c3
docker logs --since bad c3
docker logs -t c3 | cut -c31-
docker logs nosuch
docker run --name quiet --log-driver none IMAGE echo x
docker logs quiet
docker ps --format '{{{{.Names}}}} {{{{.State}}}} {{{{.Labels}}}} {{{{.Mounts}}}} {{{{.Networks}}}}'
docker ps -a --no-trunc --format '{{{{.Names}}}} {{{{.Command}}}} {{{{.State}}}}'
docker ps -a --filter status=exited --filter name=c --format '{{{{.Names}}}}'
docker ps -a --filter status=bad
docker ps -a --filter exited=5 --format '{{{{.Names}}}}'
docker ps -a --filter label=k=w --format '{{{{.Names}}}}'
docker ps -a --filter before=c3 --format '{{{{.Names}}}}'
docker ps -a --filter since=nosuch
docker ps -a --filter volume=/data --format '{{{{.Names}}}}'
docker ps -a --filter expose=80-82/tcp --format '{{{{.Names}}}}'
docker ps -a --filter foo=bar
docker ps -n 2 --format '{{{{.Names}}}}'
docker inspect -f '{{{{json .State}}}}' c1 c3
docker inspect -f '{{{{.Nosuch}}}}' c1
docker inspect nosuch
docker inspect c1 | grep -o '^        "[A-Za-z]*"' | sort
docker port c2
docker top c1
docker top c2 -o pid,comm | grep -cw sh
docker stats --no-stream --format '{{{{.Name}}}}' c2
docker stats --no-stream nosuch
docker update -m 50m --memory-swap 100m c2
docker inspect -f '{{{{.HostConfig.Memory}}}} {{{{.HostConfig.MemorySwap}}}}' c2
docker update --cpus 0.5 c2
docker update --cpu-quota 1000 c2
docker update --restart bad c2
docker update -m 1k c2
docker update nosuch
docker update c2
""",
    "files": """
docker run --name box IMAGE sh -c 'mkdir -p /a/b; echo x > /a/b/c; rm /bin/ls; chmod 700 /bin'
docker diff box | sort
docker export box | tar tf - | grep '^[.a]' | sort
docker diff nosuch
docker export nosuch
docker cp box:/a/b/c - | tar xOf -
docker cp box:/nosuch .
echo hello > f1 && docker cp f1 box:/a && docker cp box:/a/f1 - | tar xOf -
docker cp f1 box:/a/b/new && docker cp box:/a/b/new - | tar tf -
mkdir -p d1/e && docker cp d1 box:/d2 && docker cp d1 box:/d2 && docker diff box | sort
docker cp box:/a/. out && ls out
ln -sf f1 ln1 && docker cp ln1 box:/ln1 && docker cp -L ln1 box:/ln2 && docker diff box | sort
docker cp nosuch:/x y
tar cf - f1 | docker cp - box:/tmp && docker cp box:/tmp/f1 - | tar tf -
docker commit -a 'Me <a@b>' -m said -c 'CMD ["echo", "made"]' -c 'ENV K="a b"' box made:1
docker inspect -f '{{.Author}} {{.Comment}} {{json .Config.Cmd}} {{json .Config.Env}}' made:1
docker commit -c 'HEALTHCHECK --interval=5s CMD true' -c 'VOLUME /v' -c 'WORKDIR x' box made:2
docker inspect -f '{{json .Config.Healthcheck}} {{json .Config.Volumes}}' made:2
docker commit -c 'BAD x' box
docker commit nosuch
docker run --rm made:1
docker rmi -f made:1 made:2 | wc -l
docker run --rm --platform linux/arm64 --pull never IMAGE true
""",
    "names": f"""
docker network create --subnet 10.73.0.0/24 names | wc -c
docker create --name web --network names --network-alias web --network-alias www IMAGE {LOOP}
docker start web
docker rename web old
docker inspect -f '{{{{json .NetworkSettings.Networks.names.DNSNames}}}}' old
docker exec old nslookup web 127.0.0.11 | grep -c 10.73.0.2
docker stop -t 0 old
docker rename old older
docker inspect -f '{{{{json .NetworkSettings.Networks.names.DNSNames}}}}' older
docker network create --subnet 10.74.0.0/24 more | wc -c
docker network connect --alias w3 more older
docker inspect -f '{{{{json .NetworkSettings.Networks.more.DNSNames}}}}' older
docker events --since 0 --until $(date +%s.%N) -f network=more --format '{{{{.Action}}}}'
docker start older
docker events --since 0 --until $(date +%s.%N) -f network=more --format '{{{{.Action}}}}'
docker rm -f older
docker network rm names more
docker run --rm --link nosuch:x --network none IMAGE true
docker run --rm --log-opt max-size=-1 IMAGE true 2>&1 | grep -o invalid.size.*
""",
    "places": """
docker run --rm --tmpfs /t --tmpfs /root --tmpfs /etc IMAGE stat -c '%a %n' /t /root /etc
docker run --rm --tmpfs /t:size=1m,mode=700,uid=5 IMAGE grep ' /t ' /proc/mounts
docker run --rm -v at_etc:/etc:nocopy IMAGE ls /etc
docker volume rm at_etc
docker run --rm -v /etc IMAGE ls /etc
docker volume create --opt type=tmpfs --opt device=tmpfs opted
docker system df --format '{{.Type}} {{.TotalCount}}' | grep Volumes
docker volume rm opted
docker create --name linked IMAGE true | wc -c
docker export linked | tar x -f - -C . 2>/dev/null; rm -r dev proc sys; ln -s tmp dev; ln -s / proc
tar c bin etc tmp root dev proc | docker import - linked | wc -c
docker run --rm linked stat -c '%F %a' /dev /proc /sys
docker rmi linked | wc -l
docker run --rm IMAGE readlink /etc/mtab
docker run --name untouched IMAGE true
docker diff untouched
docker run --rm -v parts:/v IMAGE sh -c 'mkdir -p /v/a/b; echo s > /v/a/b/f'
docker run --rm --mount type=volume,src=parts,dst=/v,volume-subpath=a/b IMAGE cat /v/f
docker run --rm --mount type=volume,src=parts,dst=/v,volume-subpath=../x IMAGE true
docker volume rm parts
docker network create --subnet 10.72.0.0/31 two | wc -c
docker network inspect -f '{{json .IPAM.Config}}' two
docker run --rm --network two IMAGE ip -o -4 addr show eth0 | grep -o 'inet [^ ]*'
docker network rm two
docker network create --subnet fd00:72::/64 --subnet 10.72.0.0/24 --aux-address a=fd00:72::7 v4
docker network inspect -f '{{json .IPAM.Config}} {{.EnableIPv6}}' v4
docker run --rm --network v4 --ip6 fd00:72::9 IMAGE ip -o addr show eth0 | grep -c inet6
docker run --rm --network v4 --ip6 fd00:73::9 IMAGE true
docker network rm v4
docker run --rm -u -1 IMAGE true
docker unpause untouched
""",
    "volumes": """
docker volume create -o type= -o device= -o o=bind v1
docker run --rm -v v1:/v IMAGE grep -c ' /v ' /proc/mounts; docker volume rm v1
docker volume create -o type=tmpfs -o device= v1
docker run --rm -v v1:/v IMAGE true 2>&1 | grep -o 'missing.*'; docker volume rm v1
docker volume create -o type=none -o device=/tmp v1
docker run --rm -v v1:/v IMAGE true 2>&1 | grep -o 'no such.*'; docker volume rm v1
docker volume create -o type=ext4 -o device=/etc -o o=bind v1
docker run --rm -v v1:/v IMAGE cat /v/hostname | wc -l; docker volume rm v1
docker volume create -o size=10m v1
docker volume create -o size=bad v1
docker volume create -o size=0 v1
docker volume inspect -f '{{json .Options}}' v1; docker volume rm v1
docker volume create -o o=bind -o device=/tmp v1
docker volume create -o type=tmpfs v1
docker volume create -o type=cifs -o device=//host:445/x -o o=x v1
""",
    "networks": """
docker run -d --name one IMAGE sleep 1000 | wc -c
docker network create --subnet 10.75.0.0/24 two | wc -c
docker network connect two one
docker inspect -f '{{json .NetworkSettings.Networks.two}}' one > shown
sed 's/"MacAddress":"[^"]*"//' shown
docker stop -t 0 one
docker network connect --alias other --ip 10.75.0.9 two one
docker inspect -f '{{json .NetworkSettings.Networks.two.Aliases}}' one
docker network create --subnet 10.76.0.0/24 --aux-address a=10.76.0.1 three
docker network create --subnet 10.76.0.0/24 --gateway 10.76.0.255 three
docker network create --subnet 10.76.0.0/24 --aux-address a=10.76.0.0 three
docker rm -f one; docker network rm two
""",
    "told": """
date +%s.%N > began
docker network create --label told --subnet 10.71.0.0/24 told | wc -c
docker volume create --label told told
docker run --name one --network told -v told:/v IMAGE true
docker wait one
docker start one && docker wait one && docker rm one
docker run -d --name two -l a=b IMAGE sleep 1000 | wc -c
docker exec two nosuch
docker commit two told:1 | wc -c
docker tag told:1 told:2
docker rmi told:1 told:2 | sed s/:.*//
docker rm -f two
docker volume prune -af --filter label=told | head -2
docker network prune -f --filter label=told
docker save IMAGE > saved; docker load -q < saved
echo '{{.Type}} {{.Action}} {{json .Actor.Attributes}}' > form
docker events --since $(cat began) --until $(date +%s.%N) --format "$(cat form)" > events
sed 's/"reclaimed":"[0-9]*"//; s/"execDuration":"[0-9]*"//' events
""",
    "ancestors": """
docker create --name one IMAGE true | wc -c
docker commit one line:1 | wc -c; docker commit one line:2 | wc -c
docker create --name two line:1 true | wc -c; docker create --name three line:2 true | wc -c
docker commit two line:3 | wc -c; docker create --name four line:3 true | wc -c
docker ps -a --filter ancestor=IMAGE --format '{{.Names}}'
docker ps -a --filter ancestor=line:1 --format '{{.Names}}'
docker ps -a --filter ancestor=line:3 --filter ancestor=line:2 --format '{{.Names}}'
docker ps -a --filter ancestor=$(docker images -q line:1) --format '{{.Names}}'
docker rmi line:1; docker ps -a --filter ancestor=line:1 --format '{{.Names}}'
docker rm two three four; docker rmi line:2 line:3 | wc -l
""",
    "top": """
docker run -d --name procs -u 0:1 IMAGE sh -c 'sleep 1000 & exec sleep 1000'
docker top procs -eo pid,comm | sed 's/ [0-9].*//' | head -1
docker top procs aux | head -1
docker top procs axo pid,cmd | head -1
docker top procs -eLf | head -1
docker top procs -ely | head -1
docker top procs -T | head -1
docker top procs -eF | head -1
docker top procs -A | head -1
docker top procs -x | head -1
docker top procs -eo user,group,pid,comm --sort=-pid | tr -d 0-9
docker top procs -eo pid,ppid,pgid,sid,tty,stat,ni,nlwp,etime,time,args | head -1
docker top procs -o comm
docker top procs -o pid=X
docker top procs -eo pid,wchan | sort -u | sed 's/^[0-9]* *//'
docker top procs -eo wchan,pid | sort -u | cut -d' ' -f1
docker top procs -eo pid,wchan:30,comm | tr -d 0-9
docker top procs -eo pid,comm:2,user:3 | tr -d 0-9
""",
}


@pytest.fixture(scope="module")
def engines() -> Iterator[dict[str, str]]:
    """Kind -> address."""
    with contextlib.ExitStack() as stack:
        found = {}
        for kind in ("pyengine", "dockerd"):
            if reason := missing(kind):
                pytest.skip(reason)
            _, path = stack.enter_context(running_engine(kind))
            found[kind] = f"unix://{path}"
        yield found


def transcript(address: str, lines: list[str], folder: Path) -> list[str]:
    folder.mkdir()
    environment = {**os.environ, "DOCKER_HOST": address, "HOME": str(folder)}
    said = []
    for line in [*lines, "docker ps -aq | xargs -r docker rm -fv | grep -c ."]:
        done = subprocess.run(
            ["sh", "-c", line.replace("IMAGE", IMAGE)],
            cwd=folder, env=environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        said += [f"$ {line}", *_steady(done.stdout, done.stderr), f"= {done.returncode}"]
    return said


def _steady(*texts: str) -> Iterator[str]:
    for text in texts:
        text = re.sub(r"\b([0-9a-f]{64}|[0-9a-f]{12})\b", "ID", text)
        text = re.sub(r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "TIME", text)
        # How Docker's layers call each other is no word about the error.
        text = text.replace("failed to create shim task: OCI runtime create failed: ", "")
        text = text.replace("runc create failed: ", "")
        # The command's own, when it is refused while it still sends.
        yield from (x for x in text.splitlines() if "read/write on closed pipe" not in x)


@pytest.mark.parametrize("session", SESSIONS)
def test_same_session(engines: dict[str, str], tmp_path: Path, session: str) -> None:
    lines = SESSIONS[session].strip().splitlines()
    with ThreadPoolExecutor(2) as both:
        ours, theirs = both.map(
            lambda kind: transcript(engines[kind], lines, tmp_path / kind), ("pyengine", "dockerd")
        )
    assert ours == theirs
