"""Netlink requests over a socket. The kernel answers within send(): blocking calls, made in a
thread wherever they may wait for the RTNL lock."""

import contextlib
import os
import socket
from collections.abc import Sequence

from engine.networks.netlink import DONE, ERROR, ROOT_MATCH, Message, Reply, error_of, replies

ROUTE = 0
NETFILTER = 12
SOL_NETLINK = 270
NETLINK_ADD_MEMBERSHIP = 1
NETLINK_CAP_ACK = 10
NETLINK_EXT_ACK = 11
SO_SNDBUFFORCE = 32


class NetlinkError(OSError):
    """`str()` names what could not be done, and why the kernel refused."""

    def __init__(self, purpose: str, number: int, words: str) -> None:
        super().__init__(number, os.strerror(number))
        self.purpose = purpose
        self.words = words

    def __str__(self) -> str:
        reason = f"{self.strerror} ({self.words})" if self.words else f"{self.strerror}"
        return f"cannot {self.purpose}: {reason}"


class NetlinkSocket:
    """Not for two threads at once."""

    def __init__(self, handle: socket.socket) -> None:
        self.handle = handle
        self.sequence = 0
        handle.setblocking(True)
        for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK):
            handle.setsockopt(SOL_NETLINK, option, 1)
        # A ruleset travels in one datagram, larger than the usual send buffer.
        with contextlib.suppress(PermissionError):
            handle.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 16 << 20)

    @classmethod
    def open(cls, protocol: int) -> "NetlinkSocket":
        """A socket in the network namespace of the calling thread."""
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        handle = socket.socket(socket.AF_NETLINK, kind, protocol)
        handle.bind((0, 0))
        return cls(handle)

    @classmethod
    def adopt(cls, descriptor: int) -> "NetlinkSocket":
        """Takes over `descriptor`, made by someone in another namespace."""
        return cls(socket.socket(fileno=descriptor))

    def close(self) -> None:
        self.handle.close()

    def __enter__(self) -> "NetlinkSocket":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def request(self, *messages: Message) -> list[Reply]:
        """Sends all in one datagram; answers other than acknowledgements come back in order.
        Raises NetlinkError of the first that failed (the others have been tried)."""
        return self._exchange(messages, acknowledged=True)

    def batch(self, messages: Sequence[Message]) -> None:
        """One nftables transaction, framed by BATCH_BEGIN and BATCH_END: all or nothing."""
        self._exchange(messages, acknowledged=False)

    def _exchange(self, messages: Sequence[Message], *, acknowledged: bool) -> list[Reply]:
        first = self.sequence + 1
        self.sequence += len(messages)
        self.handle.send(
            b"".join(
                # What fails is told of in any case: one acknowledgement says that all is over.
                message.pack(
                    first + index,
                    acknowledge=acknowledged and first + index == self.sequence,
                )
                for index, message in enumerate(messages)
            )
        )
        answers: list[Reply] = []
        failure: NetlinkError | None = None
        for reply in self._drain(self.sequence if acknowledged else 0):
            if not first <= reply.sequence <= self.sequence:
                continue
            if reply.type != ERROR:
                answers.append(reply)
                continue
            number, words = error_of(reply)
            if number and failure is None:
                purpose = messages[reply.sequence - first].purpose
                failure = NetlinkError(purpose or "change the network", number, words)
        if failure is not None:
            raise failure
        return answers

    def _drain(self, last: int) -> list[Reply]:
        """What lies in the queue, up to the verdict on message `last`: the kernel has answered
        before send() returned."""
        gathered: list[Reply] = []
        while True:
            try:
                datagram = self.handle.recv(1 << 16, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return gathered
            for reply in replies(datagram):
                gathered.append(reply)
                if reply.type == ERROR and reply.sequence == last:
                    return gathered

    def dump(self, message: Message) -> list[Reply]:
        """All objects of one kind."""
        self.sequence += 1
        packed = Message(message.type, message.flags | ROOT_MATCH, message.body, message.purpose)
        self.handle.send(packed.pack(self.sequence, acknowledge=False))
        gathered: list[Reply] = []
        while True:
            for reply in replies(self.handle.recv(1 << 18)):
                if reply.sequence != self.sequence:
                    continue
                if reply.type == DONE:
                    return gathered
                if reply.type == ERROR:
                    number, words = error_of(reply)
                    raise NetlinkError(message.purpose, number, words)
                gathered.append(reply)
