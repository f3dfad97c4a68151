"""The files that a build may copy: what the client sent, unpacked into a folder of the build's own.

Nothing in it is trusted: names resolve inside the folder (openat2), links too, and a device in the
archive is refused.
"""

import contextlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.builder.ignore import Pattern, is_ignored, parse_ignore
from engine.errors import InvalidRequest
from engine.images.compression import Source, decompressed
from engine.images.tar_reader import Kind, Member, TarReader
from engine.images.unpack import remove_tree, unpack_archive
from engine.kernel.libc import KernelError
from engine.kernel.mount import open_in_root

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LARGEST_TEXT = 4 << 20
_NAMES = ("Dockerfile", "dockerfile")


def unpack_context(archive: Source, folder: Path) -> None:
    """A tar, plain or compressed. Raises InvalidRequest where it is at fault."""
    root = os.open(folder, _DIRECTORY)
    try:
        unpack_archive(TarReader(decompressed(archive)), root, check=_refuse_devices)
    finally:
        os.close(root)


def _refuse_devices(folder: int, name: str, member: Member) -> None:
    if member.kind in (Kind.CHARACTER, Kind.BLOCK):
        raise InvalidRequest(f"cannot use {member.name!r} in a build context: a device")


@dataclass(frozen=True, slots=True)
class Recipe:
    """A Dockerfile, and the text of the ignore file that counts for it."""

    name: str
    content: bytes
    ignore: str = ""


def read_recipe(folder: Path, name: str) -> Recipe:
    """Raises InvalidRequest where there is no such Dockerfile."""
    root = os.open(folder, _DIRECTORY)
    try:
        for candidate in (name,) if name and name != _NAMES[0] else _NAMES:
            content = _read_text(root, candidate)
            if content is not None:
                return Recipe(candidate, content, _ignore_text(root, candidate))
    finally:
        os.close(root)
    raise InvalidRequest(f"Cannot locate specified Dockerfile: {name or _NAMES[0]}")


def prepare(folder: Path, wanted: str) -> Recipe:
    """The same; what is to be left out is gone then."""
    recipe = read_recipe(folder, wanted)
    root = os.open(folder, _DIRECTORY)
    try:
        _remove_ignored(root, parse_ignore(recipe.ignore))
    finally:
        os.close(root)
    return recipe


def _ignore_text(root: int, dockerfile: str) -> str:
    """Of the Dockerfile's own ignore file, else of .dockerignore."""
    for name in (f"{dockerfile}.dockerignore", ".dockerignore"):
        content = _read_text(root, name)
        if content is not None:
            return content.decode(errors="replace")
    return ""


def _remove_ignored(root: int, patterns: Sequence[Pattern]) -> None:
    if not patterns:
        return
    takes_back = any(pattern.takes_back for pattern in patterns)
    waiting, ignored = [""], []
    while waiting:
        path = waiting.pop()
        folder = open_in_root(root, path or ".", _DIRECTORY)
        try:
            for name in os.listdir(folder):
                below = f"{path}/{name}" if path else name
                is_folder = stat.S_ISDIR(os.lstat(name, dir_fd=folder).st_mode)
                if not is_ignored(patterns, below):
                    if is_folder:
                        waiting.append(below)
                elif not is_folder:
                    os.unlink(name, dir_fd=folder)
                elif takes_back:
                    waiting.append(below)  # something in it may stay
                    ignored.append(below)
                else:
                    remove_tree(name, folder)
        finally:
            os.close(folder)
    for path in reversed(ignored):
        with contextlib.suppress(OSError):  # something in it stayed
            os.rmdir(path, dir_fd=root)


def _read_text(root: int, name: str) -> bytes | None:
    """None where there is no such file. What isn't a file of the context is refused."""
    try:
        descriptor = open_in_root(root, name, os.O_RDONLY | os.O_NONBLOCK)
    except KernelError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InvalidRequest(f"cannot read {name} of the build context: not a file")
        with open(os.dup(descriptor), "rb") as stream:
            content = stream.read(_LARGEST_TEXT + 1)
    finally:
        os.close(descriptor)
    if len(content) > _LARGEST_TEXT:
        raise InvalidRequest(f"cannot read {name} of the build context: it is too large")
    return content
