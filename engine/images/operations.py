"""Images: all that can be asked of them. One instance a daemon, owned by the event loop.

State is one immutable `Catalog`; a change makes the next one, writes it durably, then puts it in
place. Work that blocks (unpacking, hashing, copying) runs in threads and sees no state.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from engine.images.model import HistoryLine, Image, ImageUser, Loaded, Pruned, Removed

Users = Callable[[str], Sequence[ImageUser]]  # image id -> the containers that need it


class Images:
    @classmethod
    async def open(cls, root: Path, *, private: Sequence[Path] = ()) -> "Images":
        """Reads the catalog and clears away what a crash left half made.

        `private`: directories of the engine (data root, exec root, those of its sockets) that no
        `rootfs:` image may show. The parent of `root` is always one of them.
        """
        ...

    async def close(self, *, containers_left: bool = True) -> None:
        """Without containers the masks of `rootfs:` images go as well."""

    def resolve(self, reference: str) -> Image:
        """By tag, digest, id, unique id prefix, or `rootfs:/path`. Raises NotFound."""
        ...

    def layers(self, image: Image) -> tuple[str, ...]:
        """Overlay lower directories, top first. Ask at each start, don't store them: the mask of
        a `rootfs:` image is made anew when the host has changed."""
        ...

    def list(self) -> tuple[Image, ...]:
        """All of them, newest first; a `rootfs:` image once it was used."""
        ...

    def history(self, image: Image) -> tuple[HistoryLine, ...]:
        """Newest first."""
        ...

    def layer_digests(self, image: Image) -> tuple[str, ...]:
        """Diff ids, bottom first (RootFS.Layers of an inspect)."""
        ...

    async def tag(self, reference: str, repository: str, tag: str = "") -> Image: ...

    async def remove(
        self, reference: str, *, force: bool = False, prune: bool = True, users: Users
    ) -> tuple[Removed, ...]:
        """Raises Conflict in Docker's words while containers need it."""
        ...

    async def prune(self, wanted: Callable[[Image], bool], *, users: Users) -> Pruned:
        """Removes the unused images of which `wanted` is true."""
        ...

    async def load(self, archive: AsyncIterator[bytes]) -> tuple[Loaded, ...]:
        """A `docker save` archive or an OCI layout in a tar, plain or compressed."""
        ...

    async def import_(
        self,
        archive: AsyncIterator[bytes],
        repository: str = "",
        tag: str = "",
        *,
        changes: Sequence[str] = (),
        message: str = "",
    ) -> Image:
        """A flat root file system in a tar becomes an image of one layer."""
        ...

    def save(self, references: Sequence[str]) -> AsyncIterator[bytes]:
        """A tar that `docker load` and OCI tools read. Refusals are raised by the call itself."""
        ...

    def disk_usage(self) -> int:
        """Bytes of all unpacked layers."""
        ...
