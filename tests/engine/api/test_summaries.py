from __future__ import annotations

import json
from dataclasses import replace

from engine.api.shown import container_summary
from engine.api.summaries import ROOM, Summaries
from engine.containers.model import HealthState, State, Status
from tests.engine.api.test_shown import SECOND, START, record


def test_an_entry_is_the_summary() -> None:
    one = record(state=State(Status.RUNNING, started_at=START, health=HealthState("healthy")))
    summaries = Summaries()
    for later in (1, 60, 3600):
        now = START + later * SECOND
        made = json.loads(summaries.of(one, "x", now))
        assert made == json.loads(json.dumps(container_summary(one, image="x", now=now)))


def test_a_change_is_seen() -> None:
    summaries = Summaries()
    one = record()
    summaries.of(one, "x", START)
    renamed = replace(one, name="other")
    assert json.loads(summaries.of(renamed, "x", START))["Names"] == ["/other"]
    assert json.loads(summaries.of(renamed, "y", START))["Image"] == "y"


def test_it_does_not_grow_without_end() -> None:
    summaries = Summaries()
    for number in range(ROOM + 10):
        summaries.of(record(id=str(number)), "x", START)
    assert len(summaries._made) <= ROOM
