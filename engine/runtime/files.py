"""Steps that put files with given contents into a container, each read-only where it belongs.

They lie on a tmpfs of the container's own, which is mounted nowhere itself: no other process can
name it, it counts as the container's memory, and it goes with the container's mounts.
"""

import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from engine.kernel import mount, namespaces
from engine.kernel.libc import KernelError
from engine.runtime import channel, steps
from engine.runtime.id_maps import IdMaps
from engine.runtime.steps import Place, Step
from engine.runtime.targets import make_target

_ATTRIBUTES = mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NODEV


@dataclass(frozen=True, slots=True)
class File:
    """`uid`, `gid`: as the container counts them."""

    path: str
    content: bytes = field(repr=False)
    uid: int
    gid: int
    mode: int


# Path, content, owner and group as the host counts them, mode: what a message can hold.
Row = tuple[str, bytes, int, int, int]


def rows(files: Sequence[File], ids: IdMaps | None) -> tuple[Row, ...]:
    return tuple(
        (
            file.path,
            file.content,
            ids.uid(file.uid) if ids else file.uid,
            ids.gid(file.gid) if ids else file.gid,
            file.mode,
        )
        for file in files
    )


@dataclass(frozen=True, slots=True)
class PlaceFiles(Step):
    """After all other mounts, in any of which a file may belong."""

    files: tuple[Row, ...] = field(repr=False)

    def describe(self) -> str:
        return f"place {', '.join(row[0] for row in self.files)}"

    def run(self, place: Place) -> None:
        made = _tmpfs()
        try:
            # Over the root, for a moment: before Linux 6.15 what is mounted nowhere has no parts
            # that could be taken.
            mount.move_mount(made, place.root, path="/")
            trees = _write(made, self.files)
            mount.umount(f"/proc/self/fd/{made}", mount.MNT_DETACH)
        finally:
            os.close(made)
        for target, tree in _targets(place, self.files, trees):
            mount.move_mount(tree, target)


@dataclass(frozen=True, slots=True)
class ReplaceFiles(Step):
    """In a running container: whoever opens one of them finds the old or the new, whole; who has
    one open keeps it."""

    files: tuple[Row, ...] = field(repr=False)

    def describe(self) -> str:
        return f"replace {', '.join(row[0] for row in self.files)}"

    def run(self, place: Place) -> None:
        place.root = mount.open_by_name("/", os.O_PATH | os.O_DIRECTORY)
        trees = self._made_apart(place)
        for target, tree in _targets(place, self.files, trees):
            try:
                mount.move_mount(tree, target, beneath=True)
            except KernelError as error:
                # Before Linux 6.5, and where the mount is locked (user namespaces): over the old.
                if error.errno != errno.EINVAL:
                    raise
                mount.move_mount(tree, target)
            else:
                _detach(target)

    def _made_apart(self, place: Place) -> list[int]:
        """In mounts of this process's own, which are gone when it is back."""
        namespaces.unshare(namespaces.CLONE_NEWNS)
        try:
            mount.set_propagation("/", mount.MS_PRIVATE)
            top, made = mount.open_by_name("/"), _tmpfs()
            mount.move_mount(made, top, path="/")
            os.close(top)
            return _write(made, self.files)
        finally:
            namespaces.setns(place.container, namespaces.CLONE_NEWNS)


def _detach(mounted: int) -> None:
    """By a /proc of this process's own: that of the container knows nothing of it."""
    proc = mount.make_filesystem("proc", "proc", (), _ATTRIBUTES)
    os.fchdir(proc)
    os.close(proc)
    mount.umount(f"self/fd/{mounted}", mount.MNT_DETACH)
    os.chdir("/")


@dataclass(frozen=True, slots=True)
class Leave(Step):
    """Nothing is executed: the work is done."""

    def describe(self) -> str:
        return "end"

    def run(self, place: Place) -> NoReturn:
        channel.send(place.supervisor, {"state": "executing", "program": "nothing"})
        os._exit(0)


def replacing(files: Sequence[File], ids: IdMaps | None) -> tuple[Step, ...]:
    """The whole walk of a process that has joined a running container, where nobody sees it
    before it is done."""
    return ReplaceFiles(rows(files, ids)), steps.Forget(), steps.EnterPidNamespace(), Leave()


def _tmpfs() -> int:
    mode = ("mode", "0700")
    try:
        return mount.make_filesystem("tmpfs", "tmpfs", (mode, ("noswap", None)), 0)
    except KernelError as error:
        if error.errno != errno.EINVAL:  # before Linux 6.4
            raise
    return mount.make_filesystem("tmpfs", "tmpfs", (mode,), 0)


def _write(folder: int, files: tuple[Row, ...]) -> list[int]:
    """A read-only mount of each, attached nowhere."""
    trees = []
    for number, (_, content, uid, gid, mode) in enumerate(files):
        name = str(number)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(name, flags, 0o600, dir_fd=folder), "wb") as stream:
            stream.write(content)
            os.fchown(stream.fileno(), uid, gid)
            os.fchmod(stream.fileno(), mode)
        tree = mount.clone_below(folder, name, recursive=False)
        mount.mount_setattr(tree, set_attributes=_ATTRIBUTES, path=name)
        trees.append(tree)
    return trees


def _targets(place: Place, files: tuple[Row, ...], trees: list[int]) -> Iterator[tuple[int, int]]:
    """(descriptor of where it belongs, mount), closed afterwards."""
    for (path, *_), tree in zip(files, trees, strict=True):
        try:
            target = make_target(place.root, path, directory=False, owner=place.owner)
            try:
                yield target, tree
            finally:
                os.close(target)
        finally:
            os.close(tree)
