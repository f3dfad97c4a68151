"""Settings of one interface inside a container's network namespace, which /proc shows to whoever
is in there: a thread made for it, that ends in it. Nothing else of the container is entered."""

import threading
from collections.abc import Mapping
from pathlib import Path

from engine.errors import InvalidRequest
from engine.kernel.libc import KernelError, reason
from engine.kernel.namespaces import CLONE_NEWNET, setns

SYSCTL = Path("/proc/sys")


def set_inside(namespace: int, settings: Mapping[str, str]) -> None:
    """Raises InvalidRequest with the setting that the kernel does not take."""
    failures: list[Exception] = []

    def enter() -> None:
        try:
            setns(namespace, CLONE_NEWNET)
            for name, value in settings.items():
                _write(name, value)
        except (InvalidRequest, KernelError) as error:
            failures.append(error)

    thread = threading.Thread(target=enter, name="interface sysctls")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def _write(name: str, value: str) -> None:
    try:
        (SYSCTL / path_of(name)).write_text(value)
    except OSError as error:
        raise InvalidRequest(f"cannot set sysctl {name} to {value!r}: {reason(error)}") from error


def path_of(name: str) -> str:
    """The interface's own name, the fourth part, may have dots in it; the setting has none."""
    family, protocol, kind, rest = name.split(".", 3)
    interface, _, setting = rest.rpartition(".")
    return "/".join((family, protocol, kind, interface, setting))
