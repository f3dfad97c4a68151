"""From files to a Project: the phases, in order."""

import contextlib
import gc
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from compose.errors import Problem, ProjectError, in_file_order
from compose.load.bind import bind_service, extensions_of
from compose.load.bind_resources import (
    bind_config,
    bind_model,
    bind_network,
    bind_secret,
    bind_volume,
)
from compose.load.build_order import with_build_order
from compose.load.check import Known, check_places, check_project
from compose.load.contents import Contents
from compose.load.defaults import with_default_network
from compose.load.extends import resolve_extends
from compose.load.fields import Fields
from compose.load.files import (
    Found,
    LoadRequest,
    find_files,
    is_normal_name,
    normal_name,
)
from compose.load.include import Chain, resolve_includes
from compose.load.interpolate import interpolate
from compose.load.merge import merge, without_resets
from compose.load.nearest import nearest
from compose.load.reader import Reader, Surroundings
from compose.load.schema import check_nulls
from compose.load.tree import Map, Problems, Scalar, TreePositions, spelled
from compose.model.project import Project
from compose.model.resources import ConfigFile, Secret
from compose.model.service import Service
from compose.position import Position

__all__ = ["LoadRequest", "load_project"]


def load_project(request: LoadRequest) -> Project:
    """Raises ProjectError with every problem that was found."""
    return load_with_tree(request)[0]


def load_with_tree(request: LoadRequest) -> tuple[Project, Map]:
    """The project, and the files' values as they were written, merged and in long syntax."""
    with _without_collector():
        return _load(request)


def first_file(request: LoadRequest) -> Map:
    """The first document of the first file, as it stands. Raises ProjectError."""
    found = find_files(request)
    problems = Problems()
    reader = _reader(request, problems, raw=True)
    documents = reader.parsed(found.files[0], Surroundings(found.directory, found.environment))
    if problems.errors or not documents:
        raise ProjectError(*(problems.errors or [_nothing(found, reader)]))
    return documents[0]


def load_raw(request: LoadRequest) -> tuple[str, Map]:
    """The project's name, and the merged files in long syntax, variables left in: where an
    attribute holds one, it stays in the form that it has. Nothing is checked."""
    found = find_files(request)
    problems = Problems()
    reader = _reader(request, problems, raw=True)
    around = Surroundings(found.directory, found.environment)
    name = _project_name(request, found, reader, around)
    tree = _load_files(found.files, around, (), reader, found.fetched)
    root = without_resets(tree) if tree is not None else None
    if not isinstance(root, Map) or problems.errors:
        raise ProjectError(*(problems.errors or [_nothing(found, reader)]))
    return name, root


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    # Loading makes hundreds of thousands of objects that all stay; looking for cycles among them
    # again and again would take a third of the time.
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _load(request: LoadRequest) -> tuple[Project, Map]:
    found = find_files(request)
    problems = Problems()
    problems.warnings.extend(found.warnings)
    reader = _reader(request, problems)

    # The name comes first: files may speak of ${COMPOSE_PROJECT_NAME}.
    environment = dict(found.environment)
    around = Surroundings(found.directory, environment)
    name = _project_name(request, found, reader, around)
    environment["COMPOSE_PROJECT_NAME"] = name

    # One tree of all files: each is read, interpolated, checked and made canonical by itself.
    tree = _load_files(found.files, around, (), reader, found.fetched)
    root = without_resets(tree) if tree is not None and reader.has_resets else tree
    if not isinstance(root, Map):
        raise ProjectError(*(_with_causes(problems.errors, problems) or [_nothing(found, reader)]))

    check_nulls(root, problems)

    # Then the typed model of all that is declared, before anything is left out.
    contents = Contents(reader, env_files=request.env_files_read)
    services = {
        key: _service(key, fields, contents)
        for key, fields in Fields(root, (), problems).named("services")
    }
    project = _declared(root, name, found, environment, services, contents, problems)
    project = replace(project, separator="_" if request.compatibility else "-")

    # Profiles decide what is on; the rules hold for that only.
    project, off = _with_profiles(project, request)
    if request.check:
        problems.errors.extend(_unless_told(check_project(Known(project, off)), problems.errors))
    if not services and not request.all_resources and not problems.errors:
        problems.errors.append(_no_services(root, found, reader))

    # What was asked for, and what it uses.
    project, unknown = _selected(project, request, off)
    problems.errors.extend(unknown)
    if not request.all_resources:
        project = _used(project)
    project = with_build_order(_filled(project, contents, root), reader.files)

    unmet = [*contents.unmet, *_unless_told(check_places(project), problems.errors)]
    unmet = _with_causes(_relevant(unmet, project), problems)
    if problems.errors or (unmet and request.require_files):
        raise ProjectError(*_with_causes(problems.errors, problems), *unmet)
    project = replace(
        project,
        warnings=_once_each(problems.warnings),
        unmet=tuple(unmet),
        watched_files=tuple(dict.fromkeys([*reader.read, *found.read])),
    )
    return project, root


# ---- the tree ----


def _reader(request: LoadRequest, problems: Problems, *, raw: bool = False) -> Reader:
    return Reader(
        request.directory, request.stdin, problems, request.source, request.fetch, raw=raw
    )


def _load_files(
    paths: tuple[Path, ...],
    whole: Surroundings,
    chain: Chain,
    reader: Reader,
    fetched: frozenset[Path] = frozenset(),
) -> Map | None:
    def load(files: tuple[Path, ...], inner: Surroundings, links: Chain) -> Map | None:
        return _load_files(files, inner, links, reader)

    tree: Map | None = None
    for path in paths:
        around = replace(whole, base=path.parent) if path in fetched else whole
        said_by = chain[-1][1] if chain else None
        for document in reader.whole(path, around, said_by):
            taken = resolve_includes(document, path, around, chain, reader, load)
            resolved = resolve_extends(taken, path, around, tree, reader)
            tree = resolved if tree is None else merge(tree, resolved, reader.problems)
    return tree


def _nothing(found: Found, reader: Reader) -> Problem:
    return Problem(
        "the file holds nothing but comments",
        at=Position(reader.shown(found.files[0]), 1, 1),
        hint='add "services:" with at least one service',
    )


def _no_services(root: Map, found: Found, reader: Reader) -> Problem:
    return Problem(
        f"{reader.shown(found.files[0])} declares no services",
        at=root.at,
        hint='add "services:" with at least one service that has an "image:" or a "build:"',
    )


# ---- the name ----


def _project_name(request: LoadRequest, found: Found, reader: Reader, around: Surroundings) -> str:
    for given, origin in (
        (request.project_name, "--project-name"),
        (found.environment.get("COMPOSE_PROJECT_NAME", ""), "COMPOSE_PROJECT_NAME"),
    ):
        if given:
            if not is_normal_name(given):
                raise ProjectError(_bad_name(given, f"{origin}: "))
            return given
    named = _name_in_files(found, reader, around)
    if named is not None:
        return named
    folder = normal_name(found.directory.name) or normal_name(found.directory.resolve().name)
    if not folder:
        raise ProjectError(
            Problem(
                f'the folder "{found.directory}" gives no name for the project',
                hint='add "name: myproject" at the top of the Compose file, or use -p',
            )
        )
    return folder


def _name_in_files(found: Found, reader: Reader, around: Surroundings) -> str | None:
    """The last `name:`; it may hold variables, though not its own."""
    name: str | None = None
    for path in found.files:
        for root in reader.parsed(path, around):
            node = root.entries.get("name")
            if not isinstance(node, Scalar) or node.value is None:
                continue
            quiet = Problems()
            filled = interpolate(node, ("name",), around.environment, quiet)
            if not isinstance(filled, Scalar):
                raise ProjectError(*quiet.errors)
            given = spelled(filled.value)
            if not given:
                continue
            name = normal_name(given)
            if not name:
                raise ProjectError(replace(_bad_name(given, ""), at=node.at, path="name"))
            if name != given:
                reader.problems.warn(
                    node, ("name",), f'"{given}" can\'t be a name: the project is "{name}"', ""
                )
    return name


def _bad_name(given: str, prefix: str) -> Problem:
    better = normal_name(given)
    return Problem(
        f'{prefix}"{given}" can\'t be the name of a project: names are made of lower case letters, '
        'digits, "-" and "_", and start with a letter or digit',
        hint=f'write "{better}"' if better else "",
    )


# ---- the model ----


def _service(key: str, fields: Fields, contents: Contents) -> Service:
    return bind_service(key, fields, contents.environment(fields), contents.labels(fields))


def _declared(
    root: Map,
    name: str,
    found: Found,
    environment: Mapping[str, str],
    services: Mapping[str, Service],
    contents: Contents,
    problems: Problems,
) -> Project:
    fields = Fields(root, (), problems)
    if "version" in fields:
        node = root.keys["version"]
        problems.warn(
            node, ("version",), 'the key "version" has no meaning any more', "remove this line"
        )
    networks = {key: bind_network(key, each, name) for key, each in fields.named("networks")}
    return Project(
        name=name,
        working_dir=found.directory,
        files=found.files,
        services=services,
        networks=with_default_network(networks, services.values(), name),
        volumes={key: bind_volume(key, each, name) for key, each in fields.named("volumes")},
        configs={key: bind_config(key, each, name) for key, each in fields.named("configs")},
        secrets={key: bind_secret(key, each, name) for key, each in fields.named("secrets")},
        models={key: bind_model(key, each) for key, each in fields.named("models")},
        extensions=extensions_of(root),
        environment=environment,
        environment_files=found.env_files,
        positions=TreePositions(root, contents.written),
    )


def _unless_told(new: Iterable[Problem], told: Iterable[Problem]) -> Iterator[Problem]:
    """A value that couldn't be read is missing from the model: that isn't a second problem."""
    broken = [problem for problem in told if problem.path]
    for problem in new:
        if not any(_explains(one, problem) for one in broken):
            yield problem


_SOURCES = ("image", "build", "provider", "extends", "file", "environment", "content")


def _explains(told: Problem, problem: Problem) -> bool:
    if told.path == problem.path:
        return True
    if problem.what.startswith("nothing says") and ".extends" in told.path:
        return True  # it would have come from there
    inner = told.path.removeprefix(f"{problem.path}.")
    return inner != told.path and (
        told.what.startswith("unknown key") or inner.partition(".")[0] in _SOURCES
    )


def _with_causes(errors: list[Problem], problems: Problems) -> list[Problem]:
    """A value that went wrong where a variable was missing says so."""
    unset = {warning.at: warning for warning in problems.warnings if "is not set" in warning.what}
    return [
        replace(error, what=f"{error.what} ({unset[error.at].what})", hint=unset[error.at].hint)
        if error.at in unset
        else error
        for error in errors
    ]


def _once_each(warnings: list[Problem]) -> tuple[Problem, ...]:
    """The first of each kind: a variable that is missing in fifty places is one thing to do."""
    first: dict[str, Problem] = {}
    for warning in warnings:
        first.setdefault(warning.what, warning)
    return in_file_order(tuple(first.values()))


# ---- what is on ----


def _with_profiles(
    project: Project, request: LoadRequest
) -> tuple[Project, dict[str, tuple[str, ...]]]:
    profiles = request.profiles or tuple(
        part.strip()
        for part in project.environment.get("COMPOSE_PROFILES", "").split(",")
        if part.strip()
    )
    active = set(profiles)
    for name in request.services:
        if name in project.services:
            active.update(project.services[name].profiles)
    off: dict[str, tuple[str, ...]] = {}
    on: dict[str, Service] = {}
    for name, service in project.services.items():
        if not service.profiles or "*" in active or active.intersection(service.profiles):
            on[name] = service
        else:
            off[name] = service.profiles
    return replace(project, services=on, disabled=frozenset(off), profiles=profiles), off


def _selected(
    project: Project, request: LoadRequest, off: Mapping[str, object]
) -> tuple[Project, list[Problem]]:
    if not request.services:
        return project, []
    unknown: list[Problem] = []
    for name in request.services:
        if name not in project.services:
            close = nearest(name, project.services)
            names = ", ".join(sorted(project.services))
            hint = f'did you mean "{close}"?' if close else f"the services are: {names}"
            unknown.append(Problem(f'there is no service "{name}"', hint=hint))
    wanted: dict[str, None] = {}
    waiting = [name for name in request.services if name in project.services]
    while waiting:
        name = waiting.pop()
        if name in wanted:
            continue
        wanted[name] = None
        if request.with_dependencies:
            dependencies = project.services[name].depends_on
            waiting.extend(other for other in dependencies if other in project.services)
    services = {name: one for name, one in project.services.items() if name in wanted}
    rest = frozenset(project.services) - frozenset(services)
    bases = _bases(project, services)
    return replace(
        project, services=services, bases=bases, disabled=project.disabled | rest
    ), unknown


def _bases(project: Project, selected: Mapping[str, Service]) -> dict[str, Service]:
    found: dict[str, Service] = {}
    waiting = list(selected.values())
    while waiting:
        service = waiting.pop()
        for name in service.build.context_services if service.build else ():
            if name in project.services and name not in found and name not in selected:
                found[name] = project.services[name]
                waiting.append(found[name])
    return found


def _used(project: Project) -> Project:
    """Without networks, volumes, configs, secrets and models that no service uses."""
    networks: set[str] = set()
    volumes: set[str] = set()
    configs: set[str] = set()
    secrets: set[str] = set()
    models: set[str] = set()
    for base in project.bases.values():
        if base.build is not None:
            secrets.update(reference.source for reference in base.build.secrets)
    for service in project.services.values():
        networks.update(service.networks)
        volumes.update(mount.source for mount in service.volumes if mount.type == "volume")
        configs.update(reference.source for reference in service.configs)
        if service.credential_spec is not None:
            configs.add(service.credential_spec.config)
        secrets.update(reference.source for reference in service.secrets)
        if service.build is not None:
            secrets.update(reference.source for reference in service.build.secrets)
        models.update(service.models)
    return replace(
        project,
        networks={key: value for key, value in project.networks.items() if key in networks},
        volumes={key: value for key, value in project.volumes.items() if key in volumes},
        configs={key: value for key, value in project.configs.items() if key in configs},
        secrets={key: value for key, value in project.secrets.items() if key in secrets},
        models={key: value for key, value in project.models.items() if key in models},
    )


def _filled(project: Project, contents: Contents, root: Map) -> Project:
    configs: dict[str, ConfigFile] = {
        key: contents.filled(value, "configs", root) for key, value in project.configs.items()
    }
    secrets: dict[str, Secret] = {
        key: contents.filled(value, "secrets", root) for key, value in project.secrets.items()
    }
    return replace(project, configs=configs, secrets=secrets)


def _relevant(unmet: list[Problem], project: Project) -> list[Problem]:
    """Missing files matter only to services that are on."""
    away = tuple(f"services.{name}." for name in project.disabled)
    return [problem for problem in unmet if not problem.path.startswith(away)] if away else unmet
