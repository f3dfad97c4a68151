"""One stage, instruction by instruction: what it has come to so far is one frozen State."""

import contextlib
import os
import posixpath
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from engine.builder import cache
from engine.builder.args import HOSTNAME
from engine.builder.config import (
    CONFIG_KEYWORDS,
    changed_config,
    env_names,
    with_default_path,
)
from engine.builder.copy import Attributes, clamp_times, followed, make_folders
from engine.builder.copy_step import CopyStep, Prepared, account
from engine.builder.dockerfile import Instruction, copy_words, parse_line, refusal
from engine.builder.expand import expand_word
from engine.builder.model import StepFailed
from engine.builder.mounts import step_mounts
from engine.builder.output import StageOutput
from engine.builder.run_request import (
    check_allowed,
    missing_devices,
    run_flags,
    run_variables,
    run_words,
)
from engine.builder.run_step import RunStep, mount_key, run
from engine.builder.stages import Stage, arguments
from engine.builder.state import (
    State,
    check_runs_here,
    entry,
    fits,
    known_args,
    scratch_document,
    stamp,
    state_of,
    unnamed,
)
from engine.builder.trees import Tree
from engine.builder.workshop import Workshop
from engine.errors import EngineError, InvalidRequest, NotFound
from engine.ids import short_id
from engine.images.model import Image
from engine.kernel.overlay import on_overlay
from engine.oci.digest import Digest
from engine.oci.image_config import HistoryEntry, ImageDocument
from engine.oci.platform import parse_platform
from engine.oci.reference import parse_reference


class StageBuild:
    def __init__(
        self,
        workshop: Workshop,
        stage: Stage,
        output: StageOutput,
        first_step: int,
        find_base: Callable[[], Awaitable[State] | None],
        find_source: Callable[[str], Awaitable[State] | None],
    ) -> None:
        self._workshop = workshop
        self._stage = stage
        self._output = output
        self._number = first_step
        # Stages that were built, or will be; None for an image.
        self._find_base = find_base
        self._find_source = find_source
        self._known = known_args(workshop.request)
        self._state = State(scratch_document(), "")
        names = [name.lower() for name in workshop.request.no_cache_stages]
        # What was done anew counts as new for what comes after it: see State.key.
        self._has_own_cache = not workshop.request.cache_from
        self._no_cache = workshop.request.no_cache or stage.name in names

    async def build(self) -> State:
        try:
            await self._announce(self._stage.start)
            with self._placing(self._stage.start):
                await self._start()
            for one in self._stage.body:
                await self._announce(one)
                await self._perform(one)
        except EngineError:
            await self._output.fail()
            raise
        await self._output.close()
        return self._state

    async def _announce(self, one: Instruction) -> None:
        shown = one.source
        await self._output.tell(f"Step {self._number}/{self._workshop.steps} : {shown}", "\n")
        self._number += 1

    async def _tell_state(self, *, from_cache: bool = False) -> None:
        told = [" ---> Using cache\n"] if from_cache else []
        known = self._state.key if self._state.is_changed else self._state.image_id
        if known:
            told.append(f" ---> {short_id(known)}\n")
        await self._output.tell(*told)

    # ---- FROM

    async def _start(self) -> None:
        base, workshop = self._stage.base, self._workshop
        awaited = self._find_base()
        context = await workshop.context_of(base)
        self._state = State(scratch_document(), "", args={})
        if isinstance(context, Tree):
            copy = Instruction("COPY", "/ /", self._stage.start.line, source=f"FROM {base}")
            await self._copy_from(copy, ("/",), "/", context)
        elif context is None and awaited is not None:
            self._state = replace(await awaited, cmd_is_own=False)
        elif context is not None or base != "scratch":
            image = await self._image(
                context or base, self._stage.platform or workshop.request.platform
            )
            self._state = state_of(image)
            # What the base said of itself isn't said of what is built on it.
            document = replace(self._state.document, comment="")
            self._state = replace(self._state, document=document)
        config = with_default_path(self._state.config)
        document = replace(self._state.document, config=config)
        self._state = replace(self._state, document=document)
        await self._tell_state()
        triggers = self._state.config.on_build
        if triggers:
            await self._trigger(triggers)

    async def _trigger(self, triggers: Sequence[str]) -> None:
        many = "s" if len(triggers) > 1 else ""
        await self._output.tell(f"# Executing {len(triggers)} build trigger{many}\n")
        config = replace(self._state.config, on_build=())
        document = replace(self._state.document, config=config)
        self._state = replace(self._state, document=document, is_changed=True)
        for text in triggers:
            one = parse_line(text, self._stage.start.line, self._workshop.escape)
            await self._perform(one)

    async def _image(self, name: str, platform: str) -> Image:
        workshop = self._workshop
        wanted = parse_platform(platform, workshop.images.platform) if platform else None
        if name == "scratch":
            raise InvalidRequest("'scratch' is a reserved name")
        is_directory = name.startswith("rootfs:")
        if not (workshop.request.pull and not is_directory):
            try:
                image = workshop.images.resolve(name)
                if wanted is None or fits(image, wanted) or is_directory:
                    workshop.in_use.add(image.id)
                    return image
            except NotFound:
                if is_directory:
                    raise
        reference = parse_reference(name).with_default_tag()
        steps = workshop.images.pull(
            reference, platform=wanted, credentials=workshop.request.credentials_for(reference)
        )
        async for step in steps:
            await self._output.tell(step)
        image = workshop.images.resolve(name)
        workshop.in_use.add(image.id)
        return image

    # ---- instructions

    def _names(self) -> dict[str, str]:
        """ENV wins over ARG."""
        return {**(self._state.args or {}), **env_names(self._state.config)}

    async def _perform(self, one: Instruction) -> None:
        with self._placing(one):
            match one.keyword:
                case "ARG":
                    self._declare(one)
                    await self._note(one, self._state.document)
                case "RUN":
                    await self._run(one)
                case "COPY" | "ADD":
                    await self._copy(one)
                case "WORKDIR":
                    await self._workdir(one)
                case "MAINTAINER":
                    await self._note(one, replace(self._state.document, author=one.arguments))
                case keyword if keyword in CONFIG_KEYWORDS:
                    await self._change(one)
                case _:
                    raise refusal(one.line, f"unexpected {one.keyword}")

    @contextlib.contextmanager
    def _placing(self, one: Instruction) -> Iterator[None]:
        """A refusal inside says at which instruction, unless it does already."""
        try:
            yield
        except StepFailed:
            raise
        except EngineError as error:
            text, place = str(error), self._place(one)
            if place in text or "dockerfile parse error" in text:
                raise
            raise type(error)(f"{one.keyword} failed: {text}\n{place}: {one.source}") from error

    def _place(self, one: Instruction) -> str:
        return f"{self._workshop.dockerfile}:{one.line}"

    def _declare(self, one: Instruction) -> None:
        request, plan = self._workshop.request, self._workshop.plan
        args = dict(self._state.args or {})
        for name, default in arguments(one, self._names(), self._workshop.escape):
            self._workshop.consumed.add(name)
            given = request.build_args.get(name)
            if given is not None:
                args[name] = given
            elif default is not None:
                args[name] = default
            elif (known := plan.global_names.get(name, self._known.get(name))) is not None:
                args[name] = known
        self._state = replace(self._state, args=args)

    async def _change(self, one: Instruction) -> None:
        config = changed_config(self._state.config, one, self._names(), self._workshop.escape)
        if one.keyword == "CMD":
            self._state = replace(self._state, cmd_is_own=True)
        if one.keyword == "ENTRYPOINT" and not self._state.cmd_is_own:
            config = replace(config, cmd=())  # the base's arguments were for the base's entrypoint
        await self._note(one, replace(self._state.document, config=config))

    async def _note(self, one: Instruction, document: ImageDocument) -> None:
        """A step without files: nothing is kept of it but the words, and whether they are new."""
        line = entry(f"/bin/sh -c #(nop)  {one.source}", self._stamp(), empty=True)
        before = self._state.document
        document = replace(document, history=(*document.history, line))
        self._state = replace(self._state, document=document, is_changed=True)
        key, workshop = self._state.key, self._workshop
        is_known = key in workshop.reached and self._has_own_cache
        from_cache = is_known or self._source_of(before, line.created_by) is not None
        workshop.reached.add(key)
        await self._tell_state(from_cache=from_cache and not self._no_cache)

    def _stamp(self) -> str:
        return stamp(self._workshop.epoch)

    def _key(self) -> str:
        """Of what the next step stands on; a build with set times has layers of its own."""
        key, epoch = self._state.key, self._workshop.epoch
        return key if epoch is None else cache.step_key(key, "EPOCH", epoch)

    # ---- layers

    def _lowers(self) -> tuple[str, ...]:
        return self._workshop.images.layers(unnamed(self._state))

    async def _known_step(self, key: str, created_by: str = "") -> bool:
        """Whether the cache has it, or an image that was built elsewhere, by the line of its
        history; then it is done."""
        if self._no_cache:
            return False
        image = self._workshop.images.steps.made_of(key) if self._has_own_cache else None
        if image is None and created_by and self._workshop.epoch is None:
            image = await self._remembered(key, created_by)
        if image is None:
            return False
        self._workshop.in_use.add(image.id)
        self._made(image)
        await self._tell_state(from_cache=True)
        return True

    async def _remembered(self, key: str, created_by: str) -> Image | None:
        document = self._state.document
        found = self._source_of(document, created_by)
        if found is None:
            return None
        line, layer = found
        document = replace(document, created=line.created, history=(*document.history, line))
        return await self._workshop.images.steps.add(
            document, None, layer=layer, base=self._state.base, cache_key=key, is_step=True
        )

    def _source_of(
        self, document: ImageDocument, created_by: str
    ) -> tuple[HistoryEntry, Digest | None] | None:
        documents = (source.document for source in self._workshop.sources)
        found = (cache.remembered(document, created_by, each) for each in documents)
        return next((each for each in found if each is not None), None)

    def _made(self, image: Image) -> None:
        self._workshop.in_use.add(image.id)
        self._state = replace(
            self._state, document=image.document, image_id=image.id, is_changed=False
        )

    async def _add(
        self, key: str, created_by: str, upper: Path | None, *, layer: Digest | None = None
    ) -> None:
        document = self._state.document
        line = entry(created_by, self._stamp())
        document = replace(document, created=line.created, history=(*document.history, line))
        epoch = self._workshop.epoch
        if upper is not None and epoch is not None:
            await self._workshop.in_thread(lambda: clamp_times(upper, epoch))
        image = await self._workshop.images.steps.add(
            document, upper, layer=layer, base=self._state.base, cache_key=key, is_step=True
        )
        self._made(image)

    async def _on_overlay(self, key: str, created_by: str, job: Callable[[int], None]) -> None:
        """`job` changes a view of what there is; the changes become the layer."""
        lowers = self._lowers()
        async with self._workshop.scratch() as scratch:
            upper, work = scratch / "upper", scratch / "work"

            def change() -> None:
                work.mkdir()
                upper.mkdir()
                # The root directory of the whole is the topmost layer's.
                below = os.stat(lowers[0])
                os.chown(upper, below.st_uid, below.st_gid)
                upper.chmod(below.st_mode & 0o7777)
                on_overlay(lowers, str(upper), str(work), job, scratch=str(scratch))

            await self._workshop.in_thread(change)
            await self._add(key, created_by, upper)
        await self._tell_state()

    async def _workdir(self, one: Instruction) -> None:
        path = expand_word(one.arguments, self._names(), self._workshop.escape)
        if not path:
            raise refusal(one.line, "WORKDIR requires exactly one argument")
        path = posixpath.normpath(posixpath.join(self._state.config.working_dir or "/", path))
        config = replace(self._state.config, working_dir=path)
        document = replace(self._state.document, config=config)
        self._state = replace(self._state, document=document)
        key = cache.step_key(self._key(), "WORKDIR")
        created_by = f"/bin/sh -c #(nop) WORKDIR {path}"
        if await self._known_step(key, created_by):
            return
        owner = await self._owner()

        def made(root: int) -> None:
            make_folders(root, followed(root, path), owner)

        await self._on_overlay(key, created_by, made)

    async def _owner(self) -> Attributes:
        """A working directory that is made belongs to the USER, who is to work there (as BuildKit
        has it; Docker's classic builder gives it to root)."""
        user = self._state.config.user
        return await account(self._workshop, self._lowers(), user) if user else Attributes()

    async def _tree(self, name: str) -> Tree:
        """The files that a `from` means: of a named context, a stage, or an image."""
        context = await self._workshop.context_of(name)
        if isinstance(context, Tree):
            return context
        awaited = self._find_source(name) if context is None else None
        if awaited is not None:
            state = await awaited
        else:
            state = state_of(await self._image(context or name, self._workshop.request.platform))
        return Tree(self._workshop.images.layers(unnamed(state)), state.identity)

    # ---- RUN

    async def _run(self, one: Instruction) -> None:
        flags = run_flags(one)
        check_allowed(flags, self._workshop.request)
        for name in missing_devices(flags.devices):
            await self._output.tell(f'[Warning] Optional device "{name}" is not registered\n')
        state = self._state
        check_runs_here(state.document.platform)
        names = self._names()
        mounts = step_mounts(one, names, self._workshop.escape, state.config.working_dir or "/")
        with_trees = [
            (mount, await self._tree(mount.origin) if mount.origin else self._workshop.main)
            for mount in mounts
        ]
        words, script = run_words(one, state.config.shell)
        build_args = self._workshop.request.build_args
        variables = run_variables(state.args or {}, env_names(state.config), build_args)
        self._workshop.consumed |= variables.consumed
        network = flags.network or self._host_network()
        hostname = build_args.get(HOSTNAME) or ""
        hosts = (hostname, *self._workshop.request.host.extra_hosts)
        keys = [await mount_key(self._workshop, mount, tree) for mount, tree in with_trees]
        key = cache.run_key(
            self._key(),
            (*words, script),
            variables.counted,
            network,
            hosts,
            keys,
            is_privileged=flags.is_privileged,
        )
        shown = " ".join(words)
        # Of these alone the line of history says all that went into it.
        is_told = not (mounts or script or network or any(hosts) or flags.is_privileged)
        if await self._known_step(key, variables.prefix + shown if is_told else ""):
            return
        step = RunStep(
            image_id=state.image_id or await self._empty_image(),
            lowers=self._lowers(),
            words=words,
            shown=shown,
            env=(
                *state.config.env,
                *(f"{name}={value}" for name, value in variables.passed.items()),
            ),
            user=state.config.user,
            working_dir=state.config.working_dir,
            network=flags.network,
            hostname=hostname,
            place=self._place(one),
            script=script,
            mounts=tuple(with_trees),
            is_privileged=flags.is_privileged,
        )
        async with run(self._workshop, step, self._output) as upper:
            await self._add(key, variables.prefix + shown, upper)
        await self._tell_state()

    def _host_network(self) -> str:
        mode = self._workshop.request.host.network_mode
        return "" if mode in ("", "default", "bridge") else mode

    async def _empty_image(self) -> str:
        document = replace(
            scratch_document(), history=(entry("FROM scratch", self._stamp(), empty=True),)
        )
        image = await self._workshop.images.steps.add(
            document, None, cache_key=cache.step_key(self._key(), "EMPTY"), is_step=True
        )
        self._workshop.in_use.add(image.id)
        return image.id

    # ---- COPY and ADD

    async def _copy(self, one: Instruction) -> None:
        names, escape = self._names(), self._workshop.escape
        words = (expand_word(word, names, escape) for word in copy_words(one, escape))
        *sources, destination = words
        if len(sources) > 1 and not destination.endswith("/"):
            raise refusal(
                one.line,
                f"When using {one.keyword} with more than one source file, the destination must "
                "be a directory and end with a /",
            )
        ends_in_slash = destination.endswith(("/", "/.")) or destination == "."
        destination = posixpath.normpath(
            posixpath.join(self._state.config.working_dir or "/", destination)
        )
        if ends_in_slash and destination != "/":
            destination += "/"
        reference = one.flag("from")
        tree = await self._tree(reference) if reference else self._workshop.main
        await self._copy_from(one, tuple(sources), destination, tree)

    async def _copy_from(
        self, one: Instruction, sources: tuple[str, ...], destination: str, tree: Tree
    ) -> None:
        step = CopyStep(
            self._workshop, one, sources, destination, self._names(), self._lowers, tree
        )
        async with step.prepared() as prepared:
            key = cache.copy_key(
                cache.step_key("", "LINK", self._workshop.epoch) if step.is_linked else self._key(),
                one.keyword, prepared.digests, destination, prepared.flags,
            )  # fmt: skip
            if step.is_linked:
                await self._link(key, prepared)
            elif not await self._known_step(key, prepared.created_by):
                await self._on_overlay(key, prepared.created_by, prepared.job)

    async def _link(self, key: str, prepared: Prepared) -> None:
        """A layer that knows nothing of those below: made once, then laid on whatever there is."""
        own = cache.step_key(self._key(), "LINKED", key)
        if await self._known_step(own):
            return
        images = self._workshop.images
        made = None if self._no_cache else images.steps.made_of(key)
        if made is None:
            async with self._workshop.scratch() as scratch:
                upper = scratch / "upper"
                upper.mkdir(mode=0o755)
                await self._workshop.in_thread(lambda: _in_folder(upper, prepared.job))
                if self._workshop.epoch is not None:
                    epoch = self._workshop.epoch
                    await self._workshop.in_thread(lambda: clamp_times(upper, epoch))
                line = entry(prepared.created_by, self._stamp())
                made = await images.steps.add(
                    replace(scratch_document(), history=(line,)), upper, cache_key=key, is_step=True
                )
        self._workshop.in_use.add(made.id)
        layer = made.document.diff_ids[0] if made.document.diff_ids else None
        await self._add(own, prepared.created_by, None, layer=layer)
        await self._tell_state()


def _in_folder(folder: Path, job: Callable[[int], None]) -> None:
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        job(root)
    finally:
        os.close(root)
