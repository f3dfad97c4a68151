"""Images: all that can be asked of them. One instance a daemon, owned by the event loop.

What is there, and how that changes durably, is `store.py`; by which words an image is found,
`lookup.py`. Work that blocks (unpacking, hashing, copying) runs in threads and sees no state.
"""

import asyncio
import contextlib
import os
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

from engine.errors import Failure, InvalidRequest, NotFound, Unsupported
from engine.images.catalog import LayerRecord
from engine.images.export import ExportedImage, export_images
from engine.images.feed import Feed, finish, run_fed
from engine.images.intake import Incoming, Intake
from engine.images.lookup import (
    find,
    history_of,
    lineage,
    new_name,
    shared_sizes,
    stack_of,
    tagged,
    tags_of,
)
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
    unlike,
)
from engine.images.pack import Sink
from engine.images.push import COMPRESSING, Push
from engine.images.removal import plan_removal, refuse_used
from engine.images.reports import Reports, Tell
from engine.images.rootfs import HOST_ALIASES, HOST_NAME, Directories
from engine.images.steps import Steps
from engine.images.store import Store, now
from engine.images.transfer import UNPACKING, Distributed, PullRequest, Transfer
from engine.kernel.libc import told
from engine.oci.digest import Digest, is_digest
from engine.oci.image_config import (
    Edit,
    HistoryEntry,
    ImageConfig,
    ImageDocument,
    unchanged,
)
from engine.oci.platform import Platform, platform_of
from engine.oci.reference import Reference, parse_tag
from engine.registry.client import RegistryClient
from engine.registry.credentials import ANONYMOUS, Credentials
from engine.registry.search import Found
from engine.settings import Registries

Users = Callable[[str], Sequence[ImageUser]]  # image id -> the containers that need it

_ALIAS_IN_FULL = "docker.io/library/rootfs:latest"
_THREADS = UNPACKING + COMPRESSING + 4  # beside one for each download


class Images:
    def __init__(self, root: Path, private: Sequence[Path], client: RegistryClient) -> None:
        threads = ThreadPoolExecutor(client.registries.downloads + _THREADS, "images")
        self._platform = host_platform()
        self._store = Store(root, threads)
        self._intake = Intake(
            self._store.blobs, self._store.layers, self._store.temporary, self._platform
        )
        self.steps = Steps(self._store, self._intake)
        hidden = tuple(os.path.realpath(path) for path in (root.parent, *private))
        self._masks = Masks(root, (root.parent, *private))
        self._directories = Directories(root, self._platform, hidden)
        self._transfer = Transfer(client, self._intake, threads)
        self._push = Push(client, self._intake, self._store.blobs, threads)
        self._store.before_sweep = self._transfer.forget

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
        await images._store.open()
        images._directories.load()
        return images

    async def close(self, *, containers_left: bool = True) -> None:
        """Without containers the masks and names of `rootfs:` images go as well, and what roots
        share."""
        await self._transfer.close()
        if not containers_left:
            await self._store.in_thread(self._masks.retire)
            await self._store.in_thread(self._directories.retire)
            await self._store.in_thread(self._store.retire)
        self._store.threads.shutdown(wait=False, cancel_futures=True)

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
        image_id, _ = find(self._store.catalog, reference)
        return self._store.image(image_id)

    def layers(self, image: Image) -> tuple[str, ...]:
        """Overlay lower directories, top first. Ask at each start, don't store them: the mask of
        a `rootfs:` image is made anew when the host has changed."""
        if image.rootfs_path:
            try:
                return self._masks.lowers(image.rootfs_path)
            except OSError as error:
                raise Failure(f"cannot use {image.name} as an image: {told(error)}") from error
        stack = [str(self._store.layers.path(diff_id)) for diff_id in reversed(stack_of(image))]
        if image.base:
            try:
                stack += self._masks.lowers(image.base)
            except OSError as error:
                raise Failure(
                    f"cannot use {image.base} below {image.name}: {told(error)}"
                ) from error
        return tuple(stack) or (str(self._store.empty),)

    def root_layers(self, image: Image) -> tuple[str, ...]:
        """Those of a container's root: last the places for what is mounted in each. A directory of
        the host has them by its mask; overlayfs takes no layer that lies inside of another one."""
        layers = self.layers(image)
        is_on_host = image.rootfs_path or image.base
        return layers if is_on_host else (*layers, str(self._store.places))

    def list(self) -> tuple[Image, ...]:
        """All of them, newest first; a `rootfs:` image once it was used."""
        records = self._store.catalog.images.values()
        images = [self._store.image(record.id) for record in records if not record.is_step]
        images += self._directories.list()
        return tuple(sorted(images, key=lambda image: (image.created, image.id), reverse=True))

    def history(self, image: Image) -> tuple[HistoryLine, ...]:
        """Newest first."""
        return history_of(self._store.catalog, image)

    def descends(self, image_id: str, ancestor: Image) -> bool:
        """Whether it is that image, or was committed on it. What a pulled or built image is based
        on nobody knows, as in Docker."""
        return ancestor.id in lineage(self._store.catalog, Digest(image_id))

    def layer_digests(self, image: Image) -> tuple[str, ...]:
        """Diff ids, bottom first (RootFS.Layers of an inspect)."""
        return image.document.diff_ids

    def disk_usage(self) -> int:
        """Bytes of all unpacked layers."""
        return self._store.disk_usage()

    def shared_sizes(self) -> Mapping[Digest, int]:
        """Of each image the bytes in layers that another image has too."""
        return shared_sizes(self._store.catalog)

    def is_here(self, image: Image) -> bool:
        """Whether it hasn't been removed since it was found, and isn't just going. Who is about to
        be one of its users asks once more."""
        return self._store.is_here(image)

    def held(self) -> AbstractAsyncContextManager[None]:
        """Images that are there now keep their files meanwhile, whoever removes them."""
        return self._store.held()

    # ---- names

    async def tag(self, reference: str, repository: str, tag: str = "") -> Image:
        """Gives the image one more name, and takes that from another that had it."""
        image = self.resolve(reference)
        if image.rootfs_path:
            raise Unsupported(f"cannot tag {reference}: it is a directory, not a stored image")
        name = new_name(repository, tag)
        moment = now()
        await self._store.change(lambda catalog: catalog.with_name(str(name), image.id, moment))
        return self._store.image(image.id)

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
        async with self._store.changing:
            image_id, name = find(self._store.catalog, reference)
            image = self._store.image(image_id)
            planned = plan_removal(self._store.catalog, image, name, force=force, users=users)
            return await self._store.perform_removal(planned)

    async def prune(self, wanted: Callable[[Image], bool], *, users: Users) -> Pruned:
        """Removes the unused images of which `wanted` is true."""
        removed: list[Removed] = []
        async with self._store.changing:
            before = self._store.disk_usage()
            for image_id in tuple(self._store.catalog.images):
                if self._store.catalog.images[image_id].is_step:
                    continue  # remove_steps takes these
                image = self._store.image(image_id)
                if users(image_id) or not wanted(image):
                    continue
                planned = plan_removal(self._store.catalog, image, None, force=True, users=users)
                removed += await self._store.perform_removal(planned)
            return Pruned(tuple(removed), before - self._store.disk_usage())

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
        names = (new_name(repository, tag),) if repository else ()
        below = [self._store.layer(diff_id) for diff_id in document.diff_ids]
        moment = now()
        *before, own = document.history
        document = replace(
            document, created=moment, history=(*before, replace(own, created=moment))
        )
        async with self._store.taking_in():
            job = asyncio.get_running_loop().run_in_executor(
                self._store.threads, lambda: self._intake.committed(document, below, pack)
            )
            made = await finish(job)
            record = replace(made.record, base=base, parent=parent.id)
            await self._store.enter((replace(made, record=record, names=names),))
        return self._store.image(record.id)

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
        before = [self._store.catalog.names.get(str(name)) for name in wanted]
        async with self._store.taking_in():
            for name in wanted:
                request = PullRequest(name, platform or self._platform, credentials)
                async with contextlib.aclosing(self._pull_one(request)) as steps:
                    async for step in steps:
                        yield step
        after = [self._store.catalog.names.get(str(name)) for name in wanted]
        is_new = before != after
        found = "Downloaded newer image" if is_new else "Image is up to date"
        yield Progress(f"Status: {found} for {reference.familiar}")
        for name in wanted:
            image = self.resolve(str(name))
            if platform is not None and (warning := unlike(image, name.familiar, platform)):
                yield Progress(f"WARNING: {warning}")

    async def push(
        self, reference: Reference, *, credentials: Credentials = ANONYMOUS
    ) -> AsyncGenerator[Progress | Pushed, None]:
        """Sends the image to its registry; without a tag all of that repository. What happens, as
        it happens; it stops with its reader."""
        if reference.digest:
            raise InvalidRequest("cannot push a digest reference")
        yield Progress(f"The push refers to repository [{reference.name}]")
        async with self._store.taking_in():
            for name in self._tagged(reference):
                async with contextlib.aclosing(self._push_one(name, credentials)) as steps:
                    async for step in steps:
                        yield step

    def _tagged(self, reference: Reference) -> tuple[Reference, ...]:
        """What is to be pushed. Raises EngineError where nothing is, or can be."""
        known = tagged(self._store.catalog, reference)
        if not known:
            raise NotFound(
                f"An image does not exist locally with the tag: {reference.familiar_name}"
            )
        if reference.tag and reference not in known:
            raise NotFound(f"tag does not exist: {reference.familiar}")
        wanted = (reference,) if reference.tag else known
        for name in wanted:
            refuse_directory(
                "push", name.familiar, self._store.image(self._store.catalog.names[str(name)])
            )
        return wanted

    async def _push_one(
        self, name: Reference, credentials: Credentials
    ) -> AsyncGenerator[Progress | Pushed, None]:
        catalog = self._store.catalog
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
        await self._store.change(
            lambda catalog: catalog.with_pushed(digested, image_id, pushed.digest)
        )
        yield Progress(f"{pushed.tag}: digest: {pushed.digest} size: {pushed.size}")
        yield pushed

    async def _keep_compressed(self, layer: LayerRecord) -> None:
        """With `_taking_in` held: what reads the plain blob now keeps it until it is done."""
        self._store.expect_garbage()
        await self._store.change(lambda catalog: catalog.with_blob(layer))

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
        catalog = self._store.catalog
        reports = Reports(lambda tell: self._transfer.pull(request, catalog, tell))
        async with contextlib.aclosing(reports.steps()) as steps:
            async for step in steps:
                yield step
        await self._store.enter((reports.result.incoming,))
        yield Progress(f"Digest: {reports.result.digest}")

    async def load(self, archive: AsyncIterator[bytes]) -> tuple[Loaded, ...]:
        """A `docker save` archive or an OCI layout in a tar, plain or compressed."""
        async with contextlib.aclosing(self.loading(archive)) as steps:
            return tuple([step async for step in steps if isinstance(step, Loaded)])

    async def loading(
        self, archive: AsyncIterator[bytes], *, platform: Platform | None = None
    ) -> AsyncGenerator[Progress | Loaded, None]:
        """The same, with what happens as it happens, and what came at the end."""
        async with self._store.taking_in():
            reports = Reports(lambda tell: self._load(archive, platform, tell))
            async with contextlib.aclosing(reports.steps()) as steps:
                async for step in steps:
                    yield step
            incoming = reports.result
            before = self._store.catalog.names
            await self._store.enter(incoming)
            for each in incoming:
                names = tuple(name.familiar for name in each.names)
                replaced = tuple(
                    (name.familiar, before[str(name)])
                    for name in each.names
                    if before.get(str(name), each.record.id) != each.record.id
                )
                yield Loaded(self._store.image(each.record.id), names, replaced)

    async def _load(
        self, archive: AsyncIterator[bytes], platform: Platform | None, tell: Tell
    ) -> tuple[Incoming, ...]:
        known = self._store.catalog.layers
        feed = Feed(archive)
        loop = asyncio.get_running_loop()

        def tell_loop(step: Progress) -> None:
            loop.call_soon_threadsafe(tell, step)

        return await run_fed(
            self._store.threads,
            feed,
            lambda: self._intake.load(feed, known, tell_loop, platform=platform),
        )

    async def import_(
        self,
        archive: AsyncIterator[bytes],
        repository: str = "",
        tag: str = "",
        *,
        edit: Edit = unchanged,
        message: str = "Imported from -",
        platform: Platform | None = None,
    ) -> Image:
        """A flat root file system in a tar becomes an image of one layer."""
        names = (new_name(repository, tag),) if repository else ()
        moment = now()
        document = ImageDocument(
            platform=platform or self._platform,
            config=edit(ImageConfig()),
            diff_ids=(),
            history=(HistoryEntry(created=moment, comment=message),),
            created=moment,
            comment=message,
        )
        feed = Feed(archive)
        async with self._store.taking_in():
            made = await run_fed(
                self._store.threads, feed, lambda: self._intake.import_(feed, document)
            )
            await self._store.enter((Incoming(made.record, made.layers, made.document, names),))
        return self._store.image(made.record.id)

    @contextlib.asynccontextmanager
    async def saving(self, references: Sequence[str]) -> AsyncIterator[Saving]:
        """A tar that `docker load` and OCI tools read. What is in it stays until the end, whoever
        removes it meanwhile."""
        async with self._store.held():
            exported = self._exported(references)
            pieces = export_images(exported, self._store.blobs, self._store.threads)
            async with contextlib.aclosing(pieces):
                yield Saving(tuple(each.id for each in exported), pieces)

    def _exported(self, references: Sequence[str]) -> tuple[ExportedImage, ...]:
        exported: dict[Digest, ExportedImage] = {}
        for reference, image, names in self._to_save(references):
            refuse_directory("save", reference, image)
            known = exported.get(image.id)
            if known is not None:
                names = known.names + tuple(name for name in names if name not in known.names)
            record = self._store.catalog.images[image.id]
            layers = tuple(self._store.catalog.layers[diff_id] for diff_id in record.layers)
            exported[image.id] = ExportedImage(image.id, layers, names)
        return tuple(exported.values())

    # ---- inside

    def _without_alias(self, reference: str) -> str:
        """`rootfs` and `rootfs:latest` mean `rootfs:/`, unless an image was given that name."""
        if reference in HOST_ALIASES and _ALIAS_IN_FULL not in self._store.catalog.names:
            return HOST_NAME
        return reference

    def _to_save(
        self, references: Sequence[str]
    ) -> Iterator[tuple[str, Image, tuple[Reference, ...]]]:
        """What was asked for, its image, and the names that go with it: of a repository alone all
        its tags."""
        for reference in references:
            tagged = tags_of(self._store.catalog, reference)
            if not tagged:
                image = self._saved(reference)
                name = None if image.rootfs_path else find(self._store.catalog, reference)[1]
                yield reference, image, (name,) if name is not None and name.tag else ()
            for name in tagged:
                yield reference, self._store.image(self._store.catalog.names[str(name)]), (name,)

    def _saved(self, reference: str) -> Image:
        """In Docker's words, which are others here than elsewhere."""
        try:
            return self.resolve(reference)
        except NotFound:
            if ":" in reference.rpartition("/")[2] and not is_digest(reference):
                raise NotFound("reference does not exist") from None
            raise NotFound(f"No such image: {reference}") from None


def host_platform() -> Platform:
    return platform_of("linux", os.uname().machine)


def refuse_directory(verb: str, reference: str, image: Image) -> None:
    """Raises Unsupported for what can't leave this machine."""
    if image.rootfs_path or image.base:
        raise Unsupported(
            f"cannot {verb} {reference}: it lies on the directory "
            f"{image.rootfs_path or image.base} of this host, not on layers alone"
        )
