"""The local store of secrets that a project calls `external`: one encrypted file a secret.

    ~/.config/pycompose/secrets/key         32 random bytes, mode 0600
    ~/.config/pycompose/secrets/NAME.json   AES-256-GCM of the value; the name is sealed with it

A backup of the folder without the key tells names and dates, nothing else. XDG_CONFIG_HOME is
heeded; for root it is /root/.config.
"""

from __future__ import annotations

import base64
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from compose.dataclass import dataclass
from compose.errors import UsageError

MAX_SIZE = 500 * 1024  # bytes, as in Swarm
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_NONCE = 12  # bytes, what GCM wants


@dataclass(frozen=True, slots=True)
class Entry:
    """`created`, `rotated`: seconds since 1970."""

    name: str
    version: int
    created: float
    rotated: float


class SecretStore:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        if not self._folder.is_dir():
            return []
        return sorted(path.stem for path in self._folder.glob("*.json"))

    def entries(self) -> Iterator[Entry]:
        for name in self.names():
            yield _entry(name, self._document(name))

    def create(self, name: str, value: bytes) -> Entry:
        """Raises UsageError where there is one already."""
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"{name!r} can't be the name of a secret\n"
                '  hint: up to 64 letters, digits, "_", "." and "-", the first a letter or digit'
            )
        if name in self.names():
            raise UsageError(
                f"there is a secret {name} already\n  hint: pycompose secret rotate {name}"
            )
        now = time.time()
        return self._write(Entry(name, 1, now, now), value)

    def rotate(self, name: str, value: bytes) -> Entry:
        """Another value under the same name."""
        old = _entry(name, self._document(name))
        return self._write(Entry(name, old.version + 1, old.created, time.time()), value)

    def read(self, name: str) -> bytes:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        document = self._document(name)
        try:
            sealed = base64.b64decode(str(document["sealed"]), validate=True)
            nonce, rest = sealed[:_NONCE], sealed[_NONCE:]
            bound = _bound(_entry(name, document))
            return AESGCM(self._key(make=False)).decrypt(nonce, rest, bound)
        except (InvalidTag, ValueError, KeyError) as error:
            raise UsageError(
                f"the secret {name} can't be opened: its file was changed, or the key isn't its own"
                f"\n  hint: put the right key back, or: pycompose secret rotate {name}"
            ) from error

    def remove(self, name: str) -> None:
        self._document(name)
        self._path(name).unlink()

    # --- files

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _document(self, name: str) -> dict[str, object]:
        if not _NAME.fullmatch(name) or not self._path(name).is_file():
            known = ", ".join(self.names())
            hint = f"there are: {known}" if known else f"pycompose secret create {name}"
            raise UsageError(f"there is no secret {name}\n  hint: {hint}")
        try:
            document = json.loads(self._path(name).read_text())
        except (OSError, ValueError) as error:
            raise UsageError(f"cannot read {self._path(name)}: {error}") from error
        if not isinstance(document, dict):
            raise UsageError(f"cannot read {self._path(name)}: it holds no secret")
        return document

    def _write(self, entry: Entry, value: bytes) -> Entry:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if not value:
            raise UsageError(f"the secret {entry.name} would be empty\n  hint: write it to stdin")
        if len(value) > MAX_SIZE:
            raise UsageError(f"the secret {entry.name} is larger than {MAX_SIZE // 1024} kB")
        nonce = os.urandom(_NONCE)
        sealed = nonce + AESGCM(self._key(make=True)).encrypt(nonce, value, _bound(entry))
        document = {
            "version": entry.version,
            "created": entry.created,
            "rotated": entry.rotated,
            "sealed": base64.b64encode(sealed).decode(),
        }
        _write_private(self._path(entry.name), (json.dumps(document, indent=1) + "\n").encode())
        return entry

    def _key(self, *, make: bool) -> bytes:
        path = self._folder / "key"
        if make and not path.exists():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write_private(path, os.urandom(32))
        try:
            if path.stat().st_mode & 0o077:
                raise UsageError(
                    f"others may read {path}, which opens all secrets\n  hint: chmod 600 {path}"
                )
            key = path.read_bytes()
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}") from error
        if len(key) != 32:
            raise UsageError(f"{path} is no key of 32 bytes")
        return key


def _bound(entry: Entry) -> bytes:
    """What can't be exchanged without the key: neither the name, nor an old value put back."""
    return f"{entry.name}:{entry.version}".encode()


def _entry(name: str, document: Mapping[str, object]) -> Entry:
    def number(key: str) -> float:
        value = document.get(key)
        return float(value) if isinstance(value, int | float) else 0.0

    return Entry(name, int(number("version")), number("created"), number("rotated"))


def _write_private(path: Path, content: bytes) -> None:
    """Whole or not at all, for nobody else to read."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)  # mode 0600
    try:
        with open(descriptor, "wb") as written:
            written.write(content)
            written.flush()
            os.fsync(written.fileno())
        os.rename(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def store_of(environment: Mapping[str, str]) -> SecretStore:
    base = environment.get("XDG_CONFIG_HOME") or f"{environment.get('HOME') or Path.home()}/.config"
    return SecretStore(Path(base, "pycompose", "secrets"))
