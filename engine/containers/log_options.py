"""What a container's log options mean. Pure; the messages of refusals are Docker's.

`local` differs from `json-file` in its limits, in that what it rotates is packed, and in that its
files are nobody else's to read; inside they have the same records.
"""

import json
import re
from urllib.parse import quote_plus

from engine.containers.model import LogConfig, Record
from engine.containers.sizes import parse_size
from engine.errors import InvalidRequest
from engine.ids import short_id

DRIVERS = ("json-file", "local", "none")
_LIMITS = frozenset({"max-size", "max-file", "compress"})
_ATTRIBUTES = frozenset({"tag", "labels", "labels-regex", "env", "env-regex"})
_DELIVERY = frozenset({"mode", "max-buffer-size"})
_DEFAULT_BUFFER = 1 << 20  # bytes
_TEMPLATE = re.compile(r"{{\s*\.(\w+)\s*}}")


def check_log(log: LogConfig) -> None:
    """Raises InvalidRequest."""
    driver = log.driver or "json-file"
    if driver not in DRIVERS:
        raise InvalidRequest(f"logger: no log driver named '{driver}' is registered")
    _check_delivery(log)
    if driver == "none":
        return
    known = _LIMITS | _DELIVERY | (_ATTRIBUTES if driver == "json-file" else frozenset())
    for option in sorted(log.options.keys() - known):
        named = f"{driver} log driver" if driver == "json-file" else f"log driver {driver}"
        raise InvalidRequest(f"unknown log opt '{option}' for {named}")
    for option in ("labels-regex", "env-regex"):
        _pattern(log, option)
    _expanded(log.options.get("tag", ""), {name: "" for name in _TAG_FIELDS})
    _check_limits(log)


def _check_delivery(log: LogConfig) -> None:
    mode = log.options.get("mode", "")
    if mode not in ("", "blocking", "non-blocking"):
        raise InvalidRequest(f"logger: logging mode not supported: {mode}")
    if size := log.options.get("max-buffer-size", ""):
        if mode != "non-blocking":
            raise InvalidRequest(
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'"
            )
        parse_size(size)


def _check_limits(log: LogConfig) -> None:
    if log.options.get("max-size") == "-1" and log.driver != "local":
        raise InvalidRequest("invalid size: '-1'")
    _, max_file = log_limits(log)
    if is_compressed(log) and max_file < 2 and not _is_endless(log):
        raise InvalidRequest(
            "compression cannot be enabled when max file count is 1"
            if log.driver == "local"
            else "compress cannot be true when max-file is less than 2 or max-size is not set"
        )


def _is_endless(log: LogConfig) -> bool:
    return log.driver == "local" and log.options.get("max-size", "") in ("0", "-1")


def log_limits(log: LogConfig) -> tuple[int, int]:
    """(max size in bytes, 0 = unlimited; how many files). Raises InvalidRequest."""
    local = log.driver == "local"
    size = log.options.get("max-size", "20m" if local else "-1")
    files = log.options.get("max-file", "5" if local else "1")
    if not files.isdecimal() or len(files) > 5 or int(files) < 1:
        raise InvalidRequest("max-file cannot be less than 1")
    max_size = 0 if size == "-1" else parse_size(size)
    if max_size == 0 and size != "-1" and not local:
        raise InvalidRequest("max-size must be a positive number")
    return max_size, int(files) if max_size else 1


def is_compressed(log: LogConfig) -> bool:
    """Whether older files are packed. Raises InvalidRequest."""
    text = log.options.get("compress", "")
    match text.lower():
        case "":
            return log.driver == "local"
        case "1" | "t" | "true":
            return True
        case "0" | "f" | "false":
            return False
        case _:
            raise InvalidRequest(
                f"invalid log option 'compress': {text!r} is neither true nor false"
            )


def buffer_size(log: LogConfig) -> int:
    """Bytes that may wait to be written before output is lost; 0: the process waits instead."""
    if log.options.get("mode", "") != "non-blocking":
        return 0
    return parse_size(log.options.get("max-buffer-size") or "0") or _DEFAULT_BUFFER


def attributes(record: Record) -> dict[str, str]:
    """What is noted beside each line: chosen labels, environment, the tag. By name."""
    log, config = record.host.log_config, record.config
    environment = dict(entry.split("=", 1) for entry in config.env if "=" in entry)
    found: dict[str, str] = {}
    for option, values in (("labels", config.labels), ("env", environment)):
        names = log.options.get(option, "").split(",")
        pattern = _pattern(log, f"{option}-regex")
        found |= {
            name: value
            for name, value in values.items()
            if name in names or (pattern is not None and pattern.search(name))
        }
    if tag := log.options.get("tag", ""):
        found["tag"] = _expanded(tag, _tag_fields(record))
    return dict(sorted(found.items()))


def record_part(found: dict[str, str]) -> str:
    """Their part of a record of a json-file log; "" where there are none."""
    return f'"attrs":{json.dumps(found)},' if found else ""


def details(found: dict[str, str]) -> bytes:
    """As `docker logs --details` shows them, ahead of each line."""
    pairs = ",".join(f"{quote_plus(name)}={quote_plus(text)}" for name, text in found.items())
    return f"{pairs} ".encode()


def _pattern(log: LogConfig, option: str) -> re.Pattern[str] | None:
    text = log.options.get(option, "")
    try:
        return re.compile(text) if text else None
    except re.error as error:
        raise InvalidRequest(f"invalid log option {option!r}: {error}") from None


_TAG_FIELDS = ("ID", "FullID", "Name", "ImageName", "ImageID", "ImageFullID", "DaemonName")


def _tag_fields(record: Record) -> dict[str, str]:
    image = record.image_id.removeprefix("sha256:")
    return {
        "ID": short_id(record.id),
        "FullID": record.id,
        "Name": record.name,
        "ImageName": record.config.image,
        "ImageID": short_id(image),
        "ImageFullID": record.image_id,
        "DaemonName": "docker",
    }


def _expanded(template: str, fields: dict[str, str]) -> str:
    """The fields of a tag that is a Go template; of its language no more."""

    def field(match: re.Match[str]) -> str:
        try:
            return fields[match[1]]
        except KeyError:
            raise InvalidRequest(f"invalid log tag {template!r}: no field {match[1]!r}") from None

    text = _TEMPLATE.sub(field, template)
    if "{{" in text:
        raise InvalidRequest(f"invalid log tag {template!r}: only fields like {{{{.Name}}}} work")
    return text
