"""`include`: whole other projects taken in, each with its own folder and .env."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from compose.errors import ProjectError
from compose.load.files import read_env_file
from compose.load.merge import merge
from compose.load.reader import Reader, Saying, Surroundings
from compose.load.tree import Key, Map, Node, Scalar, Sequence, spelled

Chain = tuple[tuple[Path, Saying], ...]
LoadFiles = Callable[[tuple[Path, ...], Surroundings, Chain], Map | None]


def resolve_includes(
    root: Map, path: Path, around: Surroundings, chain: Chain, reader: Reader, load: LoadFiles
) -> Map:
    """The file laid over all that it includes. `load` makes a tree of files, as for a project."""
    include = root.entries.get("include")
    if not isinstance(include, Sequence):
        return root
    rest = {key: node for key, node in root.entries.items() if key != "include"}
    own = root.holding(rest)
    taken: Map | None = None
    for index, entry in enumerate(include.items):
        if not isinstance(entry, Map):
            continue
        included = _one(entry, index, path, around, chain, reader, load)
        if included is not None:
            nameless = {k: v for k, v in included.entries.items() if k not in ("name", "version")}
            included = included.holding(nameless)
            taken = included if taken is None else merge(taken, included, reader.problems)
    return own if taken is None else merge(taken, own, reader.problems)


def _one(
    entry: Map,
    index: int,
    path: Path,
    around: Surroundings,
    chain: Chain,
    reader: Reader,
    load: LoadFiles,
) -> Map | None:
    place = ("include", index)
    files: list[Path] = []
    for node, text in _texts(entry, "path"):
        file = reader.located(text, node, place)
        if file is None:
            return None
        files.append(file)
    if not files:
        reader.problems.add(entry, place, '"path" is missing', "say which file is included")
        return None
    seen = [(link[0], link[1]) for link in chain]
    for file in files:
        if file == path or any(file == link for link, _ in seen):
            steps = [*(link for link, _ in seen), path, file]
            shown = " -> ".join(reader.shown(step) for step in steps[steps.index(file) :])
            reader.problems.add(
                entry,
                place,
                f"files include each other in a circle: {shown}",
                "remove one of the includes",
            )
            return None
    folder = _text(entry, "project_directory")
    base = Path(os.path.abspath(around.base / folder)) if folder else files[0].parent
    try:
        environment = _environment(entry, base, around, reader)
    except ProjectError as error:
        reader.problems.errors.extend(error.problems)
        return None
    saying = Saying(Key(entry.source, entry.line, entry.column), place)
    return load(tuple(files), Surroundings(base, environment), (*chain, (path, saying)))


def _environment(entry: Map, base: Path, around: Surroundings, reader: Reader) -> dict[str, str]:
    """The includer's variables win over those of the included project's own .env."""
    given = [(around.base / text) for _, text in _texts(entry, "env_file")]
    default = base / ".env"
    files = given or ([default] if reader.files.is_file(default) else [])
    environment = dict(around.environment)
    found: dict[str, str] = {}
    for file in files:
        if str(file) == os.devnull:
            continue
        path = Path(os.path.abspath(file))
        known = {**found, **environment}
        found |= read_env_file(path, reader.shown(path), known, reader.files).values()
        reader.read[path] = None
    return {**found, **environment}


def _texts(entry: Map, key: str) -> Iterator[tuple[Node, str]]:
    node = entry.entries.get(key)
    for item in node.items if isinstance(node, Sequence) else ():
        if isinstance(item, Scalar):
            yield item, spelled(item.value)


def _text(entry: Map, key: str) -> str:
    node = entry.entries.get(key)
    return spelled(node.value) if isinstance(node, Scalar) else ""
