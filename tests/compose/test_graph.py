from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.graph import dependency_order, find_cycle, reverse, with_dependents, with_needed

NODES = st.integers(0, 9).map(str)
# Each needs only smaller ones, so there is no cycle.
ACYCLIC = st.dictionaries(NODES, st.sets(NODES)).map(
    lambda edges: {name: sorted(n for n in needed if n < name) for name, needed in edges.items()}
)


@given(ACYCLIC)
def test_what_is_needed_comes_first(edges: dict[str, list[str]]) -> None:
    order = dependency_order(edges)
    assert len(order) == len(set(order))
    for name, needed in edges.items():
        assert all(order.index(other) < order.index(name) for other in needed)


def test_equals_are_in_order_of_name() -> None:
    assert dependency_order({"c": [], "a": [], "b": []}) == ("a", "b", "c")
    assert dependency_order({"a": ["z"], "b": [], "z": []}) == ("b", "z", "a")


def test_a_cycle_is_found_in_the_direction_of_need() -> None:
    edges = {"web": ["api"], "api": ["db"], "db": ["web"], "other": ["web"]}
    assert find_cycle(edges) == ("api", "db", "web", "api")
    assert find_cycle({"a": ["a"]}) == ("a", "a")
    assert find_cycle({"a": ["b"], "b": []}) == ()
    with pytest.raises(ValueError, match="api -> db -> web -> api"):
        dependency_order(edges)


def test_subsets_follow_the_edges_either_way() -> None:
    edges = {"web": ["api"], "api": ["db"], "db": [], "other": ["db"]}
    assert with_needed(edges, ["api"]) == {"api", "db"}
    assert with_dependents(edges, ["api"]) == {"api", "web"}
    assert reverse(edges) == {"web": [], "api": ["web"], "db": ["api", "other"], "other": []}
