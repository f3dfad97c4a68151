"""`pycompose publish`: the project's files into a registry, for `-f oci://...` anywhere."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from compose import artifact
from compose.artifact import Place
from compose.bundle import Kind, Piece, pack
from compose.cli.context import REHEARSAL, Context
from compose.cli.foreground import INTERRUPTED
from compose.client.credentials import registry_of
from compose.errors import ProjectError

if TYPE_CHECKING:
    from compose.bundle import Bundle
    from compose.model.project import Project


def register(app: typer.Typer) -> None:
    @app.command("publish")
    def publish(
        ctx: typer.Context,
        repository: Annotated[str, typer.Argument(metavar="REPOSITORY[:TAG]")],
        application: Annotated[
            bool, typer.Option("--app", help="With the images that it uses.")
        ] = False,
        oci_version: Annotated[
            str,
            typer.Option(
                "--oci-version", help="1.1, or 1.0 for old registries.", metavar="VERSION"
            ),
        ] = "",
        resolve_image_digests: Annotated[
            bool, typer.Option("--resolve-image-digests", help="Pin images to their digests.")
        ] = False,
        with_env: Annotated[
            bool, typer.Option("--with-env", help="Also environment, and files of it.")
        ] = False,
        yes: Annotated[bool, typer.Option("-y", "--yes", help="Don't ask.")] = False,
        insecure_registry: Annotated[
            bool, typer.Option("--insecure-registry", hidden=True)
        ] = False,
    ) -> int:
        if oci_version not in ("", "1.0", "1.1"):
            raise typer.BadParameter(f"--oci-version: {oci_version!r} is none of 1.0, 1.1")
        context: Context = replace(ctx.obj, profiles=("*",))
        project = context.load()
        _refuse_without_image(project)

        bundle = pack(project, context.directory)
        if not with_env:
            _refuse_environment(bundle, yes=yes)
        if not yes and not _agreed(bundle):
            return INTERRUPTED
        if context.dry_run:
            for state in ("publishing", "published"):
                print(f"{REHEARSAL}{repository} {state}")
            return 0
        _push_images(context, project)
        pieces = [
            piece for piece in bundle.pieces if with_env or piece.kind is not Kind.ENVIRONMENT
        ]
        images: list[str] = []
        if application or resolve_image_digests:
            from compose.cli.config import pinned
            from compose.cli.yaml_text import yaml_text

            services = pinned(context, project).services
            override = {"services": {name: {"image": s.image} for name, s in services.items()}}
            content = yaml_text(override).encode()
            pieces.append(Piece("image-digests.yaml", content, Kind.COMPOSE))
            images = sorted({s.image for s in services.values()}) if application else []
        host = registry_of(repository)
        place = Place(
            repository,
            context.environment,
            (*context.insecure_registries, *([host] if insecure_registry else ())),
        )
        context.say(f" {repository} publishing")
        digest = asyncio.run(artifact.publish(place, pieces, images, is_old=oci_version == "1.0"))
        context.say(f" {repository} published: {digest}")
        return 0


def _refuse_without_image(project: Project) -> None:
    problems = [
        project.problem(
            "cannot publish a service that is only built: others get its image from a registry",
            "services",
            service.name,
            hint="say what its image is called: image: REGISTRY/NAME:TAG",
        )
        for service in project.services.values()
        if service.build is not None and not service.image
    ]
    if problems:
        raise ProjectError(*problems)


def _refuse_environment(bundle: Bundle, *, yes: bool) -> None:
    """--yes agrees to variables that the files themselves say, not to files being left out."""
    problems = [
        replace(
            problem,
            what=f"this would be published: {problem.what}",
            hint="agree with --with-env, or take out what is secret",
        )
        for problem in bundle.variables
        if not yes or problem.path.endswith(".env_file")
    ]
    if problems:
        raise ProjectError(*problems)


def _agreed(bundle: Bundle) -> bool:
    for what, found in (
        (
            "bind mounts: the paths of files here, not what is in them",
            bundle.binds,
        ),
        ("what looks like secrets", bundle.secrets),
        ("environment variables", bundle.variables),
    ):
        if not found:
            continue
        print(f"You are about to publish {what}:")
        for problem in found:
            print(f"  {problem}")
        print("Go on? [y/N] ", end="", flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            return False
    return True


def _push_images(context: Context, project: Project) -> None:
    """Those that are built here. One that can't be pushed is told: it may be there already."""
    from compose import life
    from compose.apply.errors import StepsFailed
    from compose.cli.progress import progress

    async def work() -> None:
        engine = await context.engine()
        try:
            with progress(context) as listener:
                await life.push(engine, project, listener=listener)
        except StepsFailed as error:
            context.say(f"warning: {error}")

    if any(service.build is not None for service in project.services.values()):
        asyncio.run(work())
