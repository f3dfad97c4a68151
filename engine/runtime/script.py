"""Scripts for the walker (`walker`): the last steps before a payload, as system calls in a list.

Each step that can be one writes its calls (`Step.write`). What a call needs of an earlier one, as
a descriptor, goes from memory to memory: the result of the one into an argument of the other.
"""

import os
import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from engine.kernel import privileges
from engine.kernel.libc import AT_FDCWD
from engine.runtime import channel, walker
from engine.runtime.cgroup_tree import Cgroup
from engine.runtime.syscalls import AARCH64, X86_64
from engine.runtime.users import Identity

_RECORD = struct.Struct("<9Q")
_CALL = struct.Struct("<Q6q2Q")  # the same of a call, whose arguments may be below zero
_WORD = 8
_PADDING = tuple([bytes(-size % _WORD) for size in range(_WORD)])
_ALL_BITS = (1 << 64) - 1
_EXPECT = _ALL_BITS
_MOST_RECORDS = 3000  # so that they, and what they point to, share a page of the kernel's tables
_ROOM = _MOST_RECORDS * _RECORD.size // 4096 * 4096

RECORD = _RECORD.size

# Where a walker has its descriptors: a number that is received or opened is the lowest that is
# free, and so is known, too, once all but these are closed.
LOWEST = 3
SUPERVISOR, ORDERS, NETWORK, REAPER, CONTAINER, SCRIPT = PLACES = (100, 101, 102, 103, 104, 105)
SPARE, ROOT, NULL, EMPTY, MADE, TREES, LAYERS = 106, 107, 108, 109, 110, 120, 300
_NOTHING = (0,) * 6
# What gives a descriptor; and how many of them are left open before they are closed together.
_OPENING = frozenset(("openat", "openat2", "open_tree", "fsopen", "fsmount", "ioctl"))
_MOST_OPEN = 48

# Bytes into struct stat of this machine (st_dev is at the beginning); and all of it.
STAT_INODE = 8
STAT_MODE, STAT_DEVICE = {"aarch64": (16, 32)}.get(os.uname().machine, (24, 40))
STAT_SIZE = 144

_NUMBERS = {"x86_64": X86_64, "aarch64": AARCH64}.get(os.uname().machine, {})


class Unscriptable(Exception):
    """These steps are for the interpreter; `str()` says why."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the supervisor is told where a call failed: "text: why", if that isn't all of it."""

    text: str
    code: int = 128  # what a shell would say
    codes: tuple[tuple[int, int], ...] = ()  # (errno, another)
    is_whole: bool = False

    def body(self) -> dict[str, object]:
        told: dict[str, object] = {"state": "refused", "text": self.text, "code": self.code}
        if not self.is_whole:
            told["codes"] = {str(number): code for number, code in self.codes}
        return told


@dataclass(frozen=True, slots=True)
class Known:
    """What steps of a script find done, or there."""

    identity: Identity
    cgroup: Cgroup | None = None  # for one who has still to mount it
    root: int = AT_FDCWD  # of the container
    nulls: tuple[int, ...] = (0, 1, 2)  # the host's null device, so far
    pipes: tuple[int, ...] = ()  # of 0, 1 and 2: made for this process


class Call(NamedTuple):
    name: str
    arguments: tuple[int, ...] = ()
    otherwise: int = 0  # the record to go on with if it fails; 0: the next
    # Where the result goes: an address, or (how many records further on, which argument of that).
    into: int | tuple[int, int] = 0


class Expect(NamedTuple):
    """That these bits of the word at an address are those of `value`."""

    address: int
    value: int
    otherwise: int
    mask: int = _ALL_BITS
    into: int = 0  # an address where these bits go


class Script:
    """Addresses are of the walker's memory, or of `at` in ours."""

    def __init__(self, supervisor: int, *, at: int = walker.ADDRESS, records: int = _ROOM) -> None:
        self.supervisor = supervisor
        self._at = at
        self._data_at = at + records  # bytes of these; then comes what they point to
        self._records = bytearray()
        self._data = bytearray()
        self._refusals: dict[tuple[Refusal, int], int] = {}
        self._texts: dict[bytes, int] = {}
        self._constants: dict[tuple[int, ...], int] = {}
        self.root = self.room(STAT_SIZE)  # what is known of the container's, once it is there
        self.kinds: dict[int, int] = {}  # of the trees that are taken: S_IFDIR and its like
        self.has_empty = False  # a directory that hides others
        self.untold = 0  # records that end the process where nobody is to be told why
        self.scratch = self.room(256)
        self._result = self.scratch  # of a call of which only that is wanted
        self._never = self.words(0)
        self._opened = 0  # below PLACES, at most

    # --- memory ---------------------------------------------------------------------------

    def text(self, content: bytes) -> int:
        """Where it is, to be read; a NUL follows."""
        address = self._texts.get(content)
        if address is None:
            address = self._texts[content] = self._data_at + len(self._data)
            self._data += content
            self._data.append(0)
        return address

    def constants(self, *values: int) -> int:
        """Words that nobody writes to."""
        address = self._constants.get(values)
        if address is None:
            address = self._constants[values] = self.words(*values)
        return address

    def words(self, *values: int) -> int:
        return self._aligned(struct.pack(f"<{len(values)}Q", *[one & _ALL_BITS for one in values]))

    def room(self, size: int) -> int:
        return self._aligned(bytes(size))

    def _aligned(self, content: bytes) -> int:
        self._data += _PADDING[len(self._data) % _WORD]
        address = self._data_at + len(self._data)
        self._data += content
        return address

    def vector(self, texts: Iterable[bytes]) -> int:
        """As execve wants arguments and environment."""
        return self.words(*[self.text(text) for text in texts], 0)

    # --- records --------------------------------------------------------------------------

    @property
    def here(self) -> int:
        """The record that is written next."""
        return self._at + len(self._records)

    def after(self, count: int) -> int:
        return self.here + count * RECORD

    def call(
        self, name: str, *arguments: int, into: int | tuple[int, int] = 0, otherwise: int = 0
    ) -> None:
        self._call(name, arguments, otherwise, into)

    def add(self, one: Call | Expect) -> None:
        if isinstance(one, Call):
            self._call(one.name, one.arguments, one.otherwise, one.into)
        else:
            self._records += _record(one, self.here)

    def _call(
        self, name: str, arguments: tuple[int, ...], otherwise: int, into: int | tuple[int, int]
    ) -> None:
        self._records += _call(name, arguments, otherwise, into, self._at + len(self._records))
        self._opened += name in _OPENING

    def tidy(self) -> None:
        """Nothing but PLACES is needed of what was opened so far: where it is much, it is closed.
        What is opened would be given a number of theirs else, and could not be moved there."""
        if self._opened > _MOST_OPEN:
            self.call("close_range", LOWEST, SUPERVISOR - 1, 0)
            self._opened = 0

    def must(
        self,
        refusal: Refusal,
        name: str,
        *arguments: int,
        into: int | tuple[int, int] = 0,
        otherwise: int = 0,
    ) -> None:
        """`otherwise`: what is there to try before the refusal."""
        into = into or self._result
        slot = _slot(into, self.here) if isinstance(into, tuple) else into
        self._call(name, arguments, otherwise or self.refusal(refusal, slot), slot)

    def expect(self, address: int, value: int, *, otherwise: int, mask: int = _ALL_BITS) -> None:
        self.add(Expect(address, value, otherwise, mask))

    def unlike(self, address: int, value: int, *, otherwise: int, mask: int = _ALL_BITS) -> None:
        """That these bits are not those."""
        self.expect(address, value, mask=mask, otherwise=self.after(2))
        self.go(otherwise)

    def copy(self, address: int, into: int | tuple[int, int], *, mask: int = _ALL_BITS) -> None:
        """These bits of the word there, to another address or into an argument."""
        slot = _slot(into, self.here) if isinstance(into, tuple) else into
        self.add(Expect(address, 0, self.after(1), mask, slot))

    def go(self, to: int) -> None:
        """To another record."""
        self.add(Expect(self._never, 1, to))

    def begin(self, refusal: Refusal) -> None:
        """As a process of its own, into which nobody looks, and that shows no other program's
        name. Modes are given in full until the payload's own umask is set."""
        self.must(refusal, "prctl", privileges.PR_SET_DUMPABLE, 0)
        self.must(refusal, "prctl", privileges.PR_SET_NAME, self.text(walker.NAME[:15].encode()))
        self.must(refusal, "setsid")
        self.call("umask", 0)

    def say(self, body: Mapping[str, object]) -> None:
        text = channel.encode(body)
        self.call("write", self.supervisor, self.text(text), len(text), otherwise=self.end(1))

    def bring(
        self, body: Mapping[str, object], *descriptors: int, slot: int = 0
    ) -> tuple[int, int]:
        """A struct msghdr with a message (see `message`), and where the first descriptor stands in
        it, or is put by then."""
        size = socket.CMSG_LEN(4 * len(descriptors))
        room = socket.CMSG_SPACE(4 * len(descriptors))
        parts, count = self.message(body, slot)
        if not descriptors:
            return self.words(0, 0, parts, count, 0, 0, 0), 0
        head = struct.pack("<QII", size, socket.SOL_SOCKET, socket.SCM_RIGHTS)
        listed = struct.pack(f"<{len(descriptors)}i", *descriptors)
        control = self._aligned((head + listed).ljust(room, b"\0"))
        return self.words(0, 0, parts, count, control, room, 0), control + len(head)

    def end(self, code: int) -> int:
        """Records that end the process."""
        return self.aside(Call("exit_group", (code,)))

    def aside(self, *records: Call | Expect, then: int = 0) -> int:
        """Records beside the way, after which `then` is gone on with; without one, the last must
        not return."""
        at = self.room((len(records) + bool(then)) * RECORD)
        self.fill(at, *records, then=then)
        return at

    def fill(self, at: int, *records: Call | Expect, then: int = 0) -> None:
        """`aside`, in room that was made for it."""
        if then:
            records = (*records, Expect(self._never, 1, then))
        for number, one in enumerate(records):
            offset = at - self._data_at + number * RECORD
            self._data[offset : offset + RECORD] = _record(one, at + number * RECORD)

    def refusal(self, refusal: Refusal, slot: int = 0) -> int:
        """Records that tell it, with the result in `slot`, and end the process."""
        if self.untold:
            return self.untold
        key = (refusal, 0 if refusal.is_whole else slot)
        if (known := self._refusals.get(key)) is not None:
            return known
        parts, count = self.message(refusal.body(), 0 if refusal.is_whole else slot)
        say = Call("writev", (self.supervisor, parts, count))
        made = self.aside(say, Call("exit_group", (1,)))
        self._refusals[key] = made
        return made

    def message(self, body: Mapping[str, object], slot: int) -> tuple[int, int]:
        """An iovec of it, that brings the result that stands in `slot` by then (0: none), and how
        many parts that has; see `channel.message`."""
        text = channel.encode(body)
        parts = [self.text(text), len(text)]
        if slot:
            parts[:0] = self.text(b""), 1, slot, _WORD
        return self.words(*parts), len(parts) // 2

    # --- the whole ------------------------------------------------------------------------

    def written(self) -> "Written":
        """Raises Unscriptable."""
        room = self._data_at - self._at
        if len(self._records) > room:
            raise Unscriptable("they are too many")
        return Written(room, bytes(self._records), bytes(self._data))


class Written(NamedTuple):
    room: int  # bytes from the first record to what they point to
    records: bytes
    data: bytes

    def document(self) -> int:
        """A memory file of it, the caller's to close."""
        document = os.memfd_create("script", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.pwrite(document, self.records, 0)
        os.pwrite(document, self.data, self.room)
        channel.seal(document)  # a walker's own memory is a copy
        return document


def _record(one: Call | Expect, at: int) -> bytes:
    if isinstance(one, Call):
        return _call(one.name, one.arguments, one.otherwise, one.into, at)
    value, otherwise = one.value & _ALL_BITS, one.otherwise or at + RECORD
    return _RECORD.pack(_EXPECT, one.address, one.mask, value, 0, 0, 0, one.into, otherwise)


def _call(
    name: str, arguments: tuple[int, ...], otherwise: int, into: int | tuple[int, int], at: int
) -> bytes:
    if isinstance(into, tuple):
        into = _slot(into, at)
    given = arguments + _NOTHING[len(arguments) :]
    return _CALL.pack(_NUMBERS[name], *given, into, otherwise or at + RECORD)


def _slot(further: tuple[int, int], at: int) -> int:
    ahead, argument = further
    return at + ahead * RECORD + (1 + argument) * _WORD
