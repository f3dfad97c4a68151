"""Pure: WWW-Authenticate, how a registry says what it wants to know (RFC 9110, 11.6.1)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"[\s,]*({_TOKEN})(?=\s|,|$)")
_PARAMETER = re.compile(rf'[\s,]*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))')


@dataclass(frozen=True, slots=True)
class Challenge:
    scheme: str  # lower case
    parameters: Mapping[str, str]


def parse_challenges(headers: Sequence[str]) -> tuple[Challenge, ...]:
    """Reads as far as it makes sense."""
    return tuple(challenge for header in headers for challenge in _parse(header))


def _parse(header: str) -> list[Challenge]:
    found: list[Challenge] = []
    parameters: dict[str, str] = {}
    position = 0
    while position < len(header):
        pair = _PARAMETER.match(header, position) if found else None
        if pair is not None:
            value = pair[3] if pair[2] is None else re.sub(r"\\(.)", r"\1", pair[2])
            parameters.setdefault(pair[1].lower(), value)
            position = pair.end()
        elif (scheme := _SCHEME.match(header, position)) is not None:
            parameters = {}
            found.append(Challenge(scheme[1].lower(), parameters))
            position = scheme.end()
        else:
            break
    return found
