"""The interpreter that the spawner and so every shim runs on: a sealed copy in memory."""

import errno
import fcntl
import os
import sys
import sysconfig
from pathlib import Path

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_MFD_EXEC = 0x10
# Dataclasses import it for two small things, one of them the signature in a __doc__ that nobody
# reads here. With all that it imports in turn it is a tenth of the heap; and strewn over a bigger
# heap what a shim writes to lies on more pages. From 3.14 on they need more of it.
_WITHOUT_INSPECT = (
    "inspect = sys.modules['inspect'] = type(sys)('inspect'); "
    "inspect.signature = lambda _: ''; "
    "inspect.get_annotations = lambda kind: dict(vars(kind).get('__annotations__', {}))"
    if sys.version_info < (3, 14)
    else "pass"
)


def sealed_copy() -> int:
    """A memory copy of the real interpreter that nobody can write: what /proc/PID/exe shows of a
    process that enters a container leads to this, never to the host's file (CVE-2019-5736)."""
    source = sys._base_executable  # type: ignore[attr-defined]
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        descriptor = os.memfd_create("pycompose", flags | _MFD_EXEC)
    except OSError as error:
        if error.errno != errno.EINVAL:  # before Linux 6.3 there is no such flag
            raise
        descriptor = os.memfd_create("pycompose", flags)
    try:
        with open(os.path.realpath(source), "rb") as program:
            size = os.fstat(program.fileno()).st_size
            copied = 0
            while copied < size:
                copied += os.sendfile(descriptor, program.fileno(), copied, size - copied)
        os.fchmod(descriptor, 0o500)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def command() -> list[str]:
    """argv[0] tells the interpreter where its library is; the blanks at the end are room for
    the names that shims give themselves."""
    package_root = str(Path(__file__).resolve().parents[2])
    program = (
        f"import sys; sys.path.append({package_root!r}); "
        f"{_WITHOUT_INSPECT}; "
        "from engine.runtime.spawner import main; main()"
    )
    return [
        sys._base_executable,  # type: ignore[attr-defined]
        *("-I", "-S", "-E", "-B", "-X", "utf8", "-c", program + " " * 64),
    ]


def environment() -> dict[str, str]:
    if not sysconfig.get_config_var("Py_ENABLE_SHARED"):
        return {}
    # A run path relative to the program ($ORIGIN) means nothing in a memory file.
    return {"LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR"))}
