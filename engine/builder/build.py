"""Builder: a Dockerfile and a context become an image. One instance a daemon."""

import asyncio
import logging
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from engine.builder import download
from engine.builder.context import apply_ignore, read_dockerfile, unpack_context
from engine.builder.copy import is_archive
from engine.builder.dockerfile import Instruction, parse_dockerfile
from engine.builder.expand import PREDEFINED
from engine.builder.model import BuildRequest
from engine.builder.output import Output, Tell
from engine.builder.run_step import STEP_LABEL
from engine.builder.stage import StageBuild
from engine.builder.stages import Plan, Stage, make_plan
from engine.builder.state import State, known_args, now
from engine.builder.syntax import check_syntax
from engine.builder.workshop import Caches, Workshop
from engine.containers.operations import Containers
from engine.errors import EngineError, Failure, InvalidRequest
from engine.events import EventLog
from engine.images.feed import Feed, run_fed
from engine.images.layers import remove_directory
from engine.images.model import Image, Pruned
from engine.images.operations import Images

log = logging.getLogger(__name__)
THREADS = 4


class Builder:
    def __init__(
        self, root: Path, images: Images, containers: Containers, events: EventLog
    ) -> None:
        self._temporary = root / "tmp"
        self._caches = Caches(root / "caches")
        self._images = images
        self._containers = containers
        self._events = events
        self._in_use: list[set[str]] = []
        self._threads = ThreadPoolExecutor(THREADS, "builder")

    @classmethod
    async def open(
        cls, root: Path, *, images: Images, containers: Containers, events: EventLog
    ) -> "Builder":
        """Clears away what a crash left of builds: folders, and containers of their steps."""
        builder = cls(root, images, containers, events)
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

    def close(self) -> None:
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
            context = folder / "context"
            context.mkdir(mode=0o755, parents=True)
            folder.chmod(0o700)
            name, content = await self._receive(request, archive, folder, context)
            dockerfile = parse_dockerfile(content)
            for one in dockerfile.instructions:
                check_syntax(one, dockerfile.escape)
            dockerfile = replace(
                dockerfile,
                instructions=(
                    *dockerfile.instructions,
                    *_labels(request.labels, dockerfile.escape),
                ),
            )
            plan = make_plan(dockerfile, request.build_args, known_args(request))
            workshop = Workshop(
                self._images,
                self._containers,
                self._caches,
                request,
                plan,
                name,
                dockerfile.escape,
                folder,
                context,
                self._threads,
                in_use,
            )
            try:
                state = await _run_stages(workshop, tell)
            finally:
                workshop.is_cancelled = True
            return await self._finish(workshop, state, tell)
        except OSError as error:
            raise Failure(f"cannot build: {error}") from error
        finally:
            self._in_use.remove(in_use)
            if folder.exists():
                await asyncio.to_thread(remove_directory, folder)

    async def _receive(
        self, request: BuildRequest, archive: AsyncIterator[bytes], folder: Path, context: Path
    ) -> tuple[str, bytes]:
        """The Dockerfile's name and content; all else is in `context` then."""
        if request.remote:
            return await self._fetch(request, folder, context)
        feed = Feed(archive)
        await run_fed(self._threads, feed, lambda: unpack_context(feed, context))
        return await asyncio.to_thread(_prepared, context, request.dockerfile)

    async def _fetch(self, request: BuildRequest, folder: Path, context: Path) -> tuple[str, bytes]:
        """A tar at a URL is the context; any other file there the Dockerfile."""
        path = folder / "remote"
        stopped = asyncio.Event()

        def fetch() -> bytes | None:
            download.download(request.remote, path, stopped.is_set)
            root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                if not is_archive(root, "remote"):
                    return path.read_bytes()
            finally:
                os.close(root)
            with open(path, "rb", buffering=0) as stream:
                unpack_context(stream, context)
            return None

        running = asyncio.get_running_loop().run_in_executor(self._threads, fetch)
        try:
            content = await asyncio.shield(running)
        except asyncio.CancelledError:
            stopped.set()
            await asyncio.wait((running,))
            raise
        if content is not None:
            return "Dockerfile", content
        return await asyncio.to_thread(_prepared, context, request.dockerfile)

    async def _finish(self, workshop: Workshop, state: State, tell: Tell) -> Image:
        """The image itself, named. What the cache has already is the same image again."""
        request = workshop.request
        unused = sorted(
            name
            for name in request.build_args
            if name not in workshop.consumed and name not in PREDEFINED
        )
        if unused:
            listed = " ".join(unused)
            await tell(f"[Warning] One or more build-args [{listed}] were not consumed\n")
        image = await self._image(request, state)
        for tag in request.tags:
            await self._images.tag(image.id, tag.name, tag.tag)
            self._events.publish("image", "tag", image.id, {"name": tag.familiar})
        return self._images.resolve(image.id)

    async def _image(self, request: BuildRequest, state: State) -> Image:
        if not state.image_id and not state.document.history:
            raise InvalidRequest("No image was generated. Is your Dockerfile empty?")
        known = None if request.no_cache else self._images.made_of(state.key)
        if known is not None:
            return await self._images.show(known)
        if not state.is_changed and not self._is_directory(state):
            return await self._images.show(self._images.resolve(state.image_id))
        document = replace(state.document, created=now())
        return await self._images.add_step(
            document, None, base=state.base, cache_key=state.key, is_step=False
        )

    def _is_directory(self, state: State) -> bool:
        return bool(self._images.resolve(state.image_id).rootfs_path)

    async def prune(self) -> Pruned:
        """Empties the cache: steps of builds, and the folders of cache mounts."""
        keep = set[str]().union(*self._in_use)
        pruned = await self._images.prune_steps(keep=keep)
        reclaimed = pruned.reclaimed
        if not self._in_use:
            reclaimed += await asyncio.to_thread(self._remove_caches)
        self._events.publish("builder", "prune", "", {"reclaimed": str(reclaimed)})
        return replace(pruned, reclaimed=reclaimed)

    def _remove_caches(self) -> int:
        size = 0
        for folder in self._caches.root.glob("*"):
            size += sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
            remove_directory(folder)
        return size


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
    """The target's state. Stages run at once, each waiting for those that it needs."""
    plan = workshop.plan
    target = plan.target(workshop.request.target)
    stages = plan.needed(target)
    output = Output(tell, len(stages))
    number = 1 + len(plan.global_args)
    workshop.steps = len(plan.global_args) + sum(1 + len(stage.body) for stage in stages)
    for count, one in enumerate(plan.global_args, 1):
        await tell(f"Step {count}/{workshop.steps} : {one.source}")
        await tell("\n")
    loop = asyncio.get_running_loop()
    results: dict[int, asyncio.Future[State]] = {
        stage.index: loop.create_future() for stage in stages
    }
    try:
        async with asyncio.TaskGroup() as group:
            for place, stage in enumerate(stages):
                find = _finder(plan, stage, results)
                build = StageBuild(workshop, stage, output.of(place), number, find)
                number += 1 + len(stage.body)
                group.create_task(_run_stage(build, results[stage.index]))
    except* (EngineError, OSError) as errors:
        raise _first(errors) from None
    finally:
        for result in results.values():
            result.cancel()
    return results[target.index].result()


async def _run_stage(build: StageBuild, result: asyncio.Future[State]) -> None:
    result.set_result(await build.build())


def _finder(
    plan: Plan, stage: Stage, results: Mapping[int, asyncio.Future[State]]
) -> Callable[[str], Awaitable[State] | None]:
    def find(reference: str) -> Awaitable[State] | None:
        found = plan.find(reference, stage.index)
        return None if found is None else asyncio.shield(results[found.index])

    return find


def _first(errors: ExceptionGroup[EngineError | OSError]) -> Exception:
    found: Exception = errors
    while isinstance(found, ExceptionGroup):
        found = found.exceptions[0]
    return found
