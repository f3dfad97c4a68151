"""Health checks: what one probe changes (pure), and the loop that probes.

A probe is an exec in the container; its exit code 0 is healthy, 1 unhealthy, all else too.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from engine.containers.model import ContainerConfig, HealthCheck, HealthResult, HealthState

SECOND = 1_000_000_000
KEPT_RESULTS = 5
LARGEST_OUTPUT = 4096
DEFAULTS = HealthCheck(
    interval=30 * SECOND, timeout=30 * SECOND, start_interval=5 * SECOND, retries=3
)


@dataclass(frozen=True, slots=True)
class Probe:
    """A check with nothing left to inherit. Durations in nanoseconds."""

    command: tuple[str, ...]
    interval: int
    timeout: int
    start_period: int
    start_interval: int
    retries: int


def merged_check(wanted: HealthCheck | None, image: HealthCheck | None) -> HealthCheck | None:
    """The container's check with what it leaves open taken from the image's."""
    if wanted is None or image is None:
        return wanted or image
    return HealthCheck(
        test=wanted.test or image.test,
        interval=wanted.interval or image.interval,
        timeout=wanted.timeout or image.timeout,
        start_period=wanted.start_period or image.start_period,
        start_interval=wanted.start_interval or image.start_interval,
        retries=wanted.retries or image.retries,
    )


def probe_of(config: ContainerConfig) -> Probe | None:
    """None where nothing is checked."""
    check = config.healthcheck
    if check is None or not check.test or check.test[0] == "NONE":
        return None
    match check.test[0]:
        case "CMD":
            command = check.test[1:]
        case "CMD-SHELL":
            command = (*(config.shell or ("/bin/sh", "-c")), *check.test[1:])
        case _:  # refused at create
            return None
    return Probe(
        command,
        check.interval or DEFAULTS.interval,
        check.timeout or DEFAULTS.timeout,
        check.start_period,
        check.start_interval or DEFAULTS.start_interval,
        check.retries or DEFAULTS.retries,
    )


def next_delay(probe: Probe, health: HealthState, *, age: int) -> float:
    """Seconds until the next probe: `start_interval` applies in the start period, until the
    first success. `age`: nanoseconds that the container has run."""
    in_start_period = age < probe.start_period
    if in_start_period and health.status == "starting":
        return probe.start_interval / SECOND
    return probe.interval / SECOND


def after_probe(
    health: HealthState, probe: Probe, result: HealthResult, *, age: int
) -> HealthState:
    """A success is healthy at once, also in the start period; failures in it don't count.
    `age`: nanoseconds that the container had run when the probe began."""
    log = (*health.log, result)[-KEPT_RESULTS:]
    if result.exit_code == 0:
        return HealthState("healthy", 0, log)
    in_start_period = age < probe.start_period
    if health.status == "starting" and in_start_period:
        return replace(health, log=log)
    streak = health.failing_streak + 1
    status = "unhealthy" if streak >= probe.retries else health.status
    return HealthState(status, streak, log)


def kept_output(output: bytes) -> str:
    if len(output) > LARGEST_OUTPUT:
        return output[:LARGEST_OUTPUT].decode("utf-8", "ignore") + "..."
    return output.decode("utf-8", "replace")


def timed_out(timeout: float, output: bytes) -> str:
    said = f": {kept_output(output)}" if output else ""
    return f"Health check exceeded timeout ({_duration(timeout)}){said}"


def _duration(seconds: float) -> str:
    """As Go writes it: 300ms, 1.5s, 1m30s, 1h0m0s."""
    if seconds < 1:
        return f"{seconds * 1000:g}ms"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{minutes}m" if minutes or hours else ""
    return (f"{hours}h" if hours else "") + f"{text}{rest:g}s"


async def watch_health(
    probe: Probe,
    *,
    age: Callable[[], int],
    health: HealthState,
    run: Callable[[tuple[str, ...], float], Awaitable[tuple[int, str]]],
    report: Callable[[HealthState], None],
) -> None:
    """Probes until cancelled. `age` in nanoseconds, by a clock that nobody sets; `run` gives exit
    code and output of one probe, within a timeout in seconds; `report` is told each new state."""
    while True:
        await asyncio.sleep(next_delay(probe, health, age=age()))
        begun, begun_at_age = time.time_ns(), age()
        exit_code, output = await run(probe.command, probe.timeout / SECOND)
        result = HealthResult(begun, time.time_ns(), exit_code, output)
        health = after_probe(health, probe, result, age=begun_at_age)
        report(health)
