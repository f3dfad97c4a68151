"""How daemon, spawner, shim and init talk: one JSON document a message on a SEQPACKET socket,
descriptors beside it. What may be long (a launch request) travels in a sealed memory file."""

import array
import fcntl
import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

_LONGEST = 65536  # bytes of a message
_MOST_DESCRIPTORS = 16
# What is read at once, for recvmsg.
MOST = (_LONGEST, socket.CMSG_SPACE(_MOST_DESCRIPTORS * 4), socket.MSG_CMSG_CLOEXEC)
# A message of the daemon with this says what is to be run should it crash; None: it ends.
AFTER_CRASH = "after_crash"
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


# Made once: json.dumps makes them anew each time, and each shim would pay for it with pages.
_write = json.JSONEncoder(separators=(",", ":")).encode
_read = json.JSONDecoder().decode


# What recvmsg gives beside a message.
Beside = Sequence[tuple[int, int, bytes]]


class Message(NamedTuple):
    body: dict[str, object]
    descriptors: tuple[int, ...]  # the receiver's to close


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def encode(body: Mapping[str, object]) -> bytes:
    return _write(body).encode()


def decode(text: bytes) -> dict[str, object]:
    """Raises ValueError."""
    return cast("dict[str, object]", _read(text.decode()))


def send(
    connection: socket.socket, body: dict[str, object], descriptors: tuple[int, ...] = ()
) -> None:
    send_encoded(connection, encode(body), descriptors)


def send_encoded(connection: socket.socket, body: bytes, descriptors: tuple[int, ...] = ()) -> None:
    """Raises BlockingIOError if a non-blocking connection is full, BrokenPipeError if closed."""
    beside = []
    if descriptors:
        beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
    connection.sendmsg([body], beside, socket.MSG_NOSIGNAL)


def receive(connection: socket.socket) -> Message | None:
    """The next message, None at the end (also when the other side died)."""
    while True:
        try:
            body, beside, _, _ = connection.recvmsg(*MOST)
            break
        except ConnectionResetError:
            # The other side went without having read all of ours. That is told once, before
            # what it had sent; its last words and the end follow.
            continue
    return message(body, beside) if body else None


def message(body: bytes, beside: Beside) -> Message:
    """Of what recvmsg gave. What the walker says of a call has its result before it: a zero byte,
    then the word."""
    if body[0]:
        return Message(decode(body), tuple(descriptors(beside)))
    document = decode(body[9:])
    document["result"] = int.from_bytes(body[1:9], sys.byteorder, signed=True)
    return Message(document, tuple(descriptors(beside)))


def descriptors(beside: Beside) -> "array.array[int]":
    received = array.array("i")
    for level, kind, content in beside:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            received.frombytes(content[: len(content) - len(content) % 4])
    return received


def write_document(content: bytes, *, name: str = "document") -> int:
    """A sealed memory file with `content`; the caller closes it. `name` is what /proc shows."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        seal(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def seal(document: int) -> None:
    """From now on nobody changes it."""
    fcntl.fcntl(document, fcntl.F_ADD_SEALS, _SEALS)


def keep_program(content: bytes, name: str, descriptor: int) -> None:
    """Put an executable memory file, sealed, behind this descriptor."""
    document = write_document(content, name=name)
    os.fchmod(document, 0o555)  # as any user of a container
    if document != descriptor:
        os.dup2(document, descriptor, inheritable=False)
        os.close(document)
