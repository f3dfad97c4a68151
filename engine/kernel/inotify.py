"""inotify(7): learn of changes in a folder without polling."""

import ctypes
import os
import struct

from engine.kernel.libc import check, function

IN_MODIFY = 0x2
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_IGNORED = 0x8000
IN_ONLYDIR = 0x1000000
# The watch descriptor of an event that says: some were lost.
OVERFLOW = -1

_init = function("inotify_init1", ctypes.c_int)
_add_watch = function("inotify_add_watch", ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
_rm_watch = function("inotify_rm_watch", ctypes.c_int, ctypes.c_int)
_EVENT = struct.Struct("iIII")


def inotify_init() -> int:
    """A new instance's descriptor; reads don't block."""
    return check(_init(os.O_CLOEXEC | os.O_NONBLOCK), "inotify_init1")


def add_watch(descriptor: int, path: str, mask: int) -> int:
    """The watch descriptor; the same one for the same inode."""
    return check(_add_watch(descriptor, os.fsencode(path), mask), "inotify_add_watch", path)


def remove_watch(descriptor: int, watch: int) -> None:
    check(_rm_watch(descriptor, watch), "inotify_rm_watch", str(watch))


def read_events(descriptor: int) -> list[tuple[int, int]]:
    """(watch descriptor, mask) of what is there now."""
    try:
        data = os.read(descriptor, 65536)
    except BlockingIOError:
        return []
    found = []
    offset = 0
    while offset < len(data):
        watch, mask, _, length = _EVENT.unpack_from(data, offset)
        found.append((watch, mask))
        offset += _EVENT.size + length
    return found
