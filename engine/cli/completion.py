"""`pyengine completion bash|zsh|fish`, and `pyengine complete`, which their scripts call."""

from __future__ import annotations

from typing import Annotated

import typer

from compose.errors import UsageError
from compose.shells import SHELLS, completion_scripts
from engine.cli.complete import one_of
from engine.cli.options import Words


def completion(
    shell: Annotated[
        str,
        typer.Argument(metavar="bash|zsh|fish", hidden=True, autocompletion=one_of(*SHELLS)),
    ],
) -> None:
    """For bash: source <(pyengine completion bash). For zsh the same, after compinit. For fish:
    pyengine completion fish | source."""
    if shell not in SHELLS:
        raise UsageError(f"there is no completion for {shell!r}: there is {', '.join(SHELLS)}")
    print(completion_scripts("pyengine")[shell], end="")


def complete(ctx: typer.Context, words: Words = None) -> None:
    """What the last word may become, one a line, with a tab before what it means."""
    from typer._completion_classes import BashComplete
    from typer.exceptions import TyperException

    *before, begun = words or [""]
    option, equals, _ = begun.partition("=")
    # `--network=we` is completed as the option's value; the shell wants the whole word.
    given = f"{option}=" if equals and option.startswith("--") else ""
    shell = BashComplete(ctx.find_root().command, {}, "pyengine", "")
    try:
        found = shell.get_completions(before, begun)
    except (TyperException, UsageError):
        return  # what stands before is wrong: nothing fits after it
    for item in found:
        if item.type == "plain":
            print(f"{given}{item.value}\t{item.help or ''}")
