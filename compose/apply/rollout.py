"""A service's containers are replaced some at a time, as Swarm does it.

`deploy.update_config` says how many take their turn at once, how long each pauses after its turn,
and for how long what runs is watched. A container fails if it ends or is unhealthy before it runs
(with a check: before it is healthy) or within `monitor` after. Where the share of those that
failed is above `max_failure_ratio`, nobody has a turn any more, and `failure_action` says what
becomes of those that had theirs: they stay (pause), or each old one takes its turn again as
`rollback_config` says (rollback). In any case the old one goes on where nothing of the new one
ever ran: where it can't be started, or has no room to take its place.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import field

from compose.apply.errors import UpdatePaused, WaitFailed
from compose.apply.listener import Listener, Note, Replacing
from compose.apply.shielded import to_its_end
from compose.apply.wait import death, illness
from compose.apply.watch import ContainerWatch
from compose.dataclass import dataclass
from compose.errors import ComposeError
from compose.plan.actions import (
    Action,
    ContainerRef,
    Pace,
    Planned,
    RemoveContainer,
    RenameContainer,
    StartContainer,
    StopContainer,
    Turn,
    UpdateService,
)


@dataclass(frozen=True, slots=True)
class Swap:
    """A turn in one direction: who comes, who goes, and what that one is called then."""

    slot: str
    name: str
    comes: ContainerRef
    goes: ContainerRef
    comes_from: str  # what it is called before
    goes_from: str  # and the other one,
    goes_as: str  # which is called so after
    stop: StopContainer | None
    start: StartContainer
    overlaps: bool  # it runs before the other one is stopped

    @property
    def is_forward(self) -> bool:
        """The new one comes."""
        return isinstance(self.comes, Planned)


@dataclass(slots=True)
class Rollout:
    action: UpdateService
    perform: Callable[[Action], Coroutine[object, object, None]]
    watch: ContainerWatch
    id_of: Callable[[ContainerRef], str]
    listener: Listener
    in_place: dict[str, bool] = field(default_factory=dict)  # slot -> whether the new one is
    is_over: bool = False  # all are new
    goes_back: bool = False
    failures: dict[str, ComposeError] = field(default_factory=dict)  # slot -> in this direction
    deaths: dict[str, int] = field(default_factory=dict)  # container -> those of before its turn

    async def run(self) -> None:
        """Raises UpdatePaused or WaitFailed where it wasn't carried through."""
        turns, update = self.action.turns, self.action.update
        try:
            self.is_over = await self._roll([_forward(turn, update) for turn in turns], update)
            if self.is_over:
                return
            if update.failure_action == "rollback" or not any(self.in_place.values()):
                raise await self._taken_back(self.failures)
            raise UpdatePaused(
                _told(self.failures),
                details=_details(self.failures),
                hint=f"the update is paused ({self._standing()})",
            )
        finally:
            await self._clear()

    async def _taken_back(self, failures: Mapping[str, ComposeError]) -> WaitFailed:
        """Those whose turn was last come first."""
        self.goes_back, pace = True, self.action.rollback
        new = [turn for turn in reversed(self.action.turns) if self.in_place.get(turn.slot)]
        if await self._roll([_backward(turn, pace) for turn in new], pace):
            hint = "the update was taken back: all run as before"
            return WaitFailed(_told(failures), details=_details(failures), hint=hint)
        return UpdatePaused(
            f"{_told(failures)}; on the way back, {_told(self.failures)}",
            details=[*_details(failures), *_details(self.failures)],
            hint=f"the way back is paused ({self._standing()})",
        )

    def _standing(self) -> str:
        new = [turn.slot for turn in self.action.turns if self.in_place.get(turn.slot)]
        old = [turn.slot for turn in self.action.turns if turn.slot not in new]
        sides = (("new", new), ("as before", old))
        return "; ".join(f"{word}: {', '.join(slots)}" for word, slots in sides if slots)

    async def _roll(self, swaps: Sequence[Swap], pace: Pace) -> bool:
        """Whether all had their turn, and not too many failed."""
        self.failures = {}
        queue = deque(swaps)
        enough = asyncio.Event()
        monitors: list[asyncio.Task[None]] = []

        def failed(swap: Swap, error: ComposeError) -> None:
            self.failures[swap.slot] = error
            self.listener(Replacing(swap.slot, "failed", _what(error)))
            too_many = len(self.failures) / len(swaps) > pace.max_failure_ratio
            if pace.failure_action == "continue" or not too_many:
                self.listener(Note(f"{swap.slot} failed, the update goes on: {error}"))
                return
            enough.set()
            for task in monitors:
                if task is not asyncio.current_task():
                    task.cancel()  # what those do now changes nothing

        async def monitor(swap: Swap) -> None:
            container = self.id_of(swap.comes)
            fell = self._falls(container)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pace.monitor):
                    await self.watch.until(fell)
            if fell():
                failed(swap, await self._reason(container))

        async with asyncio.TaskGroup() as group:

            async def turn() -> None:
                swap = queue.popleft()
                self.listener(Replacing(swap.slot, "working"))
                if error := await self._swap(swap, pace):
                    failed(swap, error)
                    return
                self.listener(Replacing(swap.slot, "taken back" if self.goes_back else "done"))
                if not enough.is_set():
                    monitors.append(group.create_task(monitor(swap)))

            async def work() -> None:
                while queue and not enough.is_set():
                    await turn()
                    if queue and pace.delay:
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(enough.wait(), pace.delay)

            if swaps and swaps[0].start.pre_start:
                await turn()  # what is done once for a service is done before others start
            async with asyncio.TaskGroup() as workers:
                for _ in range(pace.parallelism or len(queue)):
                    workers.create_task(work())
        return not enough.is_set()

    async def _swap(self, swap: Swap, pace: Pace) -> ComposeError | None:
        """Why the one that comes doesn't run, if it doesn't. Cut short, the other one is back."""
        if swap.overlaps:
            # Where no check tells that it works, its age has to: the other one serves so long.
            error = await self._start(swap) or await self._runs(swap, settling=pace.monitor)
            if error:
                await self.perform(StopContainer(swap.comes))
                return error
        undo = contextlib.AsyncExitStack()
        try:
            error = await to_its_end(self._change_over(swap, undo))
            return error if error or swap.overlaps else await self._runs(swap)
        except asyncio.CancelledError:
            await self._put_back(swap, undo)
            self.listener(Replacing(swap.slot, "taken back"))
            raise

    async def _change_over(
        self, swap: Swap, undo: contextlib.AsyncExitStack
    ) -> ComposeError | None:
        """Why the one that comes is not in place, or can't be started there. All is as it was then,
        except that an old one that can't be started again stays in place."""
        try:
            if swap.stop is not None:
                undo.push_async_callback(self.perform, StartContainer(swap.goes))
                await self.perform(swap.stop)
            await self.perform(RenameContainer(swap.goes, swap.goes_as))
            undo.push_async_callback(self.perform, RenameContainer(swap.goes, swap.goes_from))
            await self.perform(RenameContainer(swap.comes, swap.name))
            self.in_place[swap.slot] = swap.is_forward
            error = None if swap.overlaps else await self._start(swap)
        except ComposeError as failure:
            error = failure
        if error and (swap.is_forward or not self._has_come(swap)):
            try:
                await self._put_back(swap, undo)
            except ComposeError as another:
                told = f"{_what(error)}; the one before is not back: {_what(another)}"
                raise WaitFailed(told) from another
        return error

    def _has_come(self, swap: Swap) -> bool:
        return self.in_place.get(swap.slot) is swap.is_forward

    async def _put_back(self, swap: Swap, undo: contextlib.AsyncExitStack) -> None:
        """A new one goes first: on a disk that is full, what comes back needs its room."""
        await self.perform(StopContainer(swap.comes))
        if swap.is_forward:
            await self.perform(RemoveContainer(swap.comes, force=True))
        elif self._has_come(swap):
            await self.perform(RenameContainer(swap.comes, swap.comes_from))
        await undo.aclose()
        self.in_place[swap.slot] = not swap.is_forward

    async def _start(self, swap: Swap) -> ComposeError | None:
        container = self.id_of(swap.comes)
        self.deaths[container] = self.watch.state(container).deaths
        try:
            await self.perform(swap.start)
        except ComposeError as error:
            return error
        return None

    async def _runs(self, swap: Swap, *, settling: float = 0.0) -> ComposeError | None:
        """Returns when it does, as a check tells if there is one; or why it doesn't."""
        container = self.id_of(swap.comes)
        await self.watch.look(container)
        state, fell = self.watch.state(container), self._falls(container)
        if state.health:
            await self.watch.until(lambda: fell() or state.health == "healthy")
        elif settling:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(settling):
                    await self.watch.until(fell)
        return await self._reason(container) if fell() else None

    def _falls(self, container: str) -> Callable[[], bool]:
        state, before = self.watch.state(container), self.deaths[container]
        gone = ("exited", "dead", "removed")
        return lambda: state.deaths > before or state.health == "unhealthy" or state.status in gone

    async def _reason(self, container: str) -> WaitFailed:
        state = self.watch.state(container)
        if state.health == "unhealthy" and state.deaths == self.deaths[container]:
            return await illness(self.watch.engine, container)
        return await death(self.watch, container)

    async def _clear(self) -> None:
        """Away goes what isn't in place. Beside a new one that doesn't work the old one stays, for
        a rollback to start it again."""
        async with asyncio.TaskGroup() as group:
            for turn in self.action.turns:
                if turn.slot not in self.in_place and turn.slot not in self.failures:
                    self.listener(Replacing(turn.slot, "skipped", "had no turn"))
                if not self.in_place.get(turn.slot):
                    action = RemoveContainer(turn.new, force=True)
                elif self.is_over or not (self.goes_back or turn.slot in self.failures):
                    action = turn.remove
                else:
                    continue
                group.create_task(self.perform(action))


def _forward(turn: Turn, pace: Pace) -> Swap:
    return Swap(
        slot=turn.slot,
        name=turn.name,
        comes=turn.new,
        goes=turn.old,
        comes_from=turn.interim,
        goes_from=turn.old.name,
        goes_as=turn.aside,
        stop=turn.stop,
        start=turn.start,
        overlaps=pace.start_first and turn.can_overlap,
    )


def _backward(turn: Turn, pace: Pace) -> Swap:
    return Swap(
        slot=turn.slot,
        name=turn.name,
        comes=turn.old,
        goes=turn.new,
        comes_from=turn.aside,
        goes_from=turn.name,
        goes_as=turn.interim,
        stop=StopContainer(turn.new, turn.stop.timeout if turn.stop else None),
        start=StartContainer(turn.old),
        overlaps=pace.start_first and turn.can_overlap,
    )


def _told(failures: Mapping[str, ComposeError]) -> str:
    return "; ".join(f"{slot}: {_what(error)}" for slot, error in failures.items())


def _what(error: ComposeError) -> str:
    return error.what if isinstance(error, WaitFailed) else str(error)


def _details(failures: Mapping[str, ComposeError]) -> list[str]:
    return [
        line
        for error in failures.values()
        if isinstance(error, WaitFailed)
        for line in error.details
    ]
