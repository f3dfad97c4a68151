"""What users read when a file is wrong: bad_inputs.txt holds each file and the exact text."""

from pathlib import Path

import pytest

from compose.errors import ProjectError
from tests.compose.load.projects import load

CASES = [
    case.partition("\n")
    for case in (Path(__file__).parent / "bad_inputs.txt").read_text().split("=== ")[1:]
]


@pytest.mark.parametrize(("name", "case"), [pytest.param(n, c, id=n) for n, _, c in CASES])
def test_a_wrong_file_is_told_exactly(name: str, case: str, tmp_path: Path) -> None:
    text, _, expected = case.partition("---\n")
    (tmp_path / "compose.yaml").write_text(text)
    with pytest.raises(ProjectError) as error:
        load(tmp_path)
    assert str(error.value) == expected.rstrip("\n")


def test_every_problem_has_a_place_and_most_have_a_hint() -> None:
    told = [case.partition("---\n")[2] for _, _, case in CASES]
    first_lines = [line for text in told for line in text.splitlines() if line[:1] != " "]
    assert all(line.startswith("compose.yaml:") for line in first_lines)
    hints = sum(text.count("\n  hint: ") for text in told)
    assert hints > 0.9 * len(first_lines)
