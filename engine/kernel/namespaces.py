"""Namespaces: their flags, entering them, and the names of the UTS one."""

import ctypes
import os

from engine.kernel.libc import check, function

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

_setns = function("setns", ctypes.c_int, ctypes.c_int)
_unshare = function("unshare", ctypes.c_int)
_sethostname = function("sethostname", ctypes.c_char_p, ctypes.c_size_t)
_setdomainname = function("setdomainname", ctypes.c_char_p, ctypes.c_size_t)


def setns(descriptor: int, kinds: int, *, path: str = "") -> None:
    """Enter a namespace, or with the pidfd of a process all its namespaces of `kinds`."""
    check(_setns(descriptor, kinds), "setns", path)


def unshare(kinds: int) -> None:
    check(_unshare(kinds), "unshare")


def sethostname(name: str) -> None:
    encoded = os.fsencode(name)
    check(_sethostname(encoded, len(encoded)), "sethostname", name)


def setdomainname(name: str) -> None:
    encoded = os.fsencode(name)
    check(_setdomainname(encoded, len(encoded)), "setdomainname", name)
