"""Where in memory lies what a shim makes: side by side.

A shim owns each page that it writes to. What it makes would else be strewn over the heap, wherever
something that was needed before has left a gap.
"""

import sys

_LARGEST = 512  # bytes that the interpreter finds room for itself, in pools for each size
_ALIGNMENT = 16
_ROW = 8
_MOST = 10000  # of one size

_filling: list[bytes] = []


def fill_gaps() -> None:
    """Until there are none: from now on small objects lie in fresh memory."""
    empty = sys.getsizeof(b"")
    for size in range(_LARGEST, empty, -_ALIGNMENT):
        # Fresh memory is where one lies right behind the other.
        last, in_row = 0, 0
        for _ in range(_MOST):
            _filling.append(bytes(size - empty))
            address = id(_filling[-1])
            in_row = in_row + 1 if address == last + size else 0
            if in_row == _ROW:
                break
            last = address
