"""Which part of the build cache goes."""

from __future__ import annotations

import pytest

from engine.builder.holdings import MOUNT, STEP, Holding, PruneRequest, chosen
from engine.errors import InvalidRequest
from engine.filters import Filters

NOW = 100_000.0


def holding(name: str, size: int, used: float, *, kind: str = STEP, in_use: bool = False,
            is_shared: bool = False, depth: int = 0) -> Holding:  # fmt: skip
    return Holding(name, kind, f"made {name}", size, used, used, in_use, is_shared, depth)


HELD = (
    holding("new", 10, NOW - 10),
    holding("below", 20, NOW - 7200, depth=1),
    holding("above", 30, NOW - 7200, depth=2),
    holding("busy", 40, NOW - 9000, in_use=True),
    holding("stood-on", 0, NOW - 9000, is_shared=True),
    holding("mount", 50, NOW - 8000, kind=MOUNT),
)


def names(request: PruneRequest) -> list[str]:
    return [each.id for each in chosen(HELD, request, NOW)]


def test_all_that_nothing_needs() -> None:
    assert names(PruneRequest()) == ["mount", "above", "below", "new"]
    assert "stood-on" in names(PruneRequest(everything=True))


def test_what_was_not_used_for_longest_goes_until_it_fits() -> None:
    assert names(PruneRequest(keep=200)) == []
    assert names(PruneRequest(keep=149)) == ["mount"]
    assert names(PruneRequest(keep=90)) == ["mount", "above"]


def test_filters() -> None:
    for values, wanted in (
        ({"until": ("1h30m",)}, ["mount", "above", "below"]),
        ({"type": (MOUNT,)}, ["mount"]),
        ({"id": ("abo",)}, ["above"]),
        ({"description": ("made new",)}, ["new"]),
        ({"inuse": ("true",)}, []),
        ({"shared": ("true",)}, []),
        ({"label": ("x",)}, []),
    ):
        assert names(PruneRequest(filters=Filters(values))) == wanted
    for values in ({"odd": ("x",)}, {"until": ("soon",)}):
        with pytest.raises(InvalidRequest):
            chosen((), PruneRequest(filters=Filters(values)), 0)
