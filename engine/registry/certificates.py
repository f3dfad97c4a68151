"""TLS for a registry: the system's authorities, and those of the user's folder for that host.

As Docker has it: of `certs.d/HOST[:PORT]/` each *.crt is an authority, and a *.cert with the *.key
of the same name is what we show. A changed folder counts from the next connection on.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

from engine.errors import Failure

State = tuple[tuple[Path, int, int], ...]


class Certificates:
    """Asked in threads. Of a host whose files haven't changed it is the same context again: else
    no connection would be used twice."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folders)
        self._known: dict[tuple[str, bool], tuple[State, ssl.SSLContext]] = {}

    def context(self, host: str, *, is_verified: bool) -> ssl.SSLContext:
        """Raises Failure where the folder of `host` is of no use."""
        files = self._files(host)
        state = tuple((file, *_version(file)) for file in files)
        # Most hosts have no folder: they share one.
        key = (host if files else "", is_verified)
        known = self._known.get(key)
        if known is None or known[0] != state:
            known = self._known[key] = (state, _make(files, is_verified=is_verified))
        return known[1]

    def _files(self, host: str) -> tuple[Path, ...]:
        for folder in self._folders:
            try:
                found = tuple(sorted((folder / host).iterdir()))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise Failure(f"cannot read {folder / host}: {error.strerror}") from error
            return found
        return ()


def _version(file: Path) -> tuple[int, int]:
    try:
        found = file.stat()
    except OSError as error:
        raise Failure(f"cannot read {file}: {error.strerror}") from error
    return found.st_mtime_ns, found.st_size


def _make(files: Sequence[Path], *, is_verified: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not is_verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for file in files:
        pair = file.with_suffix(".key" if file.suffix == ".cert" else ".cert")
        try:
            match file.suffix:
                case ".crt":
                    context.load_verify_locations(file)
                case ".cert" if pair not in files:
                    raise Failure(
                        f"missing key {pair.name} for client certificate {file.name} in "
                        f"{file.parent}. CA certificates must use the extension .crt"
                    )
                case ".key" if pair not in files:
                    raise Failure(
                        f"missing client certificate {pair.name} for key {file.name} in "
                        f"{file.parent}"
                    )
                case ".cert":
                    context.load_cert_chain(file, pair)
        except (ssl.SSLError, OSError) as error:
            raise Failure(f"cannot use the certificate {file}: {error}") from error
    return context
