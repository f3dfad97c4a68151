"""A container's user namespace, and the other namespaces that are to belong to it.

They are made by a child that ends at once; descriptors keep them. The container's first process
joins them while it is still the host's root, which it has to be to mount, and becomes the
container's root (`steps.EnterUser`) when its world stands.
"""

import contextlib
import os
from dataclasses import dataclass

from engine.kernel import namespaces, process
from engine.runtime.id_maps import IdMaps, Range

# Made inside: root of the container has its capabilities over them. The others stay the host's.
OWNED = {
    namespaces.CLONE_NEWNET: "net",
    namespaces.CLONE_NEWIPC: "ipc",
    namespaces.CLONE_NEWUTS: "uts",
}


@dataclass(frozen=True, slots=True)
class Made:
    """Descriptors."""

    user: int
    files: int  # a user namespace with `IdMaps.for_files`, for idmapped mounts
    owned: dict[int, int]  # by kind

    def close(self) -> None:
        for descriptor in (self.user, self.files, *self.owned.values()):
            os.close(descriptor)


def make(maps: IdMaps, kinds: int) -> Made:
    owned = {kind: name for kind, name in OWNED.items() if kinds & kind}
    (files,) = _make(maps.for_files, 0, ("user",))
    user, *others = _make(maps, sum(owned), ("user", *owned.values()))
    return Made(user, files, dict(zip(owned, others, strict=True)))


def _make(maps: IdMaps, kinds: int, names: tuple[str, ...]) -> tuple[int, ...]:
    reading, writing = os.pipe()
    try:
        child = process.clone3(namespaces.CLONE_NEWUSER | kinds)
        if child.pid == 0:
            os.close(writing)
            os.read(reading, 1)  # until the maker is done, or gone
            os._exit(0)
        try:
            folder = f"/proc/{child.pid}"
            _write(f"{folder}/uid_map", maps.uids)
            _write(f"{folder}/gid_map", maps.gids)
            flags = os.O_RDONLY | os.O_CLOEXEC
            return tuple(os.open(f"{folder}/ns/{name}", flags) for name in names)
        finally:
            os.close(writing)
            writing = -1
            with contextlib.suppress(ChildProcessError):  # where ended children are dropped
                os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED)
            os.close(child.pidfd)
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)


def _write(path: str, ranges: tuple[Range, ...]) -> None:
    lines = "".join(f"{each.inside} {each.outside} {each.count}\n" for each in ranges)
    # In one call, as the kernel wants it.
    with open(path, "wb", buffering=0) as stream:
        stream.write(lines.encode())
