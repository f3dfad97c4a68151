"""The clock for durations: nobody sets it, and it goes on while the machine is suspended."""

import time


def uptime() -> int:
    """Nanoseconds since the machine started."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
