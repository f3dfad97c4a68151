"""What build steps made: images that only the builder knows of, found by the key of their step."""

import asyncio
import contextlib
import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from engine.images.feed import finish
from engine.images.intake import Intake
from engine.images.model import Image, Step
from engine.images.store import Store
from engine.oci.digest import Digest
from engine.oci.image_config import ImageDocument


class Steps:
    def __init__(self, store: Store, intake: Intake) -> None:
        self._store = store
        self._intake = intake

    def made_of(self, cache_key: str) -> Image | None:
        """What a build step with that key has made before."""
        record = self._store.catalog.made_of(cache_key)
        return None if record is None else self._store.image(record.id)

    async def add(
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
        below = [self._store.layer(diff_id) for diff_id in document.diff_ids]
        known = None if layer is None else self._store.layer(layer)
        async with self._store.taking_in():
            job = asyncio.get_running_loop().run_in_executor(
                self._store.threads, lambda: self._intake.built(document, below, upper, known)
            )
            made = await finish(job)
            record = replace(made.record, base=base, cache_key=cache_key, is_step=is_step)
            await self._store.enter((replace(made, record=record),))
        return self._store.image(record.id)

    async def show(self, image: Image) -> Image:
        """A build step's image becomes one that everybody sees."""
        await self._store.change(lambda catalog: catalog.without_step_mark(image.id))
        return self._store.image(image.id)

    def list(self) -> tuple[Step, ...]:
        shown = [record for record in self._store.catalog.images.values() if not record.is_step]
        bases = {
            record.layers[:count] for record in shown for count in range(1, len(record.layers) + 1)
        }
        seen = {diff_id for record in shown for diff_id in record.layers}
        found = []
        for record in self._store.catalog.images.values():
            if record.is_step:
                image = self._store.image(record.id)
                own = record.layers[-1:] if not image.document.history[-1].empty_layer else ()
                size = sum(
                    self._store.catalog.layers[each].size for each in own if each not in seen
                )
                used = self._store.blobs.path(record.id).stat().st_mtime
                found.append(Step(image, size, record.layers in bases, used))
        return tuple(found)

    def mark_used(self, image_ids: Collection[str]) -> None:
        """Of build steps: the time of its configuration's file says when one was used last."""
        for image_id in image_ids:
            with contextlib.suppress(FileNotFoundError):
                os.utime(self._store.blobs.path(Digest(image_id)))

    async def remove(self, image_ids: Collection[str]) -> int:
        """The bytes that their layers took and nothing else needs."""
        async with self._store.changing:
            before, catalog = self._store.disk_usage(), self._store.catalog
            for image_id in image_ids:
                record = catalog.images.get(Digest(image_id))
                if record is not None and record.is_step:
                    catalog = catalog.without_image(record.id)
            if catalog is not self._store.catalog:
                await self._store.forget(catalog)
            return before - self._store.disk_usage()
