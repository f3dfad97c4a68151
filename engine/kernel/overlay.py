"""An overlay that no path of the host leads to: for work on a root file system that is at rest."""

import contextlib
import ctypes
import errno
import os
import secrets
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from engine.kernel.libc import AT_FDCWD, KernelError, check, function
from engine.kernel.mount import (
    MNT_DETACH,
    MOUNT_ATTR_RDONLY,
    MS_PRIVATE,
    clone_below,
    clone_tree,
    folded,
    make_overlay,
    mount_overlay_classic,
    mount_setattr,
    move_mount,
    open_by_name,
    open_in_root,
    set_propagation,
    umount,
)

Result = TypeVar("Result")
_CLONE_NEWNS = 0x00020000
_PAGE = 4000  # bytes of options that mount(2) takes

_unshare = function("unshare", ctypes.c_int)


def on_overlay(
    lowers: Sequence[str], upper: str, work: str, job: Callable[[int], Result], *, scratch: str
) -> Result:
    """The result of `job(root)`, `root` being a descriptor of the overlay's root directory.

    `lowers` top first; without `upper` it is read-only. `scratch`: a folder for a mount point,
    needed where the kernel can't mount overlays by descriptor (before Linux 6.7).
    """
    if not upper and len(lowers) == 1:
        return _on_directory(lowers[0], job)
    try:
        mount = make_overlay(lowers, _options(upper, work))
    except KernelError as error:
        if error.errno != errno.EINVAL:
            raise
        return _in_own_namespace(lowers, upper, work, job, scratch)
    try:
        # The mount lives as long as its descriptor, which can't be read itself (O_PATH).
        return _on_directory(f"/proc/self/fd/{mount}", job)
    finally:
        os.close(mount)


@dataclass(frozen=True, slots=True)
class Bind:
    """What a container at rest would have mounted at `destination`, a path in its root."""

    sources: tuple[str, ...]  # one, or the layers of an image, top first
    destination: str
    read_only: bool = False
    below: str = ""  # a path in the source, that no link leads out of


def on_tree(
    lowers: Sequence[str],
    upper: str,
    work: str,
    binds: Sequence[Bind],
    job: Callable[[int], Result],
    *,
    scratch: str,
) -> Result:
    """As `on_overlay`, with directories and files of the host mounted in it. Destinations
    resolve inside the root; those that aren't there yet are made, as a start would."""

    def bound(root: int) -> Result:
        for bind in binds:
            _attach(root, bind, scratch)
        return job(root)

    return _in_own_namespace(lowers, upper, work, bound, scratch)


def _attach(root: int, bind: Bind, scratch: str) -> None:
    with contextlib.ExitStack() as stack:
        source, *lower = bind.sources
        if lower:
            source = stack.enter_context(_merged(bind.sources, scratch))
        tree = _taken(source, bind.below)
        stack.callback(os.close, tree)
        if bind.read_only:
            mount_setattr(tree, set_attributes=MOUNT_ATTR_RDONLY, recursive=True, path=source)
        is_folder = stat.S_ISDIR(os.fstat(tree).st_mode)
        target = _mount_point(root, bind.destination, is_folder=is_folder)
        stack.callback(os.close, target)
        move_mount(tree, target, path=bind.destination)


def _taken(path: str, below: str) -> int:
    if not below:
        return clone_tree(AT_FDCWD, path, recursive=True)
    source = open_by_name(path)
    try:
        return clone_below(source, below, recursive=True)
    finally:
        os.close(source)


def _mount_point(root: int, path: str, *, is_folder: bool) -> int:
    try:
        return open_in_root(root, path)
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise
    names = [name for name in path.split("/") if name]
    for end in range(1, len(names) + 1):
        folder = open_in_root(root, "/".join(names[: end - 1]) or ".", os.O_PATH | os.O_DIRECTORY)
        try:
            if end < len(names) or is_folder:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(names[end - 1], 0o755, dir_fd=folder)
            else:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                os.close(os.open(names[-1], flags, 0o644, dir_fd=folder))
        finally:
            os.close(folder)
    return open_in_root(root, path)


def _on_directory(path: str, job: Callable[[int], Result]) -> Result:
    root = open_by_name(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return job(root)
    finally:
        os.close(root)


def _options(upper: str, work: str) -> tuple[tuple[str, str | None], ...]:
    return (("upperdir", upper), ("workdir", work)) if upper else ()


def _in_own_namespace(
    lowers: Sequence[str], upper: str, work: str, job: Callable[[int], Result], scratch: str
) -> Result:
    """A thread may have a mount namespace of its own, which goes with it and its mounts."""
    outcome: list[Result] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(_mounted(lowers, upper, work, job, scratch))
        except BaseException as error:  # noqa: BLE001 - handed to the caller, whole
            failure.append(error)

    thread = threading.Thread(target=run, name="overlay")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def _mounted(
    lowers: Sequence[str], upper: str, work: str, job: Callable[[int], Result], scratch: str
) -> Result:
    check(_unshare(_CLONE_NEWNS), "unshare", "mount namespace")
    set_propagation("/", MS_PRIVATE)
    with _merged(lowers, scratch, upper, work) as point:
        return _on_directory(point, job)


@contextlib.contextmanager
def _merged(lowers: Sequence[str], scratch: str, upper: str = "", work: str = "") -> Iterator[str]:
    """Where the overlay is mounted."""
    point = os.path.join(scratch, f"view-{secrets.token_hex(8)}")
    os.mkdir(point, 0o700)
    try:
        target = open_by_name(point)
        try:
            _mount_classic(target, lowers, upper, work)
        finally:
            os.close(target)
        try:
            yield point
        finally:
            umount(point, MNT_DETACH)
    finally:
        with contextlib.suppress(OSError):
            os.rmdir(point)


def _mount_classic(target: int, lowers: Sequence[str], upper: str, work: str) -> None:
    try:
        mount_overlay_classic(target, _classic_options(lowers, upper, work), 0)
    except KernelError as error:
        if error.errno != errno.ELOOP or len(lowers) < 3:
            raise
        with folded(lowers) as names:  # see make_overlay
            mount_overlay_classic(target, _classic_options(names, upper, work), 0)


def _classic_options(lowers: Sequence[str], upper: str, work: str) -> str:
    """Short enough for one page: the layers of a store by their names, from its folder."""
    folder = os.path.dirname(lowers[-1])
    os.chdir(folder)  # the thread's own: unshare gave it its own working directory
    names = [
        os.path.relpath(lower, folder) if _inside(lower, folder) else lower for lower in lowers
    ]
    options = "lowerdir=" + ":".join(_escape(name) for name in names)
    if upper:
        options += f",upperdir={_escape(upper)},workdir={_escape(work)}"
    if len(options) > _PAGE:
        raise KernelError("mount", f"overlay of {len(lowers)} layers", errno.E2BIG)
    return options


def _inside(path: str, folder: str) -> bool:
    return folder != "/" and os.path.dirname(path) == folder


def _escape(path: str) -> str:
    return "".join("\\" + sign if sign in "\\:," else sign for sign in path)
