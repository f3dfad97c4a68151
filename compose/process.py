"""How a process of a command line begins and ends."""

import gc
import os
import sys
import threading

COLLECT_AFTER = 100_000  # new objects


def collect_seldom() -> None:
    """Nearly all that a command makes stays until its end, modules first: to look for cycles among
    it meanwhile, and once more before the interpreter goes, is a fifth of a short command's
    time."""
    gc.set_threshold(COLLECT_AFTER)


def leave(program: str, code: int) -> None:
    """End without taking the interpreter apart, piece by piece."""
    gc.freeze()
    if threading.active_count() > 1:
        sys.exit(code)
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except BrokenPipeError:  # whoever read our output has gone
        code = code or 141
    except OSError as error:
        os.write(2, f"{program}: cannot write the output: {error.strerror}\n".encode())
        code = code or 1
    os._exit(code)
