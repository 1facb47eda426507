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
    order = graph.arrange(targets).order
    for node, mask in enumerate(graph.ancestors(targets, order)):
        assert set(graph.bits(mask)) == {a for a in range(len(targets)) if node in reach[a]}


@given(adjacencies())
def test_canonical_order_holds_every_node_once_and_respects_what_is_no_loop(
    targets: list[list[int]],
) -> None:
    order = graph.arrange(targets).order
    assert sorted(order) == list(range(len(targets)))
    rank = {node: position for position, node in enumerate(order)}
    reach = _closure(targets)
    for source, following in enumerate(targets):
        for target in following:
            if source not in reach[target]:
                assert rank[source] < rank[target]


@given(adjacencies())
def test_canonical_order_keeps_loops_together(targets: list[list[int]]) -> None:
    rank = {node: position for position, node in enumerate(graph.arrange(targets).order)}
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
    assert graph.arrange(targets).order == tuple(range(size))
    assert graph.loops(targets) == []


@given(st.integers(0, 2**200))
def test_bits_are_the_positions_of_ones(mask: int) -> None:
    assert sum(1 << position for position in graph.bits(mask)) == mask


def test_branch_is_what_leads_only_to_a_node_in_the_same_iteration() -> None:
    targets = [[1, 3], [2, 4], [1], [4], [-1, 0], []]  # 0 -> (1 <-> 2, 3) -> 4 -> 0 or the end
    forward = [[target for target in following if target >= 0] for following in targets]
    branches = graph.Branches(targets, graph.arrange(forward, 0).regions)
    assert branches.to(4) == {0, 1, 2, 3}
    assert branches.to(3) == set()
    assert branches.to(5) == set()


def _branch(targets: list[list[int]], regions: tuple[graph.Region, ...], join: int) -> set[int]:
    """The largest set of nodes upstream whose edges all lead into it or to the join, none of them
    back to the entry of a loop around the join, or out of the loop of which the join is the entry."""
    around = [
        {r for r, region in enumerate(regions) if n in region.members} for n in range(len(targets))
    ]
    own = {r for r in around[join] if regions[r].entry == join}
    frame = around[join] - own
    back = {(source, regions[r].entry) for r in frame for source in regions[r].members}
    reach = _closure(targets)
    inside = {
        n for n in range(len(targets))
        if join in reach[n] and n != join and frame <= around[n] and not own & around[n]
    }  # fmt: skip
    while True:
        kept = {
            n for n in inside
            if all((t in inside or t == join) and (n, t) not in back for t in targets[n])
        }  # fmt: skip
        if kept == inside:
            return kept
        inside = kept


@given(adjacencies())
def test_branch_is_what_a_slow_search_finds(targets: list[list[int]]) -> None:
    regions = graph.arrange(targets, 0).regions
    branches = graph.Branches(targets, regions)
    for join in range(len(targets)):
        assert branches.to(join) == _branch(targets, regions, join)
