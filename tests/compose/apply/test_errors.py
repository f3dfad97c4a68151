from __future__ import annotations

from compose.apply.errors import Failure, hint_for
from compose.errors import ApplyError


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
