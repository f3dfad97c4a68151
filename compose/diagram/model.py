"""pure: a project as boxes and lines, whatever they are drawn with."""

from __future__ import annotations

from collections.abc import Iterator

from compose.dataclass import dataclass
from compose.model.mount import MountType
from compose.model.project import Project
from compose.model.service import Condition, Dependency, Service

WORDS = {
    Condition.STARTED: "started",
    Condition.HEALTHY: "healthy",
    Condition.COMPLETED: "completed",
}


@dataclass(frozen=True, slots=True)
class Box:
    """`kind`: service, network, volume, config or secret."""

    kind: str
    name: str
    lines: tuple[str, ...] = ()  # what is said below the name

    @property
    def key(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Line:
    """From a service to what it needs, is on, or has."""

    start: str  # key of a box
    end: str
    words: str = ""
    is_dependency: bool = False
    is_optional: bool = False


@dataclass(frozen=True, slots=True)
class Diagram:
    title: str
    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]

    def of_kind(self, kind: str) -> tuple[Box, ...]:
        return tuple(box for box in self.boxes if box.kind == kind)

    def from_box(self, box: Box) -> tuple[Line, ...]:
        return tuple(line for line in self.lines if line.start == box.key)

    def levels(self) -> dict[str, int]:
        """Box -> column: services left of what they need, the rest to the right of all."""
        columns: dict[str, int] = {}
        needs = {
            box.key: [line.end for line in self.from_box(box) if line.is_dependency]
            for box in self.of_kind("service")
        }

        def depth(key: str) -> int:
            if key not in columns:
                columns[key] = 0  # a circle is refused long before; this only ends it
                columns[key] = max((depth(end) + 1 for end in needs[key]), default=0)
            return columns[key]

        deepest = max((depth(key) for key in needs), default=0)
        found = {key: deepest - depth(key) for key in needs}
        return found | {box.key: deepest + 1 for box in self.boxes if box.kind != "service"}


def make_diagram(project: Project) -> Diagram:
    boxes = [_service(project, service) for service in project.services.values()]
    for network in project.networks.values():
        traits = [word for word, is_so in (("external", network.external),
                                           ("internal", network.internal)) if is_so]  # fmt: skip
        traits += [pool.subnet for pool in network.ipam.config if pool.subnet]
        boxes.append(Box("network", network.key, tuple(traits)))
    for volume in project.volumes.values():
        boxes.append(Box("volume", volume.key, ("external",) if volume.external else ()))
    for kind, items in (("config", project.configs), ("secret", project.secrets)):
        for item in items.values():
            boxes.append(Box(kind, item.key, ("external",) if item.external else ()))
    lines = [line for service in project.services.values() for line in _lines(project, service)]
    return Diagram(project.name, tuple(boxes), tuple(lines))


def _service(project: Project, service: Service) -> Box:
    lines = [project.image_name(service)]
    if service.build is not None:
        lines.append("built here")
    if service.replicas != 1:
        lines.append(f"{service.replicas} replicas")
    if service.ports:
        lines.append("ports " + ", ".join(str(port).removesuffix("/tcp") for port in service.ports))
    return Box("service", service.name, tuple(lines))


def _lines(project: Project, service: Service) -> Iterator[Line]:
    start = f"service {service.name}"
    for name, dependency in service.depends_on.items():
        if name in project.services:
            yield Line(start, f"service {name}", _words(dependency), True, not dependency.required)
    for key in service.networks:
        yield Line(start, f"network {key}")
    for mount in service.volumes:
        if mount.type is MountType.VOLUME and mount.source in project.volumes:
            words = mount.target + (" (read only)" if mount.read_only else "")
            yield Line(start, f"volume {mount.source}", words)
    for reference in service.configs:
        yield Line(start, f"config {reference.source}", reference.config_path())
    for reference in service.secrets:
        yield Line(start, f"secret {reference.source}", reference.secret_path())


def _words(dependency: Dependency) -> str:
    words = WORDS[dependency.condition]
    return f"{words}, optional" if not dependency.required else words
