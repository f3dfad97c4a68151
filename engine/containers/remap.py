"""Which users of the host a container's users are, where the daemon was told to remap them.

`--userns-remap USER[:GROUP]`: the subordinate ids that subuid(5) and subgid(5) give to them.
`default` stands for a user of that purpose, as in Docker; ranges that it lacks are added to these
files.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from engine.errors import InvalidRequest, Unsupported
from engine.runtime.id_maps import IdMaps, Range

DEFAULT = "default"
DEFAULT_USER = "dockremap"
FIRST, COUNT = 100_000, 65_536  # of a range that is added
OLDEST_KERNEL = (5, 19)  # overlayfs shows layers with other owners


def read_id_maps(
    wanted: str, *, kernel: tuple[int, int], etc: Path = Path("/etc")
) -> IdMaps | None:
    """None where nothing is wanted. Raises InvalidRequest, Unsupported."""
    if not wanted:
        return None
    if kernel < OLDEST_KERNEL:
        raise Unsupported(
            "cannot remap users: overlayfs shows files with other owners from Linux 5.19 on, and"
            f" this is {kernel[0]}.{kernel[1]}"
        )
    user, _, group = wanted.partition(":")
    if user == DEFAULT and not group:
        user = group = DEFAULT_USER
        for name in ("subuid", "subgid"):
            _add_range(etc / name, DEFAULT_USER)
    uids = _of_name(etc, "passwd", "subuid", user)
    gids = _of_name(etc, "group", "subgid", group or user)
    return IdMaps(uids, gids)


def _of_name(etc: Path, accounts: str, ranges: str, name: str) -> tuple[Range, ...]:
    # subuid(5): by name or by number.
    names = {name, *_same_account(_text(etc / accounts), name)}
    found = ranges_of(_text(etc / ranges), names)
    if not found:
        raise InvalidRequest(
            f"cannot remap users: {etc / ranges} has no range for {name!r}; add one, as in"
            f' "{name}:{FIRST}:{COUNT}"'
        )
    if any(each.outside == 0 or each.outside + each.count > 2**32 - 1 for each in found):
        raise InvalidRequest(f"cannot remap users: {etc / ranges} gives {name!r} ids that it can't")
    return found


def _same_account(text: str, name: str) -> Iterable[str]:
    """The number of a name, and the name of a number."""
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) > 2 and name in (fields[0], fields[2]):
            yield from (fields[0], fields[2])


def ranges_of(text: str, names: Iterable[str]) -> tuple[Range, ...]:
    """Pure: those of `names` in a file of subuid(5), one after the other from 0 on inside."""
    names, found, inside = set(names), [], 0
    for name, first, count in parse_ranges(text):
        if name in names and count:
            found.append(Range(inside, first, count))
            inside += count
    return tuple(found)


def parse_ranges(text: str) -> list[tuple[str, int, int]]:
    found = []
    for line in text.splitlines():
        name, *numbers = line.strip().split(":")
        if len(numbers) == 2 and all(number.isdecimal() for number in numbers):
            found.append((name, int(numbers[0]), int(numbers[1])))
    return found


def _add_range(path: Path, name: str) -> None:
    known = parse_ranges(_text(path))
    if any(owner == name for owner, _, _ in known):
        return
    first = max([FIRST, *(start + count for _, start, count in known)])
    text = _text(path)
    gap = "" if not text or text.endswith("\n") else "\n"
    try:
        with open(path, "a", opener=lambda name, flags: os.open(name, flags, 0o644)) as stream:
            stream.write(f"{gap}{name}:{first}:{COUNT}\n")
    except OSError as error:
        raise InvalidRequest(
            f"cannot remap users: {path} has no range for {name!r} and can't be written:"
            f" {error.strerror}"
        ) from error


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""
