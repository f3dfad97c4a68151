"""The console script; `python -m compose` is the same."""

import gc
import os
import sys
import threading

from compose import VERSION

COLLECT_AFTER = 100_000  # new objects


def run() -> None:
    # Editors and scripts ask for it all the time: it needn't wait for the command line's library,
    # which would answer the same, 40 ms later.
    if sys.argv[1:] in (["--version"], ["-v"]):
        print(f"pycompose version {VERSION}")
        return
    # Nearly all that a command makes stays until its end, modules first: to look for cycles among
    # it meanwhile, and once more before the interpreter goes, is a fifth of a short command's time.
    gc.set_threshold(COLLECT_AFTER)
    from pathlib import Path

    from compose.cli.main import main

    leave(main(sys.argv[1:], os.environ, Path.cwd()))


def leave(code: int) -> None:
    """End without taking the interpreter apart, piece by piece."""
    gc.freeze()
    if threading.active_count() > 1:
        sys.exit(code)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:  # whoever read our output has gone
        code = code or 141
    except OSError as error:
        os.write(2, f"pycompose: cannot write the output: {error.strerror}\n".encode())
        code = code or 1
    os._exit(code)


if __name__ == "__main__":
    run()
