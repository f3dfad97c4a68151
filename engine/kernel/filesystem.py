"""Calls about whole file systems that may take long: they let other threads run meanwhile."""

import ctypes
import os

from engine.kernel.libc import KernelError

_library = ctypes.CDLL(None, use_errno=True)
_syncfs = _library.syncfs
_syncfs.argtypes = [ctypes.c_int]
_syncfs.restype = ctypes.c_int


def syncfs(descriptor: int) -> None:
    """Make all that was written to the file system of `descriptor` durable (syncfs(2))."""
    if _syncfs(descriptor) < 0:
        raise KernelError("syncfs", os.readlink(f"/proc/self/fd/{descriptor}"), ctypes.get_errno())
