"""`extends`: a service laid over another one, of the same file or another."""

import os
from pathlib import Path

from compose.load.merge import merge_service
from compose.load.nearest import nearest
from compose.load.reader import Reader, Saying, Surroundings
from compose.load.tree import Key, Map, Node, Scalar, spelled
from compose.model.project import Place

_Link = tuple[Path, str]  # a service of a file


class _Origin:
    """A file whose services are extended."""

    def __init__(self, path: Path, services: Map, around: Surroundings, *, whole: bool) -> None:
        self.path, self.services, self.around = path, services, around
        self.whole = whole  # checked and in long syntax already


def resolve_extends(
    root: Map, path: Path, around: Surroundings, earlier: Map | None, reader: Reader
) -> Map:
    """The file with every `extends` followed. What it extends may also stand in an earlier file."""
    services = root.entries.get("services")
    if not isinstance(services, Map):
        return root
    if not any(isinstance(s, Map) and "extends" in s.entries for s in services.entries.values()):
        return root
    resolver = _Resolver(reader, earlier)
    origin = _Origin(path, services, around, whole=True)
    resolved: dict[str, Node] = {
        name: resolver.service(origin, name, ()) for name in services.entries
    }
    return root.holding({**root.entries, "services": services.holding(resolved)})


class _Resolver:
    def __init__(self, reader: Reader, earlier: Map | None) -> None:
        self._reader, self._earlier = reader, earlier
        self._done: dict[_Link, Node] = {}
        self._origins: dict[Path, _Origin | None] = {}

    def service(self, origin: _Origin, name: str, chain: tuple[tuple[_Link, Key], ...]) -> Node:
        link = (origin.path, name)
        if link not in self._done:
            self._done[link] = self._resolve(origin, name, chain)
        return self._done[link]

    def _resolve(self, origin: _Origin, name: str, chain: tuple[tuple[_Link, Key], ...]) -> Node:
        node = origin.services.entries[name]
        place = ("services", name)
        if not origin.whole:
            if isinstance(node, Scalar) and node.value is None:  # nothing is laid over
                return Map(node.source, node.line, node.column, {}, {})
            node = self._reader.service(node, place, origin.around)
        if not isinstance(node, Map) or not isinstance(node.entries.get("extends"), Map):
            return node
        extends = node.entries["extends"]
        assert isinstance(extends, Map)
        own = node.holding({k: v for k, v in node.entries.items() if k != "extends"})
        key = node.keys["extends"]
        chain = (*chain, ((origin.path, name), key))
        base = self._base(origin, name, extends, key, chain)
        if base is None:
            return own
        return merge_service(base, own, place, self._reader.problems)

    def _base(
        self,
        origin: _Origin,
        name: str,
        extends: Map,
        key: Key,
        chain: tuple[tuple[_Link, Key], ...],
    ) -> Node | None:
        """The service that is extended, itself resolved; None after a problem."""
        place: Place = ("services", name, "extends")
        wanted, file = _text(extends, "service"), _text(extends, "file")
        problems = self._reader.problems
        if not wanted:
            problems.add(key, place, '"service" is missing', "say which service is extended")
            return None
        target = self._other_file(extends, file, origin, place) if file else origin
        if target is None:
            return None
        steps = [link for link, _ in chain]
        if (target.path, wanted) in steps:
            start = steps.index((target.path, wanted))
            told = [f"{link[1]} ({at.at})" for link, at in chain[start:]]
            problems.add(
                key,
                place,
                f"services extend each other in a circle: {' -> '.join([*told, wanted])}",
                "let one of them stand on its own",
            )
            return None
        if wanted in target.services.entries:
            return self.service(target, wanted, chain)
        before = self._earlier.entries.get("services") if self._earlier and not file else None
        if isinstance(before, Map) and wanted in before.entries:
            return before.entries[wanted]
        close = nearest(wanted, target.services.entries)
        known = ", ".join(target.services.entries) or "none"
        problems.add(
            extends.entries["service"],
            place,
            f'{self._reader.shown(target.path)} has no service "{wanted}"',
            f'did you mean "{close}"?' if close else f"it has: {known}",
        )
        return None

    def _other_file(self, extends: Map, file: str, origin: _Origin, place: Place) -> _Origin | None:
        node = extends.entries["file"]
        path = self._reader.located(file, node, (*place, "file"))
        if path is None:
            return None
        # Paths of a project start at its folder, but a file further down may mean its own.
        beside = Path(os.path.abspath(node.source.path.parent / file))
        if not self._reader.files.is_file(path) and self._reader.files.is_file(beside):
            path = beside
        if path == origin.path:
            return origin
        if path not in self._origins:
            self._origins[path] = self._open(path, origin.around, node, place)
        return self._origins[path]

    def _open(self, path: Path, around: Surroundings, node: Node, place: Place) -> _Origin | None:
        inner = Surroundings(path.parent, around.environment)
        where = Key(node.source, node.line, node.column)
        documents = self._reader.parsed(path, inner, Saying(where, (*place, "file")))
        for document in documents:
            services = document.entries.get("services")
            if isinstance(services, Map):
                return _Origin(path, services, inner, whole=False)
        if documents:
            self._reader.problems.add(
                where, place, f"{self._reader.shown(path)} has no services to extend"
            )
        return None


def _text(node: Map, key: str) -> str:
    value = node.entries.get(key)
    return spelled(value.value) if isinstance(value, Scalar) else ""
