from __future__ import annotations

import pytest

from compose.client.errors import code_of_refusal

FAILED = "failed to create task for container: unable to start container process: exec: "


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (FAILED + '"x": executable file not found in $PATH', 127),
        (FAILED + '"/x": stat /x: no such file or directory', 127),
        (FAILED + '"/x": permission denied', 126),
        ("Bind for 0.0.0.0:80 failed: port is already allocated", None),
        ("permission denied", None),
    ],
)
def test_a_command_that_cannot_be_started_has_the_code_of_a_shell(
    message: str, code: int | None
) -> None:
    assert code_of_refusal(message) == code
