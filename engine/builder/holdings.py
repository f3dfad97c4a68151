"""Pure: what the build cache holds, and what of it goes when asked or when it is too large."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.filters import Filters, parse_until

FILTERS = ("description", "id", "inuse", "label", "label!", "parent", "private", "shared", "type",
           "until", "unused-for")  # fmt: skip
# The words of BuildKit.
STEP, MOUNT, CONTEXT = "regular", "exec.cachemount", "source.local"


@dataclass(frozen=True, slots=True)
class Holding:
    id: str
    kind: str  # STEP, MOUNT, CONTEXT
    description: str
    size: int  # bytes that go with it
    created: float  # seconds since 1970
    used: float
    in_use: bool  # by a build under way
    is_shared: bool = False  # an image stands on it: nothing goes with it
    depth: int = 0  # how much lies below it in the cache


@dataclass(frozen=True, slots=True)
class PruneRequest:
    everything: bool = False  # also what frees nothing
    keep: int = 0  # bytes that may stay
    filters: Filters = field(default_factory=Filters)


def chosen(holdings: Sequence[Holding], request: PruneRequest, now: float) -> tuple[Holding, ...]:
    """What goes: what was not used for longest first. Raises InvalidRequest for a filter that is
    none."""
    request.filters.check(FILTERS)
    bounds = [
        parse_until(text, int(now * 10**9)) / 10**9
        for key in ("until", "unused-for")
        for text in request.filters.get(key)
    ]
    since = max(bounds, default=now)
    total = sum(each.size for each in holdings)
    gone: list[Holding] = []
    # Of what was used at once, that which stands on others goes before them.
    for each in sorted(holdings, key=lambda each: (each.used, -each.depth)):
        if request.keep and total <= request.keep:
            break
        if each.in_use or (each.is_shared and not request.everything):
            continue
        if _fits(each, request.filters, since):
            gone.append(each)
            total -= each.size
    return tuple(gone)


def _fits(one: Holding, filters: Filters, since: float) -> bool:
    wanted = [filters.flag("shared"), None if (own := filters.flag("private")) is None else not own]
    return (
        one.used <= since
        and filters.any("id", lambda text: bool(re.search(re.escape(text), one.id)))
        and filters.any("type", one.kind.__eq__)
        and filters.any("description", lambda text: text in one.description)
        and filters.any("parent", lambda text: False)
        and filters.labels({})  # `docker system prune` hands on what it was told
        and filters.flag("inuse") is not True
        and all(flag is None or flag == one.is_shared for flag in wanted)
    )
