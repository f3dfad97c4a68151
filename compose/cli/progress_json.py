"""`--progress json`: what happens as JSON lines, in the words of Docker Compose."""

from __future__ import annotations

import json
import re
from dataclasses import field
from typing import TextIO

from compose.apply.listener import (
    Failed,
    Finished,
    Note,
    Planned,
    Readying,
    Replacing,
    Report,
    Started,
)
from compose.dataclass import dataclass
from compose.model.service import Condition
from compose.plan import actions
from compose.plan.actions import ContainerRef, Existing
from compose.plan.plan import Plan, Step, Verb

_AWAITED = {
    Condition.STARTED: "Started",
    Condition.HEALTHY: "Healthy",
    Condition.COMPLETED: "Exited",
}
_INTERIM = re.compile(r"^[0-9a-f]{12}_|_[0-9a-f]{12}$")  # see plan/names.py


@dataclass(slots=True)
class JsonLines:
    """A listener."""

    output: TextIO
    verbs: dict[str, Verb] = field(default_factory=dict)  # key of a step -> of its change
    names: dict[str, str] = field(default_factory=dict)  # slot -> name of its container

    def __call__(self, report: Report, /) -> None:
        match report:
            case Planned(plan):
                self._learn(plan)
            case Started(step):
                self._tell(step, 0)
            case Finished(step):
                self._tell(step, 1)
            case Failed(step, error):
                for subject, _ in self._about(step):
                    self._write(id=subject, text=str(error), status="Error")
            case Replacing(slot, state, detail):
                words = {"working": "Recreate", "done": "Recreated"}
                self._write(id=self._container(slot), text=detail, status=words.get(state, state))
            case Readying(slot, wanted, state, detail):
                words = {"working": "Waiting", "done": wanted.title(), "failed": "Error"}
                self._write(id=self._container(slot), text=detail, status=words.get(state, state))
            case Note(text):
                self._write(tail=True, text=text)
            case _:
                pass

    def _learn(self, plan: Plan) -> None:
        for step in plan.steps:
            if step.change is not None:
                self.verbs[step.key] = plan.changes[step.change].verb
            if isinstance(step.action, actions.CreateContainer):
                self.names[step.action.slot] = _INTERIM.sub("", step.action.name)

    def _tell(self, step: Step, end: int) -> None:
        for subject, words in self._about(step):
            self._write(id=subject, status=words[end])

    def _about(self, step: Step) -> list[tuple[str, tuple[str, str]]]:
        """What a step is about, and the words while it goes on and at its end."""
        recreates = self.verbs.get(step.key) is Verb.RECREATE
        match step.action:
            case actions.PullImage(reference=reference):
                return [(f"Image {reference}", ("Pulling", "Pulled"))]
            case actions.PushImage(reference=reference):
                return [(f"Image {reference}", ("Pushing", "Pushed"))]
            case actions.BuildImage(reference=reference):
                return [(f"Image {reference}", ("Building", "Built"))]
            case actions.RemoveImage(reference=reference):
                return [(f"Image {reference}", ("Removing", "Removed"))]
            case actions.CreateNetwork(name=name):
                return [(f"Network {name}", ("Creating", "Created"))]
            case actions.RemoveNetwork(name=name):
                return [(f"Network {name}", ("Removing", "Removed"))]
            case actions.CreateVolume(name=name):
                return [(f"Volume {name}", ("Creating", "Created"))]
            case actions.RemoveVolume(name=name):
                return [(f"Volume {name}", ("Removing", "Removed"))]
            case actions.CreateContainer(slot=slot):
                words = ("Recreate", "Recreated") if recreates else ("Creating", "Created")
                return [(self._container(slot), words)]
            case actions.StartContainer(container=container):
                return [(self._named(container), ("Starting", "Started"))]
            # Of what is recreated, that the old one goes is said with the new one.
            case actions.StopContainer(container=container) if not recreates:
                return [(self._named(container), ("Stopping", "Stopped"))]
            case actions.RemoveContainer(container=container) if not recreates:
                return [(self._named(container), ("Removing", "Removed"))]
            case actions.KillContainer(container=container):
                return [(self._named(container), ("Killing", "Killed"))]
            case actions.PauseContainer(container=container):
                return [(self._named(container), ("Pausing", "Paused"))]
            case actions.UnpauseContainer(container=container):
                return [(self._named(container), ("Unpausing", "Unpaused"))]
            case actions.AwaitCondition(condition=condition, containers=containers):
                words = ("Waiting", _AWAITED[condition])
                return [(self._named(each), words) for each in containers]
            case _:
                return []

    def _named(self, ref: ContainerRef) -> str:
        name = ref.name if isinstance(ref, Existing) else self.names.get(ref.slot, ref.slot)
        return f"Container {_INTERIM.sub('', name)}"

    def _container(self, slot: str) -> str:
        return f"Container {self.names.get(slot, slot)}"

    def _write(self, **fields: object) -> None:
        document = {key: value for key, value in fields.items() if value}
        print(json.dumps(document, separators=(",", ":")), file=self.output, flush=True)
