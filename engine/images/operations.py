"""Images: all that can be asked of them. One instance a daemon, owned by the event loop.

State is one immutable `Catalog`; a change makes the next one, writes it durably, then puts it in
place. Work that blocks (unpacking, hashing, copying) runs in threads and sees no state.
"""

import asyncio
import contextlib
import logging
import os
import re
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from engine.errors import Failure, InvalidRequest, NotFound, Unsupported
from engine.images.blobs import Blobs
from engine.images.catalog import Catalog, LayerRecord, catalog_json, parse_catalog
from engine.images.export import ExportedImage, export_images
from engine.images.feed import Feed, finish, run_fed
from engine.images.intake import Incoming, Intake
from engine.images.layers import Layers, remove_directory
from engine.images.masks import Masks
from engine.images.model import (
    ROOTFS_PREFIX,
    HistoryLine,
    Image,
    ImageUser,
    Loaded,
    Progress,
    Pruned,
    Pushed,
    Removal,
    Removed,
    Saving,
    Step,
)
from engine.images.pack import Sink
from engine.images.push import COMPRESSING, Push
from engine.images.removal import RemovalPlan, plan_removal, refuse_used
from engine.images.reports import Reports, Tell
from engine.images.rootfs import HOST_ALIASES, HOST_NAME, Directories
from engine.images.transfer import UNPACKING, Distributed, PullRequest, Transfer
from engine.oci.digest import Digest, chain_id, is_digest
from engine.oci.image_config import (
    Edit,
    HistoryEntry,
    ImageConfig,
    ImageDocument,
    parse_image_document,
    unchanged,
)
from engine.oci.platform import Platform, best_match, platform_of
from engine.oci.reference import Reference, parse_reference, parse_tag
from engine.records import read_record, write_record
from engine.registry.client import RegistryClient
from engine.registry.credentials import ANONYMOUS, Credentials
from engine.registry.search import Found
from engine.settings import Registries

log = logging.getLogger(__name__)
Users = Callable[[str], Sequence[ImageUser]]  # image id -> the containers that need it
Result = TypeVar("Result")
NO_DOCUMENTS: Mapping[Digest, ImageDocument] = MappingProxyType({})

_CATALOG = "catalog.json"
_ALIAS_IN_FULL = "docker.io/library/rootfs:latest"
_THREADS = UNPACKING + COMPRESSING + 4  # beside one for each download
_ID_PREFIX = re.compile(r"(?:sha256:)?([0-9a-f]{1,64})")


class Images:
    def __init__(self, root: Path, private: Sequence[Path], client: RegistryClient) -> None:
        threads = client.registries.downloads + _THREADS
        self._root = root
        self._temporary = root / "tmp"
        self._empty = root / "empty"  # the lower layer of an image that has none
        self._blobs = Blobs(root / "blobs")
        self._layers = Layers(root / "layers", self._temporary)
        self._platform = host_platform()
        self._intake = Intake(self._blobs, self._layers, self._temporary, self._platform)
        self._private = tuple(os.path.realpath(path) for path in (root.parent, *private))
        self._masks = Masks(root, (root.parent, *private))
        self._threads = ThreadPoolExecutor(threads, "images")
        self._transfer = Transfer(client, self._intake, self._threads)
        self._push = Push(client, self._intake, self._blobs, self._threads)
        self._catalog = Catalog()
        self._documents: Mapping[Digest, ImageDocument] = {}
        self._directories = Directories(root, self._platform, self._private)
        self._changing = asyncio.Lock()
        self._lingering: dict[Digest, LayerRecord] = {}  # of removed images, not yet swept away
        self._going: set[Digest] = set()  # images whose removal is decided
        self._holders = 0  # of what may look like garbage: the sweep waits for them
        self._sweep_due = False

    @classmethod
    async def open(
        cls,
        root: Path,
        *,
        private: Sequence[Path] = (),
        client: RegistryClient | None = None,
    ) -> "Images":
        """Reads the catalog and clears away what a crash left half made.

        `private`: directories of the engine (data root, exec root, those of its sockets) that no
        `rootfs:` image may show. The parent of `root` is always one of them.
        """
        images = cls(root, private, client or RegistryClient(Registries()))
        images._catalog, images._documents = await images._in_thread(images._recover)
        return images

    async def close(self, *, containers_left: bool = True) -> None:
        """Without containers the masks and names of `rootfs:` images go as well."""
        await self._transfer.close()
        if not containers_left:
            await self._in_thread(self._masks.retire)
            await self._in_thread(self._directories.retire)
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def platform(self) -> Platform:
        return self._platform

    # ---- what there is

    def resolve(self, reference: str) -> Image:
        """By tag, digest, id, unique id prefix, or `rootfs:/path`. Raises NotFound."""
        reference = self._without_alias(reference)
        if reference.startswith(ROOTFS_PREFIX):
            return self._directories.use(reference)
        directory = self._directories.find(reference)
        if directory is not None:
            return directory
        image_id, _ = self._find(reference)
        return self._image(image_id)

    def layers(self, image: Image) -> tuple[str, ...]:
        """Overlay lower directories, top first. Ask at each start, don't store them: the mask of
        a `rootfs:` image is made anew when the host has changed."""
        if image.rootfs_path:
            try:
                return self._masks.lowers(image.rootfs_path)
            except OSError as error:
                raise Failure(f"cannot use {image.name} as an image: {error}") from error
        stack = [str(self._layers.path(diff_id)) for diff_id in reversed(self._stack(image))]
        if image.base:
            try:
                stack += self._masks.lowers(image.base)
            except OSError as error:
                raise Failure(f"cannot use {image.base} below {image.name}: {error}") from error
        return tuple(stack) or (str(self._empty),)

    def list(self) -> tuple[Image, ...]:
        """All of them, newest first; a `rootfs:` image once it was used."""
        records = self._catalog.images.values()
        images = [self._image(record.id) for record in records if not record.is_step]
        images += self._directories.list()
        return tuple(sorted(images, key=lambda image: (image.created, image.id), reverse=True))

    def history(self, image: Image) -> tuple[HistoryLine, ...]:
        """Newest first."""
        sizes = [self._catalog.layers[diff_id].size for diff_id in self._stack(image)]
        entries = image.document.history or tuple(HistoryEntry() for _ in sizes)
        lines: list[HistoryLine] = []
        for entry in entries:
            size = sizes.pop(0) if sizes and not entry.empty_layer else 0
            lines.append(
                HistoryLine(
                    "<missing>", _seconds(entry.created), entry.created_by, (), size, entry.comment
                )
            )
        if lines:
            last = lines.pop()
            lines.append(
                HistoryLine(
                    image.id, last.created, last.created_by, image.tags, last.size, last.comment
                )
            )
        return tuple(reversed(lines))

    def layer_digests(self, image: Image) -> tuple[str, ...]:
        """Diff ids, bottom first (RootFS.Layers of an inspect)."""
        return image.document.diff_ids

    def disk_usage(self) -> int:
        """Bytes of all unpacked layers."""
        return sum(layer.size for layer in self._catalog.layers.values())

    def shared_sizes(self) -> Mapping[Digest, int]:
        """Of each image the bytes in layers that another image has too."""
        records = self._catalog.images.values()
        users = Counter(diff_id for record in records for diff_id in set(record.layers))
        return {
            record.id: sum(
                self._catalog.layers[diff_id].size
                for diff_id in record.layers
                if users[diff_id] > 1
            )
            for record in records
        }

    # ---- names

    async def tag(self, reference: str, repository: str, tag: str = "") -> Image:
        """Gives the image one more name, and takes that from another that had it."""
        image = self.resolve(reference)
        if image.rootfs_path:
            raise Unsupported(f"cannot tag {reference}: it is a directory, not a stored image")
        name = _new_name(repository, tag)
        now = _now()
        await self._change(lambda catalog: catalog.with_name(str(name), image.id, now))
        return self._image(image.id)

    async def remove(
        self, reference: str, *, force: bool = False, prune: bool = True, users: Users
    ) -> tuple[Removed, ...]:
        """Raises Conflict in Docker's words while containers need it.

        `prune` is accepted for the API's sake: there are no untagged parents to leave behind.
        """
        directory = self._directories.find(self._without_alias(reference))
        if directory is not None:
            refuse_used(directory, users(directory.id))
            self._directories.forget(directory)
            return (Removed(Removal.UNTAGGED, directory.name, directory.id),)
        async with self._changing:
            image_id, name = self._find(reference)
            planned = plan_removal(self._catalog, image_id, name, force=force, users=users)
            return await self._perform_removal(planned)

    async def prune(self, wanted: Callable[[Image], bool], *, users: Users) -> Pruned:
        """Removes the unused images of which `wanted` is true."""
        removed: list[Removed] = []
        async with self._changing:
            before = self.disk_usage()
            for image_id in tuple(self._catalog.images):
                if self._catalog.images[image_id].is_step:
                    continue  # remove_steps takes these
                if users(image_id) or not wanted(self._image(image_id)):
                    continue
                planned = plan_removal(self._catalog, image_id, None, force=True, users=users)
                removed += await self._perform_removal(planned)
            return Pruned(tuple(removed), before - self.disk_usage())

    # ---- build steps

    def made_of(self, cache_key: str) -> Image | None:
        """What a build step with that key has made before."""
        record = self._catalog.made_of(cache_key)
        return None if record is None else self._image(record.id)

    async def add_step(
        self,
        document: ImageDocument,
        upper: Path | None,
        *,
        layer: Digest | None = None,
        base: str = "",
        cache_key: str,
        is_step: bool,
    ) -> Image:
        """The image of a build step: `document` is what lies below it, with the step's own line
        of history, and `upper` what it changed (see Intake.built), or `layer` one that is there
        already. With `is_step` only the builder knows of it."""
        below = [self._layer(diff_id) for diff_id in document.diff_ids]
        known = None if layer is None else self._layer(layer)
        async with self._taking_in():
            job = asyncio.get_running_loop().run_in_executor(
                self._threads, lambda: self._intake.built(document, below, upper, known)
            )
            made = await finish(job)
            record = replace(made.record, base=base, cache_key=cache_key, is_step=is_step)
            await self._enter((replace(made, record=record),))
        return self._image(record.id)

    async def show(self, image: Image) -> Image:
        """A build step's image becomes one that everybody sees."""
        await self._change(lambda catalog: catalog.without_step_mark(image.id))
        return self._image(image.id)

    def steps(self) -> tuple[Step, ...]:
        shown = [record for record in self._catalog.images.values() if not record.is_step]
        bases = {
            record.layers[:count] for record in shown for count in range(1, len(record.layers) + 1)
        }
        seen = {diff_id for record in shown for diff_id in record.layers}
        found = []
        for record in self._catalog.images.values():
            if record.is_step:
                image = self._image(record.id)
                own = record.layers[-1:] if not image.document.history[-1].empty_layer else ()
                size = sum(self._catalog.layers[each].size for each in own if each not in seen)
                used = self._blobs.path(record.id).stat().st_mtime
                found.append(Step(image, size, record.layers in bases, used))
        return tuple(found)

    def mark_used(self, image_ids: Collection[str]) -> None:
        """Of build steps: the time of its configuration's file says when one was used last."""
        for image_id in image_ids:
            with contextlib.suppress(FileNotFoundError):
                os.utime(self._blobs.path(Digest(image_id)))

    async def remove_steps(self, image_ids: Collection[str]) -> int:
        """The bytes that their layers took and nothing else needs."""
        async with self._changing:
            before, catalog = self.disk_usage(), self._catalog
            for image_id in image_ids:
                record = catalog.images.get(Digest(image_id))
                if record is not None and record.is_step:
                    catalog = catalog.without_image(record.id)
            if catalog is not self._catalog:
                await self._write(catalog)
                self._documents = {key: self._documents[key] for key in catalog.images}
                await self._sweep()
            return before - self.disk_usage()

    # ---- commits

    async def commit(
        self,
        parent: Image,
        document: ImageDocument,
        pack: Callable[[Sink], int] | None,
        repository: str = "",
        tag: str = "",
    ) -> Image:
        """The image of a container of `parent`. `document` has the line of history of this commit
        as its last, still without a time; `pack` puts the tar of what was changed, if anything
        was."""
        base = parent.rootfs_path or parent.base
        names = (_new_name(repository, tag),) if repository else ()
        below = [self._layer(diff_id) for diff_id in document.diff_ids]
        now = _now()
        *before, own = document.history
        document = replace(document, created=now, history=(*before, replace(own, created=now)))
        async with self._taking_in():
            job = asyncio.get_running_loop().run_in_executor(
                self._threads, lambda: self._intake.committed(document, below, pack)
            )
            made = await finish(job)
            record = replace(made.record, base=base, parent=parent.id)
            await self._enter((replace(made, record=record, names=names),))
        return self._image(record.id)

    # ---- in and out

    async def pull(
        self,
        reference: Reference,
        *,
        platform: Platform | None = None,
        credentials: Credentials = ANONYMOUS,
    ) -> AsyncGenerator[Progress, None]:
        """Gets the image from its registry; without tag and digest all there are. What happens,
        as it happens. It stops with its reader, but for what other pulls need as well."""
        if reference.digest:
            reference = replace(reference, tag="")
        if reference.tag or reference.digest:
            wanted = [reference]
        else:
            tags = await self._transfer.tags(reference, credentials)
            wanted = [replace(reference, tag=parse_tag(tag)) for tag in tags]
        before = [self._catalog.names.get(str(name)) for name in wanted]
        async with self._taking_in():
            for name in wanted:
                request = PullRequest(name, platform or self._platform, credentials)
                async with contextlib.aclosing(self._pull_one(request)) as steps:
                    async for step in steps:
                        yield step
        after = [self._catalog.names.get(str(name)) for name in wanted]
        is_new = before != after
        found = "Downloaded newer image" if is_new else "Image is up to date"
        yield Progress(f"Status: {found} for {reference.familiar}")
        for name in wanted:
            if platform is not None and (warning := self._unlike(name, platform)):
                yield Progress(f"WARNING: {warning}")

    def _unlike(self, name: Reference, wanted: Platform) -> str:
        """Of an image that is for one platform alone, and comes whatever was asked for."""
        image = self.resolve(str(name))
        actual = platform_of(image.os, image.architecture, image.variant)
        if best_match(wanted, [actual]) is not None:
            return ""
        return (
            f"image with reference {name.familiar} was found but its platform ({actual}) does not "
            f"match the specified platform ({wanted})"
        )

    async def push(
        self, reference: Reference, *, credentials: Credentials = ANONYMOUS
    ) -> AsyncGenerator[Progress | Pushed, None]:
        """Sends the image to its registry; without a tag all of that repository. What happens, as
        it happens; it stops with its reader."""
        if reference.digest:
            raise InvalidRequest("cannot push a digest reference")
        yield Progress(f"The push refers to repository [{reference.name}]")
        async with self._taking_in():
            for name in self._tagged(reference):
                async with contextlib.aclosing(self._push_one(name, credentials)) as steps:
                    async for step in steps:
                        yield step

    def _tagged(self, reference: Reference) -> tuple[Reference, ...]:
        """What is to be pushed. Raises EngineError where nothing is, or can be."""
        names = [parse_reference(name) for name in sorted(self._catalog.names)]
        known = [name for name in names if name.tag and name.name == reference.name]
        if not known:
            raise NotFound(
                f"An image does not exist locally with the tag: {reference.familiar_name}"
            )
        if reference.tag and reference not in known:
            raise NotFound(f"tag does not exist: {reference.familiar}")
        wanted = (reference,) if reference.tag else tuple(known)
        for name in wanted:
            refuse_directory("push", name.familiar, self._image(self._catalog.names[str(name)]))
        return wanted

    async def _push_one(
        self, name: Reference, credentials: Credentials
    ) -> AsyncGenerator[Progress | Pushed, None]:
        catalog = self._catalog
        image_id = catalog.names[str(name)]
        reports = Reports(
            lambda tell: self._push.push(
                name, credentials, catalog, tell=tell, keep=self._keep_compressed
            )
        )
        async with contextlib.aclosing(reports.steps()) as steps:
            async for step in steps:
                yield step
        pushed = reports.result
        digested = str(replace(name, tag="", digest=pushed.digest))
        await self._change(lambda catalog: catalog.with_pushed(digested, image_id, pushed.digest))
        yield Progress(f"{pushed.tag}: digest: {pushed.digest} size: {pushed.size}")
        yield pushed

    async def _keep_compressed(self, layer: LayerRecord) -> None:
        """With `_taking_in` held: what reads the plain blob now keeps it until it is done."""
        self._sweep_due = True
        await self._change(lambda catalog: catalog.with_blob(layer))

    async def log_in(self, address: str, credentials: Credentials) -> str:
        """A token to keep instead of the password, if there is one. Raises EngineError where the
        registry at `address` doesn't take these credentials."""
        return await self._transfer.log_in(address, credentials)

    async def search(self, term: str, credentials: Credentials, *, limit: int) -> Sequence[Found]:
        """Repositories of a registry: Docker Hub's, or `HOST/term`."""
        return await self._transfer.search(term, credentials, limit=limit)

    async def look_up(
        self, reference: Reference, credentials: Credentials = ANONYMOUS
    ) -> Distributed:
        """What a registry has under a name with a tag or a digest."""
        return await self._transfer.look_up(reference, credentials)

    async def _pull_one(self, request: PullRequest) -> AsyncGenerator[Progress, None]:
        catalog = self._catalog
        reports = Reports(lambda tell: self._transfer.pull(request, catalog, tell))
        async with contextlib.aclosing(reports.steps()) as steps:
            async for step in steps:
                yield step
        await self._enter((reports.result.incoming,))
        yield Progress(f"Digest: {reports.result.digest}")

    async def load(self, archive: AsyncIterator[bytes]) -> tuple[Loaded, ...]:
        """A `docker save` archive or an OCI layout in a tar, plain or compressed."""
        async with contextlib.aclosing(self.loading(archive)) as steps:
            return tuple([step async for step in steps if isinstance(step, Loaded)])

    async def loading(
        self, archive: AsyncIterator[bytes]
    ) -> AsyncGenerator[Progress | Loaded, None]:
        """The same, with what happens as it happens, and what came at the end."""
        async with self._taking_in():
            reports = Reports(lambda tell: self._load(archive, tell))
            async with contextlib.aclosing(reports.steps()) as steps:
                async for step in steps:
                    yield step
            incoming = reports.result
            before = self._catalog.names
            await self._enter(incoming)
            for each in incoming:
                names = tuple(name.familiar for name in each.names)
                replaced = tuple(
                    (name.familiar, before[str(name)])
                    for name in each.names
                    if before.get(str(name), each.record.id) != each.record.id
                )
                yield Loaded(self._image(each.record.id), names, replaced)

    async def _load(self, archive: AsyncIterator[bytes], tell: Tell) -> tuple[Incoming, ...]:
        known = self._catalog.layers
        feed = Feed(archive)
        loop = asyncio.get_running_loop()

        def tell_loop(step: Progress) -> None:
            loop.call_soon_threadsafe(tell, step)

        return await run_fed(self._threads, feed, lambda: self._intake.load(feed, known, tell_loop))

    async def import_(
        self,
        archive: AsyncIterator[bytes],
        repository: str = "",
        tag: str = "",
        *,
        edit: Edit = unchanged,
        message: str = "",
        platform: Platform | None = None,
    ) -> Image:
        """A flat root file system in a tar becomes an image of one layer."""
        names = (_new_name(repository, tag),) if repository else ()
        now = _now()
        document = ImageDocument(
            platform=platform or self._platform,
            config=edit(ImageConfig()),
            diff_ids=(),
            history=(HistoryEntry(created=now, comment=message or "Imported from -"),),
            created=now,
            comment=message or "Imported from -",
        )
        feed = Feed(archive)
        async with self._taking_in():
            made = await run_fed(self._threads, feed, lambda: self._intake.import_(feed, document))
            await self._enter((Incoming(made.record, made.layers, made.document, names),))
        return self._image(made.record.id)

    @contextlib.asynccontextmanager
    async def saving(self, references: Sequence[str]) -> AsyncIterator[Saving]:
        """A tar that `docker load` and OCI tools read. What is in it stays until the end, whoever
        removes it meanwhile."""
        async with self.held():
            exported = self._exported(references)
            pieces = export_images(exported, self._blobs, self._threads)
            async with contextlib.aclosing(pieces):
                yield Saving(tuple(each.id for each in exported), pieces)

    def _exported(self, references: Sequence[str]) -> tuple[ExportedImage, ...]:
        exported: dict[Digest, ExportedImage] = {}
        for reference, image, names in self._to_save(references):
            refuse_directory("save", reference, image)
            known = exported.get(image.id)
            if known is not None:
                names = known.names + tuple(name for name in names if name not in known.names)
            record = self._catalog.images[image.id]
            layers = tuple(self._catalog.layers[diff_id] for diff_id in record.layers)
            exported[image.id] = ExportedImage(image.id, layers, names)
        return tuple(exported.values())

    # ---- inside

    def _without_alias(self, reference: str) -> str:
        """`rootfs` and `rootfs:latest` mean `rootfs:/`, unless an image was given that name."""
        if reference in HOST_ALIASES and _ALIAS_IN_FULL not in self._catalog.names:
            return HOST_NAME
        return reference

    def _find(self, reference: str) -> tuple[Digest, Reference | None]:
        """The id, and the name it was found by; None for an id or the beginning of one."""
        full = f"sha256:{reference}" if len(reference) == 64 else reference
        if is_digest(full) and Digest(full) in self._catalog.images:
            return Digest(full), None
        missing = reference
        if not is_digest(full):
            try:
                name = parse_reference(reference).with_default_tag()
                if name.digest:  # it says all; the tag beside it is for people
                    name = replace(name, tag="")
            except InvalidRequest:
                if not _ID_PREFIX.fullmatch(reference):
                    raise
            else:
                missing = name.familiar
                known = self._catalog.names.get(str(name))
                if known is not None:
                    return known, name
        match = _ID_PREFIX.fullmatch(reference)
        if match:
            prefix = f"sha256:{match[1]}"
            found = [image_id for image_id in self._catalog.images if image_id.startswith(prefix)]
            if len(found) == 1:
                return found[0], None
        raise NotFound(f"No such image: {missing}")

    def _image(self, image_id: Digest) -> Image:
        record = self._catalog.images[image_id]
        document = self._documents[image_id]
        names = [parse_reference(name) for name in self._catalog.names_of(image_id)]
        return Image(
            id=image_id,
            tags=tuple(name.familiar for name in names if name.tag),
            digests=tuple(name.familiar for name in names if name.digest),
            document=document,
            created=document.created,
            size=sum(self._catalog.layers[diff_id].size for diff_id in record.layers),
            last_tagged=record.last_tagged,
            base=record.base,
            parent=record.parent,
        )

    def _stack(self, image: Image) -> tuple[Digest, ...]:
        """Its layers, bottom first. overlayfs refuses a directory that comes twice: the upper
        one hides the lower."""
        stack: list[Digest] = []
        for diff_id in reversed(image.document.diff_ids):
            if diff_id not in stack:
                stack.append(diff_id)
        return tuple(reversed(stack))

    def _to_save(
        self, references: Sequence[str]
    ) -> Iterator[tuple[str, Image, tuple[Reference, ...]]]:
        """What was asked for, its image, and the names that go with it: of a repository alone all
        its tags."""
        for reference in references:
            tagged = self._tags_of(reference)
            if not tagged:
                image = self._saved(reference)
                name = None if image.rootfs_path else self._find(reference)[1]
                yield reference, image, (name,) if name is not None and name.tag else ()
            for name in tagged:
                yield reference, self._image(self._catalog.names[str(name)]), (name,)

    def _saved(self, reference: str) -> Image:
        """In Docker's words, which are others here than elsewhere."""
        try:
            return self.resolve(reference)
        except NotFound:
            if ":" in reference.rpartition("/")[2] and not is_digest(reference):
                raise NotFound("reference does not exist") from None
            raise NotFound(f"No such image: {reference}") from None

    def _tags_of(self, repository: str) -> tuple[Reference, ...]:
        """Nothing where that is more than a repository's name, or less."""
        try:
            wanted = parse_reference(repository)
        except InvalidRequest:
            return ()
        names = [parse_reference(name) for name in sorted(self._catalog.names)]
        known = tuple(name for name in names if name.tag and name.name == wanted.name)
        return () if wanted.tag or wanted.digest else known

    async def _enter(self, incoming: Sequence[Incoming]) -> None:
        """The acknowledgement: with this write the images are there, before it they are not."""
        now = _now()
        documents = {each.record.id: each.document for each in incoming}

        def entered(catalog: Catalog) -> Catalog:
            for each in incoming:
                catalog = catalog.with_image(each.record, each.layers)
                for name in each.names:
                    catalog = catalog.with_name(str(name), each.record.id, now)
            return catalog

        async with self._changing:
            await self._write(entered(self._catalog), documents)

    async def _change(self, step: Callable[[Catalog], Catalog]) -> None:
        async with self._changing:
            changed = step(self._catalog)
            if changed is not self._catalog:
                await self._write(changed)

    async def _write(
        self, catalog: Catalog, documents: Mapping[Digest, ImageDocument] = NO_DOCUMENTS
    ) -> None:
        """With `_changing` held. Disk and memory agree, also when the caller is cancelled."""
        content = catalog_json(catalog)
        writing = asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: write_record(self._root / _CATALOG, content)
        )
        try:
            await finish(writing)
        except OSError as error:
            raise Failure(f"cannot record the images: {error}") from error
        finally:
            if writing.exception() is None:
                if self._catalog.blobs() - catalog.blobs():
                    self._sweep_due = True
                left = self._catalog.layers.items()
                self._lingering |= {key: layer for key, layer in left if key not in catalog.layers}
                self._catalog = catalog
                self._documents = {**self._documents, **documents}

    def is_here(self, image: Image) -> bool:
        """Whether it hasn't been removed since it was found, and isn't just going. Who is about to
        be one of its users asks once more."""
        if image.rootfs_path:
            return True
        return image.id in self._catalog.images and image.id not in self._going

    def _layer(self, diff_id: Digest) -> LayerRecord:
        """Also of an image that was removed while somebody builds on it."""
        return self._catalog.layers.get(diff_id) or self._lingering[diff_id]

    async def _perform_removal(self, planned: RemovalPlan) -> tuple[Removed, ...]:
        """With `_changing` held."""
        before = self._catalog
        catalog = before.without_names(planned.names)
        deleted = [each.image_id for each in planned.removed if each.what is Removal.DELETED]
        for image_id in deleted:
            catalog = catalog.without_image(image_id)
        self._going.update(deleted)
        try:
            await self._write(catalog)
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
        self._documents = {
            key: document for key, document in self._documents.items() if key in catalog.images
        }
        await self._sweep()
        return (*planned.removed, *gone)

    @contextlib.asynccontextmanager
    async def _taking_in(self) -> AsyncIterator[None]:
        """Parts that no catalog names yet are safe from the sweep while one of these is open."""
        async with self.held():
            async with self._changing:  # a sweep under way comes to its end first
                pass
            try:
                yield
            except OSError as error:
                self._sweep_due = True
                raise Failure(f"cannot store the image: {error}") from error
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
                async with self._changing:
                    await self._sweep()

    async def _sweep(self) -> None:
        """Removes the layers and blobs that no image needs. With `_changing` held."""
        if self._holders:
            self._sweep_due = True
            return
        self._sweep_due = False
        self._lingering.clear()
        self._transfer.forget()
        catalog = self._catalog
        try:
            await self._in_thread(lambda: self._remove_garbage(catalog))
        except OSError as error:
            # The next one, or the next start, finds it again.
            log.warning("cannot remove unused layers: %s", error)

    def _remove_garbage(self, catalog: Catalog) -> None:
        kept = catalog.blobs()
        for digest in [each for each in self._blobs.digests() if each not in kept]:
            self._blobs.remove(digest)
        for diff_id in [each for each in self._layers.diff_ids() if each not in catalog.layers]:
            self._layers.remove(diff_id)

    def _recover(self) -> tuple[Catalog, Mapping[Digest, ImageDocument]]:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._temporary.exists():
            remove_directory(self._temporary)
        self._temporary.mkdir(mode=0o700)
        self._blobs.prepare()
        self._layers.prepare()
        self._empty.mkdir(mode=0o755, exist_ok=True)
        self._directories.load()
        try:
            catalog = parse_catalog(read_record(self._root / _CATALOG))
        except FileNotFoundError:
            catalog = Catalog()
        except (ValueError, InvalidRequest) as error:
            raise Failure(f"cannot read {self._root / _CATALOG}: {error}") from error
        documents: dict[Digest, ImageDocument] = {}
        for image_id, record in catalog.images.items():
            try:
                documents[image_id] = parse_image_document(self._blobs.read(image_id))
                missing = [each for each in record.layers if not self._layers.has(each)]
                if missing:
                    raise InvalidRequest(f"layer {missing[0]} is missing")
            except (OSError, InvalidRequest) as error:
                log.error("image %s is damaged and left out: %s", image_id, error)
                documents.pop(image_id, None)
                catalog = catalog.without_image(image_id)
        self._remove_garbage(catalog)
        return catalog, documents

    async def _in_thread(self, job: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, job)


def host_platform() -> Platform:
    return platform_of("linux", os.uname().machine)


def refuse_directory(verb: str, reference: str, image: Image) -> None:
    """Raises Unsupported for what can't leave this machine."""
    if image.rootfs_path or image.base:
        raise Unsupported(
            f"cannot {verb} {reference}: it lies on the directory "
            f"{image.rootfs_path or image.base} of this host, not on layers alone"
        )


def _new_name(repository: str, tag: str) -> Reference:
    name = parse_reference(repository)
    if name.digest:
        raise InvalidRequest("refusing to create a tag with a digest reference")
    if name.familiar.partition(":")[0] == "sha256":
        raise InvalidRequest("refusing to create an ambiguous tag using digest algorithm as name")
    if tag:
        name = Reference(name.domain, name.path, parse_tag(tag))
    return name.with_default_tag()


def _chains(catalog: Catalog, image_id: Digest) -> tuple[Digest, ...]:
    layers = catalog.images[image_id].layers
    return tuple(chain_id(layers[:count]) for count in range(len(layers), 0, -1))


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _seconds(stamp: str) -> int:
    """RFC 3339 as seconds; 0 where an image doesn't say, or says nonsense."""
    try:
        return int(datetime.fromisoformat(stamp).timestamp())
    except (ValueError, OverflowError):
        return 0
