"""Draws a plan as text: nodes in boxes, layer by layer, with lines between them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_UP, _DOWN, _LEFT, _RIGHT = 1, 2, 4, 8
_LINES = {
    0: " ",
    _UP: "│",
    _DOWN: "│",
    _UP | _DOWN: "│",
    _LEFT: "─",
    _RIGHT: "─",
    _LEFT | _RIGHT: "─",
    _DOWN | _RIGHT: "┌",
    _DOWN | _LEFT: "┐",
    _UP | _RIGHT: "└",
    _UP | _LEFT: "┘",
    _UP | _DOWN | _RIGHT: "├",
    _UP | _DOWN | _LEFT: "┤",
    _LEFT | _RIGHT | _DOWN: "┬",
    _LEFT | _RIGHT | _UP: "┴",
    15: "┼",
}
_GAP = 3

Edge = tuple[int, int]


def layers(count: int, edges: Sequence[Edge], start: int) -> list[list[int]]:
    """Nodes by their longest distance from the start; edges that close a cycle do not count."""
    depth = dict.fromkeys(range(count), 0)
    forward = _without_back_edges(count, edges, start)
    waiting = {node: sum(1 for _, target in forward if target == node) for node in range(count)}
    ready = [node for node in range(count) if not waiting[node]]
    while ready:
        node = ready.pop(0)
        for source, target in forward:
            if source == node:
                depth[target] = max(depth[target], depth[node] + 1)
                waiting[target] -= 1
                if not waiting[target]:
                    ready.append(target)
    found: list[list[int]] = [[] for _ in range(max(depth.values(), default=0) + 1)]
    for node in range(count):
        found[depth[node]].append(node)
    return [layer for layer in found if layer]


def draw(labels: Sequence[str], edges: Sequence[Edge], start: int, width: int = 160) -> str | None:
    """The drawing, or None when it would be wider than ``width`` columns."""
    by_layer = layers(len(labels), edges, start)
    level = {node: number for number, layer in enumerate(by_layer) for node in layer}
    rows, links, sizes = _with_bends(labels, edges, by_layer, level)
    rows = _ordered(rows, links)
    centres = _placed(rows, links, sizes)
    right = max(centres[item] + sizes[item] // 2 for row in rows for item in row) + 2
    if right > width:
        return None
    lines: list[str] = []
    for number, row in enumerate(rows):
        lines += _boxes(row, labels, centres, sizes, right)
        if number + 1 < len(rows):
            between = [(a, b) for a, b in links if a in row]
            lines += _wires(between, centres, right)
    return "\n".join(line.rstrip() for line in lines)


def _without_back_edges(count: int, edges: Sequence[Edge], start: int) -> list[Edge]:
    following: dict[int, list[int]] = {node: [] for node in range(count)}
    for source, target in edges:
        following[source].append(target)
    back: set[Edge] = set()
    done: set[int] = set()
    for root in [start, *range(count)]:
        if root in done:
            continue
        path, stack = {root}, [(root, iter(following[root]))]
        while stack:
            node, rest = stack[-1]
            after = next(rest, None)
            if after is None:
                stack.pop()
                path.discard(node)
                done.add(node)
            elif after in path:
                back.add((node, after))
            elif after not in done:
                path.add(after)
                stack.append((after, iter(following[after])))
    return [edge for edge in dict.fromkeys(edges) if edge not in back]


def _with_bends(
    labels: Sequence[str], edges: Sequence[Edge], by_layer: list[list[int]], level: dict[int, int]
) -> tuple[list[list[int]], list[Edge], dict[int, int]]:
    """Rows in which every link leads one row down; an edge over several rows passes through bends."""
    rows = [list(layer) for layer in by_layer]
    sizes = {node: len(label) + 4 for node, label in enumerate(labels)}
    links: list[Edge] = []
    bend = len(labels)
    for source, target in dict.fromkeys(edges):
        if level[target] <= level[source]:
            continue
        previous = source
        for number in range(level[source] + 1, level[target]):
            rows[number].append(bend)
            sizes[bend] = 1
            links.append((previous, bend))
            previous, bend = bend, bend + 1
        links.append((previous, target))
    return rows, links, sizes


def _ordered(rows: list[list[int]], links: list[Edge]) -> list[list[int]]:
    """Items of each row in the order of what they hang on, so that few lines cross."""
    for _ in range(4):
        for number in range(1, len(rows)):
            rows[number] = _by_neighbours(rows[number], rows[number - 1], links, 1)
        for number in range(len(rows) - 2, -1, -1):
            rows[number] = _by_neighbours(rows[number], rows[number + 1], links, 0)
    return rows


def _by_neighbours(row: list[int], other: list[int], links: list[Edge], own: int) -> list[int]:
    place = {item: number for number, item in enumerate(other)}

    def middle(item: int) -> float:
        near = [
            place[link[1 - own]] for link in links if link[own] == item and link[1 - own] in place
        ]
        return sum(near) / len(near) if near else row.index(item)

    return sorted(row, key=middle)


def _placed(rows: list[list[int]], links: list[Edge], sizes: dict[int, int]) -> dict[int, int]:
    centres: dict[int, int] = {}
    for row in rows:
        _spread(row, dict.fromkeys(row, 0.0), sizes, centres)
    for turn in range(8):
        order = rows if turn % 2 == 0 else rows[::-1]
        for row in order:
            wanted = {}
            for item in row:
                near = [b if a == item else a for a, b in links if item in (a, b)]
                wanted[item] = (
                    sum(centres[other] for other in near) / len(near) if near else centres[item]
                )
            _spread(row, wanted, sizes, centres)
    left = min(centres[item] - sizes[item] // 2 for row in rows for item in row)
    return {item: centre - left + 1 for item, centre in centres.items()}


def _spread(
    row: list[int], wanted: dict[int, float], sizes: dict[int, int], centres: dict[int, int]
) -> None:
    """Each item as near to where it is wanted as the others allow, keeping their order."""
    edge: float = float("-inf")
    ahead: list[float] = []
    for item in row:
        place = max(wanted[item], edge + _GAP + sizes[item] / 2)
        ahead.append(place)
        edge = place + sizes[item] / 2
    shift = sum(wanted[item] - place for item, place in zip(row, ahead)) / len(row)
    for item, place in zip(row, ahead):
        centres[item] = round(place + shift)


def _boxes(
    row: list[int],
    labels: Sequence[str],
    centres: dict[int, int],
    sizes: dict[int, int],
    width: int,
) -> list[str]:
    lines = [[" "] * (width + 2) for _ in range(3)]
    for item in row:
        if item >= len(labels):
            for line in lines:
                line[centres[item]] = "│"
            continue
        inner = sizes[item] - 2
        begin = centres[item] - sizes[item] // 2
        texts = (f"┌{'─' * inner}┐", f"│ {labels[item]} │", f"└{'─' * inner}┘")
        for line, text in zip(lines, texts):
            line[begin : begin + len(text)] = text
    return ["".join(line) for line in lines]


def _wires(links: list[Edge], centres: dict[int, int], width: int) -> list[str]:
    """Lines from one row to the next. Sideways parts of different bundles are on rows of their own."""
    bundles = _bundles(links, centres)
    height = max(1, len(bundles))
    grid = [[0] * (width + 2) for _ in range(height)]
    for source, target in links:
        a, b = centres[source], centres[target]
        track = next((n for n, bundle in enumerate(bundles) if (source, target) in bundle), 0)
        _vertical(grid, a, 0, track, up=True, down=a == b)
        if a != b:
            _horizontal(grid[track], a, b)
        _vertical(grid, b, track, height - 1, up=a == b, down=True)
    return ["".join(_LINES.get(cell, "┼") for cell in line) for line in grid]


def _bundles(links: list[Edge], centres: dict[int, int]) -> list[set[Edge]]:
    """Links that may share a row: those of one source, or of sources that all lead to one target.

    A bundle that starts in a column where another one comes down goes above that one.
    """
    targets: dict[int, set[int]] = {}
    for source, target in links:
        targets.setdefault(source, set()).add(target)
    grouped: dict[Edge, set[Edge]] = {}
    for source, target in sorted(links, key=lambda link: centres[link[0]]):
        key = (-1, target) if len(targets[source]) == 1 else (source, -1)
        grouped.setdefault(key, set()).add((source, target))
    bent = [
        bundle for bundle in grouped.values() if any(centres[a] != centres[b] for a, b in bundle)
    ]
    for bundle in list(bent):
        landing = {centres[b] for a, b in bundle if centres[a] != centres[b]}
        blocked = [
            other
            for other in bent
            if other is not bundle and {centres[a] for a, _ in other} & landing
        ]
        last = max((bent.index(other) for other in blocked), default=-1)
        if last > bent.index(bundle):
            bent.remove(bundle)
            bent.insert(last, bundle)
    return bent


def _vertical(
    grid: list[list[int]], column: int, first: int, last: int, *, up: bool, down: bool
) -> None:
    for number in range(first, last + 1):
        if number > first or up:
            grid[number][column] |= _UP
        if number < last or down:
            grid[number][column] |= _DOWN


def _horizontal(line: list[int], a: int, b: int) -> None:
    low, high = min(a, b), max(a, b)
    for column in range(low, high + 1):
        if column > low:
            line[column] |= _LEFT
        if column < high:
            line[column] |= _RIGHT


def outline(ids: Sequence[str], edges: Iterable[Edge], start: int) -> str:
    """For graphs too large to draw: a line per node with what follows it, by layer."""
    following: dict[int, list[str]] = {}
    pairs = list(edges)
    for source, target in pairs:
        following.setdefault(source, []).append(ids[target])
    lines = []
    for number, layer in enumerate(layers(len(ids), pairs, start), 1):
        for node in layer:
            after = ", ".join(following.get(node, ["end"]))
            lines.append(f"{number:>4}  {ids[node]} → {after}")
    return "\n".join(lines)
