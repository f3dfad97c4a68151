"""A request as handlers see it: path parameters, query and strictly read JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NoReturn
from urllib.parse import parse_qs

from aiohttp import web

from engine.api.upgrade import Connection
from engine.errors import InvalidRequest
from engine.filters import Filters, parse_filters

LARGEST_DOCUMENT = 4 << 20
LARGEST_INTEGER = 1 << 63
CHUNK = 64 << 10
_NO = frozenset({"", "0", "no", "false", "none"})
_NO_TIME = -62135596800  # seconds from 1970 to year 1, which is what Go calls no time
_INTEGER = re.compile(r"-?[0-9]{1,19}", re.ASCII)

Version = tuple[int, int]


class Query:
    """The values after the `?`. Of a key given twice the first counts, as in Docker."""

    def __init__(self, text: str) -> None:
        try:
            self._values: Mapping[str, list[str]] = (
                parse_qs(text, keep_blank_values=True, errors="strict", max_num_fields=1000)
                if text
                else {}
            )
        except ValueError:
            raise InvalidRequest("invalid query string") from None
        if "%00" in text:
            raise InvalidRequest("invalid query string: it holds a NUL")

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def text(self, key: str, default: str = "") -> str:
        return self._values.get(key, [default])[0]

    def texts(self, key: str) -> tuple[str, ...]:
        return tuple(self._values.get(key, ()))

    def flag(self, key: str, default: bool = False) -> bool:
        if key not in self._values:
            return default
        return self._values[key][0].strip().lower() not in _NO

    def integer(self, key: str) -> int | None:
        """None where it isn't given, or is empty."""
        text = self.text(key)
        if not text:
            return None
        if not _INTEGER.fullmatch(text):
            raise InvalidRequest(f"invalid value {text!r} of {key!r}: it has to be a number")
        return int(text)

    def seconds(self, key: str) -> int:
        """A time as nanoseconds since the epoch: `seconds[.fraction]`; 0 where it isn't given."""
        text = self.text(key)
        if not text:
            return 0
        whole, _, fraction = text.partition(".")
        if not (_INTEGER.fullmatch(whole) and re.fullmatch("[0-9]{0,18}", fraction, re.ASCII)):
            raise InvalidRequest(f"invalid value {text!r} of {key!r}: it has to be seconds")
        seconds = int(whole)
        if seconds == _NO_TIME:
            return 0
        return seconds * 1_000_000_000 + int(fraction[:9].ljust(9, "0"))

    def filters(self) -> Filters:
        return parse_filters(self.text("filters"))


@dataclass
class Request:
    http: web.BaseRequest
    parameters: Mapping[str, str]
    version: Version
    query_text: str

    @cached_property
    def query(self) -> Query:
        return Query(self.query_text)

    def __getitem__(self, parameter: str) -> str:
        return self.parameters[parameter]

    @property
    def connection(self) -> Connection:
        protocol = self.http.protocol
        assert isinstance(protocol, Connection)
        return protocol

    def header(self, name: str) -> str:
        return self.http.headers.get(name, "")

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes; nothing is gathered."""
        async for chunk in self.http.content.iter_chunked(CHUNK):
            yield chunk

    async def document(self) -> Mapping[str, object]:
        """The body, which has to be a JSON object; {} where there is none."""
        raw = await self._body()
        if not raw:
            return {}
        kind = self.header("Content-Type").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise InvalidRequest(
                f"unsupported Content-Type header ({kind}): must be 'application/json'"
            )
        document = parse_json(raw)
        if document is None:
            return {}
        if not isinstance(document, dict):
            raise InvalidRequest("invalid JSON: the body has to be an object")
        return document

    async def _body(self) -> bytes:
        length = self.http.content_length
        if length is not None and length > LARGEST_DOCUMENT:
            raise InvalidRequest(f"request body too large: {length} bytes")
        if not self.http.body_exists:
            return b""
        gathered = bytearray()
        async for chunk in self.chunks():
            gathered += chunk
            if len(gathered) > LARGEST_DOCUMENT:
                raise InvalidRequest("request body too large")
        return bytes(gathered)

    @contextlib.contextmanager
    def until_gone(self, *, endless: bool = False) -> Iterator[None]:
        """Ends the block where its client hangs up: for answers that may wait for ever. `endless`:
        for those that do. They end where the client stops sending, too: behind ssh nothing else
        tells that it is gone.

        Only for handlers that read; what changes something runs to its end whoever listens.
        """
        task = asyncio.current_task()
        assert task is not None
        gone = False

        def leave() -> None:
            nonlocal gone
            gone = True
            task.cancel()

        connection = self.connection
        ends = [connection.when_lost, *([connection.when_silent] if endless else [])]
        for callbacks in ends:
            callbacks.add(leave)
        try:
            if connection.transport is None or (endless and connection.is_silent):
                raise ConnectionResetError("the client is gone")
            yield
        except asyncio.CancelledError:
            if gone and task.uncancel() == 0:
                raise ConnectionResetError("the client is gone") from None
            raise
        finally:
            for callbacks in ends:
                callbacks.discard(leave)


def parse_json(raw: bytes) -> object:
    """Strict: no NaN, no number beyond 64 bits, no NUL, no lone surrogate, bounded depth."""
    try:
        document: object = json.loads(
            raw.decode(), parse_constant=_refuse_constant, parse_int=_bounded
        )
    except RecursionError:
        raise InvalidRequest("invalid JSON: nested too deeply") from None
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            raise InvalidRequest("unexpected content after JSON") from None
        raise InvalidRequest(f"invalid JSON: {_in_words_of_go(error)}") from None
    except ValueError as error:
        raise InvalidRequest(f"invalid JSON: {error}") from None
    if b"\\u" in raw:  # only an escape can smuggle these in
        _refuse_odd_text(document)
    return document


# What Go says is wrong with a character, by what Python says of its place.
_NO_KEY = "looking for beginning of object key string"
_MISPLACED = {
    "Expecting property name enclosed in double quotes": _NO_KEY,
    "Illegal trailing comma before end of object": _NO_KEY,
    "Expecting ':' delimiter": "after object key",
    "Expecting value": "looking for beginning of value",
    "Illegal trailing comma before end of array": "looking for beginning of value",
    "Expecting ',' delimiter": "after a value",
    "Invalid control character at": "in string literal",
}


def _in_words_of_go(error: json.JSONDecodeError) -> str:
    """Programs look for Go's words; the place is said besides."""
    where = f"line {error.lineno}, column {error.colno}"
    if error.pos >= len(error.doc) or error.msg.startswith("Unterminated"):
        return f"unexpected EOF ({where})"
    if error.msg not in _MISPLACED:
        return str(error)
    return f"invalid character {error.doc[error.pos]!r} {_MISPLACED[error.msg]} ({where})"


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not allowed")


def _bounded(text: str) -> int:
    if len(text) > 20 or not -LARGEST_INTEGER <= int(text) < LARGEST_INTEGER:
        raise ValueError(f"the number {text[:24]} is out of range")
    return int(text)


def _refuse_odd_text(document: object) -> None:
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.keys()
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, str) and any(
            character == "\0" or "\ud800" <= character <= "\udfff" for character in value
        ):
            raise InvalidRequest("invalid JSON: a text holds a NUL or a lone surrogate")
