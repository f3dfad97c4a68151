"""A child on its way to execve, as its parent hears of it."""

import os
import socket
from collections.abc import Callable, Mapping
from typing import cast

from engine.kernel.libc import reason
from engine.runtime import channel, reaper
from engine.runtime.channel import Message
from engine.runtime.payload import cannot_execute


class CannotStart(Exception):
    """The container or exec can't be started; `code` is what a shell would say."""

    def __init__(self, text: str, code: int = 128) -> None:
        super().__init__(text)
        self.code = code


class Starting:
    """Follows a child from its first step to execve through what it says on its socket."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.program = ""  # that it is about to execute
        self.failure: CannotStart | None = None
        self.over = False

    def drain(self, on_message: Callable[[Message], None]) -> None:
        while not self.over:
            try:
                message = channel.receive(self.connection)
            except BlockingIOError:
                return
            if message is None:
                self.end()
            else:
                self.take(message, on_message)

    def take(self, message: Message, on_message: Callable[[Message], None]) -> None:
        state = cast(str, message.body["state"])
        if state == "executing":
            self.program = cast(str, message.body["program"])
        elif state == "refused":
            self.failure = _failure(message.body)
        elif number := reaper.failure(state):
            refused = cannot_execute(self.program, OSError(number, os.strerror(number)))
            self.failure = CannotStart(str(refused), refused.code)
        else:
            on_message(message)

    def end(self) -> None:
        self.over = True
        if self.failure is None and not self.program:
            self.failure = CannotStart("the process was killed before it could start", 137)


def _failure(body: Mapping[str, object]) -> CannotStart:
    text, code = cast(str, body["text"]), cast(int, body["code"])
    if "result" in body:
        number = -cast(int, body["result"])
        text = f"{text}: {reason(OSError(number, os.strerror(number)))}"
        code = cast("Mapping[str, int]", body["codes"]).get(str(number), code)
    return CannotStart(text, code)
