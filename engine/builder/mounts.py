"""Pure: what `RUN --mount` asks for."""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass

from engine.builder.dockerfile import FALSE, TRUE, Instruction, refusal, suggestion
from engine.builder.expand import expand_word
from engine.builder.stages import mount_fields
from engine.containers.sizes import parse_size
from engine.errors import InvalidRequest

_KINDS = ("bind", "cache", "secret", "ssh", "tmpfs")
_SHARING = ("shared", "private", "locked")
_OWNED = ("cache", "secret", "ssh")  # what has a mode and an owner of its own
_KEYS = frozenset(
    (
        *("type", "from", "source", "target", "readonly", "readwrite", "id", "sharing", "required"),
        *("size", "mode", "uid", "gid", "env", "src", "dst", "destination", "ro", "rw"),
    )
)
_SAME = {"dst": "target", "destination": "target", "src": "source", "ro": "readonly"}
_SAME.update({"rw": "readwrite"})


@dataclass(frozen=True, slots=True)
class StepMount:
    kind: str  # "bind", "cache", "tmpfs", "secret", "ssh"
    target: str  # absolute
    source: str = ""  # in the context, or in `origin`
    origin: str = ""  # a stage, a named context, an image; "" for the build's context
    identifier: str = ""  # of a cache, a secret, an agent
    read_only: bool = False
    sharing: str = "shared"
    mode: int | None = None
    uid: int = 0
    gid: int = 0
    size: str = ""
    required: bool = False
    variable: str = ""  # a secret as a variable of the environment


def step_mounts(
    one: Instruction, names: Mapping[str, str], escape: str, folder: str | None
) -> tuple[StepMount, ...]:
    """`folder`: the working directory, where relative targets lie; None where nobody knows it yet.
    Raises InvalidRequest."""
    values = (flag.value or "" for flag in one.flags if flag.name == "mount")
    try:
        return tuple(_mount(expand_word(value, names, escape), folder) for value in values)
    except _Wrong as wrong:
        raise refusal(one.line, str(wrong)) from None


class _Wrong(Exception):
    pass


def _mount(value: str, folder: str | None) -> StepMount:
    given = mount_fields(value)
    for key, text in given.items():
        if key not in _KEYS:
            near = suggestion(key, _KEYS)
            raise _Wrong(f"unexpected key '{key}' in '{key}={text}'{near}")
    fields = {_SAME.get(key, key): text for key, text in given.items()}
    kind = fields.get("type", "bind").lower()
    if kind not in _KINDS:
        raise _Wrong(f'unsupported mount type "{kind}"{suggestion(kind, _KINDS)}')
    _check_keys(kind, fields)
    sharing = fields.get("sharing", "shared").lower()
    if sharing not in _SHARING:
        raise _Wrong(f'unsupported sharing value "{sharing}"{suggestion(sharing, _SHARING)}')
    read_only = _truth(fields, "readonly")
    if read_only is None:
        read_only = kind == "bind" and not _truth(fields, "readwrite")
    return StepMount(
        kind,
        _target(kind, fields, folder),
        source=fields.get("source", "") if kind != "secret" else "",
        origin=fields.get("from", ""),
        identifier=_identifier(kind, fields),
        read_only=read_only,
        sharing=sharing,
        mode=_number(fields, "mode", 8),
        uid=_number(fields, "uid", 10) or 0,
        gid=_number(fields, "gid", 10) or 0,
        size=_size(fields.get("size", "")),
        required=bool(_truth(fields, "required")),
        variable=fields.get("env", ""),
    )


def _check_keys(kind: str, fields: Mapping[str, str]) -> None:
    """What means nothing to mounts of other kinds."""
    for key, kinds in (("required", ("secret", "ssh")), ("size", ("tmpfs",))):
        if key in fields and kind not in kinds:
            raise _Wrong(f"unexpected key '{key}' for mount type '{kind}'")
    for key in ("mode", "uid", "gid"):
        if key in fields and kind not in _OWNED:
            raise _Wrong(f'{key} not allowed for "{kind}" type mounts')
    if "sharing" in fields and kind != "cache":
        raise _Wrong(f"invalid cache sharing set for {kind} mount")
    if kind == "secret" and "from" in fields:
        raise _Wrong("secret mount should not have a from")
    if kind == "secret" and {"source", "id"} <= set(fields):
        raise _Wrong("both source and id can't be set")
    if kind == "ssh" and "source" in fields:
        raise _Wrong("ssh does not support source")
    if "env" in fields and kind != "secret":
        raise _Wrong(f"unexpected key 'env' for mount type '{kind}'")


def _identifier(kind: str, fields: Mapping[str, str]) -> str:
    identifier, target = fields.get("id", ""), fields.get("target", "")
    match kind:
        case "cache":
            return identifier or posixpath.normpath(target)
        case "ssh":
            return identifier or "default"
        case "secret":
            found = identifier or fields.get("source", "") or posixpath.basename(target)
            if not found:
                raise _Wrong("invalid secret mount. one of source, target required")
            return found
        case _:
            return identifier


def _target(kind: str, fields: Mapping[str, str], folder: str | None) -> str:
    target = fields.get("target", "")
    if not target and kind == "secret" and "env" not in fields:
        target = f"/run/secrets/{posixpath.basename(_identifier(kind, fields))}"
    if not target and kind in ("secret", "ssh"):
        return ""
    target = posixpath.normpath(posixpath.join(folder or "/", target))
    if target == "/" and folder is not None:
        raise _Wrong('invalid mount target "/"')
    return target


def _truth(fields: Mapping[str, str], key: str) -> bool | None:
    text = fields.get(key, "")
    if not text:
        return None
    if text.lower() not in (*TRUE, *FALSE):
        raise _Wrong(f"invalid value for {key}: {text}")
    return text.lower() in TRUE


def _number(fields: Mapping[str, str], key: str, base: int) -> int | None:
    text = fields.get(key, "")
    if not text:
        return None
    try:
        number = int(text, base)
    except ValueError:
        number = -1
    if not 0 <= number < 1 << 31:
        raise _Wrong(f"invalid value {text} for {key}")
    return number


def _size(text: str) -> str:
    """Bytes, as tmpfs takes them."""
    if not text:
        return ""
    try:
        return str(parse_size(text))
    except InvalidRequest:
        raise _Wrong(f"invalid value for size: {text}") from None
