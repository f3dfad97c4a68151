"""pure: how Docker's users write options -> how this command line's library wants them.

Go's flags know `--rm=false`, `-it=false` and `-p=80:80`; the library knows neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from compose.errors import UsageError

_YES = ("1", "t", "T", "true", "TRUE", "True")
_NO = ("0", "f", "F", "false", "FALSE", "False")


def spelled(
    words: Sequence[str],
    *,
    switches: Mapping[str, str],
    valued: frozenset[str],
    interspersed: bool,
) -> list[str]:
    """`switches`: option -> its opposite, or "" where there is none; `valued`: those that take a
    value. Without `interspersed` nothing is changed from the first argument on."""
    out: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--" or (not interspersed and not word.startswith("-")):
            return [*out, word, *rest]
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            if equals and name in switches:
                out += _switched(name, value, switches[name])
            else:
                out.append(word)
                if not equals and name in valued:
                    out += [value for value in (next(rest, None),) if value is not None]
        elif word.startswith("-") and len(word) > 1:
            out += _cluster(word[1:], rest, switches, valued)
        else:
            out.append(word)
    return out


def _cluster(
    letters: str, rest: Iterator[str], switches: Mapping[str, str], valued: frozenset[str]
) -> list[str]:
    """`-itp=80:80`, letter by letter."""
    out: list[str] = []
    for position, letter in enumerate(letters):
        name, after = f"-{letter}", letters[position + 1 :]
        if name in valued:
            value = after.removeprefix("=") if after else next(rest, None)
            return [*out, name] if value is None else [*out, name, value]
        if name in switches and after.startswith("="):
            return [*out, *_switched(name, after[1:], switches[name])]
        out.append(name)
    return out


def _switched(name: str, value: str, opposite: str) -> list[str]:
    if value in _YES:
        return [name]
    if value in _NO:
        return [opposite] if opposite else []
    raise UsageError(f"cannot use {name}={value}: it is either true or false")
