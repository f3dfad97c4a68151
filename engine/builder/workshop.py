"""What the stages of one build share: neighbours, the build's folder, and work that blocks."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from engine.builder.model import BuildRequest
from engine.builder.stages import Plan
from engine.containers.operations import Containers
from engine.images.feed import finish
from engine.images.layers import remove_directory
from engine.images.operations import Images
from engine.kernel.overlay import on_overlay

Result = TypeVar("Result")
Job = Callable[[int], Result]


@dataclass(frozen=True, slots=True)
class Caches:
    """Folders of `RUN --mount=type=cache`; each with a lock, for those that are not shared."""

    root: Path
    locks: dict[str, asyncio.Lock] = field(default_factory=dict)

    def lock(self, name: str) -> asyncio.Lock:
        return self.locks.setdefault(name, asyncio.Lock())


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
    context: Path
    threads: ThreadPoolExecutor
    in_use: set[str]  # ids of images that must not be pruned now
    steps: int = 0  # in all
    consumed: set[str] = field(default_factory=set)  # build args that an ARG declared
    is_cancelled: bool = False

    async def in_thread(self, job: Callable[[], Result]) -> Result:
        """A cancelled caller waits for it to end: it works in folders that are to go."""
        return await finish(asyncio.get_running_loop().run_in_executor(self.threads, job))

    async def on_layers(self, lowers: Sequence[str], job: Job[Result]) -> Result:
        """`job` with the root that these layers make, read-only."""
        scratch = str(self.folder)
        return await self.in_thread(lambda: on_overlay(lowers, "", "", job, scratch=scratch))

    @contextlib.asynccontextmanager
    async def scratch(self) -> AsyncIterator[Path]:
        folder = self.folder / f"step-{secrets.token_hex(8)}"
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            await self.in_thread(lambda: remove_directory(folder))
