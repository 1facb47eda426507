"""Arithmetic on directed graphs of integers: components, order, reachability. Iterative throughout."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heappush

import msgspec

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


class Region(msgspec.Struct, frozen=True):
    """A loop: a component that holds a cycle. ``members`` include those of the loops inside it;
    ``parent`` is the position of the region around it, or -1. A parent comes before its children."""

    entry: int
    members: tuple[int, ...]
    parent: int = -1


class Arrangement(msgspec.Struct, frozen=True):
    """Nodes in canonical order, and the loops among them, nested."""

    order: tuple[int, ...]
    regions: tuple[Region, ...]


def arrange(targets: Adjacency, start: int = -1) -> Arrangement:
    """Canonical order: the topological order of the condensed graph, ties broken by the smallest index;
    inside a loop the same again with its edges back to the entry taken away.

    The entry of a loop is the member with an edge from outside, or ``start``, else the smallest.
    """
    sources: list[list[int]] = [[] for _ in targets]
    for node, following in enumerate(targets):
        for target in following:
            sources[target].append(node)
    order: list[int] = []
    regions: list[Region] = []
    todo = _parts(targets, list(range(len(targets))), -1, -1)[::-1]
    while todo:
        members, parent = todo.pop()
        node = members[0]
        if len(members) == 1 and (node not in targets[node] or _is_entry(regions, parent, node)):
            order.append(node)
            continue
        entry = _entry(sources, members, regions, parent, start)
        regions.append(Region(entry, tuple(members), parent))
        todo += _parts(targets, members, entry, len(regions) - 1)[::-1]
    return Arrangement(tuple(order), tuple(regions))


def _is_entry(regions: Sequence[Region], parent: int, node: int) -> bool:
    """Whether the edges of a node to itself are those of the loop around it."""
    return parent >= 0 and regions[parent].entry == node


def _parts(
    targets: Adjacency, members: list[int], entry: int, region: int
) -> list[tuple[list[int], int]]:
    """The components inside a region, its edges to the entry taken away, in topological order."""
    inside = set(members)
    local = {n: [t for t in targets[n] if t in inside and t != entry] for n in members}
    return [(part, region) for part in _condensed(local)]


def _entry(
    sources: Adjacency, members: list[int], regions: Sequence[Region], parent: int, start: int
) -> int:
    inside = set(members)
    if start in inside:
        return start
    around = regions[parent].entry if parent >= 0 else -1
    for node in members:
        if node != around and any(source not in inside for source in sources[node]):
            return node
    return min(members)


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


def around(regions: Sequence[Region], size: int) -> list[tuple[int, ...]]:
    """Node -> the regions around it, outermost first."""
    found: list[tuple[int, ...]] = [()] * size
    for index, region in enumerate(regions):
        for node in region.members:
            found[node] += (index,)
    return found


class Branches:
    """Which nodes lead only to a given one. ``targets``: node -> its targets, -1 for the end;
    ``regions``: the loops of the graph."""

    def __init__(self, targets: Adjacency, regions: Sequence[Region]) -> None:
        self._regions = regions
        self._around = around(regions, len(targets))
        self._sources: list[list[int]] = [[] for _ in targets]
        self._ways = [len(following) for following in targets]
        self._exits = [0] * len(regions)
        for node, following in enumerate(targets):
            for target in following:
                beyond = self._around[target] if target >= 0 else ()
                if target >= 0:
                    self._sources[target].append(node)
                for region in self._around[node]:
                    self._exits[region] += region not in beyond

    def to(self, join: int) -> set[int]:
        """The nodes upstream of this one that lead only to it, in the same iteration of the loops
        around it; a loop inside the branch as a whole."""
        frame = self._around[join]
        if frame and self._regions[frame[-1]].entry == join:
            frame = frame[:-1]
        own = self._part(join, len(frame))
        inside: set[int] = set()
        left: dict[int, int] = {}
        todo = [join]
        while todo:
            target = todo.pop()
            for source in self._sources[target]:
                if source in inside or self._around[source][: len(frame)] != frame:
                    continue
                part = self._part(source, len(frame))
                if part == own or self._restarts(source, target, frame):
                    continue
                region = part - len(self._ways)
                ways = self._ways[source] if region < 0 else self._exits[region]
                left[part] = left.get(part, ways) - 1
                if not left[part]:
                    members = (source,) if region < 0 else self._regions[region].members
                    inside.update(members)
                    todo += members
        return inside

    def _part(self, node: int, depth: int) -> int:
        """The node, or the number of nodes and the loop around it that is the first below a depth."""
        loops_around = self._around[node]
        return node if len(loops_around) <= depth else len(self._ways) + loops_around[depth]

    def _restarts(self, source: int, target: int, frame: tuple[int, ...]) -> bool:
        """Whether an edge leads into the next iteration of a loop of the frame."""
        loops_around = self._around[target]
        if not loops_around or loops_around[-1] not in frame:
            return False
        inner = loops_around[-1]
        return self._regions[inner].entry == target and inner in self._around[source]


def bits(mask: int) -> list[int]:
    """The positions of the ones in a mask, ascending."""
    text = bin(mask)[:1:-1]
    found, at = [], text.find("1")
    while at >= 0:
        found.append(at)
        at = text.find("1", at + 1)
    return found
