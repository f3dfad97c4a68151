"""Tars made for the tests, and a way to look at layers as a container would."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path

Entry = tuple[tarfile.TarInfo, bytes]


def entry(name: str, content: bytes = b"", **fields: object) -> Entry:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.mode = 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def folder(name: str, mode: int = 0o755, **fields: object) -> Entry:
    return entry(name, type=tarfile.DIRTYPE, mode=mode, **fields)


def symlink(name: str, target: str) -> Entry:
    return entry(name, type=tarfile.SYMTYPE, linkname=target, mode=0o777)


def hardlink(name: str, target: str) -> Entry:
    return entry(name, type=tarfile.LNKTYPE, linkname=target)


def node(name: str, kind: bytes, major: int = 0, minor: int = 0, mode: int = 0o600) -> Entry:
    return entry(name, type=kind, devmajor=major, devminor=minor, mode=mode)


def tar(entries: Iterable[Entry], style: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=style) as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def config(diff_ids: Sequence[str], **fields: object) -> bytes:
    return json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": "2026-01-02T03:04:05Z",
            "config": {"Env": ["A=b"], "Cmd": ["/bin/true"], **fields},
            "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
            "history": [{"created": "2026-01-02T03:04:05Z", "created_by": f"step {n}"}
                        for n, _ in enumerate(diff_ids)],
        }
    ).encode()  # fmt: skip


def docker_archive(
    layers: Sequence[bytes],
    tags: Sequence[str] | None = ("box:1",),
    *,
    diff_ids: Sequence[str] | None = None,
    changes: Mapping[str, object] | None = None,
    extra: Sequence[Entry] = (),
) -> bytes:
    """As `docker save` of old wrote it."""
    document = config(diff_ids if diff_ids is not None else [digest(layer) for layer in layers])
    name = digest(document)[7:] + ".json"
    manifest = {
        "Config": name,
        "RepoTags": tags if tags is None else list(tags),
        "Layers": [f"{index}/layer.tar" for index, _ in enumerate(layers)],
        **(changes or {}),
    }
    entries = [entry(f"{index}/layer.tar", layer) for index, layer in enumerate(layers)]
    entries += [entry(name, document), *extra]
    return tar([*entries, entry("manifest.json", json.dumps([manifest]).encode())])


async def chunks(content: bytes, size: int = 65536) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


_LOOK = """
import ctypes, json, os, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x20000) or libc.mount(b"none", b"/", None, 0x44000, None):
    sys.exit("unshare: errno %d" % ctypes.get_errno())
lowers, upper, work, point, command = json.loads(sys.argv[1])
options = "lowerdir=" + ":".join(lowers) + (",upperdir=%s,workdir=%s" % (upper, work))
if libc.mount(b"overlay", point.encode(), b"overlay", 0, options.encode()):
    sys.exit("mount: errno %d" % ctypes.get_errno())
os.chdir(point)
sys.exit(subprocess.run(command).returncode)
"""


def in_overlay(lowers: Sequence[str], scratch: Path, *command: str) -> str:
    """What `command` prints, run in the root of an overlay over `lowers`; a mount namespace of
    its own, so nothing stays."""
    places = [scratch / name for name in ("upper", "work", "view")]
    for place in places:
        place.mkdir(exist_ok=True)
    argument = json.dumps([list(lowers), *map(str, places), list(command)])
    done = subprocess.run(
        [sys.executable, "-I", "-c", _LOOK, argument], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tree(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def opened(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY)
