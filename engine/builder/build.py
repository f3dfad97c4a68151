"""Builder: a Dockerfile and a context become an image. One instance a daemon."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Mapping,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from engine.builder import cache, download
from engine.builder.access import Access
from engine.builder.args import CHECKS, OWN_ARGS, check_build_args, epoch_of
from engine.builder.build_checks import Checks, Finding, Surroundings, findings, parse_checks
from engine.builder.context import Recipe, prepare, read_recipe, unpack_context
from engine.builder.dockerfile import TRUE, Dockerfile, Instruction, parse_dockerfile
from engine.builder.expand import PREDEFINED
from engine.builder.ignore import parse_ignore
from engine.builder.kept import KeptContexts
from engine.builder.model import BuildRequest
from engine.builder.output import Output, StageOutput, Tell
from engine.builder.run_step import STEP_LABEL
from engine.builder.sources import cache_reference, fetch, kept_ids
from engine.builder.stage import StageBuild
from engine.builder.stages import Plan, Stage, circle, make_plan
from engine.builder.state import State, known_args, stamp
from engine.builder.syntax import check_syntax
from engine.builder.trees import Digests, Tree
from engine.builder.upkeep import Upkeep
from engine.builder.workshop import Caches, Workshop
from engine.containers.operations import Containers
from engine.errors import EngineError, Failure, InvalidRequest, NotFound
from engine.events import EventLog
from engine.images.feed import Feed, Outlet, run_fed
from engine.images.layers import remove_directory
from engine.images.model import Image
from engine.images.operations import Images
from engine.kernel.libc import told
from engine.oci.image_config import ImageDocument
from engine.oci.platform import parse_platform
from engine.oci.reference import parse_reference
from engine.proxies import Proxies

log = logging.getLogger(__name__)
THREADS = 4
_REMEMBERED = 10_000  # states


@dataclass(frozen=True, slots=True)
class _Site:
    """Where one build happens: a folder of its own, what it holds on to until its end."""

    folder: Path
    in_use: set[str]  # ids of images
    held: contextlib.AsyncExitStack
    access: Access


@dataclass(frozen=True, slots=True)
class _Read:
    context: Tree
    recipe: Recipe
    dockerfile: Dockerfile
    plan: Plan


class Builder:
    def __init__(
        self,
        root: Path,
        images: Images,
        containers: Containers,
        events: EventLog,
        limit: int,
        proxies: Proxies,
    ) -> None:
        self._proxies = proxies
        self._known_hosts = root / "known_hosts"
        self._temporary = root / "tmp"
        self._caches = Caches(root / "caches")
        self._images = images
        self._containers = containers
        self._events = events
        self._in_use: dict[str, set[str]] = {}  # ids of images, by the folder of a build
        self._threads = ThreadPoolExecutor(THREADS, "builder")
        self._digests = Digests()
        self._reached: set[str] = set()
        self.kept = KeptContexts(root / "contexts", self._temporary, self._threads)
        self.cache = Upkeep(
            images, self._caches, self.kept, self._temporary, events, limit, self._in_use
        )

    @classmethod
    async def open(
        cls,
        root: Path,
        *,
        images: Images,
        containers: Containers,
        events: EventLog,
        limit: int = 0,
        proxies: Proxies | None = None,
    ) -> "Builder":
        """Clears away what a crash left of builds: folders, and containers of their steps.
        `limit`: bytes that the cache may hold; 0 for as many as there are."""
        builder = cls(root, images, containers, events, limit, proxies or Proxies())
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
        await self.cache.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def build(
        self, request: BuildRequest, archive: AsyncIterator[bytes], tell: Tell
    ) -> Image:
        """`archive`: the context as a tar, unless the request says where else it comes from. A
        cancelled build leaves nothing but what its steps have put into the cache."""
        async with self._site(request) as site:
            return await self._build(request, archive, tell, site)

    async def check(
        self, request: BuildRequest, archive: AsyncIterator[bytes]
    ) -> tuple[Finding, ...]:
        """What the Dockerfile could do better. Nothing is built. Raises InvalidRequest for what
        is wrong with it."""
        async with self._site(request) as site:
            read = await self._read(request, archive, site)
            return self._findings(read, request)

    @contextlib.asynccontextmanager
    async def _site(self, request: BuildRequest) -> AsyncIterator[_Site]:
        if len(self._reached) > _REMEMBERED:
            self._reached.clear()
        folder = self._temporary / secrets.token_hex(8)
        in_use = self._in_use[folder.name] = set()
        agent = request.ssh.get("default", "")
        access = Access(self._proxies, request.secrets, agent, self._known_hosts)
        try:
            self._temporary.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700)
            with self.kept.lease(kept_ids(request.contexts, request.context)):
                async with self._images.held(), contextlib.AsyncExitStack() as held:
                    yield _Site(folder, in_use, held, access)
        except OSError as error:
            raise Failure(f"cannot build: {told(error, str(self._temporary))}") from error
        finally:
            del self._in_use[folder.name]
            self._images.steps.mark_used(in_use)
            if folder.exists():
                await asyncio.to_thread(remove_directory, folder)
            self.cache.collect_soon()

    async def _build(
        self, request: BuildRequest, archive: AsyncIterator[bytes], tell: Tell, site: _Site
    ) -> Image:
        read = await self._read(request, archive, site)
        dockerfile, plan = read.dockerfile, read.plan
        if request.build_args.get(CHECKS) or dockerfile.checks:
            await self._tell_findings(read, request, tell)
        sources = [
            image
            for text in (*request.cache_from, *request.cache_sources)
            if (image := await self._cache_source(text, request, site.in_use, tell)) is not None
        ]
        workshop = Workshop(
            self._images,
            self._containers,
            self._caches,
            request,
            plan,
            read.recipe.name,
            dockerfile.escape,
            site.folder,
            read.context,
            self.kept,
            self._digests,
            self._threads,
            site.access,
            site.in_use,
            self._reached,
            tuple(sources),
            epoch_of(request.build_args, plan.global_names),
        )
        try:
            state = await _run_stages(workshop, tell)
        finally:
            await workshop.close()
        return await self._finish(workshop, state, tell)

    async def _read(
        self, request: BuildRequest, archive: AsyncIterator[bytes], site: _Site
    ) -> _Read:
        """Raises InvalidRequest for what is wrong with the Dockerfile whatever comes of it."""
        context, recipe = await self._receive(request, archive, site)
        dockerfile = parse_dockerfile(recipe.content)
        check_build_args(request.build_args)
        for one in dockerfile.instructions:
            check_syntax(one, dockerfile.escape)
        plan = make_plan(dockerfile, request.build_args, known_args(request), request.contexts)
        plan = plan.extended(request.target, _labels(request.labels, dockerfile.escape))
        return _Read(context, recipe, dockerfile, plan)

    async def _tell_findings(self, read: _Read, request: BuildRequest, tell: Tell) -> None:
        """Raises InvalidRequest where they are to be errors."""
        found = self._findings(read, request)
        if found and _checks(read.dockerfile, request).is_error:
            rules = ", ".join(dict.fromkeys(each.rule for each in found))
            listed = "".join(f"\n- {each}" for each in found)
            raise InvalidRequest(f"lint violation found for rules: {rules}{listed}")
        for each in found:
            await tell(f"[Warning] {each}\n")

    def _findings(self, read: _Read, request: BuildRequest) -> tuple[Finding, ...]:
        def base(reference: str) -> ImageDocument | None:
            try:
                return self._images.resolve(reference).document
            except EngineError:
                return None

        here = self._images.platform
        surroundings = Surroundings(
            known_args(request),
            base,
            parse_ignore(read.recipe.ignore),
            parse_platform(request.platform, here) if request.platform else here,
        )
        checks = _checks(read.dockerfile, request)
        return findings(read.dockerfile, read.plan, checks, surroundings)

    async def _cache_source(
        self, text: str, request: BuildRequest, in_use: set[str], tell: Tell
    ) -> Image | None:
        """An image that steps may be taken from. A build goes on without."""
        try:
            name = cache_reference(text)
            try:
                image = self._images.resolve(name)
            except NotFound:
                if text in request.cache_from:
                    raise
                reference = parse_reference(name).with_default_tag()
                credentials = request.credentials_for(reference)
                async for step in self._images.pull(reference, credentials=credentials):
                    await tell(step)
                image = self._images.resolve(name)
        except EngineError as error:
            await tell(f"[Warning] {text} not consulted for the cache: {error}\n")
            return None
        in_use.add(image.id)
        return image

    async def _receive(
        self, request: BuildRequest, archive: AsyncIterator[bytes], site: _Site
    ) -> tuple[Tree, Recipe]:
        context = site.folder / "context"
        own = Tree((str(context),), is_context=True)
        if request.remote:
            fetched = await self._fetch(request, context, site.access)
            if fetched is not None:
                context.mkdir(mode=0o755)
                return own, Recipe("Dockerfile", fetched)
            context.chmod(0o755)
            return own, await asyncio.to_thread(prepare, context, request.dockerfile)
        if not request.context:
            source = " ".join(("sent", *sorted(map(str, request.tags))))
            sent = self.kept.sent(archive, request.dockerfile, source)
            return await site.held.enter_async_context(sent)
        # What was sent now is the Dockerfile and what it ignores, nothing else.
        context.mkdir(mode=0o755)
        feed = Feed(archive)
        await run_fed(self._threads, feed, lambda: unpack_context(feed, context))
        recipe = await asyncio.to_thread(read_recipe, context, request.dockerfile)
        return self.kept.tree(request.context), recipe

    async def _fetch(self, request: BuildRequest, context: Path, access: Access) -> bytes | None:
        """A repository or a tar is the context; any other file the Dockerfile."""
        keep = (request.build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR") or "").lower() in TRUE
        running = asyncio.get_running_loop().run_in_executor(
            self._threads,
            lambda: fetch(request.remote, context, access, keep_git=keep),
        )
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            access.stopped.set()
            await asyncio.wait((running,))
            raise

    async def fetching(self, url: str) -> AsyncGenerator[bytes, None]:
        """What is at a web address; it stops with its reader."""
        access = Access(self._proxies, {}, "", self._known_hosts)
        outlet = Outlet(self._threads)
        async with contextlib.aclosing(
            outlet.run(lambda put: download.receive(url, put, access))
        ) as pieces:
            try:
                async for piece in pieces:
                    yield piece
            finally:
                access.stopped.set()

    async def _finish(self, workshop: Workshop, state: State, tell: Tell) -> Image:
        """The image itself, named. What the cache has already is the same image again."""
        request = workshop.request
        consumed = {*workshop.consumed, *workshop.plan.global_names, *PREDEFINED, *OWN_ARGS}
        unused = sorted(set(request.build_args) - consumed)
        if unused:
            listed = " ".join(unused)
            await tell(f"[Warning] One or more build-args [{listed}] were not consumed\n")
        image = await self._image(workshop, state)
        for tag in request.tags:
            if tag.familiar not in image.tags:
                await self._images.tag(image.id, tag.name, tag.tag)
            self._events.publish("image", "tag", image.id, {**image.labels, "name": tag.familiar})
        return self._images.resolve(image.id)

    async def _image(self, workshop: Workshop, state: State) -> Image:
        if not state.image_id and not state.document.history:
            raise InvalidRequest("No image was generated. Is your Dockerfile empty?")
        key = cache.step_key(state.key, "IMAGE", workshop.epoch)
        known = None if workshop.request.no_cache else self._images.steps.made_of(key)
        if known is not None:
            return await self._images.steps.show(known)
        if not state.is_changed and not self._is_directory(state):
            return await self._images.steps.show(self._images.resolve(state.image_id))
        document = replace(state.document, created=stamp(workshop.epoch))
        made = await self._images.steps.add(
            document, None, base=state.base, cache_key=key, is_step=False
        )
        self._events.publish("image", "create", made.id, {**made.labels, "name": made.id})
        return made

    def _is_directory(self, state: State) -> bool:
        return bool(self._images.resolve(state.image_id).rootfs_path)


def _checks(dockerfile: Dockerfile, request: BuildRequest) -> Checks:
    asked = request.build_args.get(CHECKS) or dockerfile.checks
    return parse_checks(asked) if asked else Checks()


def _labels(labels: Mapping[str, str], escape: str) -> Sequence[Instruction]:
    """As Docker does it: instructions at the end of what is built."""
    return [
        Instruction(
            "LABEL",
            f"{_quoted(key, escape)}={_quoted(value, escape)}",
            0,
            source=f"LABEL {key}={value}",
        )
        for key, value in sorted(labels.items())
    ]


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
        await tell(f"Step {count}/{workshop.steps} : {one.source}", "\n")
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
        self._needs: dict[int, set[int]] = {}  # what came to light on the way, by index
        self._group = group
        self._step = first_step

    def start(self, stage: Stage, output: StageOutput) -> None:
        find_base, find_source = partial(self._base, stage), partial(self._source, stage)
        build = StageBuild(self._workshop, stage, output, self._step, find_base, find_source)
        self._step += 1 + len(stage.body)
        self.results[stage.index] = self._group.create_task(build.build())

    def _base(self, stage: Stage) -> Awaitable[State] | None:
        wanted = self._workshop.plan.base(stage)
        return None if wanted is None else self._result(wanted)

    def _source(self, stage: Stage, reference: str) -> Awaitable[State] | None:
        plan = self._workshop.plan
        wanted = plan.source(reference)
        if wanted is None:
            return None
        if plan.leads_to(wanted, stage, self._needs):  # only a trigger can ask for that
            raise InvalidRequest(circle(stage))
        self._needs.setdefault(stage.index, set()).add(wanted.index)
        return self._result(wanted)

    def _result(self, wanted: Stage) -> Awaitable[State]:
        if wanted.index not in self.results:
            self.start(wanted, self.output.between())
        return asyncio.shield(self.results[wanted.index])


def _first(errors: ExceptionGroup[EngineError | OSError]) -> Exception:
    found: Exception = errors
    while isinstance(found, ExceptionGroup):
        found = found.exceptions[0]
    return found
