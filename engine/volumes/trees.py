"""Whole directory trees of volumes: how large, and gone. By descriptors; no link is followed, and
nothing of another file system is touched."""

import contextlib
import os
import secrets
import stat
from pathlib import Path

from engine.errors import Failure
from engine.volumes.copy_up import TEMPORARY

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(folder: Path, name: str) -> None:
    """Remove the directory `name` of `folder`, however deep it is, with few descriptors: what lies
    in a directory of it is moved to its top."""
    above = os.open(folder, _DIRECTORY)
    try:
        top = os.open(name, _DIRECTORY, dir_fd=above)
        try:
            device = os.fstat(top).st_dev
            waiting = _remove_files(top, device)
            while waiting:
                last = waiting.pop()
                here = os.open(last, _DIRECTORY, dir_fd=top)
                try:
                    for below in _remove_files(here, device):
                        moved = f".{secrets.token_hex(8)}"
                        os.rename(below, moved, src_dir_fd=here, dst_dir_fd=top)
                        waiting.append(moved)
                finally:
                    os.close(here)
                os.rmdir(last, dir_fd=top)
        finally:
            os.close(top)
        os.rmdir(name, dir_fd=above)
    finally:
        os.close(above)


def _remove_files(folder: int, device: int) -> list[str]:
    """Unlinks all but directories; the names of those."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                found.append(entry.name)
            else:
                os.unlink(entry.name, dir_fd=folder)
    for below in found:
        if os.lstat(below, dir_fd=folder).st_dev != device:
            raise Failure(f"cannot remove {below!r}: something is mounted there")
    return found


def clear_temporary(folder: int) -> None:
    """Removes the halves of files that an interrupted copy left in this tree."""
    waiting = [os.dup(folder)]
    try:
        while waiting:
            here = waiting.pop()
            try:
                _clear_folder(here, waiting)
            finally:
                os.close(here)
    finally:
        for descriptor in waiting:
            os.close(descriptor)


def _clear_folder(folder: int, waiting: list[int]) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(os.open(entry.name, _DIRECTORY, dir_fd=folder))
            elif entry.name.startswith(TEMPORARY):
                os.unlink(entry.name, dir_fd=folder)


def tree_size(path: str) -> int:
    """Bytes of the files of the tree, as long as they are; one with several names counts once. What
    goes meanwhile counts nothing: a container is at work there, or the volume is removed."""
    total = 0
    seen: set[tuple[int, int]] = set()
    waiting = [path]
    while waiting:
        with contextlib.suppress(FileNotFoundError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if stat.S_ISDIR(found.st_mode):
                    waiting.append(entry.path)
                    continue
                if found.st_nlink > 1:
                    if (found.st_dev, found.st_ino) in seen:
                        continue
                    seen.add((found.st_dev, found.st_ino))
                total += found.st_size
    return total
