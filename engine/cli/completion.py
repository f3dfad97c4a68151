"""`pyengine completion bash|zsh|fish`."""

from __future__ import annotations

from typing import Annotated

import typer

SHELLS = ("bash", "zsh", "fish")


def completion(
    shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", hidden=True)],
) -> None:
    """For bash: source <(pyengine completion bash). For zsh the same, after compinit. For fish:
    pyengine completion fish | source."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    if shell not in SHELLS:
        raise typer.BadParameter(f"{shell!r} is none of {', '.join(SHELLS)}")
    print(
        get_completion_script(prog_name="pyengine", complete_var="_PYENGINE_COMPLETE", shell=shell)
    )
