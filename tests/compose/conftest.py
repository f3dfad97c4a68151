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


@pytest.fixture(params=[pytest.param(kind, marks=pytest.mark.kernel) for kind in KINDS])
async def engine(request: pytest.FixtureRequest, engine_socket: Callable[[str], str]) -> Engine:
    """The contract suites run on our engine and, where it is installed, on Docker's."""
    return await connect(UnixAddress(engine_socket(request.param)))
