"""`pycompose up`: make what runs what the files declare."""

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compose import converge
from compose.change import Outcome
from compose.cli.context import PULLS, REHEARSAL, Context, choice
from compose.cli.find import check_services
from compose.cli.plan import columns, show_plan
from compose.cli.progress import progress
from compose.client.engine import Engine
from compose.converge import Confirm, UpOptions
from compose.errors import UsageError
from compose.model.project import Project
from compose.plan.options import PlanOptions
from compose.plan.plan import Plan
from compose.plan.text import page

if TYPE_CHECKING:
    from compose.cli.foreground import EndRule, Style


def register(app: typer.Typer) -> None:
    @app.command("up")
    def up(
        ctx: typer.Context,
        services: Annotated[
            list[str] | None, typer.Argument(metavar="SERVICE", hidden=True)
        ] = None,
        detach: Annotated[
            bool, typer.Option("-d", "--detach", help="Leave them running in the background.")
        ] = False,
        wait: Annotated[
            bool, typer.Option("--wait", help="Until all run, or are healthy; implies -d.")
        ] = False,
        wait_timeout: Annotated[
            float | None,
            typer.Option("--wait-timeout", help="Seconds to wait at the most.", metavar="SECONDS"),
        ] = None,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Say what would happen, and why.")
        ] = False,
        watch: Annotated[
            bool, typer.Option("-w", "--watch", help="Then follow changes of the files.")
        ] = False,
        reconcile: Annotated[
            bool, typer.Option("--reconcile", help="Then bring back whatever departs from it.")
        ] = False,
        scale: Annotated[
            list[str] | None,
            typer.Option("--scale", help="How many containers of it.", metavar="SERVICE=NUMBER"),
        ] = None,
        pull: Annotated[
            str, typer.Option("--pull", help="always, missing or never.", metavar="WHEN")
        ] = "",
        build: Annotated[
            bool, typer.Option("--build", help="Build images also where they are there.")
        ] = False,
        no_build: Annotated[
            bool, typer.Option("--no-build", help="Build none, even where they are missing.")
        ] = False,
        force_recreate: Annotated[
            bool, typer.Option("--force-recreate", help="Even what is up to date.")
        ] = False,
        no_recreate: Annotated[
            bool, typer.Option("--no-recreate", help="Leave what exists as it is.")
        ] = False,
        always_recreate_deps: Annotated[
            bool, typer.Option("--always-recreate-deps", help="Also what the named services need.")
        ] = False,
        renew_anon_volumes: Annotated[
            bool, typer.Option("-V", "--renew-anon-volumes", help="Don't carry them over.")
        ] = False,
        no_deps: Annotated[bool, typer.Option("--no-deps", help="Not what they need.")] = False,
        no_start: Annotated[bool, typer.Option("--no-start", help="Only create.")] = False,
        remove_orphans: Annotated[
            bool, typer.Option("--remove-orphans", help="Containers of services that are gone.")
        ] = False,
        timeout: Annotated[
            int | None,
            typer.Option("-t", "--timeout", help="Seconds for each to stop.", metavar="SECONDS"),
        ] = None,
        abort_on_container_exit: Annotated[
            bool, typer.Option("--abort-on-container-exit", help="Stop all when one ends.")
        ] = False,
        abort_on_container_failure: Annotated[
            bool, typer.Option("--abort-on-container-failure", help="Stop all when one fails.")
        ] = False,
        exit_code_from: Annotated[
            str, typer.Option("--exit-code-from", metavar="SERVICE", help="End with its code.")
        ] = "",
        attach: Annotated[
            list[str] | None,
            typer.Option("--attach", help="Show only these services' output.", metavar="SERVICE"),
        ] = None,
        no_attach: Annotated[
            list[str] | None,
            typer.Option("--no-attach", help="Don't show these.", metavar="SERVICE"),
        ] = None,
        no_colour: Annotated[bool, typer.Option("--no-color", help="No colours.")] = False,
        no_prefix: Annotated[
            bool, typer.Option("--no-log-prefix", help="Without the containers' names.")
        ] = False,
        timestamps: Annotated[
            bool, typer.Option("--timestamps", help="Say when each line was written.")
        ] = False,
        attach_dependencies: Annotated[
            bool, typer.Option("--attach-dependencies", help="Show also what they need.")
        ] = False,
        menu: Annotated[
            bool | None, typer.Option("--menu/--no-menu", help="Heed keys: d detach, w watch.")
        ] = None,
        ref: Annotated[
            str,
            typer.Option("--ref", help="As this commit declares it.", metavar="GITREF"),
        ] = "",
        locked: Annotated[
            bool, typer.Option("--locked", help="Insist on what compose.lock.yaml says.")
        ] = False,
        atomic: Annotated[
            bool, typer.Option("--atomic", help="If it fails, return to what ran before.")
        ] = False,
        plan_file: Annotated[
            str,
            typer.Option("--plan", help="Just what plan -o FILE foresaw.", metavar="FILE"),
        ] = "",
        confirm: Annotated[bool, typer.Option("--confirm", help="Show the plan and ask.")] = False,
        quiet_pull: Annotated[
            bool, typer.Option("--quiet-pull", help="Not how far each pull is.")
        ] = False,
        quiet_build: Annotated[
            bool, typer.Option("--quiet-build", help="Not what builds write.")
        ] = False,
        yes: Annotated[bool, typer.Option("-y", "--yes", help="Don't ask.")] = False,
    ) -> int:
        context: Context = ctx.obj
        dry_run = dry_run or context.dry_run
        ends = abort_on_container_exit or abort_on_container_failure or bool(exit_code_from)
        in_background = detach or wait or no_start
        refuse(in_background and (ends or bool(attach)), "-d and --wait", "--attach, --abort")
        refuse(in_background and (watch or reconcile), "-d and --wait", "--watch, --reconcile")
        refuse(watch and reconcile, "--watch", "--reconcile")
        refuse(force_recreate and no_recreate, "--force-recreate", "--no-recreate")
        refuse(renew_anon_volumes and no_recreate, "--renew-anon-volumes", "--no-recreate")
        refuse(build and no_build, "--build", "--no-build")
        ignored = context.is_on("COMPOSE_IGNORE_ORPHANS")
        refuse(remove_orphans and ignored, "--remove-orphans", "COMPOSE_IGNORE_ORPHANS")
        refuse(attach_dependencies and bool(attach), "--attach-dependencies", "--attach")
        context = context.quieter(pulls=quiet_pull, builds=quiet_build)
        refuse(bool(plan_file) and bool(ref or services), "--plan", "--ref and services")
        refuse(bool(ref) and watch, "--ref", "--watch")
        refuse(bool(ref) and no_build, "--ref", "--no-build")
        if plan_file:
            refuse(dry_run or watch, "--plan", "--dry-run, --watch")
            return as_planned(context, plan_file)
        commit = context.commit(ref) if ref else None
        project = context.load(tuple(services or ()), source=commit)
        options = PlanOptions(
            services=frozenset(services or ()),
            force_recreate=force_recreate,
            no_recreate=no_recreate,
            always_recreate_deps=always_recreate_deps,
            renew_anonymous_volumes=renew_anon_volumes,
            no_deps=no_deps,
            no_start=no_start,
            remove_orphans=remove_orphans or context.is_on("COMPOSE_REMOVE_ORPHANS"),
            ignore_orphans=ignored,
            scale=scales(scale or (), project),
            timeout=timeout,
            pull=choice("--pull", pull, PULLS),
            build="always" if build or ref else "never" if no_build else "",
        )
        wanted = UpOptions(
            plan=options,
            wait=wait,
            wait_timeout=wait_timeout,
            confirm=asking(context) if confirm and not yes else None,
            command=f"up --ref {ref}" if ref else "up",
            atomic=atomic,
            git=commit.state() if commit else None,
        )
        check_services(project, [*(attach or ()), *(no_attach or ())])
        if exit_code_from and exit_code_from not in project.services:
            raise UsageError(
                f"--exit-code-from: the service {exit_code_from} isn't started by this"
            )
        named = [*project.services] if attach_dependencies else services or ()
        shown = attached(project, named, attach or (), no_attach or ())

        async def work(project: Project) -> int:
            engine = await context.engine()
            if locked:
                project = await pinned(context, engine, project)
            if dry_run:
                plan = await converge.plan_up(engine, project, options)
                return show_plan(context, plan, line_start=REHEARSAL)
            if in_background:
                await converged(context, engine, project, wanted)
                return 0
            if reconcile:
                from compose.cli.reconcile import reconciling

                await converged(context, engine, project, wanted)
                return await reconciling(context, project.name, fresh=True)
            from compose.cli.foreground import EndRule, style
            from compose.cli.menu import wanted as wanted_menu

            rule = EndRule(abort_on_container_exit, abort_on_container_failure, exit_code_from)
            looks = style(context, no_colour=no_colour, no_prefix=no_prefix, timestamps=timestamps)
            keys = wanted_menu(context, menu)
            targets = frozenset(services or ()) if attach_dependencies else frozenset()
            return await in_foreground(
                context, engine, project, wanted, shown, looks, rule, keys, targets, watch
            )

        if commit is None:
            return asyncio.run(work(project))
        from compose.git import as_of

        with as_of(commit, project) as whole:
            return asyncio.run(work(whole))


def as_planned(context: Context, plan_file: str) -> int:
    async def work() -> Outcome:
        engine = await context.engine()
        path = Path(context.directory, plan_file)
        with progress(context) as listener:
            return await converge.up_as_planned(engine, path, UpOptions(), listener)

    if asyncio.run(work()).plan.is_empty:
        context.say("there was nothing to do")
    return 0


async def pinned(context: Context, engine: Engine, project: Project) -> Project:
    from compose.lockfile import lock_path, locked, read_lock

    lock = read_lock(lock_path(project), context.directory)
    return await locked(engine, project, lock)


def asking(context: Context) -> Confirm:
    """Show the plan, and ask whoever sits at the terminal. Raises UsageError where nobody does."""

    async def ask(plan: Plan) -> bool:
        print(page(plan, columns()), end="", flush=True)
        if not sys.stdin.isatty():
            raise UsageError("--confirm has nobody to ask: this is no terminal\n  hint: -y goes on")
        answer = await asyncio.to_thread(input, "go on? [y/N] ")
        return answer.strip().lower() in ("y", "yes")

    return ask


async def converged(context: Context, engine: Engine, project: Project, options: UpOptions) -> Plan:
    """What has been done."""
    with progress(context, builds=sys.stdout) as listener:
        outcome = await converge.up(engine, project, options, listener)
    for note in outcome.plan.notes:
        context.say(f"warning: {note}")
    if not outcome.confirmed:
        context.say("nothing was done")
        raise typer.Exit(1)
    if outcome.plan.is_empty:
        context.say(f"{project.name} is up to date")
    return outcome.plan


async def in_foreground(
    context: Context,
    engine: Engine,
    project: Project,
    options: UpOptions,
    shown: frozenset[str],
    looks: "Style",
    rule: "EndRule",
    menu: bool,
    targets: frozenset[str],
    watches: bool,
) -> int:
    from compose.cli.foreground import Foreground, subscribed
    from compose.cli.watch import watching

    started_at = time.time()
    timeout = options.plan.timeout
    async with subscribed(engine, project.name) as events:
        plan = await converged(context, engine, project, options)
        view = Foreground(
            context, engine, project, shown, looks, rule, timeout, menu, targets,
            lambda: watching(context, engine, project, sorted(options.plan.services)),
            watches,
        )  # fmt: skip
        return await view.run(events, started_at, plan)


def refuse(clash: bool, one: str, other: str) -> None:
    if clash:
        raise UsageError(f"{one} and {other} can't be used together")


def scales(pairs: Sequence[str], project: Project) -> dict[str, int]:
    found = {}
    for pair in pairs:
        service, equals, number = pair.partition("=")
        if not equals or not number.isdigit():
            raise UsageError(f"cannot read --scale {pair!r}\n  hint: write --scale web=3")
        found[service] = int(number)
    check_services(project, list(found))
    return found


def attached(
    project: Project, named: Sequence[str], attach: Sequence[str], no_attach: Sequence[str]
) -> frozenset[str]:
    """Whose output is shown: those that were named, else all that don't say `attach: false`."""
    chosen = attach or named or [
        name for name, service in project.services.items() if service.attach is not False
    ]  # fmt: skip
    return frozenset(chosen) - frozenset(no_attach)
