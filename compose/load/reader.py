"""One file -> its documents in long syntax: read, parse, interpolate, check, make canonical.

Remembers what it read, since one file may be extended many times.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from compose.dataclass import dataclass
from compose.errors import Problem, ProjectError
from compose.load.canonical import canonical, canonical_service
from compose.load.files import STDIN, Fetch, brought, is_remote, label, reason
from compose.load.interpolate import interpolate
from compose.load.schema import check_file, check_raw, check_service
from compose.load.sources import DISK
from compose.load.sources import Source as Files
from compose.load.tree import Key, Map, Node, Problems, Source, parse
from compose.model.project import Place, dotted


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the values of a file are read against."""

    base: Path  # relative paths start here
    environment: Mapping[str, str]


def _place_of(error: UnicodeDecodeError, source: Source) -> Key:
    before = error.object[: error.start]
    column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
    return Key(source, before.count(b"\n") + 1, column)


@dataclass(frozen=True, slots=True)
class Saying:
    """Where one file names another."""

    key: Key
    place: Place


class Reader:
    def __init__(
        self,
        here: Path,
        stdin: str,
        problems: Problems,
        files: Files = DISK,
        fetch: Fetch | None = None,
        *,
        raw: bool = False,
    ) -> None:
        """`raw`: variables stay as they are, and so does what can't be read because of them."""
        self._here, self._stdin, self.problems, self._raw_values = here, stdin, problems, raw
        self.files, self._fetch = files, fetch
        self.read: dict[Path, None] = {}  # in order
        self.has_resets = False  # in any file
        self._raw: dict[tuple[Path, Path], list[Map]] = {}

    def shown(self, path: Path) -> str:
        return label(path, self._here)

    def located(self, text: str, said: Node, place: Place) -> Path | None:
        """Where a file is that another one names; fetched, if another machine has it. None after a
        problem."""
        if not is_remote(text):
            return Path(os.path.abspath(said.source.base / text))
        try:
            return brought(text, self._fetch)
        except ProjectError as error:
            for problem in error.problems:
                self.problems.add(said, place, problem.what, problem.hint)
            return None

    def whole(self, path: Path, around: Surroundings, said_by: "Saying | None" = None) -> list[Map]:
        """Every document of the file, checked and in long syntax."""
        documents: list[Map] = []
        for root in self.parsed(path, around, said_by):
            if self._raw_values:
                check_raw(root, self.problems)
                documents.append(canonical(root, self.problems, raw=True))
                continue
            filled = interpolate(root, (), around.environment, self.problems)
            if isinstance(filled, Map):
                checked = check_file(filled, self.problems)
                documents.append(canonical(checked, self.problems))
        return documents

    def service(self, node: Node, place: Place, around: Surroundings) -> Node:
        """One service of a file that isn't otherwise part of the project."""
        if self._raw_values:
            return canonical_service(node, place, self.problems, raw=True)
        filled = interpolate(node, place, around.environment, self.problems)
        return canonical_service(check_service(filled, place, self.problems), place, self.problems)

    def parsed(
        self, path: Path, around: Surroundings, said_by: "Saying | None" = None
    ) -> list[Map]:
        known = self._raw.get((path, around.base))
        if known is None:
            known = self._raw[path, around.base] = self._parse(path, around, said_by)
        return known

    def _parse(self, path: Path, around: Surroundings, said_by: "Saying | None") -> list[Map]:
        source = Source(self.shown(path), path, around.base, around.environment)
        if path == Path(STDIN):
            return self._parsed(self._stdin, source)
        try:
            text = self.files.read(path).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            self.problems.add(
                _place_of(error, source), (), "this letter isn't UTF-8", "save the file as UTF-8"
            )
            return []
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            what = "there is no such file" if missing else reason(error)
            self.problems.errors.append(
                Problem(
                    f"cannot read {source.label}: {what}",
                    at=said_by.key.at if said_by else None,
                    path=dotted(said_by.place) if said_by else "",
                    hint="create it, or correct the path" if missing else "",
                )
            )
            return []
        self.read[path] = None
        if not text.strip():
            self._empty(source)
        return self._parsed(text, source)

    def _parsed(self, text: str, source: Source) -> list[Map]:
        self.has_resets = self.has_resets or "!reset" in text
        return parse(text, source, self.problems)

    def _empty(self, source: Source) -> None:
        self.problems.add(
            Key(source, 1, 1), (), "the file is empty", 'start with a line "services:"'
        )
