"""Containers on disk: <root>/<id>/config.json says that one exists, state.json how it is.

config.json is written last, and removed first: a folder without it, or where it is empty, is what
a crash left of a create or a remove. state.json is written often and lies beside it from the
beginning, a line for each state, so that a start waits for no disk: it is synced soon after, and an
exit is durable before it is told.

To make what a container has in its folder takes longer than to fill it. So one folder waits beside
them, made while nobody waited for it; a create that finds none makes its own.
"""

import contextlib
import dataclasses
import errno
import json
import logging
import os
import types
import typing
from collections.abc import Iterable, Mapping
from enum import Enum
from functools import cache
from pathlib import Path
from threading import Lock

from engine.containers.model import Attachment, Record, State, Status
from engine.networks.model import PortBinding
from engine.records import (
    append_record,
    begin_records,
    fields_of,
    last_record,
    read_record,
    sync_directory,
    sync_file,
    sync_record,
    write_record,
)

log = logging.getLogger(__name__)

CONFIG = "config.json"
STATE = "state.json"
INTENT = "intent.json"
HOSTNAME, HOSTS, RESOLV_CONF = "hostname", "hosts", "resolv.conf"
READY = "container-to-be"
VERSION = 1
# Of the boot or the moment: in state.json or nowhere.
_CHANGING = ("state", "attachments", "ports", "restart_count", "boot_id", "exec_ids")


@dataclasses.dataclass(frozen=True, slots=True)
class _Changing:
    """The part of a Record that is in state.json."""

    state: State
    attachments: tuple[Attachment, ...] = ()
    ports: tuple[PortBinding, ...] = ()
    restart_count: int = 0
    boot_id: str = ""


class Store:
    def __init__(self, root: Path) -> None:
        self.root = root
        self._ready = str(root.with_name(READY))
        self._preparing = Lock()

    def folder(self, container_id: str) -> Path:
        return self.root / container_id

    def begin(self, container_id: str, volumes: Iterable[str]) -> Path:
        """The folder of a container to be; `volumes`: anonymous ones that go if it never is."""
        folder = self.folder(container_id)
        try:
            os.rename(self._ready, folder)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EXDEV):  # the folder is a mount of its own
                raise
            _make_folder(str(folder))
        if names := list(volumes):
            (folder / INTENT).write_text(json.dumps(names))
        return folder

    def prepare(self) -> None:
        """Have a folder wait for the next container. In a thread, when nobody waits. Raises
        OSError."""
        if os.path.exists(self._ready) or not self._preparing.acquire(blocking=False):
            return
        try:
            new = f"{self._ready}.new"
            _remove_tree(new)  # of a daemon that was killed here
            _make_folder(new)
            os.rename(new, self._ready)
        finally:
            self._preparing.release()

    def close(self) -> None:
        """No container comes any more: none waits from now on."""
        self._preparing.acquire()
        for path in (f"{self._ready}.new", self._ready):
            _remove_tree(path)

    def commit(self, record: Record, *, durable: bool = True) -> None:
        """From here on it exists, and its volumes outlive what becomes of it. Not `durable`: once
        `sync_config` returns, also after a crash of the machine."""
        folder = self.folder(record.id)
        write_record(folder / CONFIG, _config_json(record), durable=durable)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(folder / INTENT)

    def sync_config(self, container_id: str) -> None:
        sync_record(f"{self.root}/{container_id}/{CONFIG}")

    def save_state(self, record: Record) -> None:
        """Once `sync_state` returns, also after a crash of the machine."""
        changing = _Changing(
            record.state, record.attachments, record.ports, record.restart_count, record.boot_id
        )
        append_record(f"{self.root}/{record.id}/{STATE}", changing)

    def sync_state(self, container_id: str) -> None:
        """Makes what was last written durable."""
        with contextlib.suppress(FileNotFoundError):
            sync_file(f"{self.root}/{container_id}/{STATE}")

    def intend(self, container_id: str, volumes: Iterable[str]) -> None:
        """A removal begins: these volumes go with the container, whoever ends it."""
        path = f"{self.root}/{container_id}/{INTENT}"
        if names := list(volumes):
            Path(path).write_text(json.dumps(names))
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    def intended(self, container_id: str) -> tuple[str, ...]:
        return _intended(self.folder(container_id))

    def forget(self, container_id: str, *, durable: bool = True) -> None:
        """It no longer exists; its files follow. Not `durable`: once `clear` returns, also after a
        crash of the machine."""
        folder = f"{self.root}/{container_id}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{folder}/{CONFIG}")
            if durable:
                sync_directory(folder)

    def clear(self, container_id: str) -> None:
        """Removes all files."""
        root = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _remove_tree(container_id, root)
            os.fsync(root)
        finally:
            os.close(root)

    def load(self) -> tuple[list[Record], list[tuple[str, tuple[str, ...]]]]:
        """The containers, and the folders of those that aren't: (id, their anonymous volumes).

        One that can't be read is left alone and reported: the others must come up.
        """
        records: list[Record] = []
        leftovers: list[tuple[str, tuple[str, ...]]] = []
        for entry in sorted(os.scandir(self.root), key=lambda entry: entry.name):
            folder = Path(entry.path)
            try:
                records.append(self._read(folder))
            except FileNotFoundError:
                leftovers.append((entry.name, _intended(folder)))
            except (OSError, ValueError, TypeError, KeyError) as error:
                log.error("cannot read container %s: %s: left as it is", entry.name, error)
        return records, leftovers

    def _read(self, folder: Path) -> Record:
        """Raises FileNotFoundError where there is none, or was none for long enough to start."""
        if not any((folder / name).stat().st_size for name in (CONFIG, STATE)):
            raise FileNotFoundError(errno.ENOENT, "the machine went before it was written", CONFIG)
        document = read_record(folder / CONFIG)
        if not isinstance(document, dict) or document.get("id") != folder.name:
            raise ValueError(f"{CONFIG} is not that of {folder.name}")
        document.pop("version", None)
        record = typing.cast(Record, from_json(Record, document))
        if not (folder / STATE).exists():  # of an earlier version, and not started yet
            begin_records(folder / STATE)
            sync_directory(folder)
        try:
            last = last_record(folder / STATE)
            if last is None:
                return record
            changing = typing.cast(_Changing, from_json(_Changing, last))
        except (ValueError, TypeError, KeyError) as error:
            log.warning("container %s: its state was lost: %s", folder.name, error)
            state = State(Status.EXITED, exit_code=255, started_at=record.created)
            return dataclasses.replace(record, state=state)
        return dataclasses.replace(
            record,
            state=changing.state,
            attachments=changing.attachments,
            ports=changing.ports,
            restart_count=changing.restart_count,
            boot_id=changing.boot_id,
        )


def _make_folder(folder: str) -> None:
    for part in ("", "/rootfs", "/rootfs/upper", "/rootfs/work"):
        os.mkdir(f"{folder}{part}", 0o700)
    # The mode of the container's own `/`, whatever the daemon's umask.
    os.chmod(f"{folder}/rootfs/upper", 0o755)
    begin_records(f"{folder}/{STATE}")
    # A start that is prepared ahead mounts these before they are written.
    for name in (HOSTNAME, HOSTS, RESOLV_CONF):
        os.close(os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))


def _remove_tree(name: str, at: int | None = None) -> None:
    """A folder and all in it. The tree is a container's: by descriptors, and along no link.

    For each container that ends, whose folders are mostly empty: with half the system calls of
    shutil.rmtree.
    """
    try:
        os.rmdir(name, dir_fd=at)
        return
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    folder = os.open(name, flags, dir_fd=at)
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    _remove_tree(entry.name, folder)
                else:
                    os.unlink(entry.name, dir_fd=folder)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=at)


def _intended(folder: Path) -> tuple[str, ...]:
    try:
        names = json.loads((folder / INTENT).read_bytes())
    except (OSError, ValueError):
        return ()
    return tuple(name for name in names if isinstance(name, str))


def _config_json(record: Record) -> dict[str, object]:
    fields = typing.cast("dict[str, object]", fields_of(record))
    for name in _CHANGING:
        del fields[name]
    # The networks that were asked for at create are durable; their endpoints come and go.
    asked = [dataclasses.replace(attachment, endpoint=None) for attachment in record.attachments]
    return {"version": VERSION, **fields, "attachments": asked}


# --- JSON -> frozen dataclasses: field by field, by their annotations ------------------------


@cache
def _annotations(kind: type) -> Mapping[str, object]:
    return typing.get_type_hints(kind)


def from_json(kind: object, value: object) -> object:
    """The value of type `kind`. Fields that are absent take their default, unknown ones are
    passed over: a record outlives the version that wrote it. Raises TypeError, ValueError."""
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        (inner,) = (part for part in typing.get_args(kind) if part is not type(None))
        return from_json(inner, value)
    if origin is tuple:
        if not isinstance(value, list):
            raise TypeError(f"a list is due, not {value!r}")
        parts = typing.get_args(kind)
        kinds = [parts[0]] * len(value) if parts[-1] is Ellipsis else parts
        return tuple(from_json(part, item) for part, item in zip(kinds, value, strict=True))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise TypeError(f"an object is due, not {value!r}")
        item_kind = typing.get_args(kind)[1]
        return {key: from_json(item_kind, item) for key, item in value.items()}
    if isinstance(kind, type):
        return _plain(kind, value)
    return value


def _plain(kind: type, value: object) -> object:
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise TypeError(f"an object is due, not {value!r}")
        hints = _annotations(kind)
        return kind(
            **{key: from_json(hints[key], item) for key, item in value.items() if key in hints}
        )
    if issubclass(kind, Enum):
        return kind(value)
    if kind is not object and not isinstance(value, kind):
        raise TypeError(f"a {kind.__name__} is due, not {value!r}")
    return value
