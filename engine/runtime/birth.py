"""What a container's shim and its first process are born with: exec directory, cgroup, namespaces,
sockets. As the maker hands it on to a process that is just forked, which then owns it.
"""

import contextlib
import marshal
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.runtime import channel

SOCKET = "shim.sock"
RECORD = "shim.json"
EXIT = "exit.json"


@dataclass(slots=True)
class Birth:
    container_id: str
    exec_path: str
    cgroup: str
    namespaces: int  # flags of those that the first process is yet to make
    pid_namespace: str  # the path of one that it is to be in
    ids: Mapping[str, Sequence[object]] | None  # the maps of the container's user namespace
    owner: tuple[int, int]  # what root of the container is out here
    is_spare: bool  # its container may come, or not
    is_scripted: bool  # its first process is the walker

    # Descriptors, -1 where there is no such thing.
    daemon: int  # the connection
    orders: int = -1  # another, on which the first process hears what it is to become
    supervisor: int = -1  # where it says how far it is
    heard: int = -1  # the other end of that
    exec_dir: int = -1
    listener: int = -1  # for the daemons to come
    group: int = -1  # the cgroup in the unified tree
    oom: int = -1  # see Cgroup.oom_fd
    network: int = -1  # a namespace of its own
    dns_udp: int = -1
    dns_tcp: int = -1
    user: int = -1  # its user namespace
    files: int = -1  # see user_namespace.Made
    ipc: int = -1  # namespaces that belong to that
    uts: int = -1


_FIELDS = Birth.__match_args__
_FIRST = _FIELDS.index("daemon")


def pack(birth: Birth) -> tuple[bytes, list[int]]:
    """A message, and the descriptors beside it."""
    values = [getattr(birth, name) for name in _FIELDS]
    places = [place for place in range(_FIRST, len(values)) if values[place] >= 0]
    descriptors = [values[place] for place in places]
    # Both sides are forks of one process.
    values[_FIRST:] = [-1] * (len(values) - _FIRST)
    return marshal.dumps((values, places)), descriptors


def unpack(message: bytes, descriptors: Sequence[int]) -> Birth:
    values, places = marshal.loads(message)
    for number, place in enumerate(places):
        values[place] = descriptors[number]
    return Birth(*values)


def unlink_files(exec_dir: int, *more: str) -> None:
    for name in (SOCKET, RECORD, *more):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=exec_dir)


def write_document(
    directory: int, name: str, document: Mapping[str, object], *, durable: bool
) -> None:
    """Replace `name` in an open directory, whole or not at all; `durable`: also over a crash."""
    temporary = f".{name}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600, dir_fd=directory)
    try:
        os.write(descriptor, channel.encode(document))
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    if durable:
        os.fsync(directory)
