"""pyengine: the command line. Options before the command, errors as text, exit codes.

0 done   1 refused, failed, or wrong arguments   125 wrong options, or run could not start anything
(126, 127: its command)   130 interrupted   n the container's own (run, exec, start -a, attach)
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption
from typer.exceptions import Abort, TyperException

from compose.errors import ComposeError, UsageError
from compose.process import Met, ignore
from engine import VERSION
from engine.cli.commands import GROUPS, SECTIONS, Entries, Entry, find, names
from engine.cli.dialect import spelled
from engine.cli.session import Session, choice_of
from engine.errors import EngineError

if TYPE_CHECKING:
    from typer._click import Command as AnyCommand
    from typer._click import Context as Parsed
    from typer._click import HelpFormatter

HELP = """The container engine of pycompose, and the commands for people without Docker's.

Try: pyengine run -it --rm rootfs:/ sh. The engine is started when a command needs it."""
_SETTINGS: dict[str, object] = {
    "help_option_names": ["-h", "--help"],
    "max_content_width": 100,
}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a command line is read in."""

    environment: Mapping[str, str]
    directory: Path
    met: Met


def main(
    argv: Sequence[str], environment: Mapping[str, str], directory: Path, met: Met = ignore
) -> int:
    """The exit code. `met` gets the engine that was spoken to. Keeps no state between calls."""
    try:
        code = root_command()(
            args=[*argv], prog_name="pyengine", standalone_mode=False,
            obj=Surroundings(environment, directory, met),
        )  # fmt: skip
        return code if isinstance(code, int) else 0
    except TyperException as error:
        return _refused(error)
    except (ComposeError, EngineError) as error:
        say(str(error))
        return 1
    except (KeyboardInterrupt, Abort):
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone (`pyengine logs | head`): nothing is left to say, also
        # not when the interpreter flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _refused(error: TyperException) -> int:
    """Docker's codes: 125 for options; 1 for arguments and what is no command."""
    from typer._click import exceptions as wrong

    if isinstance(error, wrong.NoArgsIsHelpError):
        print(error.format_message(), file=sys.stderr)
        return 0
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "pyengine"
    say(f"{error.format_message()}\n  hint: {path} --help")
    about_options = isinstance(
        error, (wrong.NoSuchOption, wrong.BadOptionUsage, wrong.BadParameter)
    ) and not isinstance(error, wrong.MissingParameter)
    return 125 if about_options else 1


def say(message: str) -> None:
    print(f"pyengine: {message}", file=sys.stderr)


@cache  # a warm process has made it before it is called
def root_command() -> AnyCommand:
    app = typer.Typer(
        name="pyengine",
        cls=Commands,
        help=HELP,
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=_SETTINGS,
    )

    @app.callback()
    def options(
        context: typer.Context,
        host: Annotated[
            str,
            typer.Option(
                "-H",
                "--host",
                help="Another engine: unix:///path, tcp://host:port or ssh://user@host. Else"
                " PYCOMPOSE_HOST, then DOCKER_HOST, then the built-in one.",
                metavar="ADDRESS",
            ),
        ] = "",
        docker_context: Annotated[
            str,
            typer.Option("-c", "--context", help="The engine of a Docker context.", metavar="NAME"),
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
        version: Annotated[
            bool,
            typer.Option(
                "-v", "--version", help="Print the version.", callback=_version, is_eager=True
            ),
        ] = False,
    ) -> None:
        context.obj = Session(
            choice_of(context), context.obj.environment, context.obj.directory, context.obj.met
        )

    return typer.main.get_command(app)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"pyengine version {VERSION}")
        raise typer.Exit


class Command(TyperCommand):
    """One that understands options as Go's flags are written, too."""

    def parse_args(self, ctx: Parsed, args: list[str]) -> list[str]:
        options = [param for param in self.get_params(ctx) if isinstance(param, TyperOption)]
        switches = [option for option in options if option.is_flag]
        try:
            args = spelled(
                args,
                switches={
                    name: next(iter(option.secondary_opts), "")
                    for option in switches
                    for name in option.opts
                },
                valued=frozenset(
                    name for option in options if not option.is_flag for name in option.opts
                ),
                interspersed=ctx.allow_interspersed_args,
            )
        except UsageError as error:
            ctx.fail(str(error))
        return super().parse_args(ctx, args)


class Commands(TyperGroup):
    """The commands at the top, or those of the group that its name says."""

    @property
    def group(self) -> str:
        return self.name if self.name and self.name in GROUPS else ""

    def list_commands(self, ctx: Parsed) -> list[str]:
        return names(self.group)

    def get_command(self, ctx: Parsed, cmd_name: str) -> AnyCommand:
        entry = find(self.group, cmd_name)
        if entry is None:
            import difflib

            close = difflib.get_close_matches(cmd_name, names(self.group), n=1)
            meant = f": did you mean {close[0]}?" if close else ""
            ctx.fail(f"there is no command {cmd_name!r}{meant}")
        return make_command(cmd_name, entry)

    def format_commands(self, ctx: Parsed, formatter: HelpFormatter) -> None:
        sections: Mapping[str, Entries] = SECTIONS
        if self.group:
            sections = {"Commands": GROUPS[self.group]}
        for title, entries in sections.items():
            with formatter.section(title):
                formatter.write_dl([(name, entry.help) for name, entry in entries.items()])


@cache
def make_command(name: str, entry: Entry) -> AnyCommand:
    if not entry.where:
        return Commands(
            name=name, help=entry.help, no_args_is_help=True, rich_markup_mode=None,
            context_settings=_SETTINGS,
        )  # fmt: skip
    module, _, function = entry.where.partition(":")
    settings = dict(_SETTINGS)
    if entry.verbatim:
        settings["allow_interspersed_args"] = False
        settings["help_option_names"] = ["--help"]  # -h is the host's name of run and create
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(name, cls=Command, context_settings=settings, help=entry.help)(
        getattr(importlib.import_module(f"engine.cli.{module}"), function)
    )
    command = typer.main.get_command(app)
    for param in command.params:
        if (
            isinstance(param, TyperOption)
            and not param.is_flag
            and not param.metavar
            and param.name
        ):
            param.metavar = param.name.upper().replace("_", "-")
    return command
