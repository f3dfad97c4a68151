"""pure: which fields of two JSON documents differ, and how to say so in words."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping

from compose.dataclass import dataclass

Place = tuple[str | int, ...]

# What people write secrets into though they should not: where name or value looks like one, a
# change is told, the values are not. A content is never told.
PRIVATE = frozenset({"environment", "labels", "annotations", "command", "entrypoint", "options",
                     "driver_opts", "args", "content"})  # fmt: skip
_SECRET = re.compile(
    r"PASS|PWD|SECRET|TOKEN|KEY|JWT|CRED|AUTH|SALT|COOKIE|DSN|://[^\s/@]*:[^\s/@]*@", re.IGNORECASE
)
LONGEST = 60


@dataclass(frozen=True, slots=True)
class Difference:
    """`old` or `new` is ABSENT where the field isn't there."""

    place: Place
    old: object
    new: object


class Absent:
    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = Absent()


def differences(old: object, new: object, place: Place = ()) -> list[Difference]:
    """The deepest fields that differ, maps by key. Lists are compared as wholes."""
    if old == new:
        return []
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        found: list[Difference] = []
        for key in sorted({*old, *new}):
            if old.get(key, ABSENT) != new.get(key, ABSENT):
                found += differences(old.get(key, ABSENT), new.get(key, ABSENT), (*place, key))
        return found
    return [Difference(place, old, new)]


def field_by_field(difference: Difference) -> Iterator[Difference]:
    """A map that comes or goes, as the deepest fields in it."""
    old, new = difference.old, difference.new
    whole = new if old is ABSENT else old
    if not isinstance(whole, Mapping) or not whole or ABSENT not in (old, new):
        yield difference
        return
    for key, value in whole.items():
        sides = (ABSENT, value) if old is ABSENT else (value, ABSENT)
        yield from field_by_field(Difference((*difference.place, key), *sides))


def in_words(difference: Difference, *, values: bool = False) -> str:
    """`image busybox:1 -> busybox:2`, `restart unset -> always`, `environment.TOKEN changed`,
    `networks.back added`.
    `values`: whatever they are."""
    name = ".".join(str(step) for step in difference.place)
    old, new = difference.old, difference.new
    if old is ABSENT or new is ABSENT:
        bare = f"{name} {'added' if old is ABSENT else 'removed'}"
    else:
        bare = f"{name} changed"
    if values:
        return f"{name} {_whole(old)} -> {_whole(new)}"
    if not (_is_plain(old) and _is_plain(new)) or is_private(difference):
        return bare
    text = f"{name} {_short(old)} -> {_short(new)}"
    return text if len(text) <= LONGEST + len(name) else bare


def is_private(difference: Difference) -> bool:
    names = [str(step) for step in difference.place]
    if not PRIVATE.intersection(names):
        return False
    return "content" in names or bool(_SECRET.search(f"{names} {difference.old} {difference.new}"))


def _is_plain(value: object) -> bool:
    """It can be told in a word or a few."""
    if isinstance(value, list):
        return all(isinstance(item, str) for item in value)
    return value is ABSENT or isinstance(value, (str, int, float))


def summary(found: list[Difference]) -> str:
    """All of them in one line, the rest counted when there are many."""
    words = [in_words(difference) for difference in found[:3]]
    more = len(found) - len(words)
    return ", ".join(words) + (f", and {more} more" if more else "")


def _whole(value: object) -> str:
    return "unset" if value is ABSENT else json.dumps(value)


def _short(value: object) -> str:
    if value is ABSENT:
        return "unset"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = shlex.join(value) if isinstance(value, list) else str(value)
    # Digests are known by their first digits.
    return text[:19] if text.startswith("sha256:") else text or '""'
