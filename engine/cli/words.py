"""pure: single facts about containers and images in the words of Docker's tables."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from compose.client import fields
from compose.client.human import human_duration
from compose.client.ports import ports_text

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
    return ports_text(
        (
            fields.number(row, "PrivatePort"),
            fields.text(row, "IP", ""),
            fields.text(row, "Type", "tcp"),
            fields.number(row, "PublicPort", 0),
        )
        for row in rows
    )


def yes(flag: bool) -> str:
    return "true" if flag else "false"
