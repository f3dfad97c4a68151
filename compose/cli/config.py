"""`pycompose config`: the project as it was understood, or parts of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compose.cli.context import Context
from compose.errors import ProjectError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from compose.load.interpolate import Variable
    from compose.load.pipeline import LoadRequest
    from compose.model.project import Project


def register(app: typer.Typer) -> None:
    @app.command("config")
    def config(
        ctx: typer.Context,
        services: Annotated[list[str] | None, typer.Argument(metavar="SERVICE")] = None,
        format: Annotated[
            str, typer.Option("--format", help="yaml or json.", metavar="FORMAT")
        ] = "",
        output: Annotated[
            str, typer.Option("-o", "--output", help="Write to this file.", metavar="FILE")
        ] = "",
        quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only check.")] = False,
        list_services: Annotated[bool, typer.Option("--services", help="Their names.")] = False,
        list_volumes: Annotated[bool, typer.Option("--volumes", help="Their names.")] = False,
        list_networks: Annotated[bool, typer.Option("--networks", help="Their names.")] = False,
        list_images: Annotated[bool, typer.Option("--images", help="Their names.")] = False,
        list_profiles: Annotated[bool, typer.Option("--profiles", help="Their names.")] = False,
        list_models: Annotated[bool, typer.Option("--models", help="Their names.")] = False,
        hash: Annotated[
            str,
            typer.Option(
                "--hash", help="Print the hash of these services, '*' for all.", metavar="SERVICE"
            ),
        ] = "",
        environment: Annotated[
            bool, typer.Option("--environment", help="What ${NAME} is looked up in.")
        ] = False,
        variables: Annotated[
            bool, typer.Option("--variables", help="Variables of the files, and their defaults.")
        ] = False,
        origin: Annotated[
            bool, typer.Option("--origin", help="Which file and line set each value.")
        ] = False,
        no_interpolate: Annotated[
            bool, typer.Option("--no-interpolate", help="Leave variables as they are.")
        ] = False,
        no_normalize: Annotated[
            bool, typer.Option("--no-normalize", help="Add no defaults that the files don't say.")
        ] = False,
        no_path_resolution: Annotated[
            bool, typer.Option("--no-path-resolution", help="Leave paths as they are.")
        ] = False,
        no_env_resolution: Annotated[
            bool, typer.Option("--no-env-resolution", help="Don't read the services' env files.")
        ] = False,
        no_consistency: Annotated[
            bool, typer.Option("--no-consistency", help="Don't check that it makes sense.")
        ] = False,
        resolve_image_digests: Annotated[
            bool, typer.Option("--resolve-image-digests", help="Pin images to their digests.")
        ] = False,
        lock_image_digests: Annotated[
            bool,
            typer.Option("--lock-image-digests", help="Print an override file with digests only."),
        ] = False,
    ) -> int:
        if format not in ("", "yaml", "json"):
            raise typer.BadParameter(f"--format: {format!r} is none of yaml, json")
        context: Context = ctx.obj
        no_normalize = no_normalize or context.compatibility  # as there
        request = context.request(
            tuple(services or ()),
            require_files=False,
            check=not no_consistency,
            env_files_read=not no_env_resolution,
        )

        def write(text: str) -> int:
            if quiet:
                return 0
            if output:
                Path(context.directory, output).write_text(text)
            else:
                print(text, end="")
            return 0

        if variables:
            return write(_variables(request, format))
        if no_interpolate:
            return write(
                _raw(
                    context, request, format,
                    resolve_paths=not no_path_resolution, resolve_images=resolve_image_digests,
                )
            )  # fmt: skip

        from compose.load.pipeline import load_with_tree

        if list_profiles:  # of those, too, that aren't active
            request = replace(request, profiles=("*",), env_files_read=False)
        project, tree = load_with_tree(request)
        _tell(context, project)
        if quiet:
            return 0
        if list_services:
            return write(lines(project.services))
        if list_volumes:
            return write(lines(project.volumes))
        if list_networks:
            return write(lines(project.networks))
        if list_images:
            return write(lines(images(project)))
        if list_models:
            return write(lines(sorted({model.model for model in project.models.values()})))
        if list_profiles:
            return write(lines(sorted({p for s in project.services.values() for p in s.profiles})))
        if environment:
            return write(
                lines(f"{key}={value}" for key, value in sorted(project.environment.items()))
            )
        if hash:
            return write(lines(hashes(project, hash)))

        from compose.cli.config_text import document_text, json_document, yaml_document

        if resolve_image_digests or lock_image_digests:
            project = pinned(context, project)
        document = json_document(project) if format == "json" else yaml_document(project, tree)
        if lock_image_digests:
            document = lock(project, as_json=format == "json")
        if origin:
            from compose.cli.origin import origin_text

            return write(origin_text(document, project, format))
        if no_normalize or no_path_resolution:
            from compose.cli.as_written import with_paths_as_written, without_defaults

            if no_normalize:
                without_defaults(document, project)
            if no_path_resolution:
                with_paths_as_written(document, tree)
        return write(document_text(document, format))


def _tell(context: Context, project: Project) -> None:
    """What keeps the project from running doesn't keep it from being printed, but for variables
    that aren't known."""
    unread = [p for p in project.unmet if ".env_file[" in p.path or ".label_file[" in p.path]
    if unread:
        raise ProjectError(*unread)
    for warning in (*project.warnings, *project.unmet):
        context.say(f"warning: {warning}")


def lines(items: Iterable[object]) -> str:
    return "".join(f"{item}\n" for item in items)


def images(project: Project) -> list[str]:
    """One for each service, as there."""
    return [*map(project.image_name, project.services.values())]


def hashes(project: Project, wanted: str) -> list[str]:
    from compose.model.fingerprint import service_hash

    names = list(project.services) if wanted == "*" else wanted.split(",")
    for name in names:
        if name not in project.services:
            raise UsageError(f"no such service: {name}")
    return [f"{name} {service_hash(project.services[name])}" for name in sorted(names)]


def lock(project: Project, *, as_json: bool) -> dict[str, object]:
    """A file to merge over the others. As JSON with what Docker Compose never leaves out there."""
    rest: dict[str, object] = {"command": None, "entrypoint": None} if as_json else {}
    services = {
        name: rest | ({"image": service.image} if service.image else {})
        for name, service in sorted(project.services.items())
    }
    return ({"name": ""} if as_json else {}) | {"services": services}


def pinned(context: Context, project: Project) -> Project:
    from dataclasses import replace

    named = by_digest(context, (service.image for service in project.services.values()))
    return replace(
        project,
        services={
            name: replace(service, image=named[service.image]) if service.image else service
            for name, service in project.services.items()
        },
    )


def by_digest(context: Context, images: Iterable[str]) -> dict[str, str]:
    """Every image by its whole name and its digest, as its registry has it now."""
    import asyncio

    from compose.client.images import whole_reference

    async def work() -> dict[str, str]:
        engine = await context.engine()
        return {
            image: whole_reference(image)
            + ("" if "@" in image else f"@{await engine.images.digest(image)}")
            for image in sorted(set(images) - {""})
        }

    return asyncio.run(work())


def _raw(
    context: Context,
    request: LoadRequest,
    format: str,
    *,
    resolve_paths: bool,
    resolve_images: bool,
) -> str:
    from compose.cli.as_written import images_in, raw_document
    from compose.cli.config_text import document_text
    from compose.load.pipeline import load_raw

    name, tree = load_raw(request)
    document = raw_document(name, tree, resolve_paths=resolve_paths)
    if resolve_images:
        services = images_in(document)
        named = by_digest(context, [str(service["image"]) for service in services])
        for service in services:
            service["image"] = named[str(service["image"])]
    return document_text(document, format, escape=False)


def _variables(request: LoadRequest, format: str) -> str:
    from compose.cli.as_written import used_variables
    from compose.load.pipeline import load_raw

    _, tree = load_raw(request)
    found: dict[str, Variable] = {}
    for variable in used_variables(tree):
        known = found.get(variable.name)
        # The first use that says something about it.
        if known is None or known == type(known)(known.name):
            found[variable.name] = variable
    rows = {
        name: {
            "Name": name,
            "DefaultValue": variable.default,
            "PresenceValue": variable.alternate,
            "Required": variable.required,
        }
        for name, variable in sorted(found.items())
    }
    if format == "json":
        return json.dumps(rows, indent=4, ensure_ascii=False) + "\n"
    if format == "yaml":
        from compose.cli.config_text import document_text

        text = document_text(
            {n: {k.lower(): v for k, v in r.items()} for n, r in rows.items()},
            format,
            escape=False,
        )
        return text.replace("\n  ", "\n    ")  # four spaces a level, here alone, as there
    from compose.cli.render import table

    text = table(
        ("NAME", "REQUIRED", "DEFAULT VALUE", "ALTERNATE VALUE"),
        [
            (name, str(variable.required).lower(), variable.default, variable.alternate)
            for name, variable in sorted(found.items())
        ],
    )
    return f"{text}\n"
