"""The console script; `python -m compose` is the same."""

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
    from compose.process import carry_out, collect_seldom, heed_sigterm

    collect_seldom()  # from before all else that is imported
    heed_sigterm()
    from compose.cli.main import main

    carry_out("pycompose", main, is_warm=is_warm)


if __name__ == "__main__":
    run()
