"""What a pull, push, load or import tells as it goes: bars on a terminal, else a line a step."""

from __future__ import annotations

import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from typing import TextIO

from compose.client import fields
from compose.client.engine import Engine
from compose.client.errors import ClientError
from compose.client.human import human_size
from compose.client.transport import Query

BAR = 50  # columns, where the terminal has so many
_BESIDE_BAR = 48  # what stands left and right of it, at most


async def follow(
    engine: Engine,
    path: str,
    *,
    query: Query,
    quiet: bool,
    headers: Mapping[str, str] | None = None,
    body: object = None,
    to: TextIO | None = None,
) -> None:
    """A POST that answers with progress, shown on standard output or `to`. Raises ClientError
    where it fails, also when the engine tells that in the middle."""
    screen = Screen(to or sys.stdout, quiet=quiet)
    async with engine.transport.stream(
        "POST", path, query=query, headers=headers, body=body
    ) as answer:
        async for message in objects(answer.objects()):
            screen.show(message)


async def objects(messages: AsyncIterator[object]) -> AsyncIterator[Mapping[str, object]]:
    async for message in messages:
        told = fields.mapping(message, "progress")
        if failure := fields.failure(told):
            raise ClientError(failure)
        yield told


class Screen:
    def __init__(self, stream: TextIO, *, quiet: bool) -> None:
        self._stream = stream
        self._quiet = quiet
        self._live = stream.isatty()
        self._lines: dict[str, int] = {}  # a layer's id -> its line, from above

    def show(self, message: Mapping[str, object]) -> None:
        if self._quiet:
            return
        status, layer = fields.text(message, "status", ""), fields.text(message, "id", "")
        if text := fields.text(message, "stream", ""):
            self._stream.write(text)
            self._lines.clear()  # what comes next of layers stands below it
        elif status:
            self._step(status, layer, fields.child(message, "progressDetail"))
        self._stream.flush()

    def _step(self, status: str, layer: str, detail: Mapping[str, object]) -> None:
        text = f"{layer}: {status}" if layer else status
        columns = shutil.get_terminal_size().columns
        bar = progress_bar(
            fields.number(detail, "current", 0),
            fields.number(detail, "total", 0),
            width=max(5, min(BAR, columns - _BESIDE_BAR)),
        )
        if not self._live or not layer:
            if not bar:  # a log doesn't want to hear of each megabyte
                self._stream.write(f"{text}\n")
                self._lines.clear()
            return
        if layer not in self._lines:
            self._lines[layer] = len(self._lines)
            self._stream.write("\n")
        up = len(self._lines) - self._lines[layer]
        # To the layer's line, clear it, write, and back below the last one.
        line = f"{text} {bar}".rstrip()[: columns - 1]  # a longer one would take two
        self._stream.write(f"\x1b[{up}A\r\x1b[2K{line}\x1b[{up}B\r")


def progress_bar(current: int, total: int, *, width: int) -> str:
    """`[====>    ]  3.1MB/10MB`; empty where nothing is known."""
    if current <= 0:
        return ""
    if total <= 0:
        return human_size(current)
    done = min(width, current * width // total)
    arrow = "=" * done + ">" * (done < width)
    return f"[{arrow:<{width}}]  {human_size(current)}/{human_size(total)}"
