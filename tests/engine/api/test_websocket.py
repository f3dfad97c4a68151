"""Attach over a WebSocket, by an ordinary client of the protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, UnixConnector, WSServerHandshakeError
from hypothesis import given
from hypothesis import strategies as st

from engine.api.websocket import Unframed
from engine.containers.streams import stdout_frame
from tests.host import Daemon

Make = Callable[..., str]


@given(
    texts=st.lists(st.binary(max_size=20)), cuts=st.lists(st.integers(1, 9), min_size=1, max_size=9)
)
def test_payloads_come_out_however_frames_are_cut(texts: list[bytes], cuts: list[int]) -> None:
    framed = b"".join(stdout_frame(text, tty=False) for text in texts)
    unframed, found = Unframed(), b""
    while framed:
        for cut in cuts:
            found += unframed.feed(framed[:cut])
            framed = framed[cut:]
    assert found == b"".join(texts)


@pytest.fixture
async def session(engine: Daemon) -> AsyncIterator[ClientSession]:
    async with ClientSession("http://engine", connector=UnixConnector(engine.socket)) as opened:
        yield opened


QUERY = "?stream=1&stdin=1&stdout=1&stderr=1"


async def until(socket: ClientWebSocketResponse, text: bytes) -> bytes:
    gathered = b""
    while text not in gathered:
        gathered += await socket.receive_bytes(timeout=20)
    return gathered


async def rest(socket: ClientWebSocketResponse) -> bytes:
    return b"".join([message.data async for message in socket])


@pytest.mark.kernel
async def test_input_and_both_outputs_are_carried_raw(
    session: ClientSession, engine: Daemon, make: Make
) -> None:
    name = make("sh", "-c", "read x; echo out $x; echo err >&2; exit 3", OpenStdin=True, Tty=False)
    async with session.ws_connect(f"/containers/{name}/attach/ws{QUERY}") as socket:
        engine.call("POST", f"/containers/{name}/start")
        await socket.send_bytes(b"wo")
        await socket.send_str("rd\n")
        assert sorted((await rest(socket)).splitlines()) == [b"err", b"out word"]
        assert socket.close_code == 1000


@pytest.mark.kernel
async def test_a_terminal_is_left_by_keys_and_by_closing(
    session: ClientSession, engine: Daemon, make: Make
) -> None:
    name = make("cat", OpenStdin=True, Tty=True)
    engine.call("POST", f"/containers/{name}/start")
    async with session.ws_connect(f"/containers/{name}/attach/ws{QUERY}&detachKeys=q") as socket:
        await socket.send_bytes(b"abc\n")
        await until(socket, b"abc\r\nabc")
        await socket.send_bytes(b"q")
        async with asyncio.timeout(20):
            await rest(socket)
    async with session.ws_connect(f"/containers/{name}/attach/ws{QUERY}&logs=1") as socket:
        assert b"abc" in await until(socket, b"abc")
    _, shown = engine.call("GET", f"/containers/{name}/json")
    assert isinstance(shown, dict)
    assert shown["State"]["Running"]


@pytest.mark.kernel
async def test_what_is_no_handshake_or_no_container_is_ordinary_http(
    session: ClientSession, engine: Daemon, make: Make
) -> None:
    with pytest.raises(WSServerHandshakeError) as refused:
        await session.ws_connect(f"/containers/nosuch/attach/ws{QUERY}")
    assert refused.value.status == 404
    status, answer = engine.call("GET", f"/containers/{make('true')}/attach/ws{QUERY}")
    assert isinstance(answer, dict)
    assert (status, answer["message"][:13]) == (400, "cannot attach")
