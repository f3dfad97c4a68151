from engine.containers.health import (
    Probe,
    after_probe,
    kept_output,
    merged_check,
    next_delay,
    probe_of,
    timed_out,
)
from engine.containers.model import ContainerConfig, HealthCheck, HealthResult, HealthState

SECOND = 1_000_000_000
PROBE = Probe(("true",), 30 * SECOND, SECOND, 10 * SECOND, 2 * SECOND, 3)
BEGUN = 1_000 * SECOND


def result(after: int, code: int) -> HealthResult:
    return HealthResult(BEGUN + after * SECOND, BEGUN + after * SECOND, code, "")


def test_failures_in_the_start_period_do_not_count() -> None:
    health = HealthState("starting")
    for after in (1, 3, 5, 7):
        health = after_probe(health, PROBE, result(after, 1), age=after * SECOND)
    assert (health.status, health.failing_streak) == ("starting", 0)
    for after in (11, 41):
        health = after_probe(health, PROBE, result(after, 1), age=after * SECOND)
    assert (health.status, health.failing_streak) == ("starting", 2)
    health = after_probe(health, PROBE, result(71, 1), age=71 * SECOND)
    assert (health.status, health.failing_streak) == ("unhealthy", 3)
    assert len(health.log) == 5


def test_a_success_in_the_start_period_ends_it() -> None:
    health = after_probe(HealthState("starting"), PROBE, result(1, 0), age=1 * SECOND)
    assert health.status == "healthy"
    health = after_probe(health, PROBE, result(2, 1), age=2 * SECOND)
    assert (health.status, health.failing_streak) == ("healthy", 1)
    health = after_probe(health, PROBE, result(3, 0), age=3 * SECOND)
    assert health.failing_streak == 0


def test_start_interval_applies_until_healthy() -> None:
    starting, healthy = HealthState("starting"), HealthState("healthy")
    assert next_delay(PROBE, starting, age=SECOND) == 2
    assert next_delay(PROBE, healthy, age=SECOND) == 30
    assert next_delay(PROBE, starting, age=11 * SECOND) == 30


def test_what_the_request_leaves_open_is_the_image_s() -> None:
    image = HealthCheck(("CMD", "look"), interval=7, retries=9)
    merged = merged_check(HealthCheck(timeout=5, retries=1), image)
    assert merged == HealthCheck(("CMD", "look"), interval=7, timeout=5, retries=1)
    assert merged_check(None, image) == image
    config = ContainerConfig(healthcheck=merged_check(HealthCheck(("NONE",)), image))
    assert probe_of(config) is None


def test_defaults_and_the_image_s_shell() -> None:
    check = HealthCheck(("CMD-SHELL", "exit 0"))
    probe = probe_of(ContainerConfig(healthcheck=check, shell=("/bin/bash", "-lc")))
    assert probe == Probe(
        ("/bin/bash", "-lc", "exit 0"), 30 * SECOND, 30 * SECOND, 0, 5 * SECOND, 3
    )


def test_output_is_bounded() -> None:
    assert kept_output(b"\xffok") == "\N{REPLACEMENT CHARACTER}ok"
    assert kept_output(b"x" * 10_000) == "x" * 4096 + "..."


def test_a_timeout_says_what_was_heard_until_then() -> None:
    assert timed_out(0.3, b"") == "Health check exceeded timeout (300ms)"
    assert timed_out(90, b"part\n") == "Health check exceeded timeout (1m30s): part\n"
    assert timed_out(3600, b"") == "Health check exceeded timeout (1h0m0s)"
    assert timed_out(1.5, b"") == "Health check exceeded timeout (1.5s)"
