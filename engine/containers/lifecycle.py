"""The life of a container as a table: which change is possible in which status, and what follows.

Pure. The texts of refusals are Docker's, since clients look for them.
"""

from collections.abc import Mapping
from dataclasses import replace
from enum import Enum

from engine.containers.model import HealthState, Record, State, Status
from engine.errors import Conflict


class Change(Enum):
    START = "start"
    FAIL_TO_START = "fail to start"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    EXIT = "exit"
    EXIT_TO_RESTART = "exit, to be restarted"
    GIVE_UP = "give up restarting"
    REMOVE = "remove"
    FAIL_TO_REMOVE = "fail to remove"


TABLE: Mapping[tuple[Status, Change], Status] = {
    (Status.CREATED, Change.START): Status.RUNNING,
    (Status.CREATED, Change.FAIL_TO_START): Status.CREATED,
    (Status.CREATED, Change.REMOVE): Status.REMOVING,
    (Status.RUNNING, Change.PAUSE): Status.PAUSED,
    (Status.RUNNING, Change.EXIT): Status.EXITED,
    (Status.RUNNING, Change.EXIT_TO_RESTART): Status.RESTARTING,
    (Status.PAUSED, Change.UNPAUSE): Status.RUNNING,
    (Status.PAUSED, Change.EXIT): Status.EXITED,
    (Status.PAUSED, Change.EXIT_TO_RESTART): Status.RESTARTING,
    (Status.RESTARTING, Change.START): Status.RUNNING,
    (Status.RESTARTING, Change.FAIL_TO_START): Status.EXITED,
    (Status.RESTARTING, Change.GIVE_UP): Status.EXITED,
    (Status.EXITED, Change.START): Status.RUNNING,
    (Status.EXITED, Change.FAIL_TO_START): Status.EXITED,
    (Status.EXITED, Change.REMOVE): Status.REMOVING,
    (Status.DEAD, Change.REMOVE): Status.REMOVING,
    # A removal that a crash or an error interrupted is taken up again.
    (Status.REMOVING, Change.REMOVE): Status.REMOVING,
    (Status.REMOVING, Change.FAIL_TO_REMOVE): Status.DEAD,
}


def is_allowed(status: Status, change: Change) -> bool:
    return (status, change) in TABLE


def demand(record: Record, change: Change) -> None:
    """Raises Conflict, in Docker's words, unless `change` is possible now."""
    if is_allowed(record.state.status, change):
        return
    raise Conflict(refusal(record, change))


def refusal(record: Record, change: Change) -> str:
    status = record.state.status
    match change:
        case Change.REMOVE:
            refused = f'cannot remove container "{record.name}": container is {status.value}'
            if status is Status.PAUSED:
                return f"{refused} and must be unpaused first"
            return f"{refused}: stop the container before removing or force remove"
        case Change.PAUSE if status is Status.PAUSED:
            return f"Container {record.id} is already paused"
        case Change.PAUSE if status is Status.RESTARTING:
            return f"Container {record.id} is restarting, wait until the container is running"
        case Change.UNPAUSE:
            return f"Container {record.id} is not paused"
        case Change.START if status is Status.PAUSED:
            return "cannot start a paused container, try unpause instead"
        case Change.START if status in (Status.REMOVING, Status.DEAD):
            return "container is marked for removal and cannot be started"
        case _:
            return f"container {record.id} is not running"


def started(
    state: State, *, pid: int, at: int, clock: int = 0, health: HealthState | None
) -> State:
    return replace(
        state,
        status=TABLE[state.status, Change.START],
        pid=pid,
        exit_code=0,
        error="",
        oom_killed=False,
        started_at=at,
        started_clock=clock,
        finished_at=0,
        health=health,
        stopped_by_user=False,
    )


def failed_to_start(state: State, *, exit_code: int, error: str) -> State:
    status = TABLE[state.status, Change.FAIL_TO_START]
    return replace(state, status=status, pid=0, exit_code=exit_code, error=error)


def exited(
    state: State, *, exit_code: int, at: int, oom_killed: bool, restarting: bool, error: str = ""
) -> State:
    change = Change.EXIT_TO_RESTART if restarting else Change.EXIT
    return replace(
        state,
        status=TABLE[state.status, change],
        pid=0,
        exit_code=exit_code,
        error=error,
        oom_killed=oom_killed or state.oom_killed,
        finished_at=at,
        # As in Docker: what is down is no more as its probes said.
        health=replace(state.health, status="unhealthy") if state.health is not None else None,
    )


def changed(state: State, change: Change) -> State:
    """For the changes that touch the status alone."""
    return replace(state, status=TABLE[state.status, change])
