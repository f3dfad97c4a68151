import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.containers.streams import DetachKeys, MessageStreams, ProcessStreams, parse_detach_keys
from engine.errors import InvalidRequest


def test_detach_keys_are_parsed() -> None:
    assert parse_detach_keys("") == b"\x10\x11"
    assert parse_detach_keys("a,ctrl-[,ctrl-_") == b"a\x1b\x1f"
    for bad in ("ctrl-", "ab", "ctrl-é", ","):
        with pytest.raises(InvalidRequest):
            parse_detach_keys(bad)


@given(st.lists(st.binary(max_size=4)), st.lists(st.integers(0, 3), max_size=4))
def test_detach_keys_are_found_however_they_are_cut(pieces: list[bytes], cuts: list[int]) -> None:
    keys = b"\x10\x11"
    typed = b"".join(pieces).replace(keys, b"")
    scanner, passed = DetachKeys(keys), b""
    for byte in typed:
        through, seen = scanner.feed(bytes([byte]))
        assert not seen
        passed += through
    passed += scanner.feed(b"\x10")[0]
    through, seen = scanner.feed(b"\x11rest")
    assert seen or typed.endswith(b"\x10")
    assert passed + through == typed


async def test_output_ends_when_the_client_leaves_before_the_process_came() -> None:
    client = ProcessStreams(tty=False)
    reading = asyncio.ensure_future(_all(client))
    await asyncio.sleep(0)
    await client.close()
    assert await reading == []


async def test_output_ends_when_there_will_be_no_process() -> None:
    client = ProcessStreams(tty=False)
    reading = asyncio.ensure_future(_all(client))
    await asyncio.sleep(0)
    client.never_connects()
    assert await reading == []


async def test_a_message_is_framed_as_output() -> None:
    assert await _all(MessageStreams("no", tty=False)) == [b"\1\0\0\0\0\0\0\4no\r\n"]
    assert await _all(MessageStreams("no", tty=True)) == [b"no\r\n"]


async def _all(streams: ProcessStreams | MessageStreams) -> list[bytes]:
    return [piece async for piece in streams]
