"""What a stage has come to so far, and what it starts from. Frozen values, and how to make them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from engine.builder import cache
from engine.builder.model import BuildRequest
from engine.errors import Unsupported
from engine.images.model import Image
from engine.images.operations import host_platform
from engine.oci.digest import Digest
from engine.oci.image_config import HistoryEntry, ImageConfig, ImageDocument
from engine.oci.platform import Platform, parse_platform, platform_of


@dataclass(frozen=True, slots=True)
class State:
    document: ImageDocument
    image_id: str  # the image whose layers these are; "" before there is one
    base: str = ""  # a directory of the host below the layers
    args: Mapping[str, str] | None = None  # ARGs of this stage
    cmd_is_own: bool = False
    is_changed: bool = False  # since that image was made

    @property
    def config(self) -> ImageConfig:
        return self.document.config

    @property
    def key(self) -> str:
        """What stands for all that the next step finds: files and configuration, however they
        came about."""
        return cache.state_key(self.document, self.base)

    @property
    def identity(self) -> str:
        """Of the files alone; "" where they lie on a directory that may change."""
        return "" if self.base else " ".join(self.document.diff_ids) or "scratch"


def known_args(request: BuildRequest) -> dict[str, str]:
    """Arguments that the builder itself sets (an ARG without a default gets them)."""
    host = host_platform()
    target = parse_platform(request.platform, host) if request.platform else host
    found = {}
    for prefix, platform in (("BUILD", host.as_told()), ("TARGET", target.as_told())):
        found[f"{prefix}PLATFORM"] = str(platform)
        found[f"{prefix}OS"] = platform.os
        found[f"{prefix}ARCH"] = platform.architecture
        found[f"{prefix}VARIANT"] = platform.variant
    return found


def check_runs_here(platform: Platform) -> None:
    here = host_platform()
    runs = (platform.os, platform.architecture) == (here.os, here.architecture)
    if not runs and (here.architecture, platform.architecture) not in (
        ("amd64", "386"),
        ("arm64", "arm"),
    ):
        raise Unsupported(f"cannot run what is made for {platform} on {here}")


def fits(image: Image, wanted: Platform) -> bool:
    own = platform_of(image.os, image.architecture, image.variant)
    return (own.os, own.architecture) == (wanted.os, wanted.architecture) and (
        not wanted.variant or own.variant == wanted.variant
    )


def state_of(image: Image) -> State:
    base = image.rootfs_path or image.base
    return State(image.document, image.id, base=base, args={})


def unnamed(state: State) -> Image:
    """The layers of a state as an image that `Images.layers` takes."""
    return Image(
        Digest(state.image_id), (), (), state.document, state.document.created, 0, base=state.base
    )


def scratch_document() -> ImageDocument:
    return ImageDocument(host_platform(), ImageConfig(), ())


def entry(created_by: str, when: str, *, empty: bool = False) -> HistoryEntry:
    return HistoryEntry(created=when, created_by=created_by, empty_layer=empty)


def stamp(epoch: int | None) -> str:
    """RFC 3339 of a second since 1970, else of now."""
    if epoch is not None:
        return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seconds(text: str) -> float:
    """Since 1970, of an RFC 3339 time; 0 where it says nothing."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return 0
