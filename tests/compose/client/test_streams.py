from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.client.errors import BadAnswer, ClientError
from compose.client.streams import Output, Source, unframe

OUTPUTS = st.lists(
    st.builds(Output, st.sampled_from([Source.STDOUT, Source.STDERR]), st.binary(max_size=50))
)


async def blocks(parts: Sequence[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def framed(output: Output) -> bytes:
    return struct.pack(">B3xI", output.source, len(output.text)) + output.text


async def collect(parts: Sequence[bytes]) -> list[Output]:
    return [output async for output in unframe(blocks(parts))]


@given(OUTPUTS, st.integers(1, 20))
async def test_frames_survive_any_cut(written: list[Output], size: int) -> None:
    stream = b"".join(framed(output) for output in written)
    parts = [stream[start : start + size] for start in range(0, len(stream), size)]
    assert await collect(parts) == written


async def test_an_error_inside_of_a_stream_is_raised() -> None:
    with pytest.raises(ClientError, match="the engine broke off: no space left"):
        await collect([framed(Output(Source.ENGINE, b"no space left"))])


async def test_what_is_no_frame_is_refused() -> None:
    with pytest.raises(BadAnswer, match="unknown kind 104"):
        await collect([b"hello world"])
