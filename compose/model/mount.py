"""What a service sees in its file tree besides its image: volumes, binds, configs, secrets."""

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum

from compose.dataclass import dataclass
from compose.model.document import Document, filled, mapping
from compose.model.units import Bytes


class MountType(StrEnum):
    BIND = "bind"
    VOLUME = "volume"
    TMPFS = "tmpfs"
    IMAGE = "image"
    NPIPE = "npipe"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class BindOptions:
    propagation: str = ""
    create_host_path: bool | None = None  # None: the long form doesn't say, which means true
    selinux: str = ""  # "", "z" (shared), "Z" (private)
    recursive: str = ""  # "", enabled, disabled, writable, readonly

    @property
    def makes_source(self) -> bool:
        return self.create_host_path is not False

    def to_document(self) -> Document:
        document = filled(selinux=self.selinux, propagation=self.propagation)
        if self.create_host_path is not None:
            document["create_host_path"] = self.create_host_path
        return document | filled(recursive=self.recursive)


@dataclass(frozen=True, slots=True)
class VolumeOptions:
    nocopy: bool = False
    subpath: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    def to_document(self) -> Document:
        return filled(labels=mapping(self.labels), nocopy=self.nocopy, subpath=self.subpath)


@dataclass(frozen=True, slots=True)
class TmpfsOptions:
    size: Bytes | None = None
    mode: int | None = None

    def to_document(self) -> Document:
        return filled(size=str(self.size) if self.size else None, mode=self.mode)


@dataclass(frozen=True, slots=True)
class ImageOptions:
    subpath: str = ""

    def to_document(self) -> Document:
        return filled(subpath=self.subpath)


@dataclass(frozen=True, slots=True)
class Mount:
    """One entry of a service's `volumes`."""

    type: MountType
    target: str
    source: str = ""  # absolute path, key of a top-level volume, image; "" = anonymous volume
    read_only: bool = False
    consistency: str = ""
    bind: BindOptions | None = None
    volume: VolumeOptions | None = None
    tmpfs: TmpfsOptions | None = None
    image: ImageOptions | None = None

    @property
    def is_anonymous(self) -> bool:
        return self.type is MountType.VOLUME and not self.source

    def to_document(self) -> Document:
        document = filled(
            type=str(self.type),
            source=self.source,
            target=self.target,
            read_only=self.read_only,
            consistency=self.consistency,
        )
        for name, options in (
            ("bind", self.bind),
            ("volume", self.volume),
            ("tmpfs", self.tmpfs),
            ("image", self.image),
        ):
            if options is not None:
                document[name] = options.to_document()
        return document


@dataclass(frozen=True, slots=True)
class FileReference:
    """One entry of a service's (or build's) `configs` or `secrets`."""

    source: str  # key of the top-level config or secret
    target: str = ""  # as written; `path` says where it lands
    uid: str = ""
    gid: str = ""
    mode: int | None = None  # None: 0444

    def config_path(self) -> str:
        return self.target or f"/{self.source}"

    def secret_path(self) -> str:
        target = self.target or self.source
        return target if target.startswith("/") else f"/run/secrets/{target}"

    def to_document(self) -> Document:
        return filled(
            source=self.source,
            target=self.target,
            uid=self.uid,
            gid=self.gid,
            mode=f"0{self.mode:o}" if self.mode is not None else None,
        )
