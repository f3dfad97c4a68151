"""The build cache as a whole: what it holds, pruning, and its limit."""

import asyncio
import contextlib
import logging
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from engine.builder.holdings import CONTEXT, MOUNT, STEP, Holding, PruneRequest, chosen
from engine.builder.kept import KeptContexts
from engine.builder.state import seconds
from engine.builder.workshop import Caches
from engine.errors import EngineError
from engine.events import EventLog
from engine.images.layers import remove_directory
from engine.images.operations import Images

log = logging.getLogger(__name__)


class Upkeep:
    """`limit`: bytes; 0 for as many as there are. `in_use`: ids of images, a set for each build
    under way."""

    def __init__(
        self,
        images: Images,
        caches: Caches,
        kept: KeptContexts,
        temporary: Path,
        events: EventLog,
        limit: int,
        in_use: Mapping[str, set[str]],
    ) -> None:
        self._images = images
        self._caches = caches
        self._kept = kept
        self._temporary = temporary
        self._events = events
        self._limit = limit
        self._in_use = in_use
        self._sizes = _Sizes()
        self._collecting: asyncio.Task[None] | None = None

    async def close(self) -> None:
        if self._collecting is not None:
            self._collecting.cancel()
            await asyncio.wait((self._collecting,))

    async def holdings(self) -> tuple[Holding, ...]:
        in_use = self._images_in_use()
        steps = [
            Holding(
                id=step.image.id.removeprefix("sha256:"),
                kind=STEP,
                description=step.image.document.history[-1].created_by,
                size=step.size,
                created=seconds(step.image.created),
                used=step.used,
                in_use=step.image.id in in_use,
                is_shared=step.is_base,
                depth=len(step.image.document.diff_ids),
            )
            for step in self._images.steps.list()
        ]
        folders = await asyncio.to_thread(self._folders)
        return (*steps, *folders)

    def _images_in_use(self) -> set[str]:
        return set[str]().union(*self._in_use.values())

    def _folders(self) -> list[Holding]:
        found = []
        for root, kind, what, in_use in (
            (self._caches.root, MOUNT, "cache mount", self._caches.in_use),
            (self._kept.root, CONTEXT, "build context", self._kept.in_use),
        ):
            for path in sorted(root.glob("[0-9a-f]*")):
                with contextlib.suppress(FileNotFoundError):  # it is being removed
                    used = path.stat().st_mtime
                    # A context is what it was when it came.
                    size = self._sizes.of(path, used if kind == MOUNT else 0)
                    is_used = in_use[path.name] > 0
                    found.append(Holding(path.name, kind, what, size, used, used, is_used))
        return found

    async def prune(self, request: PruneRequest) -> tuple[tuple[Holding, ...], int]:
        """What went, and the bytes that are free now."""
        gone = chosen(await self.holdings(), request, time.time())
        reclaimed = await self._remove(gone)
        self._events.publish("builder", "prune", "", {"reclaimed": str(reclaimed)})
        return gone, reclaimed

    async def _remove(self, gone: Sequence[Holding]) -> int:
        in_use = self._images_in_use()  # some since this was decided
        steps = {f"sha256:{each.id}" for each in gone if each.kind == STEP}
        reclaimed = await self._images.steps.remove(steps - in_use)
        for each in gone:
            if each.kind == STEP:
                continue
            owner = self._caches if each.kind == MOUNT else self._kept
            if owner.in_use[each.id] <= 0 and (owner.root / each.id).exists():
                trash = self._trash()
                (owner.root / each.id).rename(trash)
                await asyncio.to_thread(remove_directory, trash)
                reclaimed += each.size
        return reclaimed

    def _trash(self) -> Path:
        self._temporary.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._temporary / f"trash-{secrets.token_hex(8)}"

    def collect_soon(self) -> None:
        """Keeps the cache below its limit, one look at a time, and out of a build's way."""
        if self._limit and (self._collecting is None or self._collecting.done()):
            self._collecting = asyncio.create_task(self._collect())

    async def _collect(self) -> None:
        try:
            gone = chosen(await self.holdings(), PruneRequest(keep=self._limit), time.time())
            if gone:
                reclaimed = await self._remove(gone)
                log.info("the build cache was too large: %d bytes went", reclaimed)
        except (EngineError, OSError) as error:
            log.warning("cannot make the build cache smaller: %s", error)


class _Sizes:
    """Bytes below folders, counted again once they were used again."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[float, int]] = {}

    def of(self, folder: Path, used: float) -> int:
        known = self._known.get(folder)
        if known is None or known[0] != used:
            size = sum(
                os.lstat(os.path.join(path, name)).st_size
                for path, _, files in os.walk(folder)
                for name in files
            )
            known = self._known[folder] = (used, size)
        return known[1]
