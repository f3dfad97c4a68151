"""docs/isolation.md says which test tries which attack: all requirements, by tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TABLE = (HERE.parent / "docs/isolation.md").read_text()
ROWS = re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \| (.*?) ?\|$", TABLE, re.MULTILINE)
LAST = 87


def test_every_requirement_stands_there_once() -> None:
    assert [int(number) for number, *_ in ROWS] == list(range(1, LAST + 1))


@pytest.mark.parametrize(("number", "tests"), [(row[0], row[2]) for row in ROWS])
def test_every_test_that_is_named_is_there(number: str, tests: str) -> None:
    named = re.findall(r"`([^`]+)::([^`]+)`", tests)
    if not named:
        assert tests.startswith(("not applicable yet: ", "not tested: ")), number
    for path, name in named:
        assert name in functions(path), f"{number}: there is no {name} in {path}"


@cache
def functions(path: str) -> frozenset[str]:
    tree = ast.parse((HERE / path).read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in tree.body if isinstance(node, kinds))
