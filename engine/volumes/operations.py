"""Volumes: data that outlives containers. One instance a daemon, owned by the event loop."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from engine.volumes.model import Pruned, Volume, VolumeSource

_NONE: Mapping[str, str] = MappingProxyType({})
Users = Callable[[str], Sequence[str]]  # volume name -> ids of the containers that mount it


class Volumes:
    @classmethod
    async def open(cls, root: Path) -> "Volumes":
        """`root` is <data-root>/volumes. Removes what a crash left half removed."""
        ...

    async def create(
        self,
        name: str = "",
        *,
        driver: str = "local",
        options: Mapping[str, str] = _NONE,
        labels: Mapping[str, str] = _NONE,
    ) -> Volume:
        """The volume; the one that is there already if the name is taken. No name: an anonymous
        one, 64 hex digits."""
        ...

    def get(self, name: str) -> Volume:
        """Raises NotFound."""
        ...

    def list(self) -> tuple[Volume, ...]: ...

    async def remove(self, name: str, *, force: bool = False, users: Users) -> None: ...

    async def prune(
        self, wanted: Callable[[Volume], bool], *, all_: bool = False, users: Users
    ) -> Pruned:
        """Removes unused volumes of which `wanted` is true: anonymous ones, or with `all_` any."""
        ...

    def source(self, volume: Volume) -> VolumeSource:
        """What a container mounts for it."""
        ...

    async def copy_up(self, volume: Volume, lowers: Sequence[str], path: str) -> bool:
        """On first use an empty volume takes what the image has at `path`: owners, modes, links,
        extended attributes. True if something was copied."""
        ...

    async def size(self, volume: Volume) -> int:
        """Bytes on disk."""
        ...
