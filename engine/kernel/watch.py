"""A descriptor that becomes readable when one file of a kernel file system changes.

Lean, for the shim; folders and names are `inotify`'s affair.
"""

import ctypes
import os

from engine.kernel.libc import check, function

_IN_MODIFY = 0x2

_inotify_init1 = function("inotify_init1", ctypes.c_int)
_inotify_add_watch = function("inotify_add_watch", ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)


def watch_file(path: str) -> int:
    """An inotify descriptor, close-on-exec and non-blocking, for modifications of `path`."""
    flags = os.O_CLOEXEC | os.O_NONBLOCK  # IN_CLOEXEC and IN_NONBLOCK are the same bits
    descriptor = check(_inotify_init1(flags), "inotify_init1")
    try:
        added = _inotify_add_watch(descriptor, os.fsencode(path), _IN_MODIFY)
        check(added, "inotify_add_watch", path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
