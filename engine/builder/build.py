"""Builder: a Dockerfile and a context become an image. One instance a daemon."""

import asyncio
import contextlib
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from engine.builder import cache
from engine.builder.args import OWN_ARGS, check_build_args, epoch_of
from engine.builder.context import apply_ignore, read_dockerfile, unpack_context
from engine.builder.dockerfile import TRUE, Instruction, parse_dockerfile
from engine.builder.expand import PREDEFINED
from engine.builder.holdings import (
    CONTEXT,
    MOUNT,
    STEP,
    Holding,
    PruneRequest,
    chosen,
)
from engine.builder.kept import KeptContexts
from engine.builder.model import BuildRequest
from engine.builder.output import Output, StageOutput, Tell
from engine.builder.run_step import STEP_LABEL
from engine.builder.sources import fetch, kept_ids
from engine.builder.stage import StageBuild
from engine.builder.stages import Stage, make_plan
from engine.builder.state import State, known_args, seconds, stamp
from engine.builder.syntax import check_syntax
from engine.builder.trees import Digests, Tree
from engine.builder.workshop import Caches, Workshop
from engine.containers.operations import Containers
from engine.errors import EngineError, Failure, InvalidRequest
from engine.events import EventLog
from engine.images.feed import Feed, run_fed
from engine.images.layers import remove_directory
from engine.images.model import Image
from engine.images.operations import Images

log = logging.getLogger(__name__)
THREADS = 4


class Builder:
    def __init__(
        self, root: Path, images: Images, containers: Containers, events: EventLog, limit: int
    ) -> None:
        self._limit = limit
        self._collecting: asyncio.Task[None] | None = None
        self._sizes = _Sizes()
        self._temporary = root / "tmp"
        self._caches = Caches(root / "caches")
        self._images = images
        self._containers = containers
        self._events = events
        self._in_use: list[set[str]] = []
        self._threads = ThreadPoolExecutor(THREADS, "builder")
        self._digests = Digests()
        self.kept = KeptContexts(root / "contexts", self._temporary, self._threads)

    @classmethod
    async def open(
        cls,
        root: Path,
        *,
        images: Images,
        containers: Containers,
        events: EventLog,
        limit: int = 0,
    ) -> "Builder":
        """Clears away what a crash left of builds: folders, and containers of their steps.
        `limit`: bytes that the cache may hold; 0 for as many as there are."""
        builder = cls(root, images, containers, events, limit)
        for record in containers.list():
            if STEP_LABEL in record.config.labels:
                log.info("container %s is of a build that is over", record.id)
                try:
                    await containers.remove(record.id, force=True, volumes=True)
                except EngineError as error:
                    log.error("cannot remove container %s of a build: %s", record.id, error)
        await asyncio.to_thread(builder._clear)
        return builder

    def _clear(self) -> None:
        if self._temporary.exists():
            remove_directory(self._temporary)
        self.kept.clear_after_boot()

    async def close(self) -> None:
        if self._collecting is not None:
            self._collecting.cancel()
            await asyncio.wait((self._collecting,))
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def build(
        self, request: BuildRequest, archive: AsyncIterator[bytes], tell: Tell
    ) -> Image:
        """`archive`: the context as a tar, unless the request says where else it comes from. A
        cancelled build leaves nothing but what its steps have put into the cache."""
        in_use: set[str] = set()
        self._in_use.append(in_use)
        folder = self._temporary / secrets.token_hex(8)
        try:
            self._temporary.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700)
            with self.kept.lease(kept_ids(request.contexts, request.context)):
                async with self._images.held():
                    return await self._build(request, archive, tell, folder, in_use)
        except OSError as error:
            raise Failure(f"cannot build: {error}") from error
        finally:
            self._in_use.remove(in_use)
            self._images.mark_used(in_use)
            if folder.exists():
                await asyncio.to_thread(remove_directory, folder)
            self._collect_soon()

    async def _build(
        self,
        request: BuildRequest,
        archive: AsyncIterator[bytes],
        tell: Tell,
        folder: Path,
        in_use: set[str],
    ) -> Image:
        main, name, content = await self._receive(request, archive, folder)
        dockerfile = parse_dockerfile(content)
        check_build_args(request.build_args)
        for one in dockerfile.instructions:
            check_syntax(one, dockerfile.escape)
        labels = _labels(request.labels, dockerfile.escape)
        dockerfile = replace(dockerfile, instructions=(*dockerfile.instructions, *labels))
        plan = make_plan(dockerfile, request.build_args, known_args(request), request.contexts)
        if request.cache_from:
            listed = " ".join(request.cache_from)
            await tell(
                f"[Warning] {listed} not consulted: steps are found in the own cache alone\n"
            )
        workshop = Workshop(
            self._images,
            self._containers,
            self._caches,
            request,
            plan,
            name,
            dockerfile.escape,
            folder,
            main,
            self.kept,
            self._digests,
            self._threads,
            in_use,
            epoch_of(request.build_args, plan.global_names),
        )
        try:
            state = await _run_stages(workshop, tell)
        finally:
            await workshop.close()
        return await self._finish(workshop, state, tell)

    async def _receive(
        self, request: BuildRequest, archive: AsyncIterator[bytes], folder: Path
    ) -> tuple[Tree, str, bytes]:
        """The context, and the Dockerfile's name and content."""
        context = folder / "context"
        own = Tree((str(context),), is_context=True)
        if request.remote:
            fetched = await self._fetch(request, context)
            if fetched is not None:
                context.mkdir(mode=0o755)
                return own, "Dockerfile", fetched
            context.chmod(0o755)
            name, content = await asyncio.to_thread(_prepared, context, request.dockerfile)
            return own, name, content
        context.mkdir(mode=0o755)
        feed = Feed(archive)
        await run_fed(self._threads, feed, lambda: unpack_context(feed, context))
        if request.context:  # what was sent now is the Dockerfile, and nothing else
            name, content = await asyncio.to_thread(read_dockerfile, context, request.dockerfile)
            return self.kept.tree(request.context), name, content
        name, content = await asyncio.to_thread(_prepared, context, request.dockerfile)
        return own, name, content

    async def _fetch(self, request: BuildRequest, context: Path) -> bytes | None:
        """A repository or a tar is the context; any other file the Dockerfile."""
        stopped = asyncio.Event()
        keep = (request.build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR") or "").lower() in TRUE
        running = asyncio.get_running_loop().run_in_executor(
            self._threads,
            lambda: fetch(request.remote, context, is_cancelled=stopped.is_set, keep_git=keep),
        )
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            stopped.set()
            await asyncio.wait((running,))
            raise

    async def _finish(self, workshop: Workshop, state: State, tell: Tell) -> Image:
        """The image itself, named. What the cache has already is the same image again."""
        request = workshop.request
        unused = sorted(
            name
            for name in request.build_args
            if name not in workshop.consumed and name not in PREDEFINED and name not in OWN_ARGS
        )
        if unused:
            listed = " ".join(unused)
            await tell(f"[Warning] One or more build-args [{listed}] were not consumed\n")
        image = await self._image(workshop, state)
        for tag in request.tags:
            await self._images.tag(image.id, tag.name, tag.tag)
            self._events.publish("image", "tag", image.id, {"name": tag.familiar})
        return self._images.resolve(image.id)

    async def _image(self, workshop: Workshop, state: State) -> Image:
        if not state.image_id and not state.document.history:
            raise InvalidRequest("No image was generated. Is your Dockerfile empty?")
        key = cache.step_key(state.key, "IMAGE", workshop.epoch)
        known = None if workshop.request.no_cache else self._images.made_of(key)
        if known is not None:
            return await self._images.show(known)
        if not state.is_changed and not self._is_directory(state):
            return await self._images.show(self._images.resolve(state.image_id))
        document = replace(state.document, created=stamp(workshop.epoch))
        return await self._images.add_step(
            document, None, base=state.base, cache_key=key, is_step=False
        )

    def _is_directory(self, state: State) -> bool:
        return bool(self._images.resolve(state.image_id).rootfs_path)

    # ---- what the cache holds

    async def holdings(self) -> tuple[Holding, ...]:
        in_use = set[str]().union(*self._in_use)
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
            for step in self._images.steps()
        ]
        folders = await asyncio.to_thread(self._folders)
        return (*steps, *folders)

    def _folders(self) -> list[Holding]:
        found = []
        for root, kind, what, in_use in (
            (self._caches.root, MOUNT, "cache mount", self._caches.in_use),
            (self.kept.root, CONTEXT, "build context", self.kept.in_use),
        ):
            for path in sorted(root.glob("[0-9a-f]*")):
                with contextlib.suppress(FileNotFoundError):  # it is being removed
                    used = path.stat().st_mtime
                    size = self._sizes.of(path, used)
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
        reclaimed = await self._images.remove_steps(
            [f"sha256:{each.id}" for each in gone if each.kind == STEP]
        )
        for each in gone:
            if each.kind == STEP:
                continue
            owner = self._caches if each.kind == MOUNT else self.kept
            if owner.in_use[each.id] <= 0 and (owner.root / each.id).exists():
                trash = self._trash()
                (owner.root / each.id).rename(trash)
                await asyncio.to_thread(remove_directory, trash)
                reclaimed += each.size
        return reclaimed

    def _trash(self) -> Path:
        self._temporary.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._temporary / f"trash-{secrets.token_hex(8)}"

    def _collect_soon(self) -> None:
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


def _prepared(context: Path, wanted: str) -> tuple[str, bytes]:
    name, content = read_dockerfile(context, wanted)
    apply_ignore(context, name)
    return name, content


def _labels(labels: Mapping[str, str], escape: str) -> Sequence[Instruction]:
    """As Docker does it: one more instruction at the end."""
    if not labels:
        return ()
    words = " ".join(
        f"{_quoted(key, escape)}={_quoted(value, escape)}" for key, value in sorted(labels.items())
    )
    return (Instruction("LABEL", words, 0, source=f"LABEL {words}"),)


def _quoted(text: str, escape: str) -> str:
    """So that nothing in it is expanded."""
    for sign in (escape, '"', "$"):
        text = text.replace(sign, escape + sign)
    return f'"{text}"'


async def _run_stages(workshop: Workshop, tell: Tell) -> State:
    """The target's state."""
    plan = workshop.plan
    target = plan.target(workshop.request.target)
    stages = plan.needed(target)
    workshop.steps = len(plan.global_args) + sum(1 + len(stage.body) for stage in stages)
    for count, one in enumerate(plan.global_args, 1):
        await tell(f"Step {count}/{workshop.steps} : {one.source}")
        await tell("\n")
    try:
        async with asyncio.TaskGroup() as group:
            run = _Run(workshop, Output(tell), group, 1 + len(plan.global_args))
            for stage in stages:
                run.start(stage, run.output.next())
            state = await run.results[target.index]
    except* (EngineError, OSError) as errors:
        raise _first(errors) from None
    return state


class _Run:
    """Stages run at once, each waiting for those that it needs. Which a trigger of its base needs
    is known only then."""

    def __init__(
        self, workshop: Workshop, output: Output, group: asyncio.TaskGroup, first_step: int
    ) -> None:
        self._workshop = workshop
        self.output = output
        self.results: dict[int, asyncio.Task[State]] = {}
        self._group = group
        self._step = first_step

    def start(self, stage: Stage, output: StageOutput) -> None:
        build = StageBuild(self._workshop, stage, output, self._step, partial(self._find, stage))
        self._step += 1 + len(stage.body)
        self.results[stage.index] = self._group.create_task(build.build())

    def _find(self, stage: Stage, reference: str) -> Awaitable[State] | None:
        wanted = self._workshop.plan.find(reference, stage.index)
        if wanted is None:
            return None
        if wanted.index not in self.results:
            self.start(wanted, self.output.between())
        return asyncio.shield(self.results[wanted.index])


def _first(errors: ExceptionGroup[EngineError | OSError]) -> Exception:
    found: Exception = errors
    while isinstance(found, ExceptionGroup):
        found = found.exceptions[0]
    return found
