"""Arithmetic on graphs, against slow and obvious versions of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentflow.spec import graph


@st.composite
def adjacencies(draw: st.DrawFn) -> list[list[int]]:
    size = draw(st.integers(1, 9))
    node = st.integers(0, size - 1)
    return [draw(st.lists(node, max_size=3)) for _ in range(size)]


def _closure(targets: list[list[int]]) -> list[set[int]]:
    reach = [set(following) for following in targets]
    for _ in targets:
        for node, following in enumerate(reach):
            reach[node] = (
                following.union(*(reach[n] for n in following)) if following else following
            )
    return reach


@given(adjacencies())
def test_components_are_the_sets_of_nodes_that_reach_each_other(targets: list[list[int]]) -> None:
    reach = _closure(targets)
    expected = {
        frozenset({a} | {b for b in reach[a] if a in reach[b]}) for a in range(len(targets))
    }
    assert {frozenset(region) for region in graph.components(targets)} == expected


@given(adjacencies())
def test_ancestors_are_the_nodes_that_reach_a_node(targets: list[list[int]]) -> None:
    reach = _closure(targets)
    order = graph.canonical_order(targets)
    for node, mask in enumerate(graph.ancestors(targets, order)):
        assert set(graph.bits(mask)) == {a for a in range(len(targets)) if node in reach[a]}


@given(adjacencies())
def test_canonical_order_holds_every_node_once_and_respects_what_is_no_loop(
    targets: list[list[int]],
) -> None:
    order = graph.canonical_order(targets)
    assert sorted(order) == list(range(len(targets)))
    rank = {node: position for position, node in enumerate(order)}
    reach = _closure(targets)
    for source, following in enumerate(targets):
        for target in following:
            if source not in reach[target]:
                assert rank[source] < rank[target]


@given(adjacencies())
def test_canonical_order_keeps_loops_together(targets: list[list[int]]) -> None:
    rank = {node: position for position, node in enumerate(graph.canonical_order(targets))}
    for region in graph.components(targets):
        ranks = sorted(rank[node] for node in region)
        assert ranks == list(range(ranks[0], ranks[0] + len(region)))


@given(adjacencies(), st.integers(0, 8))
def test_reachable_is_the_node_and_what_follows(targets: list[list[int]], start: int) -> None:
    start %= len(targets)
    assert graph.reachable(targets, start) == {start} | _closure(targets)[start]


def test_long_chains_need_no_recursion() -> None:
    size = 20_000
    targets = [[node + 1] for node in range(size - 1)] + [[]]
    assert graph.canonical_order(targets) == list(range(size))
    assert graph.loops(targets) == []


@given(st.integers(0, 2**200))
def test_bits_are_the_positions_of_ones(mask: int) -> None:
    assert sum(1 << position for position in graph.bits(mask)) == mask
