"""What `publish` packs: a project's files, such that they find each other in one flat folder; and
what of them one may not want the world to see. Reads files; nothing else.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path

from compose.dataclass import dataclass
from compose.errors import Problem, ProjectError
from compose.load.files import STDIN, is_remote, label, reason
from compose.load.interpolate import interpolate
from compose.load.tree import Map, Node, Problems, Scalar, Sequence, Source, parse
from compose.model.mount import MountType
from compose.model.project import Place, Project, dotted
from compose.position import Position


class Kind(Enum):
    COMPOSE = "one of the project's own files"
    EXTENDED = "a file whose services are extended"
    ENVIRONMENT = "an env_file"


@dataclass(frozen=True, slots=True)
class Piece:
    name: str  # in the flat folder
    content: bytes
    kind: Kind


@dataclass(frozen=True, slots=True)
class Bundle:
    pieces: tuple[Piece, ...]
    variables: tuple[Problem, ...]  # environment that would be told
    binds: tuple[Problem, ...]
    secrets: tuple[Problem, ...]  # what looks like one


def pack(project: Project, here: Path) -> Bundle:
    """`here`: what paths are shown against. Raises ProjectError with all that can't be packed."""
    packer = _Packer(project, here)
    pieces = [
        packer.compose_file(path, project.working_dir, path.name, Kind.COMPOSE)
        for path in project.files
    ]
    packed: set[Path] = set()
    while waiting := [path for path in packer.extended if path not in packed]:
        packed |= {*waiting}
        pieces += [
            packer.compose_file(path, path.parent, packer.extended[path], Kind.EXTENDED)
            for path in waiting
        ]
    pieces += packer.environment_files()
    packer.resources()
    if packer.problems.errors:
        raise ProjectError(*packer.problems.errors)
    return Bundle(
        tuple(pieces), tuple(packer.variables), tuple(_binds(project)), tuple(packer.secrets)
    )


class _Packer:
    def __init__(self, project: Project, here: Path) -> None:
        self._project, self._here = project, here
        self.problems = Problems()
        self.extended: dict[Path, str] = {}  # -> the name that it gets
        self.variables: list[Problem] = []
        self.secrets: list[Problem] = []
        self._env_files: dict[Path, str] = {}

    def compose_file(self, path: Path, base: Path, name: str, kind: Kind) -> Piece:
        text = self._read(path)
        source = Source(label(path, self._here), path, base, self._project.environment)
        renamed: dict[tuple[int, int], tuple[Scalar, str]] = {}
        for root in parse(text, source, self.problems):
            self._refuse_includes(root)
            self._note_variables(root)
            filled = interpolate(root, (), self._project.environment, self.problems)
            known = dict(_named_files(root))
            for place, node in _named_files(filled):
                if new := self._name_of(str(node.value), place, source):
                    renamed[node.line, node.column] = (known[place], new)
        return Piece(name, self._with_names(text, renamed).encode(), kind)

    def environment_files(self) -> Iterator[Piece]:
        for path, name in self._env_files.items():
            if path.is_file():  # else it isn't required
                yield Piece(name, self._read(path).encode(), Kind.ENVIRONMENT)

    def resources(self) -> None:
        """Files of configs and secrets aren't packed, but looked through, as is done there."""
        for each in (*self._project.configs.values(), *self._project.secrets.values()):
            if each.file and Path(each.file).is_file():
                self._read(Path(each.file))

    def _read(self, path: Path) -> str:
        shown = label(path, self._here)
        if path == Path(STDIN):
            what = "cannot publish what comes from standard input"
            self.problems.errors.append(Problem(what, hint="write it into a file"))
            return ""
        try:
            text = path.read_bytes().decode("utf-8-sig", "replace")
        except OSError as error:
            self.problems.errors.append(Problem(f"cannot read {shown}: {reason(error)}"))
            return ""
        self.secrets += secrets_in(text, shown)
        return text

    def _name_of(self, text: str, place: Place, source: Source) -> str:
        """What the file is called in the bundle; "" for one that stays where it is."""
        if is_remote(text):
            return ""
        path = Path(os.path.abspath(source.base / text))
        extends = place[-1] == "file"
        beside = Path(os.path.abspath(source.path.parent / text))
        if extends and not path.is_file() and beside.is_file():
            path = beside
        # The same on each machine, and nobody's path is told.
        known = os.path.relpath(path, self._project.working_dir)
        name = hashlib.sha256(known.encode()).hexdigest()
        names, ending = (self.extended, "yaml") if extends else (self._env_files, "env")
        return names.setdefault(path, f"{name}.{ending}")

    def _with_names(self, text: str, renamed: Mapping[tuple[int, int], tuple[Scalar, str]]) -> str:
        lines = text.split("\n")
        for (line, column), (node, new) in sorted(renamed.items(), reverse=True):
            row = lines[line - 1]
            written = _WRITTEN.match(row, column - 1)
            assert written is not None
            start = written.end("tags")
            end = written.end("quoted")
            if end < 0 and row.startswith(node.text, start):
                end = start + len(node.text)
            if end < 0:
                self.problems.errors.append(
                    Problem(
                        "cannot publish this: the file that is named here gets another name",
                        at=node.at,
                        hint="write its path on one line",
                    )
                )
                continue
            lines[line - 1] = f"{row[:start]}{new}{row[end:]}"
        return "\n".join(lines)

    def _refuse_includes(self, root: Map) -> None:
        include = root.entries.get("include")
        for index, entry in enumerate(include.items if isinstance(include, Sequence) else ()):
            inner = entry.entries.get("path") if isinstance(entry, Map) else entry
            for node in inner.items if isinstance(inner, Sequence) else [inner]:
                if isinstance(node, Scalar) and not is_remote(str(node.value)):
                    self.problems.add(
                        node,
                        ("include", index),
                        "cannot publish what includes a file of this machine",
                        "publish the included project by itself, and include that: oci://...; "
                        "or merge the files: -f FILE -f FILE",
                    )

    def _note_variables(self, root: Map) -> None:
        for name, service in _maps_in(root, "services"):
            for key in ("environment", "env_file"):
                node = service.entries.get(key)
                told = _told(node) if key == "environment" else "the files' content"
                if node is not None and told:
                    place = ("services", name, key)
                    self.variables.append(
                        Problem(told, at=service.keys[key].at, path=dotted(place))
                    )
        for name, config in _maps_in(root, "configs"):
            if node := config.entries.get("environment"):
                place = ("configs", name, "environment")
                self.variables.append(Problem(_told(node), at=node.at, path=dotted(place)))


# What may stand before a scalar, and one in quotes.
_WRITTEN = re.compile(r"""(?P<tags>(?:[&!]\S+\s+)*)(?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^']|'')*')?""")


def _named_files(root: Node) -> Iterator[tuple[Place, Scalar]]:
    """Where services name env files and files whose services they extend."""
    for name, service in _maps_in(root, "services"):
        env_file = service.entries.get("env_file")
        items = env_file.items if isinstance(env_file, Sequence) else [env_file]
        for index, item in enumerate(items):
            node = item.entries.get("path") if isinstance(item, Map) else item
            if isinstance(node, Scalar) and isinstance(node.value, str):
                yield ("services", name, "env_file", index), node
        extends = service.entries.get("extends")
        node = extends.entries.get("file") if isinstance(extends, Map) else None
        if isinstance(node, Scalar) and isinstance(node.value, str):
            yield ("services", name, "extends", "file"), node


def _maps_in(root: Node, key: str) -> Iterator[tuple[str, Map]]:
    inner = root.entries.get(key) if isinstance(root, Map) else None
    if isinstance(inner, Map):
        for name, node in inner.entries.items():
            if isinstance(node, Map):
                yield name, node


def _told(node: Node | None) -> str:
    match node:
        case Map():
            return ", ".join(node.entries)
        case Sequence():
            texts = [str(item.value) for item in node.items if isinstance(item, Scalar)]
            return ", ".join(text.partition("=")[0] for text in texts)
        case Scalar(value=value) if value is not None:
            return str(value)
    return ""


def _binds(project: Project) -> Iterator[Problem]:
    for service in project.services.values():
        for index, mount in enumerate(service.volumes):
            if mount.type is MountType.BIND:
                what = f"{mount.source}:{mount.target}"
                yield project.problem(what, "services", service.name, "volumes", index)


_SECRETS = (
    ("a key id of AWS", r"\b(?:A3T[A-Z0-9]|AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b"),
    ("a secret key of AWS", r"(?i)aws_?secret_?access_?key\W{0,4}[\w/+=\"']{20,}"),
    ("a token of GitHub", r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{22,})"),
    ("a token of GitLab", r"\bglpat-[\w-]{20,}"),
    ("a token of Slack", r"\bxox[abprs]-[\w-]{10,}"),
    ("a key of Google", r"\bAIza[\w-]{35}\b"),
    ("a key of Stripe", r"\b[sr]k_live_\w{20,}"),
    ("a JSON web token", r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{5,}"),
    ("a private key", r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY"),
    ("a password in an address", r"\b[a-z][a-z0-9+.-]*://[^\s:/@$]+:[^\s:/@${]{3,}@"),
)


def secrets_in(text: str, shown: str) -> Iterator[Problem]:
    """What looks like a secret, in the order of the lines; what it is stays untold."""
    for number, line in enumerate(text.split("\n"), 1):
        for what, pattern in _SECRETS:
            if found := re.search(pattern, line):
                yield Problem(what, at=Position(shown, number, found.start() + 1))
