"""Where the bytes of a project's files come from: this machine's disk, or something like it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Source(Protocol):
    def read(self, path: Path) -> bytes:
        """Raises OSError as open() does."""

    def is_file(self, path: Path) -> bool: ...

    def is_folder(self, path: Path) -> bool: ...

    def is_executable(self, path: Path) -> bool:
        """Of a file that was read."""


class Disk:
    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def is_file(self, path: Path) -> bool:
        return path.is_file()

    def is_folder(self, path: Path) -> bool:
        return path.is_dir()

    def is_executable(self, path: Path) -> bool:
        return bool(path.stat().st_mode & 0o111)


DISK = Disk()
