"""Things done side by side whose failure is told like that of one thing."""

from __future__ import annotations

import asyncio
from types import TracebackType

from compose.errors import ComposeError, first_of


class Together(asyncio.TaskGroup):
    """Raises the first ComposeError as it is: who catches one needn't know of groups. So is that
    of a pipe whose reader has gone, before all others: nobody would read of them. With any other
    error among them the group is raised."""

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await super().__aexit__(kind, error, traceback)
        except BaseExceptionGroup as group:
            if (unread := group.subgroup(BrokenPipeError)) is not None:
                raise BrokenPipeError(*_first(unread).args) from None
            _, others = group.split(ComposeError)
            if others is not None:
                raise
            raise first_of(group) from None


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
