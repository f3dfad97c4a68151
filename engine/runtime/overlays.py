"""Steps that lay directories over each other: a container's root, and images that are mounted."""

import contextlib
import errno
import os
import posixpath
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engine.kernel import mount
from engine.kernel.libc import AT_EMPTY_PATH, AT_FDCWD, KernelError
from engine.runtime import mount_calls
from engine.runtime.mounts import part_of, show_owners
from engine.runtime.script import EMPTY, LAYERS, ROOT, SPARE, Known, Script, Unscriptable
from engine.runtime.steps import Place, Step
from engine.runtime.targets import make_target

_MOST_LAYERS = 128
_PAGE = 4096  # bytes that mount(2) reads of its options


@dataclass(frozen=True, slots=True)
class MountRoot(Step):
    """The overlay, at a directory that serves as a hook until the root is switched."""

    lowers: tuple[str, ...]
    upper: str
    work: str
    hook: str

    def describe(self) -> str:
        return f"mount the root file system of {len(self.lowers)} layers"

    def run(self, place: Place) -> None:
        folder, upper = posixpath.split(self.upper)
        hook = mount.open_by_name(self.hook)
        try:
            if place.user < 0:
                with _opened(place, (*self.lowers, self.upper, self.work)) as names:
                    place.root = self._mount(names[:-2], names[-2], names[-1], hook)
                return
            # overlayfs wants both in one mount, and this one is a copy.
            with _opened(place, (*self.lowers, folder)) as (*lowers, top):
                work = posixpath.basename(self.work)
                place.root = self._mount(lowers, f"{top}/{upper}", f"{top}/{work}", hook)
        finally:
            os.close(hook)

    def write(self, to: Script, known: Known) -> None:
        cannot, flags = self.cannot(), os.O_PATH | os.O_CLOEXEC
        if len(self.lowers) > _MOST_LAYERS:
            raise Unscriptable(f"{len(self.lowers)} layers")
        names = []
        for number, path in enumerate((*self.lowers, self.upper, self.work)):
            given = (AT_FDCWD, to.text(os.fsencode(path)), flags, 0)
            mount_calls.keep(to, cannot, LAYERS + number, "openat", *given)
            to.tidy()
            names.append(f"/proc/self/fd/{LAYERS + number}")
        *lowers, upper, work = names
        options = (("upperdir", upper), ("workdir", work), ("index", "off"))
        mount_root = self._write_mount if mount.knows_lowers() else self._write_classic
        mount_root(to, lowers, options)
        to.must(cannot, "newfstatat", ROOT, to.text(b""), to.root, AT_EMPTY_PATH)

    def _write_mount(
        self, to: Script, lowers: list[str], options: tuple[tuple[str, str], ...]
    ) -> None:
        cannot = self.cannot()
        if mount.is_nested(self.lowers):
            mount_calls.filesystem(to, cannot, *mount.overlay(lowers[-2:], ()), 0, place=EMPTY)
            lowers = [*lowers[:-2], f"/proc/self/fd/{EMPTY}"]
        mount_calls.filesystem(to, cannot, *mount.overlay(lowers, options), 0, place=ROOT)
        to.must(cannot, "openat", *self._hook(to), into=(1, 2))
        mount_calls.move(to, cannot, ROOT, -1)

    def _write_classic(
        self, to: Script, lowers: list[str], options: tuple[tuple[str, str], ...]
    ) -> None:
        cannot, hook, kind = self.cannot(), self._hook(to), to.text(b"overlay")

        def lay(at: int, lowers: list[str], more: tuple[tuple[str, str], ...]) -> None:
            text = mount.overlay_options(lowers, more).encode()
            if len(text) >= _PAGE:
                raise Unscriptable(f"{len(lowers)} layers")
            target = to.text(f"/proc/self/fd/{at}".encode())
            to.must(cannot, "mount", kind, target, kind, 0, to.text(text))

        mount_calls.keep(to, cannot, SPARE, "openat", *hook)
        if mount.is_nested(self.lowers):
            lay(SPARE, lowers[-2:], ())
            mount_calls.keep(to, cannot, EMPTY, "openat", *hook)
            lay(EMPTY, [*lowers[:-2], f"/proc/self/fd/{EMPTY}"], options)
        else:
            lay(SPARE, lowers, options)
        mount_calls.keep(to, cannot, ROOT, "openat", *hook)

    def _hook(self, to: Script) -> tuple[int, int, int, int]:
        """The arguments of openat."""
        return AT_FDCWD, to.text(os.fsencode(self.hook)), os.O_PATH | os.O_CLOEXEC, 0

    def _mount(self, lowers: list[str], upper: str, work: str, hook: int) -> int:
        # Without `index` a second start may follow while the first mount still goes away.
        common = (("upperdir", upper), ("workdir", work), ("index", "off"))
        try:
            root = mount.make_overlay(lowers, common)
        except KernelError as error:
            # Before Linux 6.7 there is no "lowerdir+"; before 6.5 that is said only at the end.
            if error.errno != errno.EINVAL:
                raise
        else:
            mount.move_mount(root, hook, path=self.hook)
            return root
        try:
            return self._mount_classic(hook, lowers, common)
        except KernelError as error:
            # A layer inside of the host's directory: see `mount.make_overlay`.
            if error.errno != errno.ELOOP or len(lowers) < 3:
                raise
        below = self._mount_classic(hook, lowers[-2:], ())
        try:
            return self._mount_classic(below, [*lowers[:-2], f"/proc/self/fd/{below}"], common)
        finally:
            os.close(below)

    def _mount_classic(self, at: int, lowers: list[str], more: tuple[tuple[str, str], ...]) -> int:
        mount.mount_overlay_classic(at, mount.overlay_options(lowers, more), 0)
        return mount.open_by_name(self.hook)


@contextlib.contextmanager
def _opened(place: Place, paths: Sequence[str]) -> Iterator[list[str]]:
    """Names of directories for overlayfs. By descriptor they are short (an option holds 255 bytes)
    and keep the host's paths out of the container's mount table."""
    with contextlib.ExitStack() as undo:
        names = []
        for path in paths:
            if place.user < 0:
                descriptor = mount.open_by_name(path)
                undo.callback(os.close, descriptor)
            else:
                descriptor = mount.clone_tree(AT_FDCWD, path, recursive=False)
                undo.callback(os.close, descriptor)
                show_owners(place, descriptor, path)
                # Of what is mounted nowhere, older kernels make no layer: over itself, it is.
                target = mount.open_by_name(path)
                undo.callback(os.close, target)
                mount.move_mount(descriptor, target, path=path)
                undo.callback(mount.umount, f"/proc/self/fd/{descriptor}", mount.MNT_DETACH)
            names.append(f"/proc/self/fd/{descriptor}")
        yield names


@dataclass(frozen=True, slots=True)
class MountImage(Step):
    """An image's files, or those at a path in it, read-only."""

    target: str
    lowers: tuple[str, ...]
    below: str

    def describe(self) -> str:
        return f"mount an image of {len(self.lowers)} layers at {self.target}"

    def run(self, place: Place) -> None:
        whole = self._one(place) if len(self.lowers) == 1 else self._overlay(place)
        try:
            mount.mount_setattr(whole, set_attributes=mount.MOUNT_ATTR_RDONLY, path=self.target)
            is_directory = stat.S_ISDIR(os.fstat(whole).st_mode)
            target = make_target(place.root, self.target, directory=is_directory, owner=place.owner)
            try:
                mount.move_mount(whole, target, path=self.target)
            finally:
                os.close(target)
        finally:
            os.close(whole)

    def _one(self, place: Place) -> int:
        """overlayfs wants two layers."""
        with _opened(place, self.lowers) as (name,):
            top = mount.open_by_name(name)
            try:
                return part_of(top, "the image", self.below or ".", recursive=False)
            finally:
                os.close(top)

    def _overlay(self, place: Place) -> int:
        with _opened(place, self.lowers) as names:
            # A part can only be taken of what is mounted somewhere: above the container's root,
            # and gone again before anything runs there.
            whole = _layers(names, place.root)
        try:
            return part_of(whole, "the image", self.below or ".", recursive=False)
        finally:
            mount.umount(f"/proc/self/fd/{whole}", mount.MNT_DETACH)
            os.close(whole)


def _layers(lowers: list[str], at: int) -> int:
    """A read-only overlay, mounted over `at`."""
    try:
        options = tuple(("lowerdir+", name) for name in lowers)
        whole = mount.make_filesystem("overlay", "overlay", options, mount.MOUNT_ATTR_RDONLY)
    except KernelError as error:
        if error.errno != errno.EINVAL:
            raise
        mount.mount_overlay_classic(at, f"lowerdir={':'.join(lowers)}", 0)
        # A descriptor stays below what is mounted over it; only coming up from a folder, and /proc
        # is there by now, leads to the mount on top.
        return mount.open_by_name(f"/proc/self/fd/{at}/proc/..")
    mount.move_mount(whole, at, path="/")
    return whole
