"""What an image is to the rest of the engine. Frozen values."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from engine.oci.digest import Digest
from engine.oci.image_config import ImageConfig, ImageDocument
from engine.oci.platform import Platform, best_match

ROOTFS_PREFIX = "rootfs:"


@dataclass(frozen=True, slots=True)
class Image:
    id: Digest
    tags: tuple[str, ...]  # familiar, "nginx:latest"; for a directory of the host "rootfs:/path"
    digests: tuple[str, ...]  # familiar, "nginx@sha256:..."
    document: ImageDocument
    created: str  # RFC 3339, UTC
    size: int  # bytes of all layers, unpacked
    last_tagged: str = ""  # RFC 3339
    rootfs_path: str = ""  # a directory of the host, resolved; "" for an image of layers
    base: str = ""  # the same below layers that were built on it
    parent: str = ""  # id of the image of the container that it was committed from

    @property
    def config(self) -> ImageConfig:
        return self.document.config

    @property
    def os(self) -> str:
        return self.document.platform.os

    @property
    def architecture(self) -> str:
        return self.document.platform.architecture

    @property
    def variant(self) -> str:
        return self.document.platform.variant

    @property
    def labels(self) -> Mapping[str, str]:
        return self.document.config.labels

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.tags, *self.digests)

    @property
    def name(self) -> str:
        """What people call it: its first tag, else its id."""
        return self.tags[0] if self.tags else self.id


def unlike(image: Image, name: str, wanted: Platform) -> str:
    """What to say of an image that isn't for the wanted platform, "" of one that is."""
    found = image.document.platform
    if best_match(wanted, [found]) is not None:
        return ""
    return (
        f"image with reference {name} was found but its platform ({found}) does not match the "
        f"specified platform ({wanted.as_told()})"
    )


@dataclass(frozen=True, slots=True)
class ImageUser:
    """A container that needs an image."""

    container_id: str
    is_running: bool


class Removal(Enum):
    UNTAGGED = "Untagged"
    DELETED = "Deleted"


@dataclass(frozen=True, slots=True)
class Removed:
    """One line of what a removal did; the rest is for its event."""

    what: Removal
    name: str
    image_id: Digest
    labels: Mapping[str, str] = field(default_factory=dict)  # that the image had
    is_companion: bool = False  # a digest that goes along with the last tag: told of in no event


@dataclass(frozen=True, slots=True)
class Pruned:
    removed: tuple[Removed, ...]
    reclaimed: int  # bytes


@dataclass(frozen=True, slots=True)
class Step:
    """What a build step made, and the cache holds."""

    image: Image
    size: int  # bytes of its own layer; 0 where an image that everybody sees has it as well
    is_base: bool  # such an image stands on it
    used: float  # when last, in seconds since 1970


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image that came in, and the familiar tags that it got (none: known by its id only)."""

    image: Image
    tags: tuple[str, ...]
    replaced: tuple[tuple[str, Digest], ...] = ()  # tags, and the images that had them before


@dataclass(frozen=True, slots=True)
class HistoryLine:
    id: str  # of the image whose newest line it is, "<missing>" where none is known
    created: int  # seconds
    created_by: str
    tags: tuple[str, ...]
    size: int
    comment: str


@dataclass(frozen=True, slots=True)
class Progress:
    """One thing that happened in a pull or a push, in Docker's words."""

    status: str
    id: str = ""  # of a layer, short; or the tag that is pulled
    current: int = 0  # bytes
    total: int = 0
    is_of_layer: bool = False


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a registry has under a tag now: a manifest of `size` bytes."""

    tag: str
    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class Saving:
    """An archive under way, and the ids of the images in it."""

    image_ids: tuple[Digest, ...]
    pieces: AsyncGenerator[bytes, None]
