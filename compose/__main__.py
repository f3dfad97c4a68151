"""The console script; `python -m compose` is the same."""

import os
import sys

from compose import VERSION


def run() -> None:
    # Editors and scripts ask for it all the time: it needn't wait for the command line's library,
    # which would answer the same, 40 ms later.
    if sys.argv[1:] in (["--version"], ["-v"]):
        print(f"pycompose version {VERSION}")
        return
    from compose.warm.stub import ask

    ask("pycompose")
    command(is_warm=False)


def command(*, is_warm: bool) -> None:
    """Run what sys.argv says, and end. `is_warm`: in a child of a server."""
    from pathlib import Path
    from typing import TYPE_CHECKING

    from compose.cli.main import main
    from compose.process import collect_seldom, leave

    if TYPE_CHECKING:
        from compose.client.engine import Engine

    collect_seldom()
    met: list[Engine] = []
    code = main(sys.argv[1:], os.environ, Path.cwd(), met.append)
    if met and not is_warm:
        from compose.warm.start import start_server

        start_server(met[0].own_socket, os.environ)
    leave("pycompose", code)


if __name__ == "__main__":
    run()
