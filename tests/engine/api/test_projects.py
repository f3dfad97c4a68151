"""The calls of our own: a project's revisions."""

from __future__ import annotations

import json

import pytest

from tests.host import Daemon

pytestmark = pytest.mark.kernel
PATH = "/pycompose/projects/tea/revisions"


def test_revisions_are_numbered_listed_and_removed(engine: Daemon) -> None:
    for greeting in ("hello", "hi"):
        body = {"summary": f"say {greeting}", "model": {"x-greeting": greeting}}
        status, answer = engine.call("POST", PATH, body)
        assert status == 201, answer
    assert isinstance(answer, dict)
    assert answer["Number"] == 2
    _, listed = engine.call("GET", PATH)
    assert isinstance(listed, dict)
    rows = listed["Revisions"]
    assert [(row["number"], row["summary"]) for row in rows] == [(1, "say hello"), (2, "say hi")]
    assert not any("model" in row for row in rows)
    _, first = engine.call("GET", f"{PATH}/1")
    assert isinstance(first, dict)
    assert first["model"] == {"x-greeting": "hello"}
    assert engine.call("DELETE", PATH)[0] == 204
    assert engine.call("GET", PATH) == (200, {"Revisions": []})
    status, answer = engine.call("GET", f"{PATH}/1")
    assert (status, answer) == (404, {"message": "project tea has no revision 1"})


def test_what_a_project_cant_be_called_is_refused(engine: Daemon) -> None:
    for name in ("..", "Tea", "a%2Fb", "-x", "a" * 300):
        status, answer = engine.call("POST", f"/pycompose/projects/{name}/revisions", {})
        assert status == 400, answer
        assert "invalid project name" in json.dumps(answer)
    assert engine.call("GET", f"{PATH}/x")[0] == 400
    assert engine.call("POST", PATH, {"summary": 5})[0] == 400
