"""Layers of a directed graph: who goes into which row, in which order, and at which column.

Rows hold items; a segment joins an item to one of the next row. Longest path, then barycentres, then
the four alignments of Brandes and Köpf, of which the middle is taken. Linear in segments, but for sorting.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import ceil, floor
from typing import NamedTuple

Edge = tuple[int, int]
_Near = list[list[tuple[int, float]]]
"""For every item what it hangs on, each with the distance from its centre."""
PATIENCE = 4
"""Sweeps without fewer crossings after which ordering ends."""

SMALL = 1500
"""Segments up to which a graph is small."""


class Segment(NamedTuple):
    """A line from an item to one of the next row. ``leave`` and ``enter``: where it meets them, from
    their centres."""

    upper: int
    lower: int
    leave: float = 0.0
    enter: float = 0.0


def without_cycles(count: int, edges: Sequence[Edge]) -> list[bool]:
    """For each edge, whether it stays when those that close a cycle are taken away."""
    following: list[list[int]] = [[] for _ in range(count)]
    for number, (source, _) in enumerate(edges):
        following[source].append(number)
    stays = [True] * len(edges)
    state = [0] * count  # 1: on the path, 2: done
    for root in range(count):
        if state[root]:
            continue
        state[root] = 1
        stack = [(root, iter(following[root]))]
        while stack:
            node, rest = stack[-1]
            edge = next(rest, None)
            if edge is None:
                stack.pop()
                state[node] = 2
                continue
            target = edges[edge][1]
            if state[target] == 1:
                stays[edge] = False
            elif not state[target]:
                state[target] = 1
                stack.append((target, iter(following[target])))
    return stays


def ranks(count: int, edges: Sequence[Edge]) -> list[int]:
    """For each node of an acyclic graph, the length of the longest path to it."""
    following: list[list[int]] = [[] for _ in range(count)]
    waiting = [0] * count
    for source, target in edges:
        following[source].append(target)
        waiting[target] += 1
    rank = [0] * count
    ready = [node for node in range(count) if not waiting[node]]
    for node in ready:
        for target in following[node]:
            rank[target] = max(rank[target], rank[node] + 1)
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    return rank


def ordered(
    rows: Sequence[Sequence[int]], segments: Sequence[Segment], widths: Sequence[float]
) -> list[list[int]]:
    """The rows in an order with few crossings. A small graph is tried from several beginnings, of which
    the first of the best is kept."""
    near = _neighbours(segments, len(widths))
    first = [list(row) for row in rows]
    small = len(segments) <= SMALL
    starts = [first, [row[::-1] for row in first], _explored(first, near)] if small else [first]
    best, fewest = first, crossings(first, segments)
    for start in starts:
        for down in (True, False) if small else (True,):
            if not fewest:
                return best
            found = _settled(start, segments, widths, near, down=down)
            if small:
                _switch(found, near)
            count = crossings(found, segments)
            if count < fewest:
                best, fewest = found, count
    return best


def _settled(
    rows: list[list[int]],
    segments: Sequence[Segment],
    widths: Sequence[float],
    near: tuple[_Near, _Near],
    *,
    down: bool,
) -> list[list[int]]:
    """The best order that sweeps up and down come by. Of ties, what stands first stays first."""
    best, fewest = [list(row) for row in rows], crossings(rows, segments)
    stale = 0
    while fewest and stale < PATIENCE:
        rows = _swept(rows, near[0 if down else 1], widths, down=down)
        down = not down
        found = crossings(rows, segments)
        stale = 0 if found < fewest else stale + 1
        if found < fewest:
            best, fewest = [list(row) for row in rows], found
    return best


def _explored(rows: list[list[int]], near: tuple[_Near, _Near]) -> list[list[int]]:
    """The rows in the order in which a walk along the lines, as far as each leads, finds their items."""
    seen: dict[int, int] = {}
    for root in (item for row in rows for item in row):
        stack = [root]
        while stack:
            item = stack.pop()
            if item in seen:
                continue
            seen[item] = len(seen)
            around = [other for side in (1, 0) for other, _ in near[side][item]]
            stack += reversed(around)
    return [sorted(row, key=seen.__getitem__) for row in rows]


def _switch(rows: list[list[int]], near: tuple[_Near, _Near]) -> None:
    """Exchange neighbours in a row as long as lines cross less often for it."""
    place, _ = _places(rows)
    better = True
    while better:
        better = False
        for row in rows:
            for at in range(len(row) - 1):
                left, right = row[at], row[at + 1]
                gain = sum(_gain(side[left], side[right], place) for side in near)
                if gain > 0:
                    row[at], row[at + 1] = right, left
                    place[left], place[right] = at + 1, at
                    better = True


def _gain(
    left: list[tuple[int, float]], right: list[tuple[int, float]], place: dict[int, int]
) -> int:
    """How many crossings fewer there are when two neighbours of a row change places."""
    ends = sorted((place[item], away) for item, away in right)
    gain = 0
    for item, away in left:
        end = place[item], away
        before = bisect_left(ends, end)
        gain += before - (len(ends) - bisect_right(ends, end))
    return gain


def crossings(rows: Sequence[Sequence[int]], segments: Sequence[Segment]) -> int:
    """How often lines between neighbouring rows cross."""
    place, level = _places(rows)
    between: list[list[tuple[float, ...]]] = [[] for _ in rows]
    for upper, lower, leave, enter in segments:
        between[level[upper]].append((place[upper], leave, place[lower], enter))
    total = 0
    for ends in between:
        seen: list[tuple[float, float]] = []
        for _, _, to, enter in sorted(ends):
            total += len(seen) - bisect_right(seen, (to, enter))
            insort(seen, (to, enter))
    return total


def _neighbours(segments: Sequence[Segment], count: int) -> tuple[_Near, _Near]:
    """For every item what it hangs on above, and below, each with the distance from its centre."""
    above: _Near = [[] for _ in range(count)]
    below: _Near = [[] for _ in range(count)]
    for upper, lower, leave, enter in segments:
        above[lower].append((upper, leave))
        below[upper].append((lower, enter))
    return above, below


def _places(rows: Sequence[Sequence[int]]) -> tuple[dict[int, int], dict[int, int]]:
    place = {item: number for row in rows for number, item in enumerate(row)}
    level = {item: number for number, row in enumerate(rows) for item in row}
    return place, level


def _swept(
    rows: list[list[int]],
    near: _Near,
    widths: Sequence[float],
    *,
    down: bool,
) -> list[list[int]]:
    found = [list(row) for row in rows]
    numbers = range(1, len(rows)) if down else range(len(rows) - 2, -1, -1)
    for number in numbers:
        other = found[number - 1 if down else number + 1]
        place = {item: position for position, item in enumerate(other)}
        scale = len(other) / max(1, len(found[number]))
        key = {}
        for position, item in enumerate(found[number]):
            around = near[item]
            if around:
                inside = (place[one] + away / max(widths[one], 1.0) for one, away in around)
                key[item] = sum(inside) / len(around)
            else:
                key[item] = position * scale
        found[number].sort(key=key.__getitem__)
    return found


def columns(
    rows: Sequence[Sequence[int]],
    segments: Sequence[Segment],
    widths: Sequence[float],
    gap: Callable[[int, int], float],
    urgency: Sequence[int],
) -> list[float]:
    """The centre of every item: in order, ``gap`` apart, lines as straight as can be.

    ``urgency``: for every segment, how late it may be made straight; 0 comes first.
    """
    found: list[list[float]] = []
    for up in (False, True):
        turned = [Segment(s.lower, s.upper, s.enter, s.leave) for s in segments]
        lines = turned if up else list(segments)
        stack = list(rows)[::-1] if up else list(rows)
        for right in (False, True):
            if not right:
                found.append(_one_side(stack, lines, widths, gap, urgency))
                continue
            mirrored = [s._replace(leave=-s.leave, enter=-s.enter) for s in lines]
            sides = _one_side([row[::-1] for row in stack], mirrored, widths, gap, urgency)
            found.append([-x for x in sides])
    return _balanced(found, widths)


def _one_side(
    rows: Sequence[Sequence[int]],
    segments: Sequence[Segment],
    widths: Sequence[float],
    gap: Callable[[int, int], float],
    urgency: Sequence[int],
) -> list[float]:
    """Every item aligned with the middle of what is above it, as far left as the others allow."""
    root, shift = _aligned(rows, segments, len(widths), urgency)
    apart: dict[tuple[int, int], float] = {}
    for row in rows:
        for left, right in pairwise(row):
            need = (widths[left] + widths[right]) / 2 + gap(left, right)
            pair = root[left], root[right]
            need += shift[left] - shift[right]
            apart[pair] = max(apart.get(pair, need), need)
    x = _compacted(len(widths), apart)
    return [x[root[item]] + shift[item] for item in range(len(widths))]


def _aligned(
    rows: Sequence[Sequence[int]],
    segments: Sequence[Segment],
    count: int,
    urgency: Sequence[int],
) -> tuple[list[int], list[float]]:
    """For every item the top of its block, and how far from it its centre is."""
    place, _ = _places(rows)
    classes: list[dict[int, list[tuple[int, float, int]]]] = [{} for _ in set(urgency)]
    levels = {level: number for number, level in enumerate(sorted(set(urgency)))}
    for (upper, lower, leave, enter), level in zip(segments, urgency):
        near = classes[levels[level]].setdefault(lower, [])
        near.append((place[upper], leave - enter, upper))
    root = list(range(count))
    shift = [0.0] * count
    for row in rows:
        taken: list[tuple[int, int]] = []
        for lines in classes:
            for item in row:
                around = sorted(lines.get(item, ()))
                middle = (len(around) - 1) / 2
                for position, away, upper in around[max(0, floor(middle)) : ceil(middle) + 1]:
                    if root[item] == item and _is_free(taken, position, place[item]):
                        root[item], shift[item] = root[upper], shift[upper] + away
    return root, shift


def _is_free(taken: list[tuple[int, int]], upper: int, lower: int) -> bool:
    """Whether a line neither meets nor crosses those taken; if so it is taken too."""
    at = bisect_left(taken, (upper, -1))
    before = at == 0 or taken[at - 1][1] < lower
    after = at == len(taken) or (taken[at][0] > upper and taken[at][1] > lower)
    if before and after:
        taken.insert(at, (upper, lower))
    return before and after


def _compacted(count: int, apart: dict[tuple[int, int], float]) -> list[float]:
    """Columns of blocks: first as far left as may be, then right towards what they stand before."""
    after: list[list[tuple[int, float]]] = [[] for _ in range(count)]
    waiting = [0] * count
    for (left, right), need in apart.items():
        after[left].append((right, need))
        waiting[right] += 1
    x = [0.0] * count
    order = [block for block in range(count) if not waiting[block]]
    fixed = [not after[block] for block in range(count)]
    for block in order:
        for right, need in after[block]:
            x[right] = max(x[right], x[block] + need)
            waiting[right] -= 1
            if not waiting[right]:
                order.append(right)
    for block in reversed(order):
        if not fixed[block]:
            x[block] = max(x[block], min(x[right] - need for right, need in after[block]))
    return x


def _balanced(found: list[list[float]], widths: Sequence[float]) -> list[float]:
    """The mean of the two middle columns, once all are moved to the narrowest."""

    def span(xs: list[float]) -> tuple[float, float]:
        lefts = min((x - w / 2 for x, w in zip(xs, widths)), default=0.0)
        return lefts, max((x + w / 2 for x, w in zip(xs, widths)), default=0.0)

    spans = [span(xs) for xs in found]
    low, high = min(spans, key=lambda ends: ends[1] - ends[0])
    moved = []
    for number, (xs, ends) in enumerate(zip(found, spans)):
        by = high - ends[1] if number % 2 else low - ends[0]
        moved.append([x + by for x in xs])
    return [sum(sorted(four)[1:3]) / 2 for four in zip(*moved)]
