"""Things done side by side whose failure is told like that of one thing."""

from __future__ import annotations

import asyncio
from types import TracebackType

from compose.errors import ComposeError, first_of


class Together(asyncio.TaskGroup):
    """Raises the first ComposeError as it is: who catches one needn't know of groups. With any
    other error among them the group is raised."""

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await super().__aexit__(kind, error, traceback)
        except BaseExceptionGroup as group:
            _, others = group.split(ComposeError)
            if others is not None:
                raise
            raise first_of(group) from None
