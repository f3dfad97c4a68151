"""The console script; `python -m engine.cli.main` is the same."""

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
    from compose.process import carry_out, collect_seldom

    collect_seldom()  # from before all else that is imported
    from engine.cli.app import main

    carry_out("pyengine", main, is_warm=is_warm)


if __name__ == "__main__":
    run()
