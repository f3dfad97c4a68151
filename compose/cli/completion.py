"""`pycompose completion SHELL`: what makes a shell complete commands, options and services.

bash   source <(pycompose completion bash)
zsh    source <(pycompose completion zsh)
fish   pycompose completion fish | source
"""

from __future__ import annotations

from typing import Annotated

import typer

from compose.errors import UsageError
from compose.shells import completion_scripts

SCRIPTS = completion_scripts("pycompose")


def register(app: typer.Typer) -> None:
    @app.command("completion")
    def completion(
        shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish")],
    ) -> int:
        if shell not in SCRIPTS:
            raise UsageError(
                f"there is no completion for {shell!r}\n  hint: there is: {', '.join(SCRIPTS)}"
            )
        print(SCRIPTS[shell], end="")
        return 0
