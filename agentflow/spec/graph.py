"""Arithmetic on directed graphs of integers: components, order, reachability. Iterative throughout."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heappush

Adjacency = Sequence[Sequence[int]]


def components(targets: Adjacency, nodes: Iterable[int] | None = None) -> list[list[int]]:
    """Strongly connected components of the graph, or of the part made of ``nodes`` (Tarjan)."""
    inside = None if nodes is None else set(nodes)
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    found: list[list[int]] = []
    for root in range(len(targets)) if inside is None else sorted(inside):
        if root in index:
            continue
        work = [(root, 0)]
        while work:
            node, at = work.pop()
            if at == 0:
                index[node] = low[node] = len(index)
                stack.append(node)
                on_stack.add(node)
            descended = False
            for position in range(at, len(targets[node])):
                target = targets[node][position]
                if inside is not None and target not in inside:
                    continue
                if target not in index:
                    work += [(node, position + 1), (target, 0)]
                    descended = True
                    break
                if target in on_stack:
                    low[node] = min(low[node], index[target])
            if descended:
                continue
            if low[node] == index[node]:
                found.append(_unstack(stack, on_stack, node))
            if work:
                parent = work[-1][0]
                low[parent] = min(low[parent], low[node])
    return found


def _unstack(stack: list[int], on_stack: set[int], node: int) -> list[int]:
    component: list[int] = []
    while True:
        member = stack.pop()
        on_stack.discard(member)
        component.append(member)
        if member == node:
            return sorted(component)


def loops(targets: Adjacency, nodes: Iterable[int] | None = None) -> list[list[int]]:
    """The components that hold a cycle."""
    return [c for c in components(targets, nodes) if len(c) > 1 or c[0] in targets[c[0]]]


def canonical_order(targets: Adjacency, nodes: Sequence[int] | None = None) -> list[int]:
    """Nodes in canonical order: topological order of the condensed graph, ties broken by the smallest
    index; inside a loop the same again with its edges back to the entry taken away.

    The entry of a loop is the member with an edge from outside, else the smallest.
    """
    todo: list[tuple[list[int], frozenset[tuple[int, int]]]] = [
        (list(range(len(targets))) if nodes is None else list(nodes), frozenset())
    ]
    order: list[int] = []
    while todo:
        members, removed = todo.pop()
        if len(members) == 1:
            order += members
            continue
        inside = set(members)
        local = {
            n: [t for t in targets[n] if t in inside and (n, t) not in removed] for n in members
        }
        regions = _condensed(local)
        pieces: list[tuple[list[int], frozenset[tuple[int, int]]]] = []
        for region in regions:
            if len(region) == 1:
                pieces.append((region, removed))
                continue
            entry = _entry(targets, region)
            back = {(n, entry) for n in region if entry in local[n]}
            pieces.append((region, removed | back))
        todo += reversed(pieces)
    return order


def _entry(targets: Adjacency, region: Sequence[int]) -> int:
    inside = set(region)
    for source, outgoing in enumerate(targets):
        if source not in inside:
            for target in outgoing:
                if target in inside:
                    return target
    return min(region)


def _condensed(local: dict[int, list[int]]) -> list[list[int]]:
    """Components of a small graph in topological order, ties broken by their smallest member."""
    dense = {node: position for position, node in enumerate(local)}
    names = list(local)
    regions = components([[dense[t] for t in local[n]] for n in names])
    regions = [sorted(names[i] for i in region) for region in regions]
    home = {node: r for r, region in enumerate(regions) for node in region}
    waiting = [0] * len(regions)
    following: list[set[int]] = [set() for _ in regions]
    for node, outgoing in local.items():
        for target in outgoing:
            a, b = home[node], home[target]
            if a != b and b not in following[a]:
                following[a].add(b)
                waiting[b] += 1
    ready = [(regions[r][0], r) for r in range(len(regions)) if not waiting[r]]
    heapify(ready)
    out: list[list[int]] = []
    while ready:
        _, region = heappop(ready)
        out.append(regions[region])
        for after in following[region]:
            waiting[after] -= 1
            if not waiting[after]:
                heappush(ready, (regions[after][0], after))
    return out


def reachable(targets: Adjacency, start: int) -> set[int]:
    """The nodes that can be reached from ``start``, itself included."""
    seen, stack = {start}, [start]
    while stack:
        for target in targets[stack.pop()]:
            if target not in seen:
                seen.add(target)
                stack.append(target)
    return seen


def ancestors(targets: Adjacency, order: Sequence[int]) -> list[int]:
    """For every node the bit mask of the nodes upstream of it.

    ``order`` is canonical. Members of a loop are upstream of each other and of themselves.
    """
    masks = [0] * len(targets)
    for region in _in_order(targets, order):
        together = 0
        if len(region) > 1 or region[0] in targets[region[0]]:
            for node in region:
                together |= masks[node] | 1 << node
            for node in region:
                masks[node] = together
        inside = set(region)
        for node in region:
            reach = masks[node] | 1 << node
            for target in targets[node]:
                if target not in inside:
                    masks[target] |= reach
    return masks


def _in_order(targets: Adjacency, order: Sequence[int]) -> list[list[int]]:
    rank = {node: position for position, node in enumerate(order)}
    return sorted(components(targets), key=lambda region: min(rank[node] for node in region))


def bits(mask: int) -> list[int]:
    """The positions of the ones in a mask, ascending."""
    text = bin(mask)[:1:-1]
    found, at = [], text.find("1")
    while at >= 0:
        found.append(at)
        at = text.find("1", at + 1)
    return found
