"""The console script; `python -m engine.cli.main` is the same."""

import sys

from engine import VERSION


def run() -> None:
    # It needn't wait for the command line's library, which would answer the same, 50 ms later.
    if sys.argv[1:] in (["--version"], ["-v"]):
        print(f"pyengine version {VERSION}")
        return
    from engine.cli.app import run_command

    run_command()


if __name__ == "__main__":
    run()
