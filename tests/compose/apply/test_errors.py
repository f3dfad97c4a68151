from __future__ import annotations

from compose.apply.errors import Failure, hint_for, place_for
from compose.errors import ApplyError
from compose.position import Position


def test_known_refusals_get_a_hint() -> None:
    assert "room" in hint_for("mkdir /x: No space left on device")
    assert hint_for("something else") == ""
    assert hint_for("port is already allocated\n  hint: do this") == ""


def test_a_failure_says_where_and_what_to_do() -> None:
    error = ApplyError("Bind for 0.0.0.0:80 failed: port is already allocated")
    assert str(Failure("start web.1", error, "compose.yaml:3:3")) == (
        "compose.yaml:3:3: cannot start web.1: Bind for 0.0.0.0:80 failed:"
        " port is already allocated\n  hint: publish another port, or stop who has it"
    )


def test_what_was_tried_is_said_once() -> None:
    said = "cannot kill container: 3f0c9a: container 3f0c9a is not running"
    assert str(Failure("kill demo-web-1", RuntimeError(said))) == (
        "cannot kill demo-web-1: container 3f0c9a is not running"
    )


def test_a_refusal_is_placed_at_what_it_speaks_of() -> None:
    command, user = Position("compose.yaml", 4, 5), Position("compose.yaml", 5, 5)
    places = {"command": command, "user": user}
    said = 'unable to start container process: exec: "x": executable file not found in $PATH'
    assert place_for(said, places.get) == command
    entrypoint = Position("compose.yaml", 6, 5)
    assert place_for(said, {**places, "entrypoint": entrypoint}.get) == entrypoint
    said = "unable to find user x: no matching entries in passwd file"
    assert place_for(said, places.get) == user
    assert place_for("port is already allocated", places.get) is None


def test_what_a_step_of_a_build_says_is_no_refusal_of_a_registry() -> None:
    said = (
        "The command '/bin/sh -c x' returned a non-zero code: 1\ndial tcp: lookup a: no such host"
    )
    assert hint_for(said) == ""
    assert "registry" in hint_for("dial tcp: lookup a: no such host")
