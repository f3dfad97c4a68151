"""The list of containers, encoded once for each state of each container.

Clients ask for it all the time, and a container's record is a new object only when it changed.
"""

from __future__ import annotations

from engine.api.answer import encode
from engine.api.shown import lasting_summary, status_text
from engine.containers.model import Record

ROOM = 4096  # entries of containers that may be gone by now


class Summaries:
    def __init__(self) -> None:
        self._made: dict[str, tuple[Record, str, bytes]] = {}

    def of(self, record: Record, image: str, now: int) -> bytes:
        """One entry of the list as JSON; `now` in nanoseconds."""
        known = self._made.get(record.id)
        if known is None or known[0] is not record or known[1] != image:
            if len(self._made) >= ROOM:
                self._made.clear()
            known = (record, image, encode(lasting_summary(record, image))[:-2])
            self._made[record.id] = known
        # The status line ages without a change; its letters need no escapes.
        return b'%s,"Status":"%s"}' % (known[2], status_text(record.state, now).encode())
