"""A stack of its own for each test of a module that says what it is: `STACK`."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.host import Host, host
from tests.scenarios.project import Project, project


@pytest.fixture(scope="module")
def place() -> Iterator[Host]:
    with host() as opened:
        opened.daemon()
        yield opened


@pytest.fixture
def stack(place: Host, request: pytest.FixtureRequest) -> Iterator[Project]:
    """A folder with the module's stack, not up yet; taken down in the end."""
    name = re.sub(r"\W", "", request.node.name.removeprefix("test_"))[:40].rstrip("_")
    text = request.module.STACK
    made = project(place, text, name, place.daemons[-1])
    yield made
    made.write(text)
    made("down", "--volumes", check=False)
