"""A program on a terminal of its own, as a person sits at it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence


class Terminal:
    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.ours, theirs = pty.openpty()
        self._set_size(24, 80)
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env=dict(environment),
        )  # fmt: skip
        os.close(theirs)
        self.text = ""

    def read_until(self, pattern: str, limit: float = 40) -> str:
        end = time.monotonic() + limit
        while not re.search(pattern, self.text):
            ready, _, _ = select.select([self.ours], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{pattern!r} did not come:\n{self.text}"
            try:
                self.text += os.read(self.ours, 65536).decode()
            except OSError as error:
                raise AssertionError(f"ended before {pattern!r}:\n{self.text}") from error
        return self.text

    def type(self, text: str) -> None:
        os.write(self.ours, text.encode())

    def resize(self, lines: int, columns: int) -> None:
        self._set_size(lines, columns)
        # It has no controlling terminal, through which the kernel would tell it.
        self.process.send_signal(signal.SIGWINCH)

    def _set_size(self, lines: int, columns: int) -> None:
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def end(self) -> int:
        """The exit code; what is left of the output goes to `text`."""
        while True:
            try:
                block = os.read(self.ours, 65536)
            except OSError:
                break
            if not block:
                break
            self.text += block.decode()
        os.close(self.ours)
        return self.process.wait(30)
