"""What services take from other files: env_file, label_file, configs and secrets."""

import hashlib
from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import TypeVar

from compose.dataclass import dataclass
from compose.errors import Problem, ProjectError, UsageError
from compose.load.fields import Fields, absolute
from compose.load.files import read_env_file, reason
from compose.load.reader import Reader
from compose.load.tree import Map, Scalar, Sequence, spelled
from compose.model.project import Place, dotted
from compose.model.resources import ConfigFile, Secret
from compose.position import Position

F = TypeVar("F", ConfigFile, Secret)


@dataclass(frozen=True, slots=True)
class _Read:
    """A file of variables, as it is shown to people; the values and lines of what it sets."""

    shown: str
    values: Mapping[str, str] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)


class Contents:
    """Reads each file once. What is missing is gathered: not every command minds."""

    def __init__(self, reader: Reader, *, env_files: bool = True) -> None:
        self._reader, self._env_files = reader, env_files
        self._env: dict[tuple[Path, bool], _Read] = {}
        self._read: dict[Place, list[_Read]] = {}  # "environment" of a service -> its env files
        self._told: set[Path] = set()
        self.unmet: list[Problem] = []

    def environment(self, fields: Fields) -> dict[str, str | None]:
        """env_file, a later one over an earlier one, and `environment` over all."""
        found: dict[str, str | None] = {}
        place = (*fields.place, "environment")
        for entry in fields.each("env_file") if self._env_files else ():
            node = entry.scalar("path")
            if node is None:
                entry.required("path", "say which file")
                continue
            required = entry.optional_flag("required")
            path = Path(absolute(spelled(node.value), node))
            read = self._variables(
                path,
                node,
                entry.place,
                required=required is not False,
                raw=entry.text("format") == "raw",
            )
            self._read.setdefault(place, []).append(read)
            found |= read.values
        return found | fields.variables("environment")

    def labels(self, fields: Fields) -> dict[str, str]:
        """label_file, and `labels` over it."""
        found: dict[str, str] = {}
        node = fields.node.entries.get("label_file")
        for index, item in enumerate(node.items if isinstance(node, Sequence) else ()):
            if isinstance(item, Scalar):
                path = Path(absolute(spelled(item.value), item))
                place = (*fields.place, "label_file", index)
                read = self._variables(path, item, place, required=True, raw=False)
                self._read.setdefault((*fields.place, "labels"), []).append(read)
                found |= read.values
        return found | fields.pairs("labels")

    def written(self, place: Place) -> Position | None:
        """Where a variable or label is written that an env_file or label_file has."""
        *above, name = place or ("",)
        for read in reversed(self._read.get(tuple(above), ())):
            if (line := read.lines.get(str(name))) is not None:
                return Position(read.shown, line, 1)
        return None

    def _variables(
        self, path: Path, node: Scalar, place: Place, *, required: bool, raw: bool
    ) -> _Read:
        known = self._env.get((path, raw))
        if known is not None:
            return known
        shown = self._reader.shown(path)
        result = _Read(shown)
        files = self._reader.files
        if files.is_file(path):
            self._reader.read[path] = None
            try:
                read = read_env_file(path, shown, node.source.environment, files, raw=raw)
                lines = {name: variable.line for name, variable in read.variables.items()}
                result = _Read(shown, read.values(), lines)
            except ProjectError as error:
                self._reader.problems.errors.extend(error.problems)
        elif required:
            is_folder = files.is_folder(path)
            kind = "label" if "label_file" in place else "env"
            hint = "name a file in it" if is_folder else "create it, or correct the path"
            if kind == "env" and not is_folder:
                hint = 'create it, or write "required: false" beside its path'
            found = "is a folder, not a file" if is_folder else "not found"
            self._miss(node, place, f"{kind} file {shown} {found}", hint)
            return result
        else:
            self._reader.read[path] = None  # it may appear
        self._env[path, raw] = result
        return result

    def filled(self, item: F, section: str, root: Map) -> F:
        """The config or secret with what it holds, as far as that can be known here."""
        place: Place = (section, item.key)
        definitions = root.entries.get(section)
        definition = definitions.entries.get(item.key) if isinstance(definitions, Map) else None
        if not isinstance(definition, Map):
            return item
        if item.external:
            return self._from_store(item, definition, place)
        if item.file:
            return self._from_file(item, definition, place)
        if item.environment:
            node = definition.entries["environment"]
            value = node.source.environment.get(item.environment)
            if value is None:
                self._miss(
                    node,
                    (*place, "environment"),
                    f"the variable {item.environment} is not set",
                    f"set it in the shell or in .env: {item.environment}=value",
                )
                return item
            return _with_content(item, value.encode())
        if "content" in definition.entries:
            return _with_content(item, item.inline.encode())
        return item

    def _from_store(self, item: F, definition: Map, place: Place) -> F:
        """What this machine keeps under the name of an external secret; other engines may have
        it where this one hasn't, so that is for the plan to say."""
        if not isinstance(item, Secret):
            return item
        from compose.secrets import store_of

        store = store_of(definition.source.environment)
        if item.name not in store.names():
            return item
        try:
            return _with_content(item, store.read(item.name))
        except UsageError as error:
            what, _, hint = str(error).partition("\n  hint: ")
            self._miss(definition.entries["external"], (*place, "external"), what, hint)
            return item

    def _from_file(self, item: F, definition: Map, place: Place) -> F:
        path = Path(item.file)
        node = definition.entries["file"]
        self._reader.read[path] = None
        try:
            found = _with_content(item, self._reader.files.read(path))
            return replace(found, executable=self._reader.files.is_executable(path))
        except IsADirectoryError:
            return item  # a folder is mounted as it is
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            self._miss(
                node,
                (*place, "file"),
                f"cannot read {self._reader.shown(path)}: "
                + ("there is no such file" if missing else reason(error)),
                "create it, or correct the path" if missing else "",
            )
            return item

    def _miss(self, node: object, place: Place, what: str, hint: str) -> None:
        assert isinstance(node, Scalar)
        problem = Problem(what, at=node.at, path=dotted(place), hint=hint)
        self.unmet.append(problem)


def _with_content(item: F, content: bytes) -> F:
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    return replace(item, content=content, digest=digest)
