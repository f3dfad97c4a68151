"""A child on its way to execve, as its parent hears of it."""

import socket
from collections.abc import Callable
from typing import cast

from engine.runtime import channel
from engine.runtime.channel import Message


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
        self.executing = False
        self.failure: CannotStart | None = None
        self.over = False

    def drain(self, on_message: Callable[[Message], None]) -> None:
        while not self.over:
            try:
                message = channel.receive(self.connection)
            except BlockingIOError:
                return
            if message is None:
                self.over = True
            elif message.body["state"] == "executing":
                self.executing = True
            elif message.body["state"] == "refused":
                text, code = cast(str, message.body["text"]), cast(int, message.body["code"])
                self.failure = CannotStart(text, code)
            else:
                on_message(message)
        if self.failure is None and not self.executing:
            self.failure = CannotStart("the process was killed before it could start", 137)
