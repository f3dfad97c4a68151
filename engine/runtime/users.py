"""Who `--user` means: pure, from the text of a container's own passwd and group files."""

from collections.abc import Iterator
from dataclasses import dataclass

_HIGHEST = 2**31 - 1  # ids above become negative for many programs (CVE-2024-40635)


class UnknownUser(Exception):
    """No such user or group; `str()` is Docker's text."""


@dataclass(frozen=True, slots=True)
class Identity:
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def resolve(user: str, extra: tuple[str, ...], passwd: str, group: str) -> Identity:
    """The identity for "", "name", "uid", "name:group" or "uid:gid".

    What is a number is an id, even where an account has that name (CVE-2016-3697). Supplementary
    groups come from the group file only if no group was named. Raises UnknownUser.
    """
    wanted, colon, wanted_group = user.partition(":")
    wanted = wanted or "0"
    account = None
    uid = _number(wanted)
    for fields in _records(passwd, 7):
        if (uid is None and fields[0] == wanted) or (uid is not None and _number(fields[2]) == uid):
            account = fields
            break
    if uid is None:
        if account is None:
            raise UnknownUser(f"unable to find user {wanted}: no matching entries in passwd file")
        uid = _number(account[2])
        if uid is None:
            raise UnknownUser(f"unable to find user {wanted}: its uid is {account[2]!r}")
    _check_range(uid)
    gid = (_number(account[3]) or 0) if account else 0
    groups: list[int] = []
    if colon and wanted_group:
        gid = _group_id(wanted_group, group)
    elif account:
        for fields in _records(group, 4):
            member_of = _number(fields[2])
            if member_of is not None and account[0] in fields[3].split(","):
                groups.append(member_of)
    groups += [_group_id(name, group) for name in extra]
    _check_range(gid)
    # As Docker has it, the primary group is the first of the supplementary ones.
    ordered = tuple(dict.fromkeys([gid, *groups]))
    return Identity(uid, gid, ordered, account[5] if account and account[5] else "/")


def _group_id(name: str, group: str) -> int:
    number = _number(name)
    if number is None:
        for fields in _records(group, 4):
            if fields[0] == name:
                number = _number(fields[2])
                break
    if number is None:
        raise UnknownUser(f"unable to find group {name}: no matching entries in group file")
    _check_range(number)
    return number


def _number(text: str) -> int | None:
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdecimal() and len(text) < 20 else None


def _check_range(number: int) -> None:
    if not 0 <= number <= _HIGHEST:
        raise UnknownUser(f"uids and gids must be in range 0-{_HIGHEST}")


def _records(text: str, width: int) -> Iterator[list[str]]:
    """Lines of colon separated fields, filled up to `width`; comments and blanks left out."""
    for line in text.split("\n"):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            fields = stripped.split(":")
            yield fields + [""] * (width - len(fields))
