"""Which project and which containers a command is about, as the engine's labels tell it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from compose.cli.context import Context
from compose.client.containers import ContainerSummary
from compose.client.engine import Engine
from compose.errors import UsageError
from compose.model.project import Project
from compose.plan.names import ONE_OFF, PROJECT, SERVICE, number_of


def find_project(context: Context) -> tuple[str, Project | None]:
    """The project's name, and its files where there are any: a name alone is enough for commands
    about what runs, and files that the project names may be missing. Raises ProjectError."""
    name = context.project_name or context.environment.get("COMPOSE_PROJECT_NAME", "")
    if name and not context.files and not context.has_files():
        return name, None
    project = context.load(require_files=False)
    return project.name, project


def meant(
    context: Context, project: Project | None, services: Sequence[str] | None
) -> Sequence[str] | None:
    """The services that a command is about: those that were named, else those of the files that are
    on, as there. None: all that has the project's name, since nothing but that is known or said."""
    if services or project is None or context.by_name:
        return services or None
    return tuple(project.services)


def check_services(project: Project | None, services: Sequence[str]) -> None:
    """Raises UsageError for a service that the files don't know."""
    if project is None:
        return
    known = {*project.services, *project.disabled}
    for service in services:
        if service not in known:
            names = ", ".join(sorted(known))
            raise UsageError(f"no such service: {service}\n  hint: the project has {names}")


async def project_containers(
    engine: Engine,
    project: str,
    services: Collection[str] | None = None,
    *,
    all: bool = True,
    oneoff: bool = False,
) -> list[ContainerSummary]:
    """By service and number. `services` None: of all; `all`: stopped ones too; `oneoff`: those of
    `run` too."""
    labels = [f"{PROJECT}={project}"] + ([] if oneoff else [f"{ONE_OFF}=False"])
    found = await engine.containers.list(all=all, filters={"label": labels})
    meant = [row for row in found if services is None or row.labels.get(SERVICE) in services]
    return sorted(meant, key=lambda row: (row.labels.get(SERVICE, ""), number(row), row.name))


def number(container: ContainerSummary) -> int:
    return number_of(container.labels)


async def one_container(
    engine: Engine, project: str, service: str, index: int = 0, *, oneoff: bool = True
) -> ContainerSummary:
    """The running container of a service: of that number, else the lowest. `oneoff`: at last one
    of `run`.

    Raises UsageError where none runs."""
    running = await project_containers(engine, project, [service], all=False, oneoff=oneoff)
    # Those of `run` have no number, and are meant only where there is nothing else.
    for container in sorted(running, key=lambda row: row.labels.get(ONE_OFF) == "True"):
        if index in (0, number(container)):
            return container
    which = f" container #{index}" if index else ""
    raise UsageError(
        f'service "{service}" is not running{which}'
        f"\n  hint: start it with: pycompose up -d {service}"
    )
