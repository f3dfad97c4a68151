"""Identifiers of containers, networks, volumes and execs: 64 lower-case hex digits."""

import secrets
from typing import NewType

ContainerId = NewType("ContainerId", str)
NetworkId = NewType("NetworkId", str)
ExecId = NewType("ExecId", str)


def new_id() -> str:
    """64 hex digits. Never all decimal in the first 12, so that the short id can't be taken
    for a number where it serves as a host name."""
    while True:
        identifier = secrets.token_hex(32)
        if not identifier[:12].isdecimal():
            return identifier


def short_id(identifier: str) -> str:
    return identifier.removeprefix("sha256:")[:12]
