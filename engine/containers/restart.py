"""Restart policies: pure. What an exit, a start of the daemon or a reboot means for a container."""

from dataclasses import dataclass

from engine.containers.model import RestartPolicy, State

FIRST_DELAY = 0.1  # seconds
LONGEST_DELAY = 60.0
# A run of at least this long counts as a success: the next delay is the first one again.
STEADY = 10.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """How often it was restarted in a row, and the delay of the last time (0 = none)."""

    failures: int = 0
    delay: float = 0.0


def wants_restart(
    policy: RestartPolicy, *, exit_code: int, stopped_by_user: bool, failures: int
) -> bool:
    match policy.name:
        case "always" | "unless-stopped":
            return not stopped_by_user
        case "on-failure":
            limit = policy.maximum_retry_count
            return not stopped_by_user and exit_code != 0 and (limit == 0 or failures < limit)
        case _:
            return False


def after_exit(
    policy: RestartPolicy,
    backoff: Backoff,
    *,
    exit_code: int,
    stopped_by_user: bool,
    ran_for: float,
) -> Backoff | None:
    """The back-off to wait for (`delay` seconds), or None to stay down.

    Doubles from 0.1 s to 60 s; starts over after a run of 10 s. Retries of `on-failure` are
    counted over such runs too, as Docker does.
    """
    if not wants_restart(
        policy, exit_code=exit_code, stopped_by_user=stopped_by_user, failures=backoff.failures
    ):
        return None
    delay = FIRST_DELAY
    if backoff.delay and ran_for < STEADY:
        delay = min(backoff.delay * 2, LONGEST_DELAY)
    return Backoff(backoff.failures + 1, delay)


def starts_with_daemon(policy: RestartPolicy, state: State, *, restart_count: int) -> bool:
    """Whether a container found down at the daemon's start is started.

    `always` also after a stop by hand: that holds until the daemon starts again.
    """
    if not state.started_at:
        return False
    return wants_restart(
        policy,
        exit_code=state.exit_code,
        stopped_by_user=state.stopped_by_user and policy.name != "always",
        failures=restart_count,
    )
