"""What log options mean, and what becomes of them in a container's log."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import select
import signal
from pathlib import Path

import pytest

from engine.containers import log_options
from engine.containers.model import ContainerConfig, HostConfig, LogConfig, LogQuery, Record
from engine.errors import InvalidRequest
from tests.engine.containers.conftest import Engine


def test_limits() -> None:
    assert log_options.log_limits(LogConfig()) == (0, 1)
    assert log_options.log_limits(LogConfig("local")) == (20 << 20, 5)
    options = {"max-size": "10m", "max-file": "3"}
    assert log_options.log_limits(LogConfig(options=options)) == (10 << 20, 3)
    assert log_options.log_limits(LogConfig(options={"max-file": "3"})) == (0, 1)


@pytest.mark.parametrize(
    ("driver", "options", "text"),
    [
        ("syslog", {}, "no log driver named 'syslog'"),
        ("json-file", {"odd": ""}, "unknown log opt 'odd' for json-file log driver"),
        ("local", {"labels": "a"}, "unknown log opt 'labels' for log driver local"),
        ("json-file", {"mode": "odd"}, "logging mode not supported: odd"),
        ("none", {"max-buffer-size": "1m"}, "only supported with 'mode=non-blocking'"),
        ("local", {"mode": "non-blocking", "max-buffer-size": "x"}, "invalid size"),
        ("json-file", {"compress": "true"}, "compress cannot be true when max-file"),
        ("json-file", {"compress": "maybe"}, "neither true nor false"),
        ("local", {"max-file": "1"}, "compression cannot be enabled when max file count is 1"),
        ("json-file", {"max-size": "0"}, "max-size must be a positive number"),
        ("json-file", {"max-size": "-1"}, "invalid size: '-1'"),
        ("json-file", {"max-size": "1m", "max-file": "0"}, "max-file cannot be less than 1"),
        ("json-file", {"labels-regex": "("}, "invalid log option 'labels-regex'"),
        ("json-file", {"tag": "{{.Nosuch}}"}, "no field 'Nosuch'"),
        ("json-file", {"tag": "{{if .ID}}"}, "only fields like"),
    ],
)
def test_refused(driver: str, options: dict[str, str], text: str) -> None:
    with pytest.raises(InvalidRequest, match=text):
        log_options.check_log(LogConfig(driver, options))


def test_taken() -> None:
    options = {"mode": "non-blocking", "max-buffer-size": "4m", "tag": "{{.Name}}", "env": "A"}
    log_options.check_log(LogConfig("json-file", options))
    log_options.check_log(LogConfig("none", {"mode": "blocking"}))
    log_options.check_log(LogConfig("local", {"max-size": "0", "max-file": "1"}))
    compressed = {"max-size": "1m", "max-file": "2", "compress": "true"}
    log_options.check_log(LogConfig("json-file", compressed))
    assert log_options.is_compressed(LogConfig("json-file", compressed))
    assert log_options.is_compressed(LogConfig("local"))
    assert not log_options.is_compressed(LogConfig("json-file"))
    assert log_options.buffer_size(LogConfig("json-file", options)) == 4 << 20
    assert log_options.buffer_size(LogConfig("local", {"mode": "non-blocking"})) == 1 << 20
    assert log_options.buffer_size(LogConfig("local")) == 0


def test_attributes_are_chosen_by_name_and_pattern() -> None:
    options = {
        "labels": "a,b",
        "labels-regex": "^x",
        "env-regex": "Z$",
        "tag": "{{.ImageName}}/{{ .ID }}",
    }
    labels = {"a": "1", "c": "2", "xy": "3"}
    record = Record(
        "0123456789abcdef", "name", 0,
        ContainerConfig(image="i", labels=labels, env=("QZ=4=5", "B=6", "b")),
        HostConfig(log_config=LogConfig(options=options)), "sha256:0", "true", (),
    )  # fmt: skip
    found = log_options.attributes(record)
    assert found == {"QZ": "4=5", "a": "1", "tag": "i/0123456789ab", "xy": "3"}
    assert log_options.details(found) == b"QZ=4%3D5,a=1,tag=i%2F0123456789ab,xy=3 "
    assert json.loads("{" + log_options.record_part(found).rstrip(",") + "}")["attrs"] == found
    assert log_options.record_part({}) == ""


@pytest.mark.kernel
async def test_attributes_are_in_the_file_and_shown_on_wish(engine: Engine) -> None:
    options = {"labels": "stage", "env": "A", "tag": "t", "mode": "non-blocking"}
    host = HostConfig(log_config=LogConfig(options=options))
    identifier = await engine.create(
        "sh", "-c", "echo one; printf %20000d 0", host=host,
        labels={"stage": "live"}, env=("A=%\"",),
    )  # fmt: skip
    ended = engine.containers.wait(identifier, condition="next-exit")
    await engine.containers.start(identifier)
    assert (await ended).status_code == 0
    lines = Path(engine.get(identifier).log_path).read_text().splitlines()
    assert len(lines) == 3
    for line in lines:
        assert json.loads(line)["attrs"] == {"A": '%"', "stage": "live", "tag": "t"}
    long = "0".rjust(20000)
    assert await engine.output(identifier) == f"one\n{long}"
    ahead = "A=%25%22,stage=live,tag=t "
    shown = await engine.output(identifier, LogQuery(details=True))
    assert shown == f"{ahead}one\n{ahead}{long}"


@pytest.mark.kernel
@pytest.mark.parametrize("driver", ["json-file", "local"])
async def test_older_files_are_packed_and_read_as_one(engine: Engine, driver: str) -> None:
    options = {"max-size": "20k", "max-file": "4"}
    if driver == "json-file":
        options["compress"] = "true"
    host = HostConfig(log_config=LogConfig(driver, options))
    identifier = await engine.create(
        "sh", "-c", "i=1000; while [ $i -lt 2999 ]; do i=$((i+1)); echo line $i; done", host=host
    )
    ended = engine.containers.wait(identifier, condition="next-exit")
    await engine.containers.start(identifier)
    followed = asyncio.create_task(engine.output(identifier, LogQuery(follow=True)))
    assert (await ended).status_code == 0
    log = Path(engine.get(identifier).log_path)
    packed = sorted(path.name.removeprefix(log.name) for path in log.parent.glob(f"{log.name}*"))
    assert packed == ["", ".1.gz", ".2.gz", ".3.gz"]
    text = "".join(
        gzip.decompress(Path(f"{log}.{number}.gz").read_bytes()).decode() for number in (3, 2, 1)
    )
    wanted = [json.loads(line)["log"] for line in (text + log.read_text()).splitlines()]
    assert wanted == [f"line {number}\n" for number in range(3000 - len(wanted), 3000)]
    assert (await engine.output(identifier)).splitlines(True) == wanted
    tail = await engine.output(identifier, LogQuery(tail=300))
    assert tail.splitlines(True) == wanted[-300:]
    # Files that were packed, or are gone, meanwhile: no line twice, and none out of order.
    lines = (await followed).splitlines(True)
    assert lines[-len(wanted) :] == wanted
    assert lines == sorted(set(lines))


@pytest.mark.kernel
async def test_non_blocking_mode_loses_output_rather_than_wait(engine: Engine) -> None:
    options = {"mode": "non-blocking", "max-buffer-size": "100k"}
    host = HostConfig(log_config=LogConfig("json-file", options))
    script = "i=0; read x; seq -f 'line %07.0f' 1 200000; echo > /written; read x; echo last"
    identifier = await engine.run("sh", "-c", script, host=host, open_stdin=True)
    record = engine.get(identifier)
    client = await engine.containers.attach(identifier, stdin=True, stdout=True, stderr=False)
    (writer,) = _log_writers(record)
    os.kill(writer, signal.SIGSTOP)  # as a disk that hangs
    await client.write(b"\n")
    # 2.6 MB are said, and heard by who is attached, though none of it can be written.
    heard = b""
    async for piece in client:
        heard += piece
        if b"line 0200000\n" in heard[-200:]:
            break
    os.kill(writer, signal.SIGCONT)
    ended = engine.containers.wait(identifier)
    await _until_written(Path(record.log_path))
    await client.write(b"\n")
    assert (await ended).status_code == 0
    await client.close()
    lines = (await engine.output(identifier)).splitlines()
    assert lines[-1] == "last"
    # The oldest are kept, whole: what the buffer and a socket hold.
    assert lines[:-1] == [f"line {number:07}" for number in range(1, len(lines))]
    assert 100_000 / 13 < len(lines) < 100_000


def _log_writers(record: Record) -> list[int]:
    """Of the shim of a container that does something: its children but the container itself."""
    status = Path(f"/proc/{record.state.pid}/status").read_text()
    shim = re.search(r"PPid:\s(\d+)", status)
    assert shim is not None
    children = Path(f"/proc/{shim[1]}/task/{shim[1]}/children").read_text().split()
    return [int(pid) for pid in children if int(pid) != record.state.pid]


async def _until_written(path: Path) -> None:
    """What waited is in the file once its writer goes on, which may not even have opened it."""
    async with asyncio.timeout(10):
        while not path.exists() or path.stat().st_size < 100_000:
            await asyncio.sleep(0.01)


@pytest.mark.kernel
async def test_a_killed_log_writer_is_followed_by_another(engine: Engine) -> None:
    host = HostConfig(log_config=LogConfig("local", {"mode": "non-blocking"}))
    identifier = await engine.run("sh", "-c", "cat; cat", host=host, open_stdin=True)
    client = await engine.containers.attach(identifier, stdin=True, stdout=True, stderr=False)
    (writer,) = _log_writers(engine.get(identifier))
    said = aiter(client)
    pidfd = os.pidfd_open(writer)
    os.kill(writer, signal.SIGKILL)
    await asyncio.to_thread(select.select, [pidfd], [], [])
    os.close(pidfd)
    for text in (b"one\n", b"two\n"):
        await client.write(text)
        assert (await anext(said)).endswith(text)
    await engine.containers.stop(identifier, timeout=0)
    await client.close()
    assert await engine.output(identifier) == "one\ntwo\n"
