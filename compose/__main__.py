"""The console script; `python -m compose` is the same."""

import sys

from compose import VERSION


def run() -> None:
    # Editors and scripts ask for it all the time: it needn't wait for the command line's library,
    # which would answer the same, 40 ms later.
    if sys.argv[1:] in (["--version"], ["-v"]):
        print(f"pycompose version {VERSION}")
        return
    from compose.cli.main import run as run_command

    run_command()


if __name__ == "__main__":
    run()
