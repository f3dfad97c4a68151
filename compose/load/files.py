"""Which files make the project, what its variables are, and what it is called."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from compose.dataclass import dataclass
from compose.errors import Problem, ProjectError
from compose.load.dotenv import BadEnvFile, EnvFile, parse_env, parse_raw
from compose.load.sources import DISK, Source
from compose.position import Position

NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
OVERRIDES = (
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
)
STDIN = "-"
Fetch = Callable[[str], Path]
_REMOTE = re.compile(r"(https?|git|ssh|oci)://|git@")


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """What the command line and the surroundings say about the project."""

    directory: Path  # where the user is
    environment: Mapping[str, str]
    files: tuple[str, ...] = ()  # -f
    project_directory: str = ""
    project_name: str = ""
    profiles: tuple[str, ...] = ()
    env_files: tuple[str, ...] = ()  # --env-file
    services: tuple[str, ...] = ()  # on the command line; empty: all
    with_dependencies: bool = True  # of the selected services
    all_resources: bool = False  # also networks, volumes, ... that no service uses
    require_files: bool = True  # what keeps containers from being made is an error, not `unmet`
    check: bool = True  # that names are defined and nothing contradicts itself
    env_files_read: bool = True  # env_file of services
    compatibility: bool = False  # names as Compose 1 made them
    stdin: str = ""  # what `-f -` reads
    source: Source = DISK  # of the files
    fetch: Fetch | None = None  # brings a file of another machine


def is_remote(path: str) -> bool:
    """Whether a file is named that another machine has: in a git repository, in a registry."""
    return _REMOTE.match(path) is not None


@dataclass(frozen=True, slots=True)
class Found:
    files: tuple[Path, ...]  # absolute; Path("-") is standard input
    fetched: frozenset[Path]  # those of other machines: their paths start where they are
    directory: Path  # of the project
    environment: Mapping[str, str]
    env_files: tuple[Path, ...]  # those that were asked for
    read: tuple[Path, ...]  # .env files that were read
    warnings: tuple[Problem, ...]


def find_files(request: LoadRequest) -> Found:
    """Raises ProjectError when there is no project here."""
    here = request.directory
    warnings: list[Problem] = []
    start = here / request.project_directory if request.project_directory else here
    asked = request.env_files or _listed(request.environment.get("COMPOSE_ENV_FILES", ""), ",")
    skip = request.environment.get("COMPOSE_DISABLE_ENV_FILE", "").lower() in ("1", "true")
    environment = dict(request.environment) | {"PWD": str(here)}  # not every shell has it
    read: list[Path] = []
    if asked:
        _take_in(
            environment, [(here / path).absolute() for path in asked], here, read, request.source
        )
    elif not skip:
        _take_in_default(environment, start, here, read, request.source)
    files, fetched = _chosen(request, environment, start, warnings)
    if request.project_directory:
        directory = start
    else:
        # As Docker Compose: what is fetched becomes a project of the folder where the user is.
        elsewhere = files[0] == Path(STDIN) or files[0] in fetched
        directory = here if elsewhere else files[0].parent
    if not asked and not skip and directory != start:
        _take_in_default(environment, directory, here, read, request.source)
    return Found(
        files,
        fetched,
        Path(os.path.abspath(directory)),
        environment,
        tuple((here / path).absolute() for path in asked),
        tuple(read),
        tuple(warnings),
    )


def _listed(text: str, separator: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(separator) if part.strip())


def _chosen(
    request: LoadRequest, environment: Mapping[str, str], start: Path, warnings: list[Problem]
) -> tuple[tuple[Path, ...], frozenset[Path]]:
    """Which files, and which of them were fetched."""
    separator = environment.get("COMPOSE_PATH_SEPARATOR") or os.pathsep
    listed = request.files or _listed(environment.get("COMPOSE_FILE", ""), separator)
    if listed:
        given = [(_given(path, request), is_remote(path)) for path in listed]
        return tuple(path for path, _ in given), frozenset(path for path, far in given if far)
    for folder in (Path(os.path.abspath(start)), *Path(os.path.abspath(start)).parents):
        bases = [folder / name for name in NAMES if request.source.is_file(folder / name)]
        if bases:
            overrides = [
                folder / name for name in OVERRIDES if request.source.is_file(folder / name)
            ]
            for several in (bases, overrides):
                if len(several) > 1:
                    warnings.append(_several(several))
            return (bases[0], *overrides[:1]), frozenset()
    raise ProjectError(
        Problem(
            f"there is no Compose file in {start} or in a folder above it",
            hint=f"create {NAMES[0]}, go to your project's folder, or name the file with -f; "
            f"looked for {', '.join(NAMES)}",
        )
    )


def _given(path: str, request: LoadRequest) -> Path:
    if path == STDIN:
        return Path(STDIN)
    if is_remote(path):
        return brought(path, request.fetch)
    return Path(os.path.abspath(request.directory / path))


def brought(path: str, fetch: Fetch | None) -> Path:
    """Where the file of another machine is now. Raises ProjectError."""
    if fetch is None:
        raise ProjectError(
            Problem(
                f"cannot read {path}: Compose files are read from this machine only",
                hint="fetch it first, then name the file with -f",
            )
        )
    return fetch(path)


def _several(files: list[Path]) -> Problem:
    names = ", ".join(file.name for file in files)
    return Problem(
        f"{files[0].parent} holds several Compose files: {names}; {files[0].name} is used",
        hint="remove the others, or choose with -f",
    )


# ---- variables ----


def _take_in_default(
    environment: dict[str, str], folder: Path, here: Path, read: list[Path], source: Source
) -> None:
    path = Path(os.path.abspath(folder / ".env"))
    if source.is_file(path) and path not in read:
        _take_in(environment, [path], here, read, source)


def _take_in(
    environment: dict[str, str],
    paths: list[Path],
    here: Path,
    read: list[Path],
    source: Source,
) -> None:
    """What the environment doesn't have yet; a later file wins over an earlier one."""
    found: dict[str, str] = {}
    for path in paths:
        known = {**found, **environment}
        found |= read_env_file(path, label(path, here), known, source).values()
        read.append(path)
    for name, value in found.items():
        environment.setdefault(name, value)


def read_env_file(
    path: Path,
    shown: str,
    environment: Mapping[str, str],
    source: Source,
    *,
    raw: bool = False,
) -> EnvFile:
    """Raises ProjectError: not there, not readable, not in the grammar."""
    try:
        text = source.read(path).decode("utf-8-sig")
    except FileNotFoundError:
        raise ProjectError(
            Problem(f"env file {shown} not found", hint="create it, or correct the path")
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(Problem(f"cannot read env file {shown}: {reason(error)}")) from error
    try:
        return (parse_raw if raw else parse_env)(text, environment)
    except BadEnvFile as error:
        raise ProjectError(
            *(
                Problem(fault.what, at=Position(shown, fault.line, fault.column), hint=fault.hint)
                for fault in error.faults
            )
        ) from error


def reason(error: OSError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start + 1} isn't UTF-8"
    return (error.strerror or str(error)).lower()


def label(path: Path, here: Path) -> str:
    """A path as the user would type it."""
    if path == Path(STDIN):
        return "<stdin>"
    shown = os.path.relpath(path, here)
    return str(path) if shown.startswith("../../..") else shown


# ---- the name ----

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


def normal_name(text: str) -> str:
    """As Compose makes a name out of a folder's."""
    return re.sub(r"[^a-z0-9_-]", "", text.lower()).lstrip("_-")


def is_normal_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None
