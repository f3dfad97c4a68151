"""Pure: what `RUN --mount` asks for."""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass

from engine.builder.dockerfile import FALSE, TRUE, Instruction, refusal
from engine.builder.expand import expand_word
from engine.builder.stages import mount_fields

_KNOWN = {
    "bind": {"target", "source", "from", "readonly"},
    "cache": {"id", "target", "readonly", "sharing", "from", "source", "mode", "uid", "gid"},
    "tmpfs": {"target", "size"},
    "secret": {"id", "target", "required", "mode", "uid", "gid", "env"},
    "ssh": {"id", "target", "required", "mode", "uid", "gid"},
}
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
    one: Instruction, names: Mapping[str, str], escape: str, folder: str
) -> tuple[StepMount, ...]:
    """`folder`: the working directory, where relative targets lie. Raises InvalidRequest."""
    values = (flag.value or "" for flag in one.flags if flag.name == "mount")
    return tuple(_mount(one, expand_word(value, names, escape), folder) for value in values)


def _mount(one: Instruction, value: str, folder: str) -> StepMount:
    fields = {_SAME.get(key, key): text for key, text in mount_fields(value).items()}
    kind = fields.pop("type", "bind")
    if kind not in _KNOWN:
        raise refusal(one.line, f"unsupported mount type {kind!r}")
    is_source = kind not in ("secret", "ssh")
    writable = _truth(one, "readwrite", fields.pop("readwrite", "")) if is_source else None
    for key in fields:
        if key not in _KNOWN[kind]:
            raise refusal(one.line, f"unexpected key {key!r} for a mount of type {kind!r}")
    read_only = _truth(one, "readonly", fields.get("readonly", ""))
    if read_only is None:
        read_only = not writable if kind == "bind" else False
    target = fields.get("target", "")
    identifier = fields.get("id", "") or (target if kind == "cache" else "")
    if kind == "secret":
        identifier = identifier or posixpath.basename(target)
        if not identifier:
            raise refusal(one.line, "a secret needs an id or a target")
        target = target or ("" if "env" in fields else f"/run/secrets/{identifier}")
    elif kind == "ssh":
        identifier = identifier or "default"
    elif not target:
        raise refusal(one.line, f"a mount of type {kind!r} needs a target")
    if target:
        target = posixpath.normpath(posixpath.join(folder or "/", target))
    sharing = fields.get("sharing", "shared")
    if sharing not in ("shared", "private", "locked"):
        raise refusal(one.line, f"unsupported sharing value {sharing!r}")
    return StepMount(
        kind,
        target,
        source=fields.get("source", ""),
        origin=fields.get("from", ""),
        identifier=identifier,
        read_only=read_only,
        sharing=sharing,
        mode=_number(one, "mode", fields.get("mode", ""), 8),
        uid=_number(one, "uid", fields.get("uid", ""), 10) or 0,
        gid=_number(one, "gid", fields.get("gid", ""), 10) or 0,
        size=fields.get("size", ""),
        required=bool(_truth(one, "required", fields.get("required", ""))),
        variable=fields.get("env", ""),
    )


def _truth(one: Instruction, key: str, text: str) -> bool | None:
    if not text:
        return None
    if text.lower() not in (*TRUE, *FALSE):
        raise refusal(one.line, f"invalid value {text!r} of {key}: it has to be true or false")
    return text.lower() in TRUE


def _number(one: Instruction, key: str, text: str, base: int) -> int | None:
    if not text:
        return None
    try:
        number = int(text, base)
    except ValueError:
        number = -1
    if not 0 <= number < 1 << 31:
        raise refusal(one.line, f"invalid value {text!r} of {key}")
    return number
