"""What every command starts from: where the engine is, and how work on it is run."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from compose.process import Met

if TYPE_CHECKING:
    from compose.client.address import Choice
    from compose.client.engine import Engine

T = TypeVar("T")
_AT_ONCE = 50  # calls to the engine


@dataclass(frozen=True, slots=True)
class Session:
    choice: Choice  # of the engine
    environment: Mapping[str, str]
    directory: Path
    met: Met  # gets the engine

    async def engine(self) -> Engine:
        """The one that is meant; the built-in one is started where it doesn't run."""
        from compose.client.locate import locate

        engine = await locate(self.choice, self.environment)
        self.met(engine)
        return engine


def choice_of(ctx: typer.Context) -> Choice:
    """What the options before the command say of the engine."""
    from compose.client.address import Choice, TlsOptions

    given = ctx.find_root().params
    names = ("tls", "tlsverify", "tlscacert", "tlscert", "tlskey")
    return Choice(
        given["host"], given["docker_context"], TlsOptions(*(given[name] for name in names))
    )


def session(ctx: typer.Context) -> Session:
    found = ctx.obj
    assert isinstance(found, Session)
    return found


def on_engine(ctx: typer.Context, work: Callable[[Engine], Awaitable[T]]) -> T:
    """What `work` gives back. Raises ClientError."""
    import asyncio

    async def connected() -> T:
        return await work(await session(ctx).engine())

    return asyncio.run(connected())


def missing_is_fine(force: bool) -> AbstractContextManager[None]:
    """With --force it is no error that there is nothing to remove."""
    from compose.client.errors import NotFound

    return suppress(NotFound) if force else nullcontext()


def each(
    ctx: typer.Context,
    names: Iterable[str],
    act: Callable[[Engine, str], Awaitable[str | None]],
) -> int:
    """`act` on all at once; prints what it gives back, or the name, in the order of the names.
    What fails is told, and doesn't keep the others. Returns the exit code."""
    import asyncio

    from compose.client.errors import ClientError

    async def work(engine: Engine) -> int:
        limit = asyncio.Semaphore(_AT_ONCE)

        async def one(name: str) -> str | ClientError:
            async with limit:
                try:
                    told = await act(engine, name)
                except ClientError as error:
                    return error
            return name if told is None else told

        tasks = [asyncio.ensure_future(one(name)) for name in names]
        code = 0
        for task in tasks:
            told = await task
            if isinstance(told, ClientError):
                print(f"pyengine: {told}", file=sys.stderr)
                code = 1
            else:
                print(told, flush=True)
        return code

    return on_engine(ctx, work)
