"""pure: single facts about containers and images in the words of Docker's tables."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from compose.client import fields
from compose.client.human import human_duration

SHORT = 12  # digits of an id


def short_id(identity: str, *, whole: bool) -> str:
    return identity if whole else identity.removeprefix("sha256:")[:SHORT]


def local_time(seconds: float) -> str:
    """2026-01-31 10:20:30 +0100 CET"""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(seconds))


def ago(seconds: float, now: float) -> str:
    return f"{human_duration(max(0.0, now - seconds))} ago"


def pairs(mapping: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(mapping.items()))


def ports(rows: Iterable[Mapping[str, object]]) -> str:
    """`0.0.0.0:80->80/tcp, 8000-8002/tcp`: neighbours as one range, as `docker ps` does."""
    exposed: list[tuple[str, str, int, int]] = []  # protocol, address, public, private
    for row in rows:
        exposed.append(
            (
                fields.text(row, "Type", "tcp"),
                fields.text(row, "IP", ""),
                fields.number(row, "PublicPort", 0),
                fields.number(row, "PrivatePort"),
            )
        )
    shown: list[tuple[int, str, str]] = []
    groups: dict[tuple[str, str], list[list[int]]] = {}  # [private, public, length]
    for protocol, ip, public, private in sorted(exposed, key=lambda p: (p[3], p[1], p[2], p[0])):
        if public and public != private:
            # Only those that keep their number are drawn together.
            shown.append((private, ip, f"{_address(ip)}:{public}->{private}/{protocol}"))
            continue
        group = groups.setdefault((protocol, ip if public else ""), [])
        if group and group[-1][0] + group[-1][2] == private:
            group[-1][2] += 1
        elif not group or group[-1][0] + group[-1][2] <= private:
            group.append([private, public, 1])
    for (protocol, ip), ranges in groups.items():
        for first, public, length in ranges:
            span = f"{first}-{first + length - 1}" if length > 1 else f"{first}"
            text = f"{_address(ip)}:{span}->{span}" if public else span
            shown.append((first, ip, f"{text}/{protocol}"))
    return ", ".join(text for *_, text in sorted(shown))


def _address(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip


def yes(flag: bool) -> str:
    return "true" if flag else "false"
