"""A container's user namespace, and the other namespaces that are to belong to it.

They are made by a child that ends at once; descriptors keep them. The container's first process
joins them while it is still the host's root, which it has to be to mount, and becomes the
container's root (`steps.EnterUser`) when its world stands.
"""

import contextlib
import os
import socket
from dataclasses import dataclass
from typing import NoReturn

from engine.kernel import namespaces, process
from engine.runtime.id_maps import IdMaps, Range

# Made inside: root of the container has its capabilities over them. The others stay the host's.
OWNED = {
    namespaces.CLONE_NEWNET: "net",
    namespaces.CLONE_NEWIPC: "ipc",
    namespaces.CLONE_NEWUTS: "uts",
}

_HERE = b"here"


@dataclass(frozen=True, slots=True)
class Made:
    """Descriptors."""

    user: int
    files: int  # a user namespace with `IdMaps.for_files`, for idmapped mounts
    owned: dict[int, int]  # by kind

    def close(self) -> None:
        for descriptor in (self.user, self.files, *self.owned.values()):
            os.close(descriptor)


def make(maps: IdMaps, kinds: int, *, joined: str = "") -> Made:
    """`joined`: the path of a user namespace with these maps that is to be this one's, too."""
    owned = {kind: name for kind, name in OWNED.items() if kinds & kind}
    (files,) = _make(maps.for_files, 0, ("user",))
    user, *others = _make(maps, sum(owned), ("user", *owned.values()), joined=joined)
    return Made(user, files, dict(zip(owned, others, strict=True)))


def _make(maps: IdMaps, kinds: int, names: tuple[str, ...], *, joined: str = "") -> tuple[int, ...]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        pid, pidfd = process.clone3(0 if joined else namespaces.CLONE_NEWUSER | kinds)
        if pid == 0:
            ours.close()
            _stand_there(theirs, joined, kinds)
        theirs.close()
        try:
            if (said := ours.recv(4096)) != _HERE:
                raise OSError(f"cannot join the other container's users: {said.decode()}")
            folder = f"/proc/{pid}"
            if not joined:
                _write(f"{folder}/uid_map", maps.uids)
                _write(f"{folder}/gid_map", maps.gids)
            flags = os.O_RDONLY | os.O_CLOEXEC
            return tuple(os.open(f"{folder}/ns/{name}", flags) for name in names)
        finally:
            ours.close()
            with contextlib.suppress(ChildProcessError):  # where ended children are dropped
                os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
            os.close(pidfd)


def _stand_there(maker: socket.socket, joined: str, kinds: int) -> NoReturn:
    """Until the maker has what it came for, or is gone."""
    try:
        if joined:
            user = os.open(joined, os.O_RDONLY | os.O_CLOEXEC)
            namespaces.setns(user, namespaces.CLONE_NEWUSER, path=joined)
            namespaces.unshare(kinds)
        maker.send(_HERE)
        maker.recv(1)
    except OSError as error:
        maker.send(str(error).encode())
    finally:
        os._exit(0)


def _write(path: str, ranges: tuple[Range, ...]) -> None:
    lines = "".join(f"{each.inside} {each.outside} {each.count}\n" for each in ranges)
    # In one call, as the kernel wants it.
    with open(path, "wb", buffering=0) as stream:
        stream.write(lines.encode())
