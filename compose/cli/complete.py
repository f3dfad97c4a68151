"""`pycompose complete -- WORD...`: what the last word may become, one a line, with a tab before
what it means. Shells call it; see `completion.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated

import typer

from compose.cli.context import Context
from compose.errors import ComposeError

if TYPE_CHECKING:
    from typer._click import Command

_PROFILES, _SERVICES = "--profile", ("--attach", "--no-attach", "--exit-code-from", "--hash")
_VALUES = {
    "--progress": ("auto", "tty", "plain", "json", "quiet"),
    "--ansi": ("auto", "always", "never"),
    "--pull": ("always", "missing", "never"),
    "--policy": ("always", "missing"),
    "--rmi": ("local", "all"),
    "--format": ("json", "table", "yaml"),
}


def register(app: typer.Typer) -> None:
    @app.command("complete")
    def complete(
        ctx: typer.Context,
        words: Annotated[list[str] | None, typer.Argument()] = None,
    ) -> int:
        given = words or [""]
        for word, meaning in _candidates(ctx, given[:-1]):
            if word.startswith(given[-1]) and (given[-1].startswith("-") or word[:1] != "-"):
                print(f"{word}\t{meaning}")
        return 0


def _candidates(ctx: typer.Context, before: Sequence[str]) -> Iterator[tuple[str, str]]:
    from compose.cli.main import COMMANDS

    root = ctx.parent.command if ctx.parent else ctx.command
    takes_value = _with_values(root)
    at = 0
    globals_: list[str] = []
    while at < len(before) and before[at].startswith("-"):
        globals_.append(before[at])
        if before[at] in takes_value:
            if at + 1 >= len(before):
                yield from _values(ctx, before[at], globals_)
                return
            globals_.append(before[at + 1])
            at += 1
        at += 1
    if at >= len(before):
        yield from COMMANDS.items()
        yield from _options(root)
        return
    name = before[at]
    if name not in COMMANDS:
        return
    command = root.get_command(ctx, name)  # type: ignore[attr-defined]
    rest = before[at + 1 :]
    if rest and rest[-1] in _with_values(command):
        yield from _values(ctx, rest[-1], globals_)
        return
    yield from _options(command)
    if name == "completion":
        yield from (("bash", ""), ("zsh", ""), ("fish", ""))
    elif name == "secret":
        yield from (("create", ""), ("rotate", ""), ("ls", ""), ("rm", ""))
    elif _takes_services(command):
        yield from ((service, "service") for service in _project(ctx, globals_)[0])


def _with_values(command: Command) -> set[str]:
    return {
        text
        for parameter in command.params
        if parameter.param_type_name == "option" and not getattr(parameter, "is_flag", False)
        for text in parameter.opts
    }


def _options(command: Command) -> Iterator[tuple[str, str]]:
    for parameter in command.params:
        if parameter.param_type_name == "option" and not getattr(parameter, "hidden", False):
            longest = max(parameter.opts, key=len)
            yield longest, (getattr(parameter, "help", "") or "").replace("\n", " ")
    yield "--help", "Say what it does."


def _takes_services(command: Command) -> bool:
    return any(
        "SERVICE" in (getattr(parameter, "metavar", "") or "")
        for parameter in command.params
        if parameter.param_type_name == "argument"
    )


def _values(ctx: typer.Context, option: str, globals_: Sequence[str]) -> Iterator[tuple[str, str]]:
    if option in _VALUES:
        yield from ((value, "") for value in _VALUES[option])
    elif option == _PROFILES:
        yield from ((profile, "profile") for profile in _project(ctx, globals_)[1])
    elif option in _SERVICES:
        yield from ((service, "service") for service in _project(ctx, globals_)[0])


def _project(ctx: typer.Context, globals_: Sequence[str]) -> tuple[list[str], list[str]]:
    """Services and profiles of the files that the options name; none where they can't be read."""
    from dataclasses import replace

    from compose.load.pipeline import load_project

    context: Context = ctx.obj
    files = [value for option, value in pairwise(globals_)
             if option in ("-f", "--file")]  # fmt: skip
    folders = [value for option, value in pairwise(globals_)
               if option == "--project-directory"]  # fmt: skip
    asked = replace(
        context, files=tuple(files), profiles=("*",), project_directory="".join(folders[-1:])
    )
    try:
        project = load_project(
            asked.request(require_files=False, check=False, env_files_read=False)
        )
    except ComposeError:
        return [], []
    profiles = {profile for each in project.services.values() for profile in each.profiles}
    return sorted(project.services), sorted(profiles)
