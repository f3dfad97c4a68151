"""`pycompose config`: the project as it was understood, or parts of it."""

import json
from pathlib import Path
from typing import Annotated

import typer

from compose.cli.context import Context
from compose.errors import UsageError
from compose.model.document import double_dollars
from compose.model.project import Project


def register(app: typer.Typer) -> None:
    @app.command("config")
    def config(
        ctx: typer.Context,
        services: Annotated[
            list[str] | None, typer.Argument(metavar="SERVICE", hidden=True)
        ] = None,
        format: Annotated[
            str, typer.Option("--format", help="yaml or json.", metavar="FORMAT")
        ] = "yaml",
        output: Annotated[
            str, typer.Option("-o", "--output", help="Write to this file.", metavar="FILE")
        ] = "",
        quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only check.")] = False,
        list_services: Annotated[bool, typer.Option("--services", help="Their names.")] = False,
        list_volumes: Annotated[bool, typer.Option("--volumes", help="Their names.")] = False,
        list_networks: Annotated[bool, typer.Option("--networks", help="Their names.")] = False,
        list_images: Annotated[bool, typer.Option("--images", help="Their names.")] = False,
        list_profiles: Annotated[bool, typer.Option("--profiles", help="Their names.")] = False,
        hash: Annotated[
            str,
            typer.Option(
                "--hash", help="Print the hash of these services, '*' for all.", metavar="SERVICE"
            ),
        ] = "",
        environment: Annotated[
            bool, typer.Option("--environment", help="Variables of the interpolation.")
        ] = False,
    ) -> int:
        if format not in ("yaml", "json"):
            raise typer.BadParameter(f"--format: {format!r} is none of yaml, json")
        context: Context = ctx.obj
        project = context.load(tuple(services or ()))
        if problems := project.unmet:
            for problem in problems:
                context.say(f"warning: {problem}")
        if quiet:
            return 0
        if list_services:
            text = lines(project.services)
        elif list_volumes:
            text = lines(project.volumes)
        elif list_networks:
            text = lines(project.networks)
        elif list_images:
            text = lines(images(project))
        elif list_profiles:
            text = lines(sorted({p for s in project.services.values() for p in s.profiles}))
        elif environment:
            text = lines(f"{key}={value}" for key, value in sorted(project.environment.items()))
        elif hash:
            text = lines(hashes(project, hash))
        else:
            text = document_text(project, format)
        if output:
            Path(context.directory, output).write_text(text)
        else:
            print(text, end="")
        return 0


def lines(items: object) -> str:
    assert hasattr(items, "__iter__")
    return "".join(f"{item}\n" for item in items)


def images(project: Project) -> list[str]:
    from compose.plan.names import image_name

    return list(
        dict.fromkeys(
            image_name(project.name, service.name, service.image)
            for service in project.services.values()
        )
    )


def hashes(project: Project, wanted: str) -> list[str]:
    from compose.model.fingerprint import service_hash

    names = list(project.services) if wanted == "*" else wanted.split(",")
    for name in names:
        if name not in project.services:
            raise UsageError(f"no such service: {name}")
    return [f"{name} {service_hash(project.services[name])}" for name in sorted(names)]


def document_text(project: Project, format: str) -> str:
    """`$` is doubled, so that the text can be loaded again."""
    document = double_dollars(project.to_document())
    if format == "json":
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    import yaml

    return yaml.dump(
        document, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=1000
    )
