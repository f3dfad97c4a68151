from hypothesis import given
from hypothesis import strategies as st

from engine.containers.model import RestartPolicy, State, Status
from engine.containers.restart import Backoff, after_exit, starts_with_daemon

ALWAYS = RestartPolicy("always")


def delays(policy: RestartPolicy, runs: list[float], *, exit_code: int = 1) -> list[float | None]:
    backoff, found = Backoff(), []
    for ran_for in runs:
        following = after_exit(
            policy, backoff, exit_code=exit_code, stopped_by_user=False, ran_for=ran_for
        )
        found.append(None if following is None else following.delay)
        if following is None:
            break
        backoff = following
    return found


def test_delay_doubles_from_a_tenth_to_a_minute() -> None:
    found = delays(ALWAYS, [0.0] * 12)
    assert found == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60.0, 60.0]


def test_ten_seconds_up_start_the_delays_over() -> None:
    assert delays(ALWAYS, [0, 0, 0, 10.0, 0]) == [0.1, 0.2, 0.4, 0.1, 0.2]


def test_on_failure_counts_its_tries_and_is_content_with_zero() -> None:
    assert delays(RestartPolicy("on-failure", 2), [0, 0, 0]) == [0.1, 0.2, None]
    assert delays(RestartPolicy("on-failure"), [0], exit_code=0) == [None]
    assert delays(RestartPolicy("on-failure"), [0] * 3) == [0.1, 0.2, 0.4]
    assert delays(RestartPolicy("no"), [0]) == [None]


@given(
    name=st.sampled_from(["no", "always", "unless-stopped", "on-failure"]),
    exit_code=st.integers(0, 255),
    ran_for=st.floats(0, 1e6),
)
def test_what_was_stopped_by_hand_stays_down(name: str, exit_code: int, ran_for: float) -> None:
    assert after_exit(
        RestartPolicy(name), Backoff(), exit_code=exit_code, stopped_by_user=True, ran_for=ran_for
    ) is None  # fmt: skip


def test_a_new_daemon_starts_what_its_policy_says() -> None:
    ended = State(Status.EXITED, exit_code=0, started_at=1)
    stopped = State(Status.EXITED, exit_code=137, started_at=1, stopped_by_user=True)
    failed = State(Status.EXITED, exit_code=1, started_at=1)

    def started(policy: RestartPolicy, state: State) -> bool:
        return starts_with_daemon(policy, state, restart_count=0)

    assert started(ALWAYS, ended)
    assert started(ALWAYS, stopped)
    assert started(RestartPolicy("unless-stopped"), ended)
    assert not started(RestartPolicy("unless-stopped"), stopped)
    assert started(RestartPolicy("on-failure"), failed)
    assert not started(RestartPolicy("on-failure"), ended)
    assert not started(RestartPolicy("no"), failed)
    assert not started(ALWAYS, State())
