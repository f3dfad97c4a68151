"""One file -> its documents in long syntax: read, parse, interpolate, check, make canonical.

Remembers what it read, since one file may be extended many times.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from compose.load.canonical import canonical, canonical_service
from compose.load.files import STDIN, label, reason
from compose.load.interpolate import interpolate
from compose.load.schema import check_file, check_service
from compose.load.tree import Key, Map, Node, Problems, Source, parse
from compose.model.project import Place


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the values of a file are read against."""

    base: Path  # relative paths start here
    environment: Mapping[str, str]


class Reader:
    def __init__(self, here: Path, stdin: str, problems: Problems) -> None:
        self._here, self._stdin, self.problems = here, stdin, problems
        self.read: dict[Path, None] = {}  # in order
        self._raw: dict[tuple[Path, Path], list[Map]] = {}

    def shown(self, path: Path) -> str:
        return label(path, self._here)

    def whole(self, path: Path, around: Surroundings, *, said_by: Key | None = None) -> list[Map]:
        """Every document of the file, checked and in long syntax."""
        documents: list[Map] = []
        for root in self.parsed(path, around, said_by=said_by):
            filled = interpolate(root, (), around.environment, self.problems)
            if isinstance(filled, Map):
                checked = check_file(filled, self.problems)
                documents.append(canonical(checked, self.problems))
        return documents

    def service(self, node: Node, place: Place, around: Surroundings) -> Node:
        """One service of a file that isn't otherwise part of the project."""
        filled = interpolate(node, place, around.environment, self.problems)
        return canonical_service(check_service(filled, place, self.problems), place, self.problems)

    def parsed(self, path: Path, around: Surroundings, *, said_by: Key | None = None) -> list[Map]:
        known = self._raw.get((path, around.base))
        if known is None:
            known = self._raw[path, around.base] = self._parse(path, around, said_by)
        return known

    def _parse(self, path: Path, around: Surroundings, said_by: Key | None) -> list[Map]:
        source = Source(self.shown(path), path, around.base, around.environment)
        if path == Path(STDIN):
            return parse(self._stdin, source, self.problems)
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            missing = isinstance(error, FileNotFoundError)
            what = "there is no such file" if missing else reason(error)
            hint = "check the path; it is relative to " + self.shown(around.base)
            self.problems.add(
                said_by or Key(source, 1, 1),
                (),
                f"cannot read {source.label}: {what}",
                hint if missing and said_by else "",
            )
            return []
        self.read[path] = None
        return parse(text, source, self.problems)
