"""What log options mean, and what becomes of them in a container's log."""

from __future__ import annotations

import json
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
    assert log_options.check_log(LogConfig("json-file", options)) == ()
    assert log_options.check_log(LogConfig("none", {"mode": "blocking"})) == ()
    compressed = {"max-size": "1m", "max-file": "2", "compress": "true"}
    assert "no effect" in log_options.check_log(LogConfig("local", compressed))[0]


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
