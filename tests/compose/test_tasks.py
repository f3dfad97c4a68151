"""Failures of things done side by side."""

import asyncio
from collections.abc import Coroutine

import pytest

from compose.errors import ComposeError, UsageError
from compose.tasks import Together


async def side_by_side(*works: Coroutine[None, None, None]) -> None:
    async with Together() as group:
        for work in works:
            group.create_task(work)


async def fail(error: Exception) -> None:
    raise error


async def test_a_failure_comes_as_it_is_also_from_a_group_within() -> None:
    ended = asyncio.Event()

    async def inner() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail(UsageError("refused")))

    async def other() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(ComposeError, match="refused"):
        await side_by_side(other(), inner())
    assert ended.is_set()


async def test_what_is_no_refusal_is_not_hidden_behind_one() -> None:
    with pytest.raises(ExceptionGroup) as met:
        await side_by_side(fail(UsageError("refused")), fail(ZeroDivisionError()))
    assert met.value.subgroup(ZeroDivisionError) is not None


async def test_a_pipe_that_nobody_reads_is_told_as_that() -> None:
    with pytest.raises(BrokenPipeError):
        await side_by_side(fail(UsageError("refused")), side_by_side(fail(BrokenPipeError(32, ""))))


async def test_cancellation_is_none() -> None:
    async def wait() -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(side_by_side(wait()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
