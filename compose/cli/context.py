"""What every command starts from: the global options, and how to come from them to a project and
an engine. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from compose.dataclass import dataclass
from compose.errors import ProjectError, UsageError
from compose.process import Met

if TYPE_CHECKING:
    from compose.client.address import Choice
    from compose.client.engine import Engine
    from compose.git import Commit
    from compose.load.pipeline import LoadRequest
    from compose.load.sources import Source
    from compose.model.project import Project


REHEARSAL = "DRY-RUN MODE - "  # before each line of what a --dry-run would do, as there
PROGRESS = ("auto", "tty", "plain", "json", "quiet")


@dataclass(frozen=True, slots=True)
class Context:
    files: tuple[str, ...]
    project_name: str
    project_directory: str
    profiles: tuple[str, ...]
    env_files: tuple[str, ...]
    choice: Choice  # of the engine
    progress: str  # one of PROGRESS
    ansi: str  # auto, always, never
    parallel: int  # -1: as many as the graph allows
    all_resources: bool
    dry_run: bool
    environment: Mapping[str, str]
    directory: Path
    met: Met  # gets the engine
    compatibility: bool = False  # names as Compose 1 made them
    insecure_registries: tuple[str, ...] = ()  # asked for projects (oci://) without TLS
    quiet_pulls: bool = False
    quiet_builds: bool = False

    def request(
        self,
        services: tuple[str, ...] = (),
        *,
        with_dependencies: bool = True,
        require_files: bool = True,
        source: Source | None = None,
        check: bool = True,
        env_files_read: bool = True,
    ) -> LoadRequest:
        from compose.load.pipeline import LoadRequest
        from compose.load.sources import DISK

        def fetch_remote(reference: str) -> Path:
            from compose.remote import fetch

            return fetch(reference, self.environment, self.insecure_registries)

        return LoadRequest(
            fetch=fetch_remote,
            files=self.files,
            directory=self.directory,
            project_directory=self.project_directory,
            project_name=self.project_name,
            profiles=self.profiles,
            env_files=self.env_files,
            environment=self.environment,
            services=services,
            with_dependencies=with_dependencies,
            require_files=require_files,
            check=check,
            env_files_read=env_files_read,
            all_resources=self.all_resources,
            compatibility=self.compatibility or self.is_on("COMPOSE_COMPATIBILITY"),
            stdin=sys.stdin.read() if "-" in self.files else "",
            source=source or DISK,
        )

    def load(
        self,
        services: tuple[str, ...] = (),
        *,
        with_dependencies: bool = True,
        require_files: bool = True,
        source: Source | None = None,
    ) -> Project:
        """The project of this folder, its warnings told. Raises ProjectError."""
        from compose.load.pipeline import load_project

        request = self.request(
            services,
            with_dependencies=with_dependencies,
            require_files=require_files,
            source=source,
        )
        project = load_project(request)
        for warning in project.warnings:
            self.say(f"warning: {warning}")
        return project

    def commit(self, reference: str) -> Commit:
        """What a branch, tag or commit of the repository around here stands for. Raises GitError,
        UsageError."""
        from compose.git import Repository

        folder = self.directory / (self.project_directory or (self.files[:1] or (".",))[0])
        repository = Repository.around(Path(os.path.abspath(folder)))
        if repository is None:
            raise UsageError(f"{self.directory} is not in a git repository")
        return repository.commit(reference)

    def quieter(self, *, pulls: bool = False, builds: bool = False) -> Context:
        """One whose progress leaves out how far pulls are, and what builds write."""
        return replace(self, quiet_pulls=pulls, quiet_builds=builds)

    def has_files(self) -> bool:
        """Whether this folder, or one above it, holds a Compose file."""
        from compose.load.files import find_files

        try:
            return bool(find_files(self.request()).files)
        except ProjectError:
            return False

    @property
    def by_name(self) -> bool:
        """A project is meant by its name alone, whatever files are around."""
        return bool(self.project_name) and not self.files

    def is_on(self, variable: str) -> bool:
        return self.environment.get(variable, "").lower() in ("1", "true", "yes", "on")

    async def engine(self) -> Engine:
        """The engine that the options name; the built-in one is started where it isn't running."""
        from compose.client.locate import locate

        engine = await locate(self.choice, self.environment)
        self.met(engine)
        if self.parallel > 0:
            engine.at_once = self.parallel
        if self.dry_run:
            engine.rehearse()
        return engine

    def colour(self, descriptor: int) -> bool:
        """Whether to colour what goes to `descriptor`: --ansi, then NO_COLOR, then a terminal."""
        if self.ansi != "auto":
            return self.ansi == "always"
        if self.environment.get("NO_COLOR"):
            return False
        return os.isatty(descriptor) and self.environment.get("TERM") != "dumb"

    def say(self, text: str) -> None:
        """A line for the person, not for a program that reads the results."""
        print(text, file=sys.stderr, flush=True)


def with_settings(
    environment: Mapping[str, str], here: Path, folder: str, env_files: Sequence[str]
) -> Mapping[str, str]:
    """The environment, and what env files say of COMPOSE_*: that is meant for the command, too.
    `folder`: where .env would be."""
    listed = environment.get("COMPOSE_ENV_FILES", "").split(",")
    asked = env_files or [path.strip() for path in listed if path.strip()]
    is_off = environment.get("COMPOSE_DISABLE_ENV_FILE", "").lower() in ("1", "true")
    default = [] if is_off else [os.path.join(folder, ".env")]
    paths = [here / path for path in asked or default]
    found: dict[str, str] = {}
    for path in paths:
        try:
            if b"COMPOSE_" in path.read_bytes():
                from compose.load.files import read_env_file
                from compose.load.sources import DISK

                known = {**found, **environment}
                found |= read_env_file(path, str(path), known, DISK).values()
        except (OSError, ProjectError):
            return environment  # told with its place when the project is loaded
    own = {name: value for name, value in found.items() if name.startswith("COMPOSE_")}
    return {**own, **environment}


PULLS = ("", "always", "missing", "never")  # "": as the files say


def choice(option: str, value: str, allowed: tuple[str, ...]) -> str:
    """The first of `allowed` is the default."""
    if value and value not in allowed:
        known = ", ".join(filter(None, allowed))
        raise typer.BadParameter(f"{option}: {value!r} is none of {known}")
    return value or allowed[0]
