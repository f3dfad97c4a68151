"""Brings an image from a registry into the store: which blobs to move, several at a time.

Layers are downloaded in parallel and unpacked from the bottom up. Each is verified and durable when
it is done; nothing counts until the catalog names the image, which is not done here.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from engine.errors import EngineError, Failure, InvalidRequest, NotFound
from engine.images.blobs import Written
from engine.images.catalog import Catalog, ImageRecord, LayerRecord
from engine.images.feed import Feed, finish, run_fed
from engine.images.intake import Incoming, Intake
from engine.images.model import Progress
from engine.images.reports import Tell
from engine.images.shared import Shared
from engine.images.watched import Throttle, Watched
from engine.oci.digest import Digest, chain_id, hex_part
from engine.oci.image_config import ImageDocument, parse_image_document
from engine.oci.manifest import Descriptor, Index, Manifest
from engine.oci.platform import Platform, best_match, platform_of
from engine.oci.reference import Reference
from engine.registry.client import Received, RegistryClient, Repository
from engine.registry.credentials import Credentials
from engine.registry.search import Found
from engine.registry.transport import Interrupted

log = logging.getLogger(__name__)
Result = TypeVar("Result")

UNPACKING = 2  # at once; more would only take turns
MAX_NESTING = 4


@dataclass(frozen=True, slots=True)
class PullRequest:
    reference: Reference  # with a tag or a digest
    platform: Platform
    credentials: Credentials


@dataclass(frozen=True, slots=True)
class Pulled:
    incoming: Incoming
    digest: Digest  # of what the tag named, an index perhaps


@dataclass(frozen=True, slots=True)
class Distributed:
    """What a registry has under a name: an index or a manifest, for these platforms."""

    descriptor: Descriptor
    platforms: tuple[Platform, ...]


@dataclass(frozen=True, slots=True)
class _Part:
    """A layer as the manifest and the configuration have it."""

    diff_id: Digest
    descriptor: Descriptor

    def progress(self, status: str, current: int = 0) -> Progress:
        total = self.descriptor.size if current else 0
        short = hex_part(self.descriptor.digest)[:12]
        return Progress(status, short, current, total, is_of_layer=True)


class Transfer:
    """What came since the last sweep is known here, beside the layers of the catalog."""

    def __init__(self, client: RegistryClient, intake: Intake, threads: Executor) -> None:
        self._client = client
        self._intake = intake
        self._threads = threads
        self._shared: Shared[LayerRecord, Progress] = Shared()
        self._downloads = asyncio.Semaphore(client.registries.downloads)
        self._unpacking = asyncio.Semaphore(UNPACKING)
        self._arrived: dict[Digest, LayerRecord] = {}

    def forget(self) -> None:
        """Before a sweep, which removes what no catalog names."""
        self._arrived.clear()

    async def close(self) -> None:
        await self._client.close()

    async def log_in(self, address: str, credentials: Credentials) -> str:
        return await self._client.log_in(address, credentials)

    async def tags(self, reference: Reference, credentials: Credentials) -> tuple[str, ...]:
        return await self._ask(reference, credentials, lambda repository: repository.tags())

    async def search(self, term: str, credentials: Credentials, *, limit: int) -> list[Found]:
        return await self._client.search(term, credentials, limit=limit)

    async def look_up(self, reference: Reference, credentials: Credentials) -> Distributed:
        """What a registry has under a name, without getting it."""

        async def ask(repository: Repository) -> Distributed:
            top = await repository.manifest(reference.digest or reference.tag)
            manifest = top.manifest
            descriptor = Descriptor(manifest.media_type, top.digest, len(top.content))
            match manifest:
                case Index(manifests=offered):
                    listed = [entry.platform for entry in offered if entry.platform is not None]
                    return Distributed(descriptor, tuple(listed))
                case Manifest(config=config):
                    document = parse_image_document(await repository.document(config))
                    return Distributed(descriptor, (document.platform,))

        return await self._ask(reference, credentials, ask)

    async def pull(self, request: PullRequest, catalog: Catalog, tell: Tell) -> Pulled:
        """The parts of the image, on disk. Raises EngineError."""
        return await self._ask(
            request.reference,
            request.credentials,
            lambda repository: self._pull(repository, request, catalog, tell),
        )

    async def _ask(
        self,
        reference: Reference,
        credentials: Credentials,
        work: Callable[[Repository], Coroutine[Any, Any, Result]],
    ) -> Result:
        """From the first endpoint that has it; the last one's refusal counts."""
        *mirrors, last = self._client.repositories(reference, credentials)
        refusals = []
        for mirror in mirrors:
            try:
                return await work(mirror)
            except EngineError as error:
                log.warning("mirror %s is passed over: %s", mirror.endpoint.host, error)
                refusals.append(f"mirror {mirror.endpoint.host}: {error}")
        try:
            return await work(last)
        except Interrupted as error:
            # Nobody is there: then what a mirror said is what there is to know.
            raise Interrupted("; ".join((str(error), *refusals))) from error

    async def _pull(
        self, repository: Repository, request: PullRequest, catalog: Catalog, tell: Tell
    ) -> Pulled:
        name = request.reference.digest or request.reference.tag
        top = await repository.manifest(name)
        received = await choose(repository, top, request)
        assert isinstance(received.manifest, Manifest)
        tell(Progress(f"Pulling from {request.reference.path}", name))
        manifest = received.manifest
        config = await repository.document(manifest.config)
        document = parse_image_document(config)
        check_document(document, manifest, request)
        parts = tuple(map(_Part, document.diff_ids, manifest.layers))
        is_new = manifest.config.digest not in catalog.images
        layers = await self._layers(repository, parts, catalog, tell, is_new=is_new)
        contents = (config, received.content)
        loop = asyncio.get_running_loop()
        await finish(
            loop.run_in_executor(self._threads, lambda: self._intake.add_documents(contents))
        )
        record = ImageRecord(manifest.config.digest, document.diff_ids, received.digest)
        names = [replace(request.reference, tag="", digest=top.digest)]
        if not request.reference.digest:
            names.append(request.reference)
        return Pulled(Incoming(record, layers, document, tuple(names)), top.digest)

    async def _layers(
        self,
        repository: Repository,
        parts: Sequence[_Part],
        catalog: Catalog,
        tell: Tell,
        *,
        is_new: bool,
    ) -> tuple[LayerRecord, ...]:
        """Records of all of them, bottom first."""
        # A layer that comes twice is moved once, for its first place.
        first: dict[Digest, _Part] = {}
        for part in parts:
            first.setdefault(part.diff_id, part)
        stack = tuple(first.values())
        arrival = _Arrival(repository, stack, catalog.layers)
        for part in stack if is_new else ():
            is_known = self._known(arrival, part) is not None
            tell(part.progress("Already exists" if is_known else "Pulling fs layer"))
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._layer(arrival, index, tell))
                    for index in range(len(stack))
                ]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        records = {record.diff_id: record for record in (task.result() for task in tasks)}
        return tuple(records[part.diff_id] for part in parts)

    async def _layer(self, arrival: "_Arrival", index: int, tell: Tell) -> LayerRecord:
        known = self._known(arrival, arrival.stack[index])
        if known is not None:
            return known
        # Not the layer alone: what waits for the layers below it could else wait for itself,
        # where two images have the same layers in another order.
        chain = chain_id(tuple(part.diff_id for part in arrival.stack[: index + 1]))
        return await self._shared.run(
            chain, lambda tell_all: self._arrive(arrival, index, tell_all), tell
        )

    def _known(self, arrival: "_Arrival", part: _Part) -> LayerRecord | None:
        return arrival.known.get(part.diff_id) or self._arrived.get(part.diff_id)

    async def _arrive(self, arrival: "_Arrival", index: int, tell: Tell) -> LayerRecord:
        part = arrival.stack[index]
        with self._intake.scratch("layer") as folder:
            async with self._downloads:
                written = await self._download(arrival.repository, part, folder, tell)
            if index:
                await self._layer(arrival, index - 1, _ignore)
            async with self._unpacking:
                record = await self._unpack(arrival, index, written, tell)
        self._arrived[part.diff_id] = record
        tell(part.progress("Pull complete"))
        return record

    async def _download(
        self, repository: Repository, part: _Part, folder: Path, tell: Tell
    ) -> Written:
        throttle = Throttle(lambda position: tell(part.progress("Downloading", position)))

        async def counted() -> AsyncGenerator[bytes, None]:
            position = 0
            async with contextlib.aclosing(repository.blob(part.descriptor)) as chunks:
                async for chunk in chunks:
                    position += len(chunk)
                    throttle.at(position)
                    yield chunk
            tell(part.progress("Verifying Checksum"))

        async with contextlib.aclosing(counted()) as chunks:
            feed = Feed(chunks)
            written = await run_fed(
                self._threads, feed, lambda: self._intake.receive(feed, part.descriptor, folder)
            )
        tell(part.progress("Download complete"))
        return written

    async def _unpack(
        self, arrival: "_Arrival", index: int, written: Written, tell: Tell
    ) -> LayerRecord:
        part = arrival.stack[index]
        below = [other.diff_id for other in arrival.stack[:index]]
        loop = asyncio.get_running_loop()
        throttle = Throttle(lambda position: loop.call_soon_threadsafe(
            tell, part.progress("Extracting", position)
        ))  # fmt: skip
        with open(written.path, "rb", buffering=0) as blob:
            content = Watched(blob, throttle)
            try:
                return await run_fed(
                    self._threads,
                    content,
                    lambda: self._intake.add_layer(written, content, part.diff_id, below),
                )
            except InvalidRequest as error:
                raise InvalidRequest(f"failed to register layer: {error}") from error


@dataclass(frozen=True, slots=True)
class _Arrival:
    """What the work on any layer of an image has to know: it may outlive the pull that began it."""

    repository: Repository
    stack: tuple[_Part, ...]  # bottom first, each layer once
    known: Mapping[Digest, LayerRecord]


async def choose(repository: Repository, top: Received, request: PullRequest) -> Received:
    """The image for the wanted platform. Attestations are of no platform, and never match."""
    received = top
    for _ in range(MAX_NESTING):
        match received.manifest:
            case Manifest():
                return received
            case Index(manifests=offered):
                # An entry without a platform says nothing against this one.
                platforms = [entry.platform or request.platform for entry in offered]
                best = best_match(request.platform, platforms)
                if best is None:
                    raise NotFound(
                        f"no matching manifest for {request.platform} in the manifest list entries"
                    )
                received = await repository.manifest(offered[best].digest, offered[best])
    raise Failure(f"cannot pull {request.reference.familiar}: indexes are nested too deep")


def check_document(document: ImageDocument, manifest: Manifest, request: PullRequest) -> None:
    """Raises EngineError where the configuration isn't one of these layers on this machine."""
    if len(document.diff_ids) != len(manifest.layers):
        raise InvalidRequest(
            f"invalid image: its configuration has {len(document.diff_ids)} layers, "
            f"its manifest {len(manifest.layers)}"
        )
    found = document.platform
    actual = platform_of(found.os, found.architecture, found.variant)
    if actual.os != "linux":
        raise InvalidRequest(
            f'image operating system "{actual.os}" cannot be used on this platform'
        )


def _ignore(progress: Progress) -> None:
    """Who waits for the layer below reports of it, or has gone."""
