"""pure: a file of Compose's versions 1 and 2 -> the same in today's words, variables left in.

What can't be said any more is told, with its place.
"""

from __future__ import annotations

from compose.dataclass import dataclass
from compose.errors import Problem
from compose.load.tree import Key, Map, Node, Scalar, Sequence, spelled
from compose.model.project import Place, dotted

Tree = dict[str, object]


@dataclass(frozen=True, slots=True)
class Upgrade:
    document: Tree
    notes: tuple[Problem, ...]


def is_old(root: Map) -> bool:
    """Version 1 has services at the top; 2.x says so, or has a word that only it had."""
    if _is_first(root):
        return True
    version = root.entries.get("version")
    if isinstance(version, Scalar) and spelled(version.value).startswith("2"):
        return True
    services = root.entries.get("services")
    return isinstance(services, Map) and any(
        isinstance(service, Map) and _OLD.intersection(service.entries)
        for service in services.entries.values()
    )


def _is_first(root: Map) -> bool:
    """Nothing but services at the top: mappings that name an image or a build."""
    return (
        "services" not in root.entries
        and bool(root.entries)
        and all(
            isinstance(node, Map) and {"image", "build", "extends"}.intersection(node.entries)
            for node in root.entries.values()
        )
    )


_OLD = frozenset(["net", "log_driver", "log_opt", "dockerfile", "volume_driver"])


def upgrade(root: Map) -> Upgrade:
    return _Upgrade(root).whole()


class _Upgrade:
    def __init__(self, root: Map) -> None:
        self._root = root
        self._notes: list[Problem] = []
        self._volumes: dict[str, Tree | None] = {}

    def whole(self) -> Upgrade:
        first = _is_first(self._root)
        declared = self._root if first else self._root.entries.get("services")
        above: Place = () if first else ("services",)
        names = frozenset(declared.entries) if isinstance(declared, Map) else frozenset()
        services = {
            name: self._service(node, (*above, name), names)
            if isinstance(node, Map)
            else _plain(node)
            for name, node in (declared.entries.items() if isinstance(declared, Map) else ())
        }
        document: Tree = {"services": services}
        if not first:
            rest = {
                key: _plain(node)
                for key, node in self._root.entries.items()
                if key not in ("version", "services")
            }
            document |= rest
            if "version" in self._root.entries:
                self._note(
                    self._root, "version", ("version",), "the version has no meaning any more"
                )
        given = document.get("volumes")
        volumes = dict(given) if isinstance(given, dict) else {}
        added = {name: options for name, options in self._volumes.items() if name not in volumes}
        if added:
            document["volumes"] = volumes | added
        return Upgrade(document, tuple(self._notes))

    def _service(self, node: Map, place: Place, names: frozenset[str]) -> Tree:
        service: Tree = {}
        for key, value in node.entries.items():
            match key:
                case "net":
                    mode = _text(value)
                    other = mode.removeprefix("container:")
                    if mode.startswith("container:") and other in names:
                        mode = f"service:{other}"
                    service["network_mode"] = mode
                    self._note(node, key, place, f"net is network_mode now: {mode}")
                case "log_driver" | "log_opt":
                    logging = service.setdefault("logging", {})
                    assert isinstance(logging, dict)
                    logging["driver" if key == "log_driver" else "options"] = _plain(value)
                    self._note(node, key, place, f"{key} is part of logging now")
                case "dockerfile":
                    self._note(node, key, place, "dockerfile is part of build now")
                case "volume_driver":
                    self._note(node, key, place, "the driver is said where the volume is declared")
                case "build" if isinstance(value, Scalar) and "dockerfile" in node.entries:
                    dockerfile = _plain(node.entries["dockerfile"])
                    service["build"] = {"context": value.value, "dockerfile": dockerfile}
                case "volumes_from" if isinstance(value, Sequence):
                    service[key] = [self._source(item, names) for item in value.items]
                case _:
                    service[key] = _plain(value)
        self._named_volumes(node)
        return service

    def _source(self, node: Node, names: frozenset[str]) -> object:
        """In version 1 a name could be a container's of another project."""
        text = _text(node)
        name = text.partition(":")[0]
        return text if name in names or name == "container" else f"container:{text}"

    def _named_volumes(self, node: Map) -> None:
        """Version 1 made them as they were named; now they are declared."""
        if not _is_first(self._root) and "volume_driver" not in node.entries:
            return
        driver = _text(node.entries["volume_driver"]) if "volume_driver" in node.entries else ""
        volumes = node.entries.get("volumes")
        for item in volumes.items if isinstance(volumes, Sequence) else ():
            source, colon, _ = _text(item).partition(":")
            if colon and source[:1] not in ("", ".", "/", "~", "$", "\\"):
                # Their names had no project's name in front.
                own: Tree = {"name": source}
                self._volumes[source] = own | ({"driver": driver} if driver else {})

    def _note(self, node: Map, key: str, place: Place, what: str) -> None:
        at: Key | Map = node.keys.get(key, node)
        self._notes.append(
            Problem(what, at=at.at, path=dotted((*place, key) if place[-1:] != (key,) else place))
        )


def _text(node: Node) -> str:
    return spelled(node.value) if isinstance(node, Scalar) else ""


def _plain(node: Node) -> object:
    match node:
        case Scalar():
            return str(node.value) if isinstance(node.value, str) else node.value
        case Sequence():
            return [_plain(item) for item in node.items]
        case Map():
            return {key: _plain(value) for key, value in node.entries.items()}
    return None
