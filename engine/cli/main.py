"""The console script; `python -m engine.cli.main` is the same."""

import os
import sys

from engine import VERSION

# One is no command that ends; the other waits for all that belongs to an engine, warm processes
# too.
COLD = ("daemon", "stop")


def run() -> None:
    # It needn't wait for the command line's library, which would answer the same, 50 ms later.
    if sys.argv[1:] in (["--version"], ["-v"]):
        print(f"pyengine version {VERSION}")
        return
    if not any(word in COLD for word in sys.argv[1:]):
        from compose.warm.stub import ask

        ask("pyengine")
    command(is_warm=False)


def command(*, is_warm: bool) -> None:
    """Run what sys.argv says, and end. `is_warm`: in a child of a server."""
    from pathlib import Path
    from typing import TYPE_CHECKING

    from compose.process import collect_seldom, leave
    from engine.cli.app import main

    if TYPE_CHECKING:
        from compose.client.engine import Engine

    collect_seldom()
    met: list[Engine] = []
    code = main(sys.argv[1:], os.environ, Path.cwd(), met.append)
    if met and not is_warm:
        from compose.warm.start import start_server

        start_server(met[0].own_socket, os.environ)
    leave("pyengine", code)


if __name__ == "__main__":
    run()
