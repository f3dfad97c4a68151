"""What the daemon writes for a new process, in one sealed memory file: first the shim's part, then
the steps of the process itself.

Steps are made where it costs least, in the daemon. A shim, which lives as long as its container,
hands them on unread; the process reads them in memory that goes with execve.
"""

import marshal
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter

from engine.runtime import channel, files, hiding, init, mounts, nodes, overlays, payload, steps
from engine.runtime.steps import Step

_LENGTH = struct.Struct("=I")


def _kinds() -> dict[str, type[Step]]:
    found: dict[str, type[Step]] = {}
    for module in (steps, mounts, overlays, files, nodes, hiding, payload, init):
        for name, kind in vars(module).items():
            if isinstance(kind, type) and issubclass(kind, Step) and kind is not Step:
                found[name] = kind
    return found


def _getter(kind: type[Step]) -> Callable[[Step], tuple[object, ...]]:
    fields = tuple(getattr(kind, "__dataclass_fields__", ()))
    if len(fields) > 1:
        return attrgetter(*fields)
    return lambda step: tuple([getattr(step, field) for field in fields])


_KINDS = _kinds()
_FIELDS = {kind: _getter(kind) for kind in _KINDS.values()}


def write(shims_part: Mapping[str, object], walked: Sequence[Step]) -> int:
    """The descriptor of a new memory file; the caller closes it."""
    first = channel.encode(shims_part)
    # Daemon and shims run on one interpreter, for which marshal is made.
    second = marshal.dumps([_row(step) for step in walked])
    return channel.write_document(_LENGTH.pack(len(first)) + first + second)


def read_shims_part(document: int) -> dict[str, object]:
    (length,) = _LENGTH.unpack(os.pread(document, _LENGTH.size, 0))
    return channel.decode(os.pread(document, length, _LENGTH.size))


def read_steps(document: int) -> list[Step]:
    (length,) = _LENGTH.unpack(os.pread(document, _LENGTH.size, 0))
    begin = _LENGTH.size + length
    rows = marshal.loads(os.pread(document, os.fstat(document).st_size - begin, begin))
    return [_KINDS[name](*fields) for name, fields in rows]


def _row(step: Step) -> tuple[str, tuple[object, ...]]:
    kind = type(step)
    return kind.__name__, _FIELDS[kind](step)
