"""Walks a plan: each step as soon as what it waits for is done, many at a time.

A failed step stops only what needs it. At the end, what is half-way is taken back, also when the
walk is cancelled; the steps say themselves until when they can be.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from dataclasses import field
from typing import Protocol

from compose.apply.errors import Failure, StepsFailed, place_for
from compose.apply.listener import (
    Failed,
    Finished,
    Listener,
    Note,
    Planned,
    Skipped,
    Started,
    Undone,
)
from compose.apply.shielded import to_its_end
from compose.client.engine import AT_ONCE
from compose.dataclass import dataclass
from compose.errors import ComposeError, first_of
from compose.plan.actions import (
    Action,
    AwaitCondition,
    BuildImage,
    Checkpoint,
    PullImage,
    PushImage,
    RemoveContainer,
    UpdateService,
)
from compose.plan.plan import Plan, Step, Verb


class Performs(Protocol):
    async def perform(self, action: Action) -> None: ...


async def apply_plan(
    plan: Plan, performer: Performs, listener: Listener, *, parallel: int = AT_ONCE
) -> None:
    """Raises StepsFailed with everything that went wrong."""
    listener(Planned(plan))
    walk = _Walk(plan, performer, listener, asyncio.Semaphore(parallel))
    try:
        await walk.run()
    finally:
        # Not cut short by a cancellation: half-made things are worse than a second's delay.
        await to_its_end(walk.settle())
    if walk.failures:
        raise StepsFailed(
            list(walk.failures.values()),
            skipped=_subjects(plan, walk.skipped),
            undone=_subjects(plan, walk.undone),
            undo_failures=walk.undo_failures,
        )


@dataclass(slots=True)
class _Walk:
    plan: Plan
    performer: Performs
    listener: Listener
    limit: asyncio.Semaphore
    done: dict[str, Step] = field(default_factory=dict)  # in the order of completion
    taken_over: set[str] = field(default_factory=set)  # keys of what sees to its own undoing
    failures: dict[str, Failure] = field(default_factory=dict)
    skipped: list[Step] = field(default_factory=list)
    undone: list[Step] = field(default_factory=list)
    undo_failures: list[Failure] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)  # key -> why it is not done
    waiting: dict[str, int] = field(default_factory=dict)
    following: dict[str, list[Step]] = field(default_factory=dict)

    async def run(self) -> None:
        for step in self.plan.steps:
            self.waiting[step.key] = len(step.after)
            for key in step.after:
                self.following.setdefault(key, []).append(step)
        async with asyncio.TaskGroup() as group:
            for step in self.plan.steps:
                if not step.after:
                    group.create_task(self._run(group, step))

    async def _run(self, group: asyncio.TaskGroup, step: Step) -> None:
        blocked = next((self.reasons[key] for key in step.after if key in self.reasons), "")
        if blocked and not _is_optional(step):
            self._skip(step, blocked)
        else:
            await self._perform(step)
        for following in self.following.get(step.key, ()):
            self.waiting[following.key] -= 1
            if not self.waiting[following.key]:
                group.create_task(self._run(group, following))

    def _skip(self, step: Step, because: str) -> None:
        self.reasons[step.key] = because
        self.skipped.append(step)
        self.listener(Skipped(step, because))

    async def _perform(self, step: Step) -> None:
        # Who waits does no work: it must not keep others from doing theirs.
        if isinstance(step.action, (AwaitCondition, Checkpoint, UpdateService)):
            await self._attempt(step)
            return
        async with self.limit:
            await self._attempt(step)

    async def _attempt(self, step: Step) -> None:
        self.listener(Started(step))
        try:
            await self._call(step)
        except* ComposeError as group:
            error = first_of(group)
            self._fail(step, error)
        else:
            self.done[step.key] = step
            self.listener(Finished(step))

    def _fail(self, step: Step, error: ComposeError) -> None:
        if isinstance(step.action, AwaitCondition) and not step.action.required:
            self.done[step.key] = step
            service = step.action.service
            self.listener(Note(f'optional dependency "{service}" failed to start: {error}'))
            return
        self.failures[step.key] = Failure(step.key, error, self._place(step, error))
        self.reasons[step.key] = step.key
        self.listener(Failed(step, error))

    async def _call(self, step: Step) -> None:
        if isinstance(step.action, (AwaitCondition, BuildImage, PullImage, PushImage)):
            await self.performer.perform(step.action)
            return
        if isinstance(step.action, UpdateService):
            self.taken_over.add(step.key)
            await _ended_in_order(self.performer.perform(step.action))
            return
        # Once it is on its way, an API call is seen to its end: else nobody would know whether
        # the container was made.
        call = asyncio.ensure_future(self.performer.perform(step.action))
        try:
            await asyncio.shield(call)
        except asyncio.CancelledError:
            await asyncio.wait([call])
            if not call.cancelled() and call.exception() is None:
                self.done[step.key] = step
            raise

    async def settle(self) -> None:
        await self._take_back()
        await self._clear_replaced()

    async def _clear_replaced(self) -> None:
        """A walk that was cut short when the new one had started: the old one goes all the same."""
        for step in self.plan.steps:
            if (
                isinstance(step.action, RemoveContainer)
                and step.change is not None
                and self.plan.changes[step.change].verb is Verb.RECREATE
                and step.key not in self.done
                and step.key not in self.failures
                and all(key in self.done for key in step.after)
            ):
                await self._attempt(step)

    async def _take_back(self) -> None:
        """Undo what is half-way, the last done first. Goes on past failures. But containers that
        were made go before others come back: what comes back needs their names and, on a disk that
        is full, their room."""
        due = [
            step
            for step in self.done.values()
            if step.undo
            and not any(key in self.done or key in self.taken_over for key in step.until)
        ]
        due.sort(key=lambda step: isinstance(step.undo, RemoveContainer))
        for step in reversed(due):
            assert step.undo is not None
            try:
                await self.performer.perform(step.undo)
            except ComposeError as error:
                self.undo_failures.append(Failure(f"take back: {step.key}", error))
                self.listener(Failed(step, error))
            else:
                self.undone.append(step)
                self.listener(Undone(step))

    def _place(self, step: Step, error: Exception) -> str:
        changes = self.plan.changes
        if (at := place_for(str(error), step.written)) is not None:
            return str(at)
        if isinstance(step.action, UpdateService):
            slots = {turn.slot for turn in step.action.turns}
            at = next((change.at for change in changes if change.subject in slots), None)
        else:
            at = step.written("") if step.change is None else changes[step.change].at
        return str(at) if at else ""


def _is_optional(step: Step) -> bool:
    return isinstance(step.action, AwaitCondition) and not step.action.required


def _subjects(plan: Plan, steps: Sequence[Step]) -> list[str]:
    """The changes that steps belong to, as people call them, each once."""
    found = {str(plan.changes[step.change]): None for step in steps if step.change is not None}
    return list(found)


async def _ended_in_order(work: Coroutine[object, object, None]) -> None:
    """Cancelled once, it is left to clear away what it has begun, however often it is told."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        raise
