"""The API's `filters` parameter: text -> Filters -> yes or no. Pure.

Several values of one key are alternatives, several keys must all hold; of `label` every value
must hold. Which keys exist, and what a value means, is said by the resource that lists.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from engine.errors import InvalidRequest

_TRUE = frozenset({"true", "1", "True", "t", "T", "TRUE"})
_FALSE = frozenset({"false", "0", "False", "f", "F", "FALSE"})
_DURATION = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ns|us|ms|s|m|h))+", re.ASCII)
_DURATION_PART = re.compile(r"([0-9.]+)(ns|us|ms|s|m|h)", re.ASCII)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T|$)", re.ASCII)
_NANOSECONDS = {
    "ns": 1, "us": 1_000, "ms": 1_000_000, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Filters:
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.values)

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def also(self, key: str, value: str) -> Filters:
        """These and one more."""
        return Filters({**self.values, key: (*self.get(key), value)})

    def get(self, key: str) -> tuple[str, ...]:
        return self.values.get(key, ())

    def check(self, accepted: Iterable[str]) -> None:
        """Raise InvalidRequest for the first key that is not among `accepted`."""
        known = frozenset(accepted)
        for key in self.values:
            if key not in known:
                raise InvalidRequest(f"invalid filter '{key}'")

    def any(self, key: str, holds: Callable[[str], bool]) -> bool:
        """Whether `holds` for one of the values of `key`; true where the key isn't asked for."""
        wanted = self.values.get(key)
        return wanted is None or any(holds(value) for value in wanted)

    def labels(self, labels: Mapping[str, str]) -> bool:
        """Whether `labels` satisfy all `label` values and none of the `label!` ones."""
        return all(has_label(labels, wanted) for wanted in self.get("label")) and not any(
            has_label(labels, refused) for refused in self.get("label!")
        )

    def flag(self, key: str) -> bool | None:
        """The truth value of `key`, None where it isn't asked for."""
        wanted = frozenset(self.get(key))
        for values, meaning in ((_TRUE, True), (_FALSE, False)):
            if wanted and wanted <= values:
                return meaning
        if wanted:
            raise InvalidRequest(f"invalid filter '{key}=[{' '.join(self.get(key))}]'")
        return None

    def choice(self, key: str, what: str, choices: Iterable[str]) -> frozenset[str] | None:
        """The wanted values of `key`, each one of `choices`; None where it isn't asked for."""
        if key not in self.values:
            return None
        known = tuple(choices)
        for value in self.values[key]:
            if value not in known:
                raise InvalidRequest(
                    f"invalid filter '{key}={value}': invalid value for {what} ({value}): "
                    f"must be one of {', '.join(known)}"
                )
        return frozenset(self.values[key])


def parse_filters(text: str) -> Filters:
    """Both wire forms: {"label": ["a=b"]} and {"label": {"a=b": true}}; "" is no filter."""
    if not text:
        return Filters()
    try:
        document: object = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidRequest("invalid filter") from None
    if document is None:
        return Filters()
    if not isinstance(document, dict):
        raise InvalidRequest("invalid filter")
    return Filters({key: _values(key, wanted) for key, wanted in document.items()})


def _values(key: str, wanted: object) -> tuple[str, ...]:
    if wanted is None:
        return ()
    if isinstance(wanted, dict):
        if not all(isinstance(on, bool) for on in wanted.values()):
            raise InvalidRequest(f"invalid filter '{key}'")
        return tuple(value for value, on in wanted.items() if on)
    if isinstance(wanted, list) and all(isinstance(value, str) for value in wanted):
        return tuple(wanted)
    raise InvalidRequest(f"invalid filter '{key}'")


def has_label(labels: Mapping[str, str], wanted: str) -> bool:
    """`wanted` is "key" or "key=value"."""
    key, separator, value = wanted.partition("=")
    return key in labels and (not separator or labels[key] == value)


def matches_name(name: str, pattern: str) -> bool:
    """Whether `pattern` is the name, or a regular expression that is found in it.

    A pattern that is no regular expression matches nothing, as in Docker.
    """
    if name == pattern:
        return True
    try:
        return re.search(pattern, name) is not None
    except (re.error, RecursionError, OverflowError):
        return False


def matches_container_name(name: str, pattern: str) -> bool:
    """The same for a container, whose name counts with and without its slash."""
    return matches_name(f"/{name}", pattern) or matches_name(name, pattern)


def parse_until(text: str, now: int) -> int:
    """ "10m" (ago), seconds since the epoch, or RFC 3339; nanoseconds since the epoch."""
    if re.fullmatch(r"[0-9]{1,11}(?:\.[0-9]{1,9})?", text, re.ASCII):
        whole, _, fraction = text.partition(".")
        return int(whole) * 10**9 + int(fraction.ljust(9, "0"))
    if _DURATION.fullmatch(text):
        try:
            parts = [(float(size), unit) for size, unit in _DURATION_PART.findall(text)]
        except ValueError:
            raise InvalidRequest(f'failed to parse value as time or duration: "{text}"') from None
        return now - sum(int(size * _NANOSECONDS[unit]) for size, unit in parts)
    try:
        if not _DATE.match(text):  # fromisoformat takes much more than RFC 3339
            raise ValueError(text)
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(f'failed to parse value as time or duration: "{text}"') from None
    if moment.tzinfo is None:
        moment = moment.astimezone()
    return int(moment.timestamp() * 10**9)
