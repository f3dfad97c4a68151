"""Tars from and to files, standard input and output."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO

from compose.errors import UsageError

BLOCK = 1 << 18


@contextlib.contextmanager
def opened(directory: Path, path: str) -> Iterator[IO[bytes]]:
    """A file to read; "-" is standard input, which must not be a terminal."""
    if path == "-":
        if sys.stdin.isatty():
            raise UsageError("cannot read a tar from a terminal\n  hint: name a file, or use <")
        yield sys.stdin.buffer
        return
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open(directory / path, "rb"))
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}") from None
        yield file


def write_text(directory: Path, path: str, text: str) -> None:
    try:
        (directory / path).write_text(text)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None


async def read_blocks(file: IO[bytes]) -> AsyncIterator[bytes]:
    # In a thread: a pipe's other end may take its time.
    while block := await asyncio.to_thread(file.read, BLOCK):
        yield block


async def write_stream(chunks: AsyncIterator[bytes], directory: Path, path: str) -> None:
    """To a file that appears when it is whole; "": to standard output, which must not be a
    terminal."""
    if not path:
        if sys.stdout.isatty():
            raise UsageError("cannot write a tar to a terminal\n  hint: use -o FILE, or >")
        async for block in chunks:
            sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()
        return
    target = directory / path
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with open(part, "xb") as file:
            async for block in chunks:
                file.write(block)
        part.replace(target)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)
