"""Brings an image of the store into a registry: only what isn't there yet, several at a time.

What is sent is what came: the same manifest and the same bytes, so that the digest stays. What was
made here has plain layers; those are compressed once, and kept so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from engine.errors import InvalidRequest
from engine.images.blobs import Blobs
from engine.images.catalog import Catalog, ImageRecord, LayerRecord
from engine.images.feed import run_fed
from engine.images.intake import Intake
from engine.images.model import Progress, Pushed
from engine.images.reports import Tell
from engine.images.watched import Throttle, Watched
from engine.oci.digest import Digest, digest_of, hex_part
from engine.oci.manifest import (
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    manifest_json,
    parse_manifest,
)
from engine.oci.reference import Reference, parse_reference
from engine.registry.client import RegistryClient
from engine.registry.credentials import Credentials
from engine.registry.upload import Destination

COMPRESSING = 2
MAX_SOURCES = 4  # repositories, of each layer, from which it may be mounted
Keep = Callable[[LayerRecord], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Layer:
    record: LayerRecord
    sources: tuple[str, ...]  # other repositories of that registry that have it

    def progress(self, status: str, current: int = 0, total: int = 0) -> Progress:
        short = hex_part(self.record.diff_id)[:12]
        return Progress(status, short, current, total, is_of_layer=True)


class Push:
    def __init__(
        self, client: RegistryClient, intake: Intake, blobs: Blobs, threads: Executor
    ) -> None:
        self._client = client
        self._intake = intake
        self._blobs = blobs
        self._threads = threads
        self._uploads = asyncio.Semaphore(client.registries.uploads)
        self._compressing = asyncio.Semaphore(COMPRESSING)

    async def push(
        self,
        reference: Reference,
        credentials: Credentials,
        catalog: Catalog,
        *,
        tell: Tell,
        keep: Keep,
    ) -> Pushed:
        """`reference` has a tag, and names an image of the catalog; `keep` makes a layer that was
        compressed last. Raises EngineError."""
        image = catalog.images[catalog.names[str(reference)]]
        records = [catalog.layers[diff_id] for diff_id in image.layers]
        manifest = self._manifest_that_came(image, records)
        layers = [
            _Layer(record, sources_of(record.diff_id, reference, catalog))
            for record in {record.diff_id: record for record in reversed(records)}.values()
        ]
        for layer in layers:
            tell(layer.progress("Preparing"))
        sources = dict.fromkeys(source for layer in layers for source in layer.sources)
        destination = self._client.destination(reference, credentials, tuple(sources))
        config = Descriptor(OCI_CONFIG, image.id, self._blobs.path(image.id).stat().st_size)
        may_compress = manifest is None
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(
                        self._layer(destination, layer, tell, keep, may_compress=may_compress)
                    )
                    for layer in layers
                ]
                group.create_task(self._blob(destination, config))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        if manifest is None:
            sent = {record.diff_id: record for record in (task.result() for task in tasks)}
            manifest = manifest_of(config, [sent[record.diff_id] for record in records])
            loop = asyncio.get_running_loop()
            contents = (manifest,)
            await loop.run_in_executor(self._threads, lambda: self._intake.add_documents(contents))
        parsed = parse_manifest(manifest)
        await destination.put_manifest(reference.tag, manifest, parsed.media_type)
        return Pushed(reference.tag, digest_of(manifest), len(manifest))

    def _manifest_that_came(
        self, image: ImageRecord, layers: Sequence[LayerRecord]
    ) -> bytes | None:
        """With the image, if it is about the blobs that are here."""
        if not image.manifest or not self._blobs.has(Digest(image.manifest)):
            return None
        try:
            content = self._blobs.read(Digest(image.manifest))
            manifest = parse_manifest(content)
        except InvalidRequest:
            return None
        if not isinstance(manifest, Manifest) or manifest.config.digest != image.id:
            return None
        named = [layer.digest for layer in manifest.layers]
        return content if named == [layer.blob for layer in layers] else None

    async def _layer(
        self,
        destination: Destination,
        layer: _Layer,
        tell: Tell,
        keep: Keep,
        *,
        may_compress: bool,
    ) -> LayerRecord:
        """The record of what is in the registry then."""
        async with self._uploads:
            record = layer.record
            if may_compress and record.media_type == OCI_LAYER:
                record = await self._compressed(layer, tell)
                await keep(record)
            if await destination.has_blob(record.blob):
                tell(layer.progress("Layer already exists"))
                return record
            for source in layer.sources:
                if await destination.mount(record.blob, source):
                    tell(layer.progress(f"Mounted from {source}"))
                    return record
            size = record.blob_size
            throttle = Throttle(lambda sent: tell(layer.progress("Pushing", sent, size)))
            descriptor = Descriptor(record.media_type, record.blob, size)
            await destination.upload(descriptor, self._blobs.path(record.blob), throttle.at)
            tell(layer.progress("Pushed"))
            return record

    async def _compressed(self, layer: _Layer, tell: Tell) -> LayerRecord:
        loop = asyncio.get_running_loop()
        size = layer.record.blob_size
        throttle = Throttle(lambda position: loop.call_soon_threadsafe(
            tell, layer.progress("Compressing", position, size)
        ))  # fmt: skip
        async with self._compressing:
            with open(self._blobs.path(layer.record.blob), "rb", buffering=0) as blob:
                content = Watched(blob, throttle)
                return await run_fed(
                    self._threads, content, lambda: self._intake.compressed(layer.record, content)
                )

    async def _blob(self, destination: Destination, descriptor: Descriptor) -> None:
        if not await destination.has_blob(descriptor.digest):
            path = self._blobs.path(descriptor.digest)
            await destination.upload(descriptor, path, lambda sent: None)


def sources_of(layer: Digest, target: Reference, catalog: Catalog) -> tuple[str, ...]:
    """Other repositories of that registry that an image with this layer came from, or went to."""
    found = dict.fromkeys(
        name.path
        for name in _digests_at(target.domain, catalog.names)
        if layer in catalog.images[catalog.names[str(name)]].layers
    )
    found.pop(target.path, None)
    return tuple(found)[:MAX_SOURCES]


def _digests_at(domain: str, names: Mapping[str, Digest]) -> Iterable[Reference]:
    return (
        parse_reference(name) for name in names if "@" in name and name.startswith(f"{domain}/")
    )


def manifest_of(config: Descriptor, layers: Sequence[LayerRecord]) -> bytes:
    descriptors = (Descriptor(layer.media_type, layer.blob, layer.blob_size) for layer in layers)
    return manifest_json(Manifest(OCI_MANIFEST, config, tuple(descriptors)))
