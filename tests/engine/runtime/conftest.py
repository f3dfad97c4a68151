from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.engine.runtime.laboratory import Laboratory, laboratory


@pytest.fixture
async def lab() -> AsyncIterator[Laboratory]:
    async with laboratory() as opened:
        yield opened
