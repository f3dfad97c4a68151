"""Answers that are known whole: JSON, nothing at all, or a refusal."""

from __future__ import annotations

import json
from collections.abc import Mapping

from aiohttp import web

from engine import VERSION

API_VERSION = "1.51"
OLDEST_API_VERSION = "1.24"

COMMON_HEADERS = {
    "Api-Version": API_VERSION,
    "Docker-Experimental": "false",
    "Ostype": "linux",
    "Server": f"pyengine/{VERSION} (linux)",
}


def _plain(value: object) -> object:
    """What frozen values hold and JSON has no word for."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


_encode = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), check_circular=False, default=_plain
).encode


def encode(document: object, end: bytes = b"\n") -> bytes:
    """One line of JSON. A lone surrogate (bytes of a file name that are no UTF-8) becomes "?"."""
    return _encode(document).encode(errors="replace") + end


def reply(status: int, document: object) -> web.Response:
    return reply_encoded(status, encode(document))


def reply_encoded(status: int, body: bytes) -> web.Response:
    headers = {**COMMON_HEADERS, "Content-Type": "application/json"}
    return web.Response(status=status, headers=headers, body=body)


def refusal(status: int, message: str) -> web.Response:
    return reply(status, {"message": message})


def plain_refusal(status: int, message: str) -> web.Response:
    """For clients so old that they show the body as it is."""
    return web.Response(status=status, headers=COMMON_HEADERS, text=f"{message}\n")


def empty(status: int) -> web.Response:
    """No body: 204 done, 304 nothing to do, 200 and 201 where Docker says nothing either."""
    return web.Response(status=status, headers=COMMON_HEADERS)
