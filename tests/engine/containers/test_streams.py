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


@given(st.lists(st.text("ab\x01", max_size=6).map(str.encode), max_size=8))
def test_detach_keys_are_found_however_they_are_cut(pieces: list[bytes]) -> None:
    typed = b"".join(pieces)
    whole, found = DetachKeys(b"\x01ab").feed(typed)
    scanner, passed, seen = DetachKeys(b"\x01ab"), b"", False
    for piece in pieces:
        through, seen = scanner.feed(piece)
        passed += through
        if seen:
            break
    assert (passed, seen) == (whole, found)
    rest = typed.removeprefix(whole)
    assert rest.startswith(b"\x01ab") if found else b"\x01ab".startswith(rest)


def test_a_key_that_breaks_the_sequence_begins_no_new_one() -> None:
    assert DetachKeys(b"\x01ab").feed(b"x\x01\x01ab") == (b"x\x01\x01ab", False)
    assert DetachKeys(b"\x01ab").feed(b"x\x01ay\x01aby") == (b"x\x01ay", True)


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
