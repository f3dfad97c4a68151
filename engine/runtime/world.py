"""The part of a container's world that is the same in most: /proc, /dev and /sys, with what guards
them. A spare builds it while it waits, mounted nowhere, and a start takes it over as it is.

The order of the steps is kept within the world, and within the rest. Between the two it is not:
so there is a world only where nothing else is put into these folders.
"""

import os
import posixpath
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from engine.kernel import mount
from engine.kernel.libc import KernelError
from engine.runtime import init
from engine.runtime.files import PlaceFiles
from engine.runtime.hiding import MaskPath, ProtectPath, SetSysctl
from engine.runtime.mounts import (
    AttachTree,
    MountCgroups,
    MountFilesystem,
    MountImage,
    MountRoot,
    TakeNull,
    make_target,
)
from engine.runtime.nodes import MakeDevice, MakeLink, UseNull
from engine.runtime.steps import NewCgroupNamespace, Place, Refused, Step

_TOPS = ("/proc", "/dev", "/sys")


@dataclass(frozen=True, slots=True)
class Parts:
    world: tuple[Step, ...]
    rest: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class AttachWorld(Step):
    """What was built before goes to its places, which are ordinary folders of the image."""

    targets: tuple[str, ...]

    def describe(self) -> str:
        return f"mount {', '.join(self.targets)}"

    def run(self, place: Place) -> None:
        for path in self.targets:
            target = make_target(place.root, path, directory=True, links=False)
            try:
                if not stat.S_ISDIR(os.fstat(target).st_mode):
                    raise Refused(f"{path} must be mounted on ordinary directory")
                tree = place.world.pop(path)
                mount.move_mount(tree, target, path=path)
                os.close(tree)
            finally:
                os.close(target)


def apart(walked: Sequence[Step]) -> Parts | None:
    """None where these steps can't be taken apart."""
    tops = _tops(walked)
    world: list[Step] = []
    rest: list[Step] = []
    for step in walked:
        match step:
            case MountFilesystem() | MountCgroups() if _is_below(step.target, tops):
                world.append(step)
            case MountFilesystem() | MountCgroups() | AttachTree() | MountImage():
                if _is_below(step.target, _TOPS):
                    return None
                rest.append(step)
            case PlaceFiles() if any(_is_below(row[0], _TOPS) for row in step.files):
                return None
            case MakeDevice() | MakeLink() | ProtectPath() | MaskPath() if _is_below(
                step.path, tops
            ):
                world.append(step)
            case SetSysctl() | NewCgroupNamespace() | TakeNull():
                world.append(step)
            case UseNull():  # for the masks, and for streams that are not there yet
                world.append(step)
                rest.append(step)
            case MountRoot():
                rest += [step, AttachWorld(tops)]
            case _:
                rest.append(step)
    return Parts(tuple(world), tuple(rest)) if tops else None


def is_harmless(world: Sequence[Step], walked: Sequence[Step]) -> bool:
    """Whether a process that has built `world` may walk all these steps and leave that aside: what
    it did to its namespaces stays."""
    return all(step in walked for step in world if isinstance(step, SetSysctl | NewCgroupNamespace))


def build(steps: Sequence[Step], place: Place) -> None:
    place.root = mount.make_filesystem("tmpfs", "tmpfs", (("mode", "755"),), 0)
    for step in steps:
        init.run_step(step, place)
    # Copies: what is no root of its own can't be moved.
    place.world = {path: _copy(place.root, path) for path in _tops(steps)}
    os.close(place.root)
    place.root = -1


def _copy(root: int, path: str) -> int:
    built = mount.open_in_root(root, path)
    try:
        return mount.clone_tree(built, "", recursive=True)
    finally:
        os.close(built)


def _tops(steps: Sequence[Step]) -> tuple[str, ...]:
    found = (step.target for step in steps if isinstance(step, MountFilesystem))
    return tuple(target for target in found if target in _TOPS)


def is_possible() -> bool:
    """Whether this kernel mounts on what is mounted nowhere, and copies that (since Linux 6.15)."""
    outer, inner = (mount.make_filesystem("tmpfs", "tmpfs", (), 0) for _ in range(2))
    try:
        os.mkdir("x", dir_fd=outer)
        target = mount.open_in_root(outer, "/x")
        try:
            mount.move_mount(inner, target)
            os.close(mount.clone_tree(outer, "x", recursive=True))
        finally:
            os.close(target)
    except KernelError:
        return False
    finally:
        os.close(outer)
        os.close(inner)
    return True


@lru_cache(maxsize=256)  # the same few in nearly all containers
def _is_below(path: str, tops: tuple[str, ...]) -> bool:
    normal = posixpath.normpath(path)
    return normal in tops or normal.startswith(tuple(f"{top}/" for top in tops))
