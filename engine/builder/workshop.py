"""What the stages of one build share: neighbours, the build's folder, and work that blocks."""

import asyncio
import contextlib
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from engine.builder.access import Access
from engine.builder.kept import KeptContexts
from engine.builder.model import BuildRequest
from engine.builder.sources import IMAGE, KEPT, context_value, fetch
from engine.builder.stages import Plan
from engine.builder.trees import Digests, Tree
from engine.containers.operations import Containers
from engine.errors import InvalidRequest, NotFound
from engine.images.feed import finish
from engine.images.layers import remove_directory
from engine.images.model import Image
from engine.images.operations import Images
from engine.kernel.overlay import on_overlay

Result = TypeVar("Result")
Job = Callable[[int], Result]


@dataclass(frozen=True, slots=True)
class Caches:
    """Folders of `RUN --mount=type=cache`; each with a lock, for those that are not shared."""

    root: Path
    locks: dict[str, asyncio.Lock] = field(default_factory=dict)
    in_use: Counter[str] = field(default_factory=Counter)

    def lock(self, name: str) -> asyncio.Lock:
        return self.locks.setdefault(name, asyncio.Lock())

    def use(self, name: str, undo: contextlib.AsyncExitStack) -> Path:
        """Its folder, whether it is there or not; it stays until `undo`."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.in_use[name] += 1
        undo.callback(self.in_use.subtract, (name,))
        return self.root / name


@dataclass(slots=True)
class Workshop:
    images: Images
    containers: Containers
    caches: Caches
    request: BuildRequest
    plan: Plan
    dockerfile: str  # its name, for messages
    escape: str
    folder: Path  # the build's own; goes with it
    main: Tree  # the build's context
    kept: KeptContexts
    digests: Digests
    threads: ThreadPoolExecutor
    access: Access
    in_use: set[str]  # ids of images that must not be pruned now
    reached: set[str]  # keys of states that builds came to before, whatever was kept of them
    sources: tuple[Image, ...] = ()  # of the cache: images that may have been built alike
    epoch: int | None = None  # SOURCE_DATE_EPOCH: what is made is not newer, in seconds since 1970
    steps: int = 0  # in all
    consumed: set[str] = field(default_factory=set)  # build args that an ARG declared
    _fetched: dict[str, asyncio.Task[Tree]] = field(default_factory=dict)

    async def context_of(self, name: str) -> Tree | str | None:
        """A named context: its files, or the image that it is; None where none has that name."""
        value = context_value(self.request.contexts, name)
        if value.startswith(IMAGE):
            return value.removeprefix(IMAGE)
        if value.startswith(KEPT):
            return self.kept.tree(value.removeprefix(KEPT))
        if not value:
            return None
        if value not in self._fetched:
            self._fetched[value] = asyncio.create_task(self._fetch(value))
        return await asyncio.shield(self._fetched[value])

    async def _fetch(self, address: str) -> Tree:
        folder = self.folder / f"context-{secrets.token_hex(8)}"
        content = await self.in_thread(lambda: fetch(address, folder, self.access))
        if content is not None:
            raise InvalidRequest(f"cannot use {address} as a build context: it is no archive")
        return Tree((str(folder),), is_context=True)

    async def close(self) -> None:
        """Nobody is to write below the build's folder any more."""
        self.access.stopped.set()
        await asyncio.gather(*self._fetched.values(), return_exceptions=True)

    async def in_thread(self, job: Callable[[], Result]) -> Result:
        """A cancelled caller waits for it to end: it works in folders that are to go."""
        return await finish(asyncio.get_running_loop().run_in_executor(self.threads, job))

    async def on_layers(self, lowers: Sequence[str], job: Job[Result]) -> Result:
        """`job` with the root that these layers make, read-only."""
        scratch = str(self.folder)
        return await self.in_thread(lambda: on_overlay(lowers, "", "", job, scratch=scratch))

    async def on_tree(self, tree: Tree, job: Job[Result]) -> Result:
        """The same, with the root of a tree."""
        try:
            return await self.on_layers(tree.lowers, job)
        except NotFound as error:
            if not tree.is_context:
                raise
            reason = f"file not found in build context or excluded by .dockerignore: {error}"
            raise NotFound(reason) from error

    @contextlib.asynccontextmanager
    async def scratch(self) -> AsyncIterator[Path]:
        folder = self.folder / f"step-{secrets.token_hex(8)}"
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            await self.in_thread(lambda: remove_directory(folder))
