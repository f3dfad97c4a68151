"""What a volume is. Frozen values."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
ANONYMOUS_LABEL = "com.docker.volume.anonymous"


@dataclass(frozen=True, slots=True)
class Volume:
    name: str
    mountpoint: str  # <data-root>/volumes/<name>/_data
    created: str  # RFC 3339
    driver: str = "local"
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    scope: str = "local"

    @property
    def is_anonymous(self) -> bool:
        return ANONYMOUS_LABEL in self.labels


@dataclass(frozen=True, slots=True)
class FileSystem:
    type: str
    device: str
    options: tuple[str, ...]  # flags and what the file system itself understands


@dataclass(frozen=True, slots=True)
class VolumeSource:
    """What a container mounts for a volume."""

    kind: str  # "bind": what lies on the host; "mount": what is mounted on `path` before
    path: str
    options: tuple[str, ...] = ()  # "ro", "rbind"
    file_system: FileSystem | None = None


@dataclass(frozen=True, slots=True)
class Pruned:
    names: tuple[str, ...]
    reclaimed: int  # bytes


def is_valid_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and len(name) <= 255
