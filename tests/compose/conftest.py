"""Engines for tests of compose: one of each kind a session, started when first needed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from compose.client.address import UnixAddress
from compose.client.engine import Engine, connect
from tests.compose.engines import missing, running_engine

KINDS = ("pyengine", "dockerd")


@pytest.fixture(scope="session")
def engine_socket() -> Iterator[Callable[[str], str]]:
    """Kind -> the path of its socket."""
    with contextlib.ExitStack() as ending:
        started: dict[str, str] = {}

        def path(kind: str) -> str:
            if reason := missing(kind):
                pytest.skip(f"{kind}: {reason}")
            if kind not in started:
                _, started[kind] = ending.enter_context(running_engine(kind))
            return started[kind]

        yield path


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What uses `engine` runs on ours; what is marked `peer` on Docker's as well."""
    if "engine" in metafunc.fixturenames:
        kinds = KINDS if metafunc.definition.get_closest_marker("peer") else KINDS[:1]
        parameters = [pytest.param(kind, marks=pytest.mark.kernel) for kind in kinds]
        metafunc.parametrize("engine", parameters, indirect=True)


@pytest.fixture
async def engine(request: pytest.FixtureRequest, engine_socket: Callable[[str], str]) -> Engine:
    return await connect(UnixAddress(engine_socket(request.param)))
