from dataclasses import replace

import pytest

from engine.containers import lifecycle
from engine.containers.lifecycle import TABLE, Change
from engine.containers.model import (
    ContainerConfig,
    HealthState,
    HostConfig,
    Record,
    State,
    Status,
)
from engine.errors import Conflict


def record(status: Status) -> Record:
    return Record(
        id="f" * 64, name="web", created=1, config=ContainerConfig(), host=HostConfig(),
        image_id="sha256:0", path="sh", args=(), state=State(status),
    )  # fmt: skip


def test_every_status_can_be_left_and_reached() -> None:
    assert {status for status, _ in TABLE} == set(Status)
    assert set(TABLE.values()) >= set(Status) - {Status.CREATED}


def test_only_what_is_up_can_exit_and_only_what_is_down_can_go() -> None:
    for status in Status:
        assert lifecycle.is_allowed(status, Change.EXIT) is status.is_up
        if status.is_up:
            assert not lifecycle.is_allowed(status, Change.REMOVE)
            assert not lifecycle.is_allowed(status, Change.START)


@pytest.mark.parametrize(
    ("status", "change", "text"),
    [
        (Status.RUNNING, Change.REMOVE, "container is running: stop the container before"),
        (Status.PAUSED, Change.REMOVE, "container is paused and must be unpaused first"),
        (Status.RESTARTING, Change.REMOVE, "container is restarting: stop the container before"),
        (Status.PAUSED, Change.PAUSE, "is already paused"),
        (Status.RUNNING, Change.UNPAUSE, "is not paused"),
        (Status.EXITED, Change.UNPAUSE, "is not paused"),
        (Status.EXITED, Change.PAUSE, "is not running"),
        (Status.PAUSED, Change.START, "cannot start a paused container, try unpause instead"),
        (Status.REMOVING, Change.START, "is marked for removal and cannot be started"),
    ],
)
def test_refusals_are_docker_s(status: Status, change: Change, text: str) -> None:
    with pytest.raises(Conflict, match=text):
        lifecycle.demand(record(status), change)


def test_a_new_run_forgets_the_last_one() -> None:
    state = State(
        Status.EXITED, exit_code=7, error="x", oom_killed=True, finished_at=9, stopped_by_user=True
    )
    begun = lifecycle.started(state, pid=42, at=10, health=None)
    assert begun == State(Status.RUNNING, pid=42, started_at=10)


def test_a_failed_start_leaves_a_created_container_created() -> None:
    failed = lifecycle.failed_to_start(State(), exit_code=127, error="not found")
    assert failed == State(Status.CREATED, exit_code=127, error="not found")
    restarting = replace(State(), status=Status.RESTARTING)
    assert lifecycle.failed_to_start(restarting, exit_code=1, error="").status is Status.EXITED


def test_what_has_exited_is_not_healthy_any_more() -> None:
    running = State(Status.RUNNING, health=HealthState("healthy"))
    ended = lifecycle.exited(running, exit_code=0, at=1, oom_killed=False, restarting=False)
    assert ended.health == HealthState("unhealthy")
