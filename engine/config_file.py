"""daemon.json: what the daemon is told by a file. Its shape is `schemas/daemon.schema.json`."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import InvalidRequest

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

DEFAULT = Path("/etc/pycompose/daemon.json")


def read_config_file(path: Path, *, is_required: bool) -> Mapping[str, object]:
    """Its keys, all of the right shape. Raises InvalidRequest with all that is wrong."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        if is_required:
            raise InvalidRequest(f"cannot read {path}: there is no such file") from None
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"cannot read {path}: {error}") from None
    if not text.strip():
        return {}
    try:
        document = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{path}: this is not JSON: {error}") from None
    if problems := list(_problems(document)):
        raise InvalidRequest("\n".join(f"{path}: {problem}" for problem in problems))
    assert isinstance(document, dict)
    return document


def merged(
    options: Mapping[str, object], file: Mapping[str, object], path: Path
) -> Mapping[str, object]:
    """Raises InvalidRequest in Docker's words where both say the same thing."""
    if twice := sorted(options.keys() & file.keys()):
        listed = ", ".join(
            f"{key}: (from flag: {_shown(options[key])}, from file: {_shown(file[key])})"
            for key in twice
        )
        raise InvalidRequest(
            f"unable to configure the daemon with file {path}: the following directives are "
            f"specified both as a flag and in the configuration file: {listed}"
        )
    return {**file, **options}


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{' '.join(map(_shown, value))}]"
    return value if isinstance(value, str) else json.dumps(value)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document = dict(pairs)
    if len(document) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return document


def _problems(document: object) -> Iterator[str]:
    # It takes 100 ms, which only who has such a file pays.
    from jsonschema import Draft202012Validator

    schema = json.loads((files("schemas") / "daemon.schema.json").read_text())
    for error in sorted(Draft202012Validator(schema).iter_errors(document), key=_place):
        where = "".join(f"{part}: " for part in error.absolute_path)
        yield from (f"{where}{problem}" for problem in _words(error))


def _place(error: ValidationError) -> list[str]:
    return [str(part) for part in error.absolute_path]


def _words(error: ValidationError) -> Iterator[str]:
    schema = error.schema
    assert isinstance(schema, dict)
    known = list(schema.get("properties", {}))
    if error.validator == "additionalProperties" and known:
        assert isinstance(error.instance, dict)
        for key in sorted(error.instance.keys() - set(known)):
            close = difflib.get_close_matches(key, known, n=1)
            hint = (
                f"did you mean {close[0]!r}?"
                if close
                else f"it has to be one of {', '.join(known)}"
            )
            yield f"there is no setting {key!r}\n  hint: {hint}"
    elif error.validator == "type":
        yield f"{_quoted(error.instance)} is no {_KINDS[str(error.validator_value)]}"
    elif error.validator in ("const", "enum"):
        yield f"{_quoted(error.instance)} is not supported\n  hint: {schema['description']}"
    else:
        yield error.message


def _quoted(value: object) -> str:
    return json.dumps(value)[:100]


_KINDS = {
    "array": "list",
    "boolean": "true or false",
    "integer": "whole number",
    "object": "object ({...})",
    "string": "text",
}
