"""The command line: global options, one module a command, errors as text, exit codes.

0 done   1 refused or failed   2 wrong usage   130 interrupted   n the container's own (run, exec)
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import Abort, TyperException

from compose.cli import (
    config,
    down,
    events,
    exec_,
    kill,
    logs,
    ls,
    plan,
    port,
    ps,
    pull,
    restart,
    rm,
    run_,
    start,
    stop,
    top,
    up,
    version,
    watch,
)
from compose.cli.context import Context
from compose.errors import ComposeError

COMMANDS = (
    up, down, plan, ps, logs, watch, exec_, run_, start, stop, restart, kill, rm, pull, config, ls,
    port, top, events, version,
)  # fmt: skip

HELP = """Run the stack of containers that this folder's compose.yaml declares.

Try: pycompose plan (what would change, and why), up, ps, logs, down."""


def run() -> None:
    """The console script."""
    sys.exit(main(sys.argv[1:], os.environ, Path.cwd()))


def main(argv: Sequence[str], environment: Mapping[str, str], directory: Path) -> int:
    """The exit code. Keeps no state between calls."""
    try:
        code = make_app(environment, directory)(
            args=[*argv], prog_name="pycompose", standalone_mode=False
        )
        return code if isinstance(code, int) else 0
    except TyperException as error:
        print(f"pycompose: {error.format_message()}", file=sys.stderr)
        print("  hint: pycompose --help, or pycompose COMMAND --help", file=sys.stderr)
        return 2
    except ComposeError as error:
        print(describe(error), file=sys.stderr)
        return 1
    except (KeyboardInterrupt, Abort):
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone (`pycompose logs | head`): nothing is left to say, also
        # not when the interpreter flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def describe(error: ComposeError) -> str:
    """What the user reads: the problems, each with its place and hint; one error a line."""
    text = str(error)
    hint = getattr(error, "hint", "")
    if hint and hint not in text:
        text += f"\n  hint: {hint}"
    return text


def make_app(environment: Mapping[str, str], directory: Path) -> typer.Typer:
    app = typer.Typer(
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
            str, typer.Option("-p", "--project-name", help="The project's name.")
        ] = "",
        profile: Annotated[
            list[str] | None, typer.Option("--profile", help="Turn a profile on; '*' means all.")
        ] = None,
        env_file: Annotated[
            list[str] | None,
            typer.Option("--env-file", help="Variables for the files, instead of .env."),
        ] = None,
        project_directory: Annotated[
            str, typer.Option("--project-directory", help="What relative paths start from.")
        ] = "",
        host: Annotated[
            str,
            typer.Option("-H", "--host", help="The engine: unix:///path or tcp://host:port."),
        ] = "",
        parallel: Annotated[
            int, typer.Option("--parallel", help="How many changes at once; -1: no limit.")
        ] = -1,
        progress: Annotated[
            str, typer.Option("--progress", help="auto, tty, plain, json or quiet.")
        ] = "",
        ansi: Annotated[str, typer.Option("--ansi", help="auto, always or never.")] = "",
    ) -> None:
        context.obj = Context(
            files=tuple(file or ()),
            project_name=project_name,
            project_directory=project_directory,
            profiles=tuple(profile or ()),
            env_files=tuple(env_file or ()),
            host=host,
            progress=choice("--progress", progress or environment.get("COMPOSE_PROGRESS", ""),
                            ("auto", "tty", "plain", "json", "quiet")),
            ansi=choice("--ansi", ansi or environment.get("COMPOSE_ANSI", ""),
                        ("auto", "always", "never")),
            parallel=parallel,
            environment=environment,
            directory=directory,
        )  # fmt: skip

    for command in COMMANDS:
        command.register(app)
    return app


def choice(option: str, value: str, allowed: tuple[str, ...]) -> str:
    """The first of `allowed` is the default."""
    if value and value not in allowed:
        raise typer.BadParameter(f"{option}: {value!r} is none of {', '.join(allowed)}")
    return value or allowed[0]


if __name__ == "__main__":
    run()
