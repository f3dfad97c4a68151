"""A Plan: what changes and why (for people), and the steps that do it (for `apply`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import field, replace
from enum import StrEnum

from compose.dataclass import dataclass
from compose.errors import Problem
from compose.plan.actions import (
    Action,
    CreateContainer,
    KillContainer,
    StopContainer,
    UpdateService,
)
from compose.plan.rolling import waits_for_turn
from compose.position import Position


class Verb(StrEnum):
    PULL = "pull"
    BUILD = "build"
    PUSH = "push"
    CREATE = "create"
    RECREATE = "recreate"
    START = "start"
    UNPAUSE = "unpause"
    PAUSE = "pause"
    RESTART = "restart"
    RENAME = "rename"
    UPDATE = "update"
    STOP = "stop"
    KILL = "kill"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field that differs from what runs. Values that may be secret are left out: None."""

    place: str  # environment.A
    words: str  # image busybox:1 -> busybox:2
    old: object = None
    new: object = None
    at: Position | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the plan: `recreate web.1   image busybox:1 -> busybox:2   compose.yaml:3:12`."""

    verb: Verb
    subject: str  # "web.1", "network front", "volume data", "image busybox:1"
    cause: str
    at: Position | None = None
    fields: tuple[FieldChange, ...] = ()  # all of them; the cause names the first

    def __str__(self) -> str:
        return f"{self.verb} {self.subject}"


# "command" -> where a service has that written; "" -> where the service itself is. Asked when
# something is wrong: a plan of thousands of services looks up nothing that it can do without.
Written = Callable[[str], Position | None]


def nowhere(key: str) -> Position | None:
    return None


@dataclass(frozen=True, slots=True)
class Step:
    """One action. Its `undo` is due if the plan ends before a step of `until` is done."""

    key: str  # unique: "start web.1"
    action: Action
    change: int | None = None  # index of the change that it belongs to
    after: tuple[str, ...] = ()  # keys of steps that have to be done first
    undo: Action | None = None
    until: tuple[str, ...] = ()
    written: Written = field(default=nowhere, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Plan:
    """`steps` are in an order in which each comes after what it waits for."""

    project: str
    changes: tuple[Change, ...] = ()
    steps: tuple[Step, ...] = ()
    notes: tuple[Problem, ...] = ()  # what the user should know, though nothing is done about it

    @property
    def is_empty(self) -> bool:
        return not self.changes

    @property
    def interrupted(self) -> tuple[str, ...]:
        """Subjects of what runs and is stopped before anything takes its place."""
        stopped: set[str] = set()
        for step in self.steps:
            match step.action:
                case UpdateService(turns=turns, update=pace):
                    stopped |= {
                        turn.slot
                        for turn in turns
                        if turn.stop and not (pace.start_first and turn.can_overlap)
                    }
                case StopContainer() if step.change is not None:
                    stopped.add(self.changes[step.change].subject)
                case KillContainer() if self._verb(step) is Verb.KILL and step.change is not None:
                    stopped.add(self.changes[step.change].subject)
        return tuple(each.subject for each in self.changes if each.subject in stopped)

    def _verb(self, step: Step) -> Verb | None:
        return None if step.change is None else self.changes[step.change].verb

    def waits_for(self) -> dict[int, tuple[str, ...]]:
        """Change -> what it comes after, as words: subjects of changes, `db healthy`."""
        owner = {step.key: step for step in self.steps}
        found: dict[int, dict[str, None]] = {}
        turns: dict[str, int] = {}  # slot of an update -> its change
        for step in self.steps:
            if step.change is not None:
                found.setdefault(step.change, {}).update(self._words(step, step.change, owner))
                if isinstance(step.action, CreateContainer):
                    turns[step.action.slot] = step.change
            elif isinstance(step.action, UpdateService):
                slots = tuple(turn.slot for turn in step.action.turns)
                earlier = waits_for_turn(slots, step.action.update)
                for slot in slots:
                    words = found[turns[slot]]
                    words |= self._words(step, turns[slot], owner, but=slots)
                    if slot in earlier:
                        words[f"{earlier[slot]} updated"] = None
        return {change: tuple(words) for change, words in found.items()}

    def _words(
        self, step: Step, change: int, owner: Mapping[str, Step], *, but: Collection[str] = ()
    ) -> dict[str, None]:
        """What a step comes after that isn't of its own change, nor a subject of `but`."""
        words: dict[str, None] = {}
        for key in step.after:
            before = owner[key]
            if before.change is not None:
                subject = self.changes[before.change].subject
                if before.change != change and subject not in but:
                    words[f"{subject}{self._half(before)}"] = None
            elif key.startswith("await "):
                # Conditions have no line of their own; the checkpoint says nothing to people.
                words[key.removeprefix("await ")] = None
            elif isinstance(before.action, UpdateService):
                words |= {turn.slot: None for turn in before.action.turns}
        return words

    def _half(self, step: Step) -> str:
        """What stops and comes back may stop before another change and come back after it."""
        comes_back = self._verb(step) in (Verb.RESTART, Verb.RECREATE)
        return " stopped" if comes_back and isinstance(step.action, StopContainer) else ""

    def to_document(self) -> dict[str, object]:
        """For `--format json` and the history: no contents of files, no environment."""
        waits = self.waits_for()
        return {
            "project": self.project,
            "changes": [
                {
                    "verb": str(change.verb),
                    "subject": change.subject,
                    "cause": change.cause,
                    "at": str(change.at) if change.at else None,
                    "fields": [
                        {
                            "place": each.place,
                            "old": each.old,
                            "new": each.new,
                            "at": str(each.at) if each.at else None,
                        }
                        for each in change.fields
                    ],
                    "after": list(waits.get(index, ())),
                }
                for index, change in enumerate(self.changes)
            ],
            "steps": [
                {"key": step.key, "action": type(step.action).__name__, "after": list(step.after)}
                for step in self.steps
            ],
            "interrupted": list(self.interrupted),
            "notes": [str(note) for note in self.notes],
        }


@dataclass(slots=True)
class PlanBuilder:
    """Collects changes and steps while a plan is made."""

    project: str
    changes: list[Change] = field(default_factory=list)
    steps: dict[str, Step] = field(default_factory=dict)
    notes: list[Problem] = field(default_factory=list)

    def change(
        self,
        verb: Verb,
        subject: str,
        cause: str,
        at: Position | None = None,
        fields: tuple[FieldChange, ...] = (),
    ) -> int:
        self.changes.append(Change(verb, subject, cause, at, fields))
        return len(self.changes) - 1

    def step(
        self,
        key: str,
        action: Action,
        change: int | None = None,
        *,
        after: Iterable[str] = (),
        undo: Action | None = None,
        until: Iterable[str] = (),
        written: Written = nowhere,
    ) -> str:
        if key in self.steps:
            raise ValueError(f"the plan has two steps called {key!r}")
        self.steps[key] = Step(
            key, action, change, tuple(dict.fromkeys(after)), undo, tuple(until), written
        )
        return key

    def finish(self) -> Plan:
        """Steps and changes in the order in which they begin; what is named in `after` but was
        not needed is left out."""
        known = self.steps
        after = {key: tuple(filter(known.__contains__, step.after)) for key, step in known.items()}
        ordered = _in_order(after)
        places: dict[int | None, int | None] = {None: None}
        for key in ordered:
            places.setdefault(known[key].change, len(places) - 1)
        steps = tuple(_placed(known[key], places[known[key].change], after[key]) for key in ordered)
        changes = tuple(self.changes[change] for change in places if change is not None)
        return Plan(self.project, changes, steps, tuple(self.notes))


def _placed(step: Step, change: int | None, after: tuple[str, ...]) -> Step:
    if step.change == change and step.after == after:
        return step
    return replace(step, change=change, after=after)


def _in_order(after: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Depth first, in the order of planning: no recursion, since chains may be thousands long."""
    ordered: dict[str, None] = {}
    open_: set[str] = set()
    for start in after:
        stack = [start]
        while stack:
            key = stack[-1]
            waiting = [name for name in after[key] if name not in ordered]
            if not waiting or key in ordered:
                stack.pop()
                open_.discard(key)
                ordered.setdefault(key)
                continue
            if key in open_:
                raise ValueError(f"the plan's steps wait for each other around {key!r}")
            open_.add(key)
            stack.extend(reversed(waiting))
    return list(ordered)
