"""Builds by an engine: what travels to it, and how."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

from compose.apply.errors import WaitFailed
from compose.client.build_context import (
    Listed,
    context_tar,
    dockerfile_tar,
    list_context,
    list_named,
    listed_tar,
    own_rules,
    read_context,
)
from compose.client.engine import Engine
from compose.client.ssh_agent import agents
from compose.model.build import IMAGE, is_remote
from compose.plan.actions import BuildImage


class Builds:
    """Of one plan."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # Contexts on their way, by folder and rules of what is ignored -> their ids.
        self._sent: dict[tuple[Path, str], asyncio.Task[str]] = {}

    def lines(self, action: BuildImage) -> AsyncIterator[str]:
        """What the build writes. Raises ApplyError, ClientError."""
        return self._own_build(action) if self._engine.is_ours else self._classic_build(action)

    async def _classic_build(self, action: BuildImage) -> AsyncIterator[str]:
        """The folder goes along with the call, and nothing but the folder."""
        if action.own_keys:
            raise WaitFailed(
                f"this engine's classic builder knows no {', '.join(action.own_keys)}",
                hint="leave it out, or build on pycompose's own engine",
            )
        images, query = self._engine.images, action.query
        context: AsyncIterator[bytes] | None = None
        if is_remote(action.context):
            query = {"remote": action.context, "dockerfile": action.dockerfile, **query}
        else:
            read = await asyncio.to_thread(
                read_context, Path(action.context), action.dockerfile, action.inline
            )
            query = {"dockerfile": read.dockerfile, **query}
            context = context_tar(read)
        async for line in images.build(action.reference, query, context, secrets=action.secrets):
            yield line

    async def _own_build(self, action: BuildImage) -> AsyncIterator[str]:
        """Folders are sent by themselves, and only if the engine hasn't got them as they are."""
        query, body = dict(action.query), None
        if is_remote(action.context):
            query |= {"remote": action.context, "dockerfile": action.dockerfile}
        else:
            read = await asyncio.to_thread(
                read_context, Path(action.context), action.dockerfile, action.inline
            )
            kept = await self._kept((read.folder, read.rules), lambda: list_context(read))
            query |= {"dockerfile": read.dockerfile, "context": kept}
            body = dockerfile_tar(read)
        named = {}
        for name, place in action.contexts.items():
            if is_remote(place) or place.startswith(IMAGE):
                named[name] = place
            else:
                path = Path(place)
                rules = await asyncio.to_thread(own_rules, path)
                kept = await self._kept((path, rules), partial(list_named, path, rules))
                named[name] = f"kept:{kept}"
        if named:
            query["contexts"] = json.dumps(named)
        # Of its registry, and the engine's own cache counts as well.
        query["cachesources"] = query.pop("cachefrom", None)
        images = self._engine.images
        async with agents(json.loads(str(query.get("ssh") or "{}"))) as sockets:
            query["ssh"] = json.dumps(sockets) if sockets else None
            async for line in images.build(action.reference, query, body, secrets=action.secrets):
                yield line

    async def _kept(self, what: tuple[Path, str], look: Callable[[], Listed]) -> str:
        """The id under which the engine has it. Several builds look at it, and send it, once: of
        what changes meanwhile they have the same."""
        if what not in self._sent:
            self._sent[what] = asyncio.create_task(self._send(look))
        return await asyncio.shield(self._sent[what])

    async def _send(self, look: Callable[[], Listed]) -> str:
        listed = await asyncio.to_thread(look)
        await self._engine.images.keep_context(listed.id, listed.source, lambda: listed_tar(listed))
        return listed.id
