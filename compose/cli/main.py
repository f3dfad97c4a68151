"""The command line: global options, one module a command, errors as text, exit codes.

0 done   1 refused or failed   2 wrong usage   130 interrupted   n the container's own (run, exec)
"""

import errno
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import Abort, TyperException

from compose import VERSION
from compose.cli.context import PROGRESS, REHEARSAL, Context, choice, with_settings
from compose.dataclass import dataclass
from compose.errors import ComposeError, Rehearsed
from compose.process import Met, ignore

if TYPE_CHECKING:
    from typer._click import Command, HelpFormatter
    from typer._click import Context as Parsed
    from typer._click.core import Parameter

# Name -> what it does, in the order of --help. Each is compose/cli/NAME.py, imported when used.
COMMANDS = {
    "up": "Create, start, update: make what runs what the files declare.",
    "down": "Stop and remove containers and networks.",
    "plan": "Show what up would change, and why, without touching anything.",
    "history": "List what was applied: when, by whom, from which commit.",
    "diff": "Compare revisions, commits, what runs and what the files declare.",
    "rollback": "Make what runs what an earlier revision declared.",
    "drift": "Show where what runs has departed from what was last applied.",
    "reconcile": "Bring back whatever departs from what was last applied.",
    "lock": "Write down which images and build contexts are meant.",
    "watch": "Apply changes of the files as they are saved.",
    "ps": "List the project's containers.",
    "logs": "Show what the containers wrote.",
    "exec": "Run a command in a running container.",
    "run": "Run a command in a new container of a service.",
    "cp": "Copy files from a container or into the containers of a service.",
    "start": "Start containers that exist, in order of dependency.",
    "stop": "Stop containers without removing them.",
    "restart": "Restart containers as they are (up applies changes of the files).",
    "kill": "Send containers a signal.",
    "rm": "Remove stopped containers.",
    "pause": "Stop the clock of running containers.",
    "unpause": "Let paused containers go on.",
    "create": "Make everything that up makes, without starting it.",
    "scale": "Change how many containers a service has.",
    "wait": "Wait until containers have ended.",
    "attach": "Connect this terminal to a running container.",
    "stats": "Show what the containers use, as it changes.",
    "images": "List the images that the containers were made from.",
    "volumes": "List the project's volumes.",
    "export": "Write a container's file system as a tar.",
    "commit": "Make an image of what a container has become.",
    "build": "Build the images of the services that say how.",
    "pull": "Get the images of the services, without starting anything.",
    "push": "Send the images that are built here to their registries.",
    "publish": "Put the project's files into a registry, for -f oci://...",
    "graph": "Draw the stack: text, Mermaid, DOT, SVG or PNG.",
    "lint": "Tell what works, but will hurt.",
    "secret": "Keep what external secrets hold, encrypted on this machine.",
    "config": "Check the files and print the project that they declare.",
    "port": "Print where a container's port is published.",
    "top": "Show the processes that run.",
    "events": "Print the containers' events until interrupted.",
    "ls": "List the projects that run on the engine.",
    "convert": "Put an old Compose file (1, 2.x) into today's words.",
    "completion": "Print what makes bash, zsh or fish complete commands.",
    "alpha": "What Docker Compose is still trying out: viz.",
    "version": "Print pycompose's version.",
}

# Of Docker Compose's, and what to do instead.
ABSENT = {
    "bridge": "pycompose config --format json gives other tools all that they need",
}
HIDDEN = {"complete": "Print what the last word may become."}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a command line is read in."""

    environment: Mapping[str, str]
    directory: Path
    met: Met


HELP = """Run the stack of containers that this folder's compose.yaml declares.

Try: pycompose plan (what would change, and why), up, ps, logs, down."""


def main(
    argv: Sequence[str], environment: Mapping[str, str], directory: Path, met: Met = ignore
) -> int:
    """The exit code. `met` gets the engine that was spoken to. Keeps no state between calls."""
    try:
        code = root_command()(
            args=[*argv] or ["--help"], prog_name="pycompose", standalone_mode=False,
            obj=Surroundings(environment, directory, met),
        )  # fmt: skip
        return code if isinstance(code, int) else 0
    except TyperException as error:
        print(f"pycompose: {error.format_message()}", file=sys.stderr)
        print(f"  hint: {path_of(error)} --help", file=sys.stderr)
        return 1
    except Rehearsed as rehearsed:
        print("".join(f"{REHEARSAL}{line}\n" for line in rehearsed.lines), end="")
        return 0
    except ComposeError as error:
        print(describe(error), file=sys.stderr)
        return 1
    except (KeyboardInterrupt, Abort):
        return 130
    except (BrokenPipeError, SystemExit) as error:
        # typer makes SystemExit of it.
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise
        # Whoever read our output has gone (`pycompose logs | head`): nothing is left to say, also
        # not when the interpreter flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what it still holds
        where = f" {error.filename}" if error.filename else ""
        print(f"pycompose: cannot write{where}: {error.strerror}", file=sys.stderr)
        return 1


def path_of(error: TyperException) -> str:
    """The command whose --help says more."""
    context = getattr(error, "ctx", None)
    return context.command_path if context else "pycompose"


def describe(error: ComposeError) -> str:
    """What the user reads: the problems, each with its place and hint; one error a line."""
    text = str(error)
    hint = getattr(error, "hint", "")
    if hint and hint not in text:
        text += f"\n  hint: {hint}"
    return text


@cache  # a warm process has made it before it is called
def root_command() -> "Command":
    app = typer.Typer(
        cls=Commands,
        help=HELP,
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )

    @app.callback()
    def options(
        context: typer.Context,
        file: Annotated[
            list[str] | None,
            typer.Option("-f", "--file", help="A Compose file; repeat to merge several."),
        ] = None,
        project_name: Annotated[
            str, typer.Option("-p", "--project-name", help="The project's name.", metavar="NAME")
        ] = "",
        profile: Annotated[
            list[str] | None,
            typer.Option("--profile", help="Turn a profile on; '*' means all.", metavar="NAME"),
        ] = None,
        env_file: Annotated[
            list[str] | None,
            typer.Option("--env-file", help="Variables for the files, instead of .env."),
        ] = None,
        project_directory: Annotated[
            str,
            typer.Option(
                "--project-directory", help="What relative paths start from.", metavar="FOLDER"
            ),
        ] = "",
        host: Annotated[
            str,
            typer.Option(
                "-H", "--host", help="The engine: unix:///path, tcp://host:port or ssh://user@host."
            ),
        ] = "",
        docker_context: Annotated[
            str,
            typer.Option("--context", help="The engine of a Docker context.", metavar="NAME"),
        ] = "",
        tls: Annotated[bool, typer.Option("--tls", help="Speak TLS to it.")] = False,
        tlsverify: Annotated[
            bool, typer.Option("--tlsverify", help="Speak TLS, and check who it is.")
        ] = False,
        tlscacert: Annotated[
            str, typer.Option("--tlscacert", help="Who signs its certificate.", metavar="FILE")
        ] = "",
        tlscert: Annotated[
            str, typer.Option("--tlscert", help="The certificate to show to it.", metavar="FILE")
        ] = "",
        tlskey: Annotated[
            str, typer.Option("--tlskey", help="The key of that certificate.", metavar="FILE")
        ] = "",
        parallel: Annotated[
            int | None,
            typer.Option(
                "--parallel", help="How many changes at once; -1: no limit.", metavar="NUMBER"
            ),
        ] = None,
        progress: Annotated[
            str, typer.Option("--progress", help="auto, tty, plain, json or quiet.", metavar="KIND")
        ] = "",
        ansi: Annotated[
            str, typer.Option("--ansi", help="auto, always or never.", metavar="WHEN")
        ] = "",
        all_resources: Annotated[
            bool, typer.Option("--all-resources", help="Also what no service uses.")
        ] = False,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
        ] = False,
        insecure_registry: Annotated[
            list[str] | None, typer.Option("--insecure-registry", hidden=True)
        ] = None,
        compatibility: Annotated[
            bool, typer.Option("--compatibility", help="Names with _, as Compose 1 made them.")
        ] = False,
        no_ansi: Annotated[bool, typer.Option("--no-ansi", hidden=True)] = False,
        verbose: Annotated[bool, typer.Option("--verbose", hidden=True)] = False,
        workdir: Annotated[str, typer.Option("--workdir", hidden=True)] = "",
        version: Annotated[
            bool,
            typer.Option(
                "-v", "--version", help="Print the version.", callback=show_version, is_eager=True
            ),
        ] = False,
    ) -> None:
        from compose.client.address import Choice, TlsOptions

        parsed = context.obj
        first = next((name for name in file or () if name != "-" and "://" not in name), "")
        folder = project_directory or workdir or os.path.dirname(first)
        environment = with_settings(parsed.environment, parsed.directory, folder, env_file or ())
        refuse_variables(environment)
        context.obj = Context(
            files=tuple(file or ()),
            project_name=project_name,
            project_directory=project_directory or workdir,
            profiles=tuple(profile or ()),
            env_files=tuple(env_file or ()),
            choice=Choice(
                host, docker_context, TlsOptions(tls, tlsverify, tlscacert, tlscert, tlskey)
            ),
            progress=choice("--progress", progress or environment.get("COMPOSE_PROGRESS", ""),
                            PROGRESS),
            ansi=choice("--ansi", ansi or ("never" if no_ansi else "")
                        or environment.get("COMPOSE_ANSI", ""), ("auto", "always", "never")),
            parallel=limit(environment.get("COMPOSE_PARALLEL_LIMIT", ""))
            if parallel is None
            else parallel,
            all_resources=all_resources,
            dry_run=dry_run,
            compatibility=compatibility,
            insecure_registries=tuple(insecure_registry or ()),
            environment=environment,
            directory=context.obj.directory,
            met=context.obj.met,
        )  # fmt: skip

    return typer.main.get_command(app)


def dry_run_option() -> "Parameter":
    """What every command takes that has none of its own."""
    from dataclasses import replace

    from typer.core import TyperOption

    def take(context: "Parsed", _: object, value: bool) -> None:
        if value:
            context.obj = replace(context.obj, dry_run=True)

    return TyperOption(
        param_decls=["--dry-run"],
        is_flag=True,
        expose_value=False,
        callback=take,
        help="Say what would be done, and do nothing.",
    )


def show_version(wanted: bool) -> None:
    if wanted:
        print(f"pycompose version {VERSION}")
        raise typer.Exit


def without_values(
    command: "Command",
    arguments: list[str],
    *,
    to_the_end: bool,
    aliases: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """Flags may be written as `--menu=false` and `--build=true`, values as `-f=compose.yaml`, as
    Docker Compose takes them.
    `to_the_end`: also after words that are no options; else those are another program's."""
    flags = {
        text: (parameter.secondary_opts, text)
        for parameter in command.params
        if getattr(parameter, "is_flag", False)
        for text in parameter.opts
    }
    valued = {
        text
        for parameter in command.params
        if parameter.param_type_name == "option" and not getattr(parameter, "is_flag", False)
        for text in parameter.opts
    }
    found: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        name = aliases.get(name, name)
        argument = f"{name}{equals}{value}"
        is_word = not argument.startswith("-")
        if argument == "--" or (is_word and not to_the_end):
            return [*found, argument, *rest]
        if argument in valued:
            found += [argument, *islice(rest, 1)]
            continue
        if equals and len(name) == 2 and name in valued:  # -f=FILE
            found += [name, value]
            continue
        if not equals or name not in flags or value.lower() not in _TRUTHS:
            found.append(argument)
            continue
        opposite, own = flags[name]
        found += [own] if _TRUTHS[value.lower()] else [*opposite[:1]]
    return found


_TRUTHS = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}


# Of commands: other spellings of their options that Docker Compose takes.
ALIASES = {
    "create": {"--y": "--yes"},
    "down": {"--volume": "--volumes"},
    "exec": {"--no-TTY": "--no-tty"},
    "publish": {"--y": "--yes"},
    "run": {"--volumes": "--volume", "--labels": "--label", "--no-TTY": "--no-tty"},
    "up": {"--y": "--yes"},
}


class OneCommand(TyperCommand):
    def parse_args(self, ctx: "Parsed", args: list[str]) -> list[str]:
        to_the_end = ctx.allow_interspersed_args
        aliases = ALIASES.get(ctx.info_name or "", {})
        return super().parse_args(
            ctx, without_values(self, args, to_the_end=to_the_end, aliases=aliases)
        )


class Commands(TyperGroup):
    """Imports only the module of the command that was asked for, and none for --help."""

    def parse_args(self, ctx: "Parsed", args: list[str]) -> list[str]:
        return super().parse_args(
            ctx, without_values(self, args, to_the_end=ctx.allow_interspersed_args)
        )

    def list_commands(self, ctx: "Parsed") -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: "Parsed", cmd_name: str) -> "Command":
        if cmd_name not in COMMANDS and cmd_name not in HIDDEN:
            import difflib

            if cmd_name in ABSENT:
                ctx.fail(f"{cmd_name} isn't here: {ABSENT[cmd_name]}")
            close = difflib.get_close_matches(cmd_name, COMMANDS, n=1)
            meant = f": did you mean {close[0]}?" if close else ""
            ctx.fail(f"there is no command {cmd_name!r}{meant}")
        return command_of(cmd_name)

    def format_commands(self, ctx: "Parsed", formatter: "HelpFormatter") -> None:
        with formatter.section("Commands"):
            formatter.write_dl([*COMMANDS.items()])


@cache
def command_of(name: str) -> "Command":
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    importlib.import_module(f"compose.cli.{name}").register(app)
    for each in app.registered_commands:
        each.cls = OneCommand
    command = typer.main.get_command(app)
    command.help = COMMANDS.get(name) or HIDDEN[name]
    if all("--dry-run" not in parameter.opts for parameter in command.params):
        command.params.append(dry_run_option())
    return command


def is_true(text: str) -> bool:
    return text.lower() in ("1", "true", "yes", "on")


def refuse_variables(environment: Mapping[str, str]) -> None:
    """What Compose heeds on other systems, or did in former times."""
    if is_true(environment.get("COMPOSE_CONVERT_WINDOWS_PATHS", "")):
        raise typer.BadParameter(
            "COMPOSE_CONVERT_WINDOWS_PATHS: paths of Windows mean nothing on this machine;"
            " unset it, and write paths as Linux has them"
        )


def limit(text: str) -> int:
    if not text:
        return -1
    if not text.lstrip("-").isdigit():
        raise typer.BadParameter(f"COMPOSE_PARALLEL_LIMIT: {text!r} is no number")
    return int(text)
