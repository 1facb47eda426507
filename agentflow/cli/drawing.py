"""A workflow as text: nodes in boxes, row by row, with lines between them; what no line can say below.

A graph that is too large, or too wide for the terminal, becomes a list.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from agentflow.cli import captions, layering
from agentflow.cli.layering import Edge, Segment

if TYPE_CHECKING:
    from agentflow.plan.plan import Plan, PlanEdge

END = -1
WIDTH = 160
"""Columns of a drawing that goes to a file or a pipe."""
MAX_DRAWN = 60
MAX_NAMED = 8
"""Nodes that a line of a list names before it counts the rest."""
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
_ASCII = str.maketrans(
    {
        **dict.fromkeys("┌┐└┘├┤┬┴┼", "+"),
        "│": "|",
        "─": "-",
        "·": "-",
        "→": "->",
        "↺": "@",
        "…": "...",
    }
)


def as_text(plan: Plan, width: int = WIDTH) -> str:
    """The drawing, at most ``width`` columns wide, and below it conditions and loops; or a list."""
    forward = [edge for edge in plan.edges if edge.target != END and not edge.back]
    order = list(plan.order)
    place = {index: number for number, index in enumerate(order)}
    edges = [(place[edge.source], place[edge.target]) for edge in forward]
    drawn = None
    if len(order) <= MAX_DRAWN:
        drawn = draw([_card(plan, index) for index in order], edges, width)
    if drawn is None:
        parts = [_outline(plan, layering.ranks(len(order), edges))]
    else:
        told = [edge for edge in plan.edges if edge.kind != "always" or edge.back]
        parts = [drawn, "\n".join(captions.link(plan, edge) for edge in told)]
    parts.append("\n".join(_loops(plan)))
    return "\n\n".join(part for part in parts if part)


def in_ascii(text: str, encoding: str) -> str:
    """The same drawing for an output that has no lines to draw with."""
    return text.translate(_ASCII).encode(encoding, "backslashreplace").decode(encoding)


def can_draw(encoding: str) -> bool:
    """Whether an output of this encoding can show what is drawn with."""
    try:
        "".join(map(chr, _ASCII)).encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _card(plan: Plan, index: int) -> list[str]:
    """What stands in a node's box."""
    node = plan.nodes[index]
    entered = [f"{captions.AGAIN} {captions.bound(lp)}" for lp in plan.loops if lp.entry == index]
    lines = [captions.plain(node.id), captions.work(node), captions.join(node), *entered]
    return [line for line in lines if line]


def _outline(plan: Plan, ranks: Sequence[int]) -> str:
    """A line per node, with its row and what follows it."""
    rows = sorted(range(len(plan.order)), key=lambda number: ranks[number])
    digits = len(str(max(ranks, default=0) + 1))
    lines = []
    for number in rows:
        node = plan.nodes[plan.order[number]]
        after = [_step(plan, plan.edges[edge]) for edge in node.outgoing]
        if len(after) > MAX_NAMED:
            after[MAX_NAMED:] = [f"and {len(after) - MAX_NAMED} more"]
        join = captions.join(node)
        facts = f"{captions.work(node)}, {join}" if join else captions.work(node)
        line = f"{ranks[number] + 1:>{digits}}  {captions.plain(node.id)} ({facts})"
        lines.append(f"{line} → {', '.join(after)}" if after else line)
    return "\n".join(lines)


def _step(plan: Plan, edge: PlanEdge) -> str:
    when = captions.when(plan, edge)
    mark = f"{captions.AGAIN} " if edge.back else ""
    return f"{mark}{captions.name(plan, edge.target)}" + (f" [{when}]" if when else "")


def _loops(plan: Plan) -> Iterator[str]:
    for loop in plan.loops:
        names = [captions.name(plan, member) for member in loop.members]
        if len(names) > MAX_NAMED:
            names[MAX_NAMED:] = [f"and {len(names) - MAX_NAMED} more"]
        yield f"{captions.AGAIN} {captions.bound(loop)}: {', '.join(names)}"


def draw(cards: Sequence[Sequence[str]], edges: Sequence[Edge], width: int = WIDTH) -> str | None:
    """Boxes with these lines of text in them, and the edges between; None if wider than ``width``.

    Edges that close a cycle are left out.
    """
    stays = layering.without_cycles(len(cards), edges)
    ranks = layering.ranks(len(cards), [edge for edge, stay in zip(edges, stays) if stay])
    rows, links, sizes = _with_bends(cards, edges, ranks)
    segments = [Segment(*link) for link in links]
    rows = layering.ordered(rows, segments, sizes)
    urgency = [0 if min(link) >= len(cards) else 1 for link in links]
    columns = layering.columns(rows, segments, sizes, lambda left, right: _GAP, urgency)
    left = min((x - size / 2 for x, size in zip(columns, sizes)), default=0)
    centres = {item: round(x - left) + 1 for item, x in enumerate(columns)}
    right = max((centres[item] + sizes[item] // 2 for item in centres), default=0) + 2
    if right > width:
        return None
    lines: list[str] = []
    for number, row in enumerate(rows):
        lines += _boxes(row, cards, centres, sizes, right)
        if number + 1 < len(rows):
            inside = set(row)
            lines += _wires([link for link in links if link[0] in inside], centres, right)
    return "\n".join(line.rstrip() for line in lines)


def _with_bends(
    cards: Sequence[Sequence[str]], edges: Sequence[Edge], ranks: Sequence[int]
) -> tuple[list[list[int]], list[Edge], list[int]]:
    """Rows in which every link leads one row down; an edge over several rows passes through bends."""
    rows: list[list[int]] = [[] for _ in range(max(ranks, default=-1) + 1)]
    for node, rank in enumerate(ranks):
        rows[rank].append(node)
    sizes = [max(captions.cells(line) for line in card) + 4 for card in cards]
    links: list[Edge] = []
    for source, target in dict.fromkeys(edges):
        if ranks[target] <= ranks[source]:
            continue
        previous = source
        for number in range(ranks[source] + 1, ranks[target]):
            rows[number].append(len(sizes))
            links.append((previous, len(sizes)))
            previous = len(sizes)
            sizes.append(1)
        links.append((previous, target))
    return rows, links, sizes


def _boxes(
    row: Sequence[int],
    cards: Sequence[Sequence[str]],
    centres: dict[int, int],
    sizes: Sequence[int],
    width: int,
) -> list[str]:
    height = max((len(cards[item]) for item in row if item < len(cards)), default=0)
    lines = [[" "] * (width + 2) for _ in range(height + 2)]
    for item in row:
        if item >= len(cards):
            for line in lines:
                line[centres[item]] = "│"
            continue
        inner = sizes[item] - 2
        begin = centres[item] - sizes[item] // 2
        padded = [*cards[item], *[""] * (height - len(cards[item]))]
        texts = [f"│ {text}{' ' * (inner - 2 - captions.cells(text))} │" for text in padded]
        for line, text in zip(lines, [f"┌{'─' * inner}┐", *texts, f"└{'─' * inner}┘"]):
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
