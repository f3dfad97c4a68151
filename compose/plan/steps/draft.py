"""A plan in the making: what was decided, the steps so far, and what later ones have to know.

Each module beside this one adds the steps of one kind of thing. Before the checkpoint only what is
new is made: if that fails, all of it is taken back and what ran is as it was. After it containers
are stopped, replaced and started, those that others need first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field

from compose.dataclass import dataclass
from compose.model.project import Project
from compose.model.service import Service
from compose.plan.decide import Decisions, HostPort
from compose.plan.diff import ABSENT, Difference, in_words, is_private
from compose.plan.observed import Observed, ObservedContainer
from compose.plan.options import PlanOptions
from compose.plan.plan import FieldChange, PlanBuilder, Written
from compose.position import Position

CHECKPOINT = "checkpoint"


@dataclass(slots=True)
class Draft:
    decided: Decisions
    builder: PlanBuilder
    starts: dict[str, list[str]] = field(default_factory=dict)  # service -> keys of its starts
    pulls: dict[str, str] = field(default_factory=dict)  # image -> key of what gets or builds it
    made: list[str] = field(default_factory=list)  # keys that the checkpoint waits for
    freed: dict[HostPort, list[str]] = field(default_factory=dict)  # port -> what frees it

    @property
    def project(self) -> Project:
        return self.decided.project

    @property
    def observed(self) -> Observed:
        return self.decided.observed

    @property
    def options(self) -> PlanOptions:
        return self.decided.options

    def at(self, service: str, *place: str | int) -> Position | None:
        return self.project.at("services", service, *place)

    def written(self, service: str) -> Written:
        positions, place = self.project.positions, ("services", service)
        return lambda key: positions.get((*place, key) if key else place)

    def frees(self, container: ObservedContainer, key: str) -> None:
        """Once that step is done its ports are to be had."""
        for port in container.ports:
            self.freed.setdefault((port.port, port.protocol), []).append(key)

    def released(self, service: Service) -> list[str]:
        """Keys of what gives back ports that it is to have."""
        return [
            key
            for port in service.ports
            for host_port in port.host_ports
            for key in self.freed.get((host_port, port.protocol), ())
        ]

    def fields(self, service: str, differences: Iterable[Difference]) -> tuple[FieldChange, ...]:
        return tuple(
            FieldChange(
                ".".join(map(str, each.place)),
                in_words(each),
                None if is_private(each) or each.old is ABSENT else each.old,
                None if is_private(each) or each.new is ABSENT else each.new,
                self.at(service, *each.place),
            )
            for each in differences
            if each.old != each.new  # else it is as declared before, and to be told again
        )


def stop_key(container: ObservedContainer) -> str:
    return f"stop {container.name}"
