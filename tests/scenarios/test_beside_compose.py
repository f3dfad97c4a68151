"""The same commands, one after the other, with Docker Compose on dockerd and with ours on pyengine:
exit codes and standard output are compared. What is meant to differ is in `DIFFERENT`, with why."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Sequence

import pytest

from tests.benchmarks.engines import compose_command
from tests.compose.engines import missing, running_engine
from tests.host import ROOT
from tests.scenarios.project import PYCOMPOSE

pytestmark = [pytest.mark.kernel, pytest.mark.peer, pytest.mark.timeout(600)]

STACK = """\
services:
  web:
    image: busybox:test
    command: sh -c 'echo hello; echo oops; trap "exit 0" TERM; while :; do sleep 0.1; done'
    ports: ["127.0.0.1:8001:8000", "8002"]
    expose: ["9000"]
    environment: {A: "1", B: two}
    labels: {tier: front}
    volumes: [data:/data]
    healthcheck: {test: [CMD, "true"], interval: 1s, start_interval: 100ms, start_period: 5s}
  db:
    image: busybox:test
    command: sh -c 'trap "exit 0" TERM; while :; do sleep 0.1; done'
    depends_on: {web: {condition: service_healthy}}
  job:
    image: busybox:test
    command: sh -c 'echo working; exit 3'
    profiles: [job]
volumes: {data: {}}
"""
STATES = "ps -a --format {{.Name}}:{{.State}}:{{.ExitCode}}"
CONFIG = """\
config --services
config --volumes
config --networks
config --images
config --profiles
config --models
config --hash web
config --variables
config -q
config --format json
--profile job config --services
config --nosuch
nosuch
wait
-f nosuch.yaml ps
-p other ps
alpha viz
"""
LIFE = f"""\
ps
ps --format json
ls
ls --format json
up -d
up -d
ps --services
ps --format {{{{.Name}}}}:{{{{.State}}}}:{{{{.Health}}}}:{{{{.ExitCode}}}}
ps --format json
ps web
ps nosuch
ps --status exited
ps --filter status=running --services
ps -a --orphans=false --format {{{{.Service}}}}
images
images --format json
port web 8000
port --protocol tcp web 8000
port web 1234
port --index 2 web 8000
port nosuch 80
logs
logs --no-log-prefix web
logs --tail 1 web
logs nosuch
exec -T web echo hi
exec -T web sh -c 'exit 7'
exec -T web nosuch
exec -T -w /tmp web sh -c pwd
exec -T -u 1 web id
exec nosuch ls
exec -T --index 2 web true
run --rm -T web echo one
run --rm -T web sh -c 'exit 5'
run --rm -T --no-deps db echo two
run --rm -T --entrypoint id web
run --rm -T --name named web echo x
run --rm -T nosuch
run --rm job
run -d --name aside web sleep 100
ps -a --format {{{{.Name}}}}
ps --format {{{{.Name}}}}
stats --no-stream --format {{{{.Name}}}}
rm -sf web
up -d
cp compose.yaml web:/tmp/x
exec -T web ls /tmp
cp web:/tmp/x out.yaml
cp web:/nosuch .
cp nosuch:/x .
cp a b
scale db=2
ps --format {{{{.Name}}}}
scale nosuch=2
scale db=x
up -d --scale db=1
ps --format {{{{.Name}}}}
pause web
ps --format {{{{.Name}}}}:{{{{.State}}}}
pause web
unpause web
unpause web
pause nosuch
stop db
{STATES}
stop db
start db
start db
start nosuch
restart db
restart nosuch
kill -s KILL db
{STATES}
kill nosuch
kill db
wait db
wait nosuch
rm -f db
rm -f nosuch
ps -a --format {{{{.Service}}}}
up -d --no-deps db
volumes
volumes --format json
volumes -q
export -o e.tar db
attach nosuch
ls
ls --format json
ls --all -q
ls --filter name=sh
push
pull nosuch
build
up -d --abort-on-container-exit
up -d nosuch
down nosuch
down
down
down -v
ps
up --wait db
down -v --rmi local -t 0
--profile job up job
--profile job up --exit-code-from job job
--profile job up --abort-on-container-exit job
--profile job up --abort-on-container-failure job
--profile job down -v -t 0
"""
# Command -> why its output differs.
DIFFERENT = {
    "nosuch": "the whole help is no answer to a mistype",
    "rm -f db": "it has no list of what it is about to remove",
    "rm -sf web": "it has no list of what it is about to remove",
    "exec -T web nosuch": "standard output isn't for errors",
}
DIFFERENT_JSON = {
    "images": ("Created",),  # told here also of an image that was imported
    "ps": ("Labels", "Mounts"),
    "volumes": ("Labels", "Mountpoint"),
}


def outcomes(kind: str, commands: Sequence[str]) -> list[tuple[int, str]]:
    """Exit code and standard output of each."""
    found = []
    with running_engine(kind) as (host, path):
        folder = host.folder / "shop"
        folder.mkdir()
        (folder / "compose.yaml").write_text(STACK)
        environment = {
            "DOCKER_HOST": f"unix://{path}", "COMPOSE_MENU": "0", "HOME": str(host.folder),
            "PWD": str(folder), "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        theirs = compose_command(host.environment()["PATH"])
        program = theirs if kind == "dockerd" else PYCOMPOSE
        for command in commands:
            done = host.run(
                *program, *shlex.split(command), env=environment, cwd=folder, check=False
            )
            found.append((done.returncode, done.stdout.replace(str(folder), "FOLDER")))
        host.run(*program, "--profile", "*", "down", "-v", "-t", "0", env=environment, cwd=folder)
    return found


# Ids, ages, times, sizes and ports that the engine chose.
CHANGING = (
    (r"\b[0-9a-f]{64}\b", "ID"),
    (r"\b[0-9a-f]{12}\b", "ID"),
    (r"((Less than|About) )?\b(a|an|\d+) (second|minute|hour)s?( ago)?", "AGE"),
    (r"\d{4}-\d\d-\d\d[T ][\d:.]+( [+-]\d+ \w+|Z)?", "TIME"),
    (r"\b(3|4)\d{4}\b", "PORT"),
    (r"\x1b\[K", ""),
    (r"Attaching to .*\n", ""),
    (r" +", " "),
    (r" ?\n\s*", "\n"),
)


def plain(text: str) -> str:
    for pattern, word in CHANGING:
        text = re.sub(pattern, word, text)
    return text.strip()


def comparable(command: str, output: str) -> object:
    """What is JSON by what it says: one document, or one a line."""
    if command == "alpha viz":
        return sorted(plain(output).splitlines())  # there in any order
    if "json" not in command or not output.strip():
        return plain(output)
    try:
        documents = json.loads(output)
    except ValueError:
        documents = [json.loads(line) for line in output.splitlines()]
    unlike = DIFFERENT_JSON.get(command.split()[0], ())
    for each in documents if isinstance(documents, list) else [documents]:
        for name in unlike:
            each.pop(name, None)
    return json.loads(json.dumps(documents), object_hook=plain_values)


def plain_values(found: dict[str, object]) -> dict[str, object]:
    # A published port is a number.
    return {
        key: plain(str(value)) if isinstance(value, str | int) else value
        for key, value in found.items()
    }


@pytest.mark.parametrize("commands", [CONFIG, LIFE], ids=["config", "life"])
def test_commands_say_and_do_the_same(commands: str) -> None:
    if reason := missing("dockerd"):
        pytest.skip(reason)
    if not compose_command(os.environ["PATH"]):
        pytest.skip("there is no Docker Compose here")
    lines = commands.splitlines()
    unlike = []
    for command, theirs, ours in zip(
        lines, outcomes("dockerd", lines), outcomes("pyengine", lines), strict=True
    ):
        if theirs[0] != ours[0]:
            unlike.append(f"{command}: ended with {ours[0]}, there with {theirs[0]}")
        elif command not in DIFFERENT and (
            comparable(command, theirs[1]) != comparable(command, ours[1])
        ):
            unlike.append(f"{command}:\n--- there\n{theirs[1]}\n--- here\n{ours[1]}")
    assert not unlike, "\n".join(unlike)
