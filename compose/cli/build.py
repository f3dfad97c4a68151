"""`pycompose build`: make the services' images."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from typing import Annotated

import typer

from compose import life
from compose.cli.context import PROGRESS, Context, choice
from compose.cli.progress import progress
from compose.errors import UsageError
from compose.model.build import Build
from compose.model.project import Project
from compose.model.service import Service
from compose.plan.options import PlanOptions


def register(app: typer.Typer) -> None:
    @app.command("build")
    def build(
        ctx: typer.Context,
        services: Annotated[
            list[str] | None, typer.Argument(metavar="SERVICE", hidden=True)
        ] = None,
        build_arg: Annotated[
            list[str] | None,
            typer.Option("--build-arg", help="An ARG of the Dockerfiles.", metavar="NAME=VALUE"),
        ] = None,
        no_cache: Annotated[
            bool, typer.Option("--no-cache", help="Do every step, whatever was built before.")
        ] = False,
        pull: Annotated[
            bool, typer.Option("--pull", help="Get base images anew from their registries.")
        ] = False,
        push: Annotated[
            bool, typer.Option("--push", help="Send them to their registries then.")
        ] = False,
        ssh: Annotated[
            list[str] | None,
            typer.Option("--ssh", help="For RUN --mount=type=ssh.", metavar="default|ID=PATH"),
        ] = None,
        show: Annotated[
            bool, typer.Option("--print", help="Only say what would be built, as a bake file.")
        ] = False,
        builder: Annotated[str, typer.Option("--builder", hidden=True)] = "",
        check: Annotated[
            bool, typer.Option("--check", help="Only say what the Dockerfiles could do better.")
        ] = False,
        memory: Annotated[str, typer.Option("-m", "--memory", hidden=True)] = "",
        provenance: Annotated[str, typer.Option("--provenance", hidden=True)] = "",
        sbom: Annotated[str, typer.Option("--sbom", hidden=True)] = "",
        with_dependencies: Annotated[
            bool, typer.Option("--with-dependencies", help="Also what they need.")
        ] = False,
        quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing.")] = False,
        progress_kind: Annotated[str, typer.Option("--progress", hidden=True)] = "",
        # Of older versions; they change nothing there either.
        compress: Annotated[bool, typer.Option("--compress", hidden=True)] = False,
        force_rm: Annotated[bool, typer.Option("--force-rm", hidden=True)] = False,
        no_rm: Annotated[bool, typer.Option("--no-rm", hidden=True)] = False,
        parallel: Annotated[bool, typer.Option("--parallel", hidden=True)] = False,
    ) -> int:
        for option, given in (
            ("--builder", builder), ("--memory", memory),
            ("--provenance", provenance), ("--sbom", sbom),
        ):  # fmt: skip
            if given and given != "false":
                raise UsageError(
                    f"{option} is BuildKit's: images are built by the engine's own builder here"
                    "\n  hint: leave it out, see docs/builds.md"
                )
        context: Context = ctx.obj
        if progress_kind:
            context = replace(context, progress=choice("--progress", progress_kind, PROGRESS))
        project = context.load(tuple(services or ()), with_dependencies=with_dependencies)
        if ssh:
            project = with_ssh(project, ssh)
        if show:
            print(json.dumps(bake_file(project), indent=2, ensure_ascii=False))
            return 0
        options = PlanOptions(
            no_cache=no_cache,
            check_only=check,
            pull_bases=pull,
            build_args=arguments(context, build_arg or []),
        )

        async def work() -> None:
            engine = await context.engine()
            with progress(context, quiet=quiet, builds=sys.stdout) as listener:
                outcome = await life.build(engine, project, options, listener)
                if push and not check:
                    await life.push(engine, project, listener=listener)
            if outcome.plan.is_empty:
                context.say("there is nothing to build")

        asyncio.run(work())
        return 0


def with_ssh(project: Project, given: list[str]) -> Project:
    keys = dict(text.partition("=")[::2] for text in given)
    services = {
        name: replace(service, build=replace(service.build, ssh={**service.build.ssh, **keys}))
        if service.build
        else service
        for name, service in project.services.items()
    }
    return replace(project, services=services)


def bake_file(project: Project) -> dict[str, object]:
    """What `docker buildx bake` would be told."""
    targets = {
        name.replace(".", "_"): _target(project, service, service.build)
        for name, service in project.services.items()
        if service.build is not None
    }
    return {"group": {"default": {"targets": sorted(targets)}}, "target": targets}


def _target(project: Project, service: Service, build: Build) -> dict[str, object]:
    known = build.to_document()
    named = {"context": "context", "dockerfile": "dockerfile", "dockerfile-inline":
             "dockerfile_inline", "args": "args", "labels": "labels", "target": "target",
             "contexts": "additional_contexts", "platforms": "platforms", "cache-from":
             "cache_from", "cache-to": "cache_to", "no-cache": "no_cache", "pull": "pull",
             "network": "network"}  # fmt: skip
    target = {key: known[attribute] for key, attribute in named.items() if attribute in known}
    tags = [project.image_name(service), *build.tags]
    return {**target, "tags": tags, "output": ["type=docker"]}


def arguments(context: Context, pairs: list[str]) -> dict[str, str]:
    """A name alone takes the environment's value, if there is one."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name:
            raise UsageError(f"cannot read --build-arg {pair!r}\n  hint: write NAME=VALUE")
        if equals:
            found[name] = value
        elif name in context.environment:
            found[name] = context.environment[name]
    return found
