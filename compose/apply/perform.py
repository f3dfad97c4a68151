"""One action, one API call (creating a container: also what belongs to it). Decides nothing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import field
from typing import assert_never

from compose.apply.builds import Builds
from compose.apply.deliver import given_files, make_tar
from compose.apply.errors import WaitFailed
from compose.apply.hooks import run_hook
from compose.apply.listener import Building, Hooked, Listener, Note, Pulling, Pushing
from compose.apply.rollout import Rollout
from compose.apply.wait import await_condition, in_time, log_end
from compose.apply.watch import ContainerWatch
from compose.client.engine import Engine
from compose.client.errors import ApiError, Conflict, NotFound
from compose.dataclass import dataclass
from compose.errors import ApplyError
from compose.model.service import Hook
from compose.plan.actions import (
    Action,
    AwaitCondition,
    BuildImage,
    Checkpoint,
    ConnectNetwork,
    ContainerRef,
    CreateContainer,
    CreateNetwork,
    CreateVolume,
    DisconnectNetwork,
    Existing,
    KillContainer,
    PauseContainer,
    Planned,
    PullImage,
    PushImage,
    RemoveContainer,
    RemoveImage,
    RemoveNetwork,
    RemoveVolume,
    RenameContainer,
    StartContainer,
    StopContainer,
    UnpauseContainer,
    UpdateContainer,
    UpdateService,
    WriteFiles,
)

# Since 1.44 a container may be created on several networks at once.
SEVERAL_ENDPOINTS = (1, 44)


@dataclass(slots=True)
class Performer:
    """Does the actions of one plan; remembers the ids of what it makes."""

    engine: Engine
    watch: ContainerWatch
    listener: Listener
    patience: float | None = None  # seconds that a dependency is waited for; None: for ever
    made: dict[str, str] = field(default_factory=dict)  # slot -> container id
    builds: Builds = field(init=False)

    def __post_init__(self) -> None:
        self.builds = Builds(self.engine)

    async def perform(self, action: Action) -> None:
        engine = self.engine
        match action:
            case PullImage():
                async for progress in engine.images.pull(
                    action.reference, platform=action.platform
                ):
                    self.listener(Pulling(action.reference, progress))
            case PushImage():
                async for progress in engine.images.push(action.reference):
                    self.listener(Pushing(action.reference, progress))
            case BuildImage():
                await self._build(action)
            case CreateNetwork():
                await engine.networks.create(action.body)
            case RemoveNetwork():
                with contextlib.suppress(NotFound):
                    await engine.networks.remove(action.name)
            case ConnectNetwork():
                await engine.networks.connect(
                    action.network, self.id_of(action.container), action.endpoint
                )
            case DisconnectNetwork():
                await engine.networks.disconnect(
                    action.network, self.id_of(action.container), force=True
                )
            case CreateVolume():
                await engine.volumes.create(action.body)
            case RemoveVolume():
                with contextlib.suppress(NotFound):
                    await engine.volumes.remove(action.name)
            case RemoveImage():
                try:
                    await engine.images.remove(action.reference)
                except NotFound:
                    pass
                except Conflict as error:  # somebody else has it, or a container of `run`
                    self.listener(Note(f"image {action.reference} stays: {error}"))
            case WriteFiles():
                body = {"Files": given_files(action.files)}
                await engine.containers.update(self.id_of(action.container), body)
            case Checkpoint():
                pass
            case AwaitCondition():
                containers = [self.id_of(ref) for ref in action.containers]
                async with in_time(self.watch, containers, self.patience):
                    await await_condition(self.watch, action.condition, containers)
            case UpdateService():
                rollout = Rollout(action, self.perform, self.watch, self.id_of, self.listener)
                await rollout.run()
            case CreateContainer():
                await self._create(action)
            case _:
                await self._perform_on_container(action)

    async def _build(self, action: BuildImage) -> None:
        async for line in self.builds.lines(action):
            self.listener(Building(action.reference, line))

    async def _perform_on_container(
        self,
        action: StartContainer
        | UnpauseContainer
        | PauseContainer
        | StopContainer
        | KillContainer
        | UpdateContainer
        | RenameContainer
        | RemoveContainer,
    ) -> None:
        containers, container = self.engine.containers, self.id_of(action.container)
        match action:
            case StartContainer():
                for init in action.pre_start:
                    await self._run_init(init)
                await containers.start(container)
                for hook in action.post_start:
                    await self._run_hook(action.container, "post_start", hook)
            case UnpauseContainer():
                await containers.unpause(container)
            case PauseContainer():
                await containers.pause(container)
            case StopContainer():
                await self._stop(action)
            case KillContainer():
                # It ran a moment ago: one that has ended by itself meanwhile is as dead.
                gone = (Conflict, NotFound) if action.signal == "SIGKILL" else ()
                with contextlib.suppress(*gone):
                    await containers.kill(container, signal=action.signal)
            case UpdateContainer():
                for warning in await containers.update(container, action.body):
                    self.listener(Note(warning))
            case RenameContainer():
                await containers.rename(container, action.name)
            case RemoveContainer():
                with contextlib.suppress(NotFound):
                    await containers.remove(container, force=action.force, volumes=action.volumes)
            case _:
                assert_never(action)

    def id_of(self, ref: ContainerRef) -> str:
        match ref:
            case Existing():
                return ref.id
            case Planned():
                return self.made[ref.slot]
            case _:
                assert_never(ref)

    async def _create(self, action: CreateContainer) -> None:
        containers = self.engine.containers
        first, later = self._endpoints(action)
        body = {
            **action.body,
            "HostConfig": self._host_config(action),
            "NetworkingConfig": {"EndpointsConfig": first},
        }
        if action.places_files and action.files:
            body["Files"] = given_files(action.files)
        container, warnings = await containers.create(action.name, body, platform=action.platform)
        self.made[action.slot] = container
        for warning in warnings:
            self.listener(Note(f"{action.slot}: {warning}"))
        try:
            for network, endpoint in later.items():
                await self.engine.networks.connect(network, container, endpoint)
            if action.files and not action.places_files:
                tar = make_tar(action.files, modified=int(time.time()))
                await containers.put_archive(container, "/", tar)
        except BaseException:
            # Half-made: the step failed, so nobody else would take it away.
            with contextlib.suppress(ApiError):
                await containers.remove(container, force=True, volumes=True)
            raise

    def _endpoints(
        self, action: CreateContainer
    ) -> tuple[Mapping[str, object], Mapping[str, Mapping[str, object]]]:
        """What goes into the creation, and what has to be connected afterwards."""
        if self.engine.api_version >= SEVERAL_ENDPOINTS or len(action.endpoints) <= 1:
            return action.endpoints, {}
        primary, *others = action.endpoints
        return (
            {primary: action.endpoints[primary]},
            {name: action.endpoints[name] for name in others},
        )

    def _host_config(self, action: CreateContainer) -> dict[str, object]:
        host_config = action.body["HostConfig"]
        filled: dict[str, object] = dict(host_config) if isinstance(host_config, dict) else {}
        for share in action.shares:
            container = self.id_of(share.container) + share.suffix
            if share.field == "VolumesFrom":
                others = filled.get("VolumesFrom", [])
                filled["VolumesFrom"] = [*(others if isinstance(others, list) else []), container]
            else:
                filled[share.field] = f"container:{container}"
        return filled

    async def _stop(self, action: StopContainer) -> None:
        for hook in action.pre_stop:
            try:
                await self._run_hook(action.container, "pre_stop", hook)
            except (ApplyError, ApiError) as error:
                # What is to stop stops; that its farewell failed is worth a word.
                self.listener(Note(str(error)))
        try:
            await self.engine.containers.stop(self.id_of(action.container), timeout=action.timeout)
        except NotFound:
            return

    async def _run_hook(self, container: ContainerRef, name: str, hook: Hook) -> None:
        told = container.name if isinstance(container, Existing) else container.slot

        def tell(line: str) -> None:
            self.listener(Hooked(told, line))

        result = await run_hook(self.engine, self.id_of(container), hook, tell)
        if result.exit_code:
            command = " ".join(hook.command or ())
            raise WaitFailed(
                f"{name} hook of {told} ended with code {result.exit_code}: {command}",
                details=result.last_lines,
            )

    async def _run_init(self, action: CreateContainer) -> None:
        """One that ended well is removed; one that failed is kept, and named."""
        containers = self.engine.containers
        with contextlib.suppress(NotFound):  # of a try before
            await containers.remove(action.name, force=True, volumes=True)
        image = str(action.body["Image"])
        if await self.engine.images.find(image) is None:
            async for progress in self.engine.images.pull(image, platform=action.platform):
                self.listener(Pulling(image, progress))
        await self._create(action)
        container = self.made[action.slot]
        try:
            async with containers.waiting(container, condition="next-exit") as exit_code:
                await containers.start(container)
                code = await exit_code
        except asyncio.CancelledError:
            await containers.remove(container, force=True, volumes=True)
            raise
        if code:
            raise WaitFailed(
                f"{action.slot} ended with code {code}",
                details=await log_end(self.engine, await containers.inspect(container)),
                hint=f"its container {action.name} is kept: look at it, and try again",
            )
        await containers.remove(container, force=True, volumes=True)
