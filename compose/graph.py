"""pure: order, cycles and subsets of things that need one another.

A graph is given as `edges`: name -> the names that it needs. Names that are only needed belong to
it as well. networkx is imported where it is used: that takes longer than sorting most graphs.
"""

from __future__ import annotations

import graphlib
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import networkx

Edges = Mapping[str, Collection[str]]


def make_graph(edges: Edges) -> networkx.DiGraph[str]:
    """An edge points from what is needed to what needs it."""
    import networkx

    graph: networkx.DiGraph[str] = networkx.DiGraph()
    graph.add_nodes_from(edges)
    graph.add_edges_from((needed, name) for name, all_of in edges.items() for needed in all_of)
    return graph


def find_cycle(edges: Edges) -> tuple[str, ...]:
    """Names that need each other in a ring, the first one again at the end; empty if none do."""
    if not any(edges.values()):
        return ()
    import networkx

    try:
        ring = networkx.find_cycle(make_graph(edges))
    except networkx.NetworkXNoCycle:
        return ()
    names = [needed for needed, _ in reversed(ring)]
    first = names.index(min(names))
    names = names[first:] + names[:first]
    return (*names, names[0])


def dependency_order(edges: Edges) -> tuple[str, ...]:
    """What is needed first; among equals by name. Raises ValueError on a cycle."""
    # Every `up` asks for it: the standard library's sorter is there in a millisecond, and importing
    # networkx would be a third of an `up` that does nothing.
    sorter = graphlib.TopologicalSorter({name: edges[name] for name in sorted(edges)})
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        raise ValueError("the graph has a cycle: " + " -> ".join(find_cycle(edges))) from error
    order: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        sorter.done(*ready)
        order += ready
    return tuple(order)


def with_needed(edges: Edges, names: Iterable[str]) -> frozenset[str]:
    """`names` and all that they need, directly or not."""
    return _reachable(edges, names)


def with_dependents(edges: Edges, names: Iterable[str]) -> frozenset[str]:
    """`names` and all that need them, directly or not."""
    return _reachable(reverse(edges), names)


def reverse(edges: Edges) -> dict[str, list[str]]:
    turned: dict[str, list[str]] = {name: [] for name in edges}
    for name, needed in edges.items():
        for other in needed:
            turned.setdefault(other, []).append(name)
    return turned


def _reachable(edges: Edges, names: Iterable[str]) -> frozenset[str]:
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(edges.get(name, ()))
    return frozenset(found)
