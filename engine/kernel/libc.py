"""The one door to the C library: raw system calls with every result checked.

PyDLL keeps the interpreter's lock during a call. The processes that use it have one thread, and
a child of a raw clone3 must come back into an interpreter whose lock is held, as its parent's is.
"""

import ctypes
import os


class KernelError(OSError):
    """A system call that failed: `call`, `path` (what it was about, may be "") and `errno`."""

    def __init__(self, call: str, path: str, errno: int) -> None:
        super().__init__(errno, os.strerror(errno))
        self.call = call
        self.path = path

    def __str__(self) -> str:
        return f"{self.call}({self.path}): {reason(self)}"


def reason(error: OSError) -> str:
    """What the system says, in small letters as Go has it: Docker's command makes its exit code of
    the words."""
    return (error.strerror or "").lower()


def told(error: OSError, place: str = "") -> str:
    """What the system says and of which path. `place`: of what lies there, where the error knows
    none: a write to a full disk, or a name in a folder that was open."""
    if isinstance(error, KernelError):
        return str(error)
    known = error.filename if isinstance(error.filename, str) else ""
    path = known if known.startswith("/") else place or known
    said = error.strerror or str(error)
    return f"{said}: {path}" if path else said


AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

# Calls since Linux 5.0 have one number on every architecture; older ones differ.
_COMMON = {
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "mount_setattr": 442,
}
_OLDER = {
    "x86_64": {
        "bpf": 321,
        "mmap": 9,
        "clone": 56,
        "rt_sigaction": 13,
        "pivot_root": 155,
        "prctl": 157,
        "keyctl": 250,
        "capset": 126,
        "capget": 125,
        "seccomp": 317,
        "setgroups": 116,
        "setresgid": 119,
        "setresuid": 117,
    },
    "aarch64": {
        "bpf": 280,
        "mmap": 222,
        "clone": 220,
        "rt_sigaction": 134,
        "pivot_root": 41,
        "prctl": 167,
        "keyctl": 219,
        "capset": 91,
        "capget": 90,
        "seccomp": 277,
        "setgroups": 159,
        "setresgid": 149,
        "setresuid": 147,
    },
}

Argument = int | bytes | None | ctypes.Array[ctypes.c_char]

_library = ctypes.PyDLL(None, use_errno=True)
_malloc_trim = getattr(_library, "malloc_trim", None)
_syscall = _library.syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = [ctypes.c_long] + [ctypes.c_void_p] * 6
NUMBERS = {**_COMMON, **_OLDER.get(os.uname().machine, {})}


def system_call(name: str, *arguments: Argument, path: str = "") -> int:
    """The result of a system call; up to six arguments. Raises KernelError."""
    padded = arguments + (0,) * (6 - len(arguments))
    result: int = _syscall(NUMBERS[name], *padded)
    if result < 0:
        raise KernelError(name, path, ctypes.get_errno())
    return result


def function(name: str, *argument_types: type) -> "ctypes._NamedFuncPointer":
    """A function of the C library that returns an int, with its arguments declared."""
    found = _library[name]
    found.restype = ctypes.c_int
    found.argtypes = list(argument_types)
    return found


def give_back_memory() -> None:
    """To the kernel: what was freed and is kept for the next time. Not every C library has that."""
    if _malloc_trim is not None:
        _malloc_trim(0)


def check(result: int, call: str, path: str = "") -> int:
    """`result`, unless it says that `call` failed: then KernelError."""
    if result < 0:
        raise KernelError(call, path, ctypes.get_errno())
    return result
