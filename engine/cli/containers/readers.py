"""pure: the values that options of containers take, read one by one. All raise UsageError."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation

from compose.errors import UsageError
from compose.model.units import parse_bytes, parse_duration

ULIMITS = ("as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile",
           "nproc", "rss", "rtprio", "rttime", "sigpending", "stack")  # fmt: skip


def size(option: str, text: str) -> int:
    """Bytes; 0 where nothing is said."""
    try:
        return parse_bytes(text) if text else 0
    except ValueError as error:
        raise UsageError(f"cannot use {option} {text!r}: {error}") from None


def duration(option: str, text: str) -> int:
    """Nanoseconds; 0 where nothing is said."""
    try:
        found = parse_duration(text) if text else 0
    except ValueError as error:
        raise UsageError(f"cannot use {option} {text!r}: {error}") from None
    if found < 0:
        raise UsageError(f"cannot use {option} {text!r}: it can't be negative")
    return found


def processors(text: str) -> int:
    """Billionths of a processor."""
    try:
        billionths = Decimal(text or 0) * 10**9
    except InvalidOperation:
        raise UsageError(f"cannot use --cpus {text!r}: it is no number") from None
    if billionths % 1:
        raise UsageError(f"cannot use --cpus {text!r}: it is too precise")
    return int(billionths)


def restart_policy(text: str) -> dict[str, object]:
    """`on-failure:3`"""
    name, colon, count = text.partition(":")
    if not name and colon:
        raise UsageError(f"cannot use --restart {text!r}: it has no policy")
    if colon and not re.fullmatch(r"-?\d+", count):
        raise UsageError(f"cannot use --restart {text!r}: how often has to be a number")
    return {"Name": name, "MaximumRetryCount": int(count or 0)}


def ulimit(text: str) -> dict[str, object]:
    """`nofile=1024:2048`"""
    name, equals, values = text.partition("=")
    soft, colon, hard = values.partition(":")
    number = re.compile(r"-?\d+")
    if not equals or not number.fullmatch(soft) or (colon and not number.fullmatch(hard)):
        raise UsageError(f"cannot use --ulimit {text!r}: write NAME=SOFT[:HARD]")
    if name not in ULIMITS:
        raise UsageError(f"cannot use --ulimit {text!r}: {name!r} is none of {', '.join(ULIMITS)}")
    limits = int(soft), int(hard or soft)
    if colon and limits[1] != -1 and (limits[0] == -1 or limits[0] > limits[1]):
        raise UsageError(f"cannot use --ulimit {text!r}: the soft limit is above the hard one")
    return {"Name": name, "Soft": limits[0], "Hard": limits[1]}


def extra_host(text: str) -> str:
    """`name:IP` or `name=IP`, the address with or without brackets; -> `name:IP`"""
    name, sign, address = re.fullmatch(r"([^:=]*)([:=]?)(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
    if not (name and sign and address):
        raise UsageError(f"cannot use --add-host {text!r}: write NAME:IP")
    if address[0] == "[" and address[-1] == "]":
        address = address[1:-1]
    return f"{name}:{address}"


def capabilities(added: Sequence[str], dropped: Sequence[str]) -> tuple[list[str], list[str]]:
    """With their prefix, sorted; what is added isn't dropped."""
    adds, drops = {_capability(name) for name in added}, {_capability(name) for name in dropped}
    if "ALL" in adds:
        adds = {"ALL"}
    if "ALL" in drops:
        drops = {"ALL"}
    return sorted(adds), sorted(drops - adds)


def _capability(name: str) -> str:
    upper = name.strip().upper()
    return upper if upper == "ALL" or upper.startswith("CAP_") else f"CAP_{upper}"


def streams(names: Sequence[str], *, interactive: bool) -> dict[str, bool]:
    """Which are attached: those that are named, else both of the output."""
    chosen = {name.lower() for name in names}
    if wrong := chosen - {"stdin", "stdout", "stderr"}:
        raise UsageError(f"cannot use --attach {min(wrong)!r}: it is stdin, stdout or stderr")
    return {
        "AttachStdin": interactive or "stdin" in chosen,
        "AttachStdout": not chosen or "stdout" in chosen,
        "AttachStderr": not chosen or "stderr" in chosen,
    }


def variables(words: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """`NAME` alone is given the value that it has here; where it has none it stays, which tells
    the engine to take it away."""
    return [_variable(word, environment) for word in words]


def _variable(word: str, environment: Mapping[str, str]) -> str:
    name, equals, _ = word.partition("=")
    if not name:
        raise UsageError(f"cannot use --env {word!r}: it has no name")
    return f"{name}={environment[name]}" if not equals and name in environment else word


def file_lines(text: str, file: str, found: Callable[[str], str | None]) -> Iterator[str]:
    """The `NAME=value` lines of a file of variables or labels. `found`: the value of a NAME that
    stands alone, None where it has none; then the line counts for nothing."""
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        line = line.lstrip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals:
            name = name.strip()
        if not name or re.search(r"\s", name):
            raise UsageError(f"cannot read {file}:{number}: {name!r} is no name")
        if equals:
            yield f"{name}={value}"
        elif (here := found(name)) is not None:
            yield f"{name}={here}"


def key_values(option: str, words: Sequence[str], *, alone: bool = True) -> dict[str, str]:
    """`alone`: a key may come without a value, which then is empty."""
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not key or not (equals or alone):
            raise UsageError(f"cannot use {option} {word!r}: write KEY=VALUE")
        found[key] = value
    return found


def csv(option: str, text: str) -> list[str]:
    """Parts between commas; a part may stand in double quotes, as in CSV."""
    import csv as library

    try:
        return next(library.reader([text], strict=True), [])
    except library.Error as error:
        raise UsageError(f"cannot use {option} {text!r}: {error}") from None


def gpus(text: str) -> dict[str, object]:
    """`all`, `2`, or `device=0,capabilities=utility`: a DeviceRequest of the API."""
    request: dict[str, object] = {"Driver": "", "Count": 0}
    capabilities: list[str] = []
    for part in csv("--gpus", text):
        key, equals, value = part.partition("=")
        if not equals:
            key, value = "count", key
        match key:
            case "count" if value == "all" or re.fullmatch(r"-?\d+", value):
                request["Count"] = -1 if value == "all" else int(value)
            case "device":
                request["DeviceIDs"] = value.split(",")
            case "driver":
                request["Driver"] = value
            case "capabilities":
                capabilities += value.split(",")
            case "options":
                request["Options"] = key_values("--gpus options", csv("--gpus", value))
            case _:
                raise UsageError(f"cannot use --gpus {text!r}: {part!r} isn't known")
    if "DeviceIDs" not in request and not request["Count"]:
        request["Count"] = 1
    return {**request, "Capabilities": [[*capabilities, "gpu"]]}
