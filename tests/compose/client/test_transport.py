"""What can be wrong at the other end: each is told in words, with what to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from compose.client.address import TcpAddress, UnixAddress
from compose.client.engine import connect
from compose.client.errors import ApiError, BadAnswer, Incompatible, Unreachable
from compose.client.transport import Transport

PING = b"HTTP/1.1 200 OK\r\nApi-Version: 1.51\r\nContent-Length: 2\r\n\r\nOK"


@asynccontextmanager
async def server(path: Path, answer: Callable[[bytes], bytes]) -> AsyncIterator[UnixAddress]:
    """Answers one request a connection with the bytes that `answer` makes of its head."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(head))
        await writer.drain()
        writer.close()

    listening = await asyncio.start_unix_server(serve, path)
    async with listening:
        yield UnixAddress(str(path))


async def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=r"no such socket\n  hint: is it running\?"):
        await connect(UnixAddress(str(tmp_path / "none.sock")))


async def test_nothing_listens() -> None:
    with pytest.raises(Unreachable, match="connection refused"):
        await connect(TcpAddress("127.0.0.1", 1))


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"",
    ],
)
async def test_something_else_answers(tmp_path: Path, answer: bytes) -> None:
    async with server(tmp_path / "s", lambda _: answer) as address:
        with pytest.raises((Incompatible, Unreachable)):
            await connect(address)


async def test_an_engine_that_is_too_old(tmp_path: Path) -> None:
    old = PING.replace(b"1.51", b"1.24")
    async with server(tmp_path / "s", lambda _: old) as address:
        with pytest.raises(Incompatible, match=r"speaks API 1\.24, which is too old"):
            await connect(address)


async def test_a_newer_engine_is_spoken_to_in_our_version(tmp_path: Path) -> None:
    seen: list[bytes] = []

    def answer(head: bytes) -> bytes:
        seen.append(head.split(b" ")[1])
        if b"_ping" in head:
            return PING.replace(b"1.51", b"1.99")
        return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"

    async with server(tmp_path / "s", answer) as address:
        engine = await connect(address)
        assert await engine.containers.list() == ()
    assert seen == [b"/_ping", b"/v1.51/containers/json?all=1"]


async def test_errors_keep_the_engines_words_even_without_json(tmp_path: Path) -> None:
    transport = Transport(UnixAddress(str(tmp_path / "s")), {})
    transport.version = (1, 51)
    reply = b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\ndead"
    async with server(tmp_path / "s", lambda _: reply):
        with pytest.raises(ApiError, match="dead") as caught:
            await transport.json("GET", "/info")
    assert caught.value.status == 500


async def test_an_answer_that_breaks_off_is_no_answer(tmp_path: Path) -> None:
    transport = Transport(UnixAddress(str(tmp_path / "s")), {})
    transport.version = (1, 51)
    reply = b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"Id":'
    async with server(tmp_path / "s", lambda _: reply):
        with pytest.raises(Unreachable, match="lost the connection"):
            await transport.json("GET", "/info")


async def test_a_field_of_the_wrong_type_is_named(tmp_path: Path) -> None:
    def answer(head: bytes) -> bytes:
        if b"_ping" in head:
            return PING
        return b'HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n[{"Id":1,"State":""}]'[:-1] + b" "

    async with server(tmp_path / "s", answer) as address:
        engine = await connect(address)
        with pytest.raises(BadAnswer):
            await engine.containers.list()


async def test_a_name_cannot_leave_its_place_in_the_path(tmp_path: Path) -> None:
    seen: list[bytes] = []

    def answer(head: bytes) -> bytes:
        seen.append(head.split(b" ")[1])
        if b"_ping" in head:
            return PING
        return b'HTTP/1.1 404 No\r\nContent-Length: 16\r\n\r\n{"message":"no"}'

    async with server(tmp_path / "s", answer) as address:
        engine = await connect(address)
        with pytest.raises(ApiError):
            await engine.containers.inspect("x?force=1#\r\nEvil: 1")
    assert seen[1] == b"/v1.51/containers/x%3Fforce%3D1%23%0D%0AEvil:%201/json"
