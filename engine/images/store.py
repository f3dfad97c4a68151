"""The state of the store: one immutable `Catalog`, and the files that it names.

A change makes the next catalog, writes it durably, then puts it in place; files come before the
catalog that names them, and go after it. Owned by the event loop; what blocks runs in threads.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from engine.errors import Failure, InvalidRequest
from engine.images.blobs import Blobs
from engine.images.catalog import Catalog, LayerRecord, catalog_json, parse_catalog
from engine.images.feed import finish
from engine.images.intake import Incoming
from engine.images.layers import Layers, remove_directory
from engine.images.lookup import image_of
from engine.images.model import Image, Removal, Removed
from engine.images.places import make_places
from engine.images.removal import RemovalPlan
from engine.kernel.libc import told
from engine.oci.digest import Digest, chain_id
from engine.oci.image_config import ImageDocument, parse_image_document
from engine.records import read_record, write_record

log = logging.getLogger(__name__)
Result = TypeVar("Result")
NO_DOCUMENTS: Mapping[Digest, ImageDocument] = MappingProxyType({})
_CATALOG = "catalog.json"


class Store:
    def __init__(self, root: Path, threads: ThreadPoolExecutor) -> None:
        self._root = root
        self.temporary = root / "tmp"
        self.empty = root / "empty"  # the lower layer of an image that has none
        self.places = root / "places"  # below all others in the root of a container
        self.blobs = Blobs(root / "blobs")
        self.layers = Layers(root / "layers", self.temporary)
        self.threads = threads
        self.catalog = Catalog()
        self._documents: Mapping[Digest, ImageDocument] = {}
        self.before_sweep: Callable[[], None] = lambda: None  # for who knows of parts of his own
        self.changing = asyncio.Lock()
        self._lingering: dict[Digest, LayerRecord] = {}  # of removed images, not yet swept away
        self._going: set[Digest] = set()  # images whose removal is decided
        self._holders = 0  # of what may look like garbage: the sweep waits for them
        self._sweep_due = False

    async def open(self) -> None:
        """Reads the catalog and clears away what a crash left half made."""
        self.catalog, self._documents = await self.in_thread(self._recover)

    def retire(self) -> None:
        """No container is left."""
        remove_directory(self.places)

    # ---- what there is

    def image(self, image_id: Digest) -> Image:
        return image_of(self.catalog, self._documents[image_id], image_id)

    def disk_usage(self) -> int:
        """Bytes of all unpacked layers."""
        return sum(layer.size for layer in self.catalog.layers.values())

    def is_here(self, image: Image) -> bool:
        """Whether it hasn't been removed since it was found, and isn't just going. Who is about to
        be one of its users asks once more."""
        if image.rootfs_path:
            return True
        return image.id in self.catalog.images and image.id not in self._going

    def layer(self, diff_id: Digest) -> LayerRecord:
        """Also of an image that was removed while somebody builds on it."""
        return self.catalog.layers.get(diff_id) or self._lingering[diff_id]

    # ---- changes

    async def enter(self, incoming: Sequence[Incoming]) -> None:
        """The acknowledgement: with this write the images are there, before it they are not."""
        moment = now()
        documents = {each.record.id: each.document for each in incoming}

        def entered(catalog: Catalog) -> Catalog:
            for each in incoming:
                catalog = catalog.with_image(each.record, each.layers)
                for name in each.names:
                    catalog = catalog.with_name(str(name), each.record.id, moment)
            return catalog

        async with self.changing:
            await self.write(entered(self.catalog), documents)

    async def change(self, step: Callable[[Catalog], Catalog]) -> None:
        async with self.changing:
            changed = step(self.catalog)
            if changed is not self.catalog:
                await self.write(changed)

    async def write(
        self, catalog: Catalog, documents: Mapping[Digest, ImageDocument] = NO_DOCUMENTS
    ) -> None:
        """With `changing` held. Disk and memory agree, also when the caller is cancelled."""
        content = catalog_json(catalog)
        writing = asyncio.get_running_loop().run_in_executor(
            self.threads, lambda: write_record(self._root / _CATALOG, content)
        )
        try:
            await finish(writing)
        except OSError as error:
            raise Failure(f"cannot record the images: {told(error)}") from error
        finally:
            if writing.exception() is None:
                if self.catalog.blobs() - catalog.blobs():
                    self._sweep_due = True
                left = self.catalog.layers.items()
                self._lingering |= {key: layer for key, layer in left if key not in catalog.layers}
                self.catalog = catalog
                known = {**self._documents, **documents}
                self._documents = {key: known[key] for key in catalog.images}

    async def perform_removal(self, planned: RemovalPlan) -> tuple[Removed, ...]:
        """With `changing` held."""
        before = self.catalog
        catalog = before.without_names(planned.names)
        deleted = [each.image_id for each in planned.removed if each.what is Removal.DELETED]
        for image_id in deleted:
            catalog = catalog.without_image(image_id)
        self._going.update(deleted)
        try:
            await self.write(catalog)
        finally:
            self._going.difference_update(deleted)
        if not deleted:
            return planned.removed
        gone = [
            Removed(Removal.DELETED, chain, image_id)
            for image_id in deleted
            for chain in _chains(before, image_id)
            if chain not in {kept for other in catalog.images for kept in _chains(catalog, other)}
        ]
        await self.sweep()
        return (*planned.removed, *gone)

    async def forget(self, catalog: Catalog) -> None:
        """A catalog with fewer images takes the place of the present one. With `changing` held."""
        await self.write(catalog)
        await self.sweep()

    def expect_garbage(self) -> None:
        """Once nobody holds anything any more, there is something to sweep away."""
        self._sweep_due = True

    # ---- files

    @contextlib.asynccontextmanager
    async def taking_in(self) -> AsyncIterator[None]:
        """Parts that no catalog names yet are safe from the sweep while one of these is open."""
        async with self.held():
            async with self.changing:  # a sweep under way comes to its end first
                pass
            try:
                yield
            except OSError as error:
                self._sweep_due = True
                reason = told(error, str(self._root))
                raise Failure(f"cannot store the image: {reason}") from error
            except BaseException:
                self._sweep_due = True
                raise

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Images that are there now keep their files meanwhile, whoever removes them."""
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
            if self._sweep_due and not self._holders:
                async with self.changing:
                    await self.sweep()

    async def sweep(self) -> None:
        """Removes the layers and blobs that no image needs. With `changing` held."""
        if self._holders:
            self._sweep_due = True
            return
        self._sweep_due = False
        self._lingering.clear()
        self.before_sweep()
        catalog = self.catalog
        try:
            await self.in_thread(lambda: self._remove_garbage(catalog))
        except OSError as error:
            # The next one, or the next start, finds it again.
            log.warning("cannot remove unused layers: %s", error)

    def _remove_garbage(self, catalog: Catalog) -> None:
        kept = catalog.blobs()
        for digest in [each for each in self.blobs.digests() if each not in kept]:
            self.blobs.remove(digest)
        for diff_id in [each for each in self.layers.diff_ids() if each not in catalog.layers]:
            self.layers.remove(diff_id)

    def _recover(self) -> tuple[Catalog, Mapping[Digest, ImageDocument]]:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.temporary.exists():
            remove_directory(self.temporary)
        self.temporary.mkdir(mode=0o700)
        self.blobs.prepare()
        self.layers.prepare()
        self.empty.mkdir(mode=0o755, exist_ok=True)
        make_places(self.places)
        try:
            catalog = parse_catalog(read_record(self._root / _CATALOG))
        except FileNotFoundError:
            catalog = Catalog()
        except (ValueError, InvalidRequest) as error:
            raise Failure(f"cannot read {self._root / _CATALOG}: {error}") from error
        documents: dict[Digest, ImageDocument] = {}
        for image_id, record in catalog.images.items():
            try:
                documents[image_id] = parse_image_document(self.blobs.read(image_id))
                missing = [each for each in record.layers if not self.layers.has(each)]
                if missing:
                    raise InvalidRequest(f"layer {missing[0]} is missing")
            except (OSError, InvalidRequest) as error:
                log.error("image %s is damaged and left out: %s", image_id, error)
                documents.pop(image_id, None)
                catalog = catalog.without_image(image_id)
        self._remove_garbage(catalog)
        return catalog, documents

    async def in_thread(self, job: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self.threads, job)


def _chains(catalog: Catalog, image_id: Digest) -> tuple[Digest, ...]:
    layers = catalog.images[image_id].layers
    return tuple(chain_id(layers[:count]) for count in range(len(layers), 0, -1))


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
