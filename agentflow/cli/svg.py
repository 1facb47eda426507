"""A workflow as SVG: one file without scripts, fonts or links; readable in light and in dark."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from agentflow.cli import captions
from agentflow.cli.layout import Group, Link, arrange

if TYPE_CHECKING:
    from agentflow.cli.shapes import Box, Point, Size
    from agentflow.plan.plan import Plan, PlanEdge, PlanNode

END = -1
LETTER = 0.61
"""Width of a letter of a fixed-width font, in font sizes; the widest that are in use."""
LEADING = 1.36
ID, SMALL = 13.0, 11.0
"""Font sizes: of a node's id, and of everything else."""
ID_CELLS, WORK_CELLS, CONDITION_CELLS = 36, 42, 30
CONDITION_LINES = 2
SIDE, ABOVE = 14.0, 9.0
"""Between a node's border and its text."""
ROUND = 9.0
HEAD, HALF_HEAD = 8.0, 4.0

TONES = {
    "input": "calm",
    "output": "calm",
    "router": "choice",
    "llm": "model",
    "image": "model",
    "agent": "model",
    "langgraph": "model",
    "db": "data",
    "http": "data",
    "aggregator": "join",
    "human": "person",
    "wait": "person",
}
"""Colours by node type; all others are ``other``."""
_LIGHT = {
    "ground": ("#ffffff", "#d1d9e0"),
    "frame": ("#8250df", "#c8b1f0"),
    "label": ("#ffffff", "#d1d9e0"),
    "other": ("#f6f8fa", "#818b98"),
    "calm": ("#f1f5f9", "#64748b"),
    "choice": ("#fff8e5", "#b7791f"),
    "model": ("#eef0ff", "#5b5bd6"),
    "data": ("#e6f6f4", "#12857a"),
    "join": ("#e9f7ec", "#2b8a4b"),
    "person": ("#fdeef4", "#c2387a"),
    "ink": ("#1f2328", ""),
    "soft": ("#59636e", ""),
    "always": ("", "#818b98"),
    "error": ("", "#cf222e"),
    "back": ("", "#8250df"),
}
_DARK = {
    "ground": ("#0d1117", "#30363d"),
    "frame": ("#a371f7", "#5a3e8a"),
    "label": ("#0d1117", "#30363d"),
    "other": ("#161b22", "#8b949e"),
    "calm": ("#1a2230", "#94a3b8"),
    "choice": ("#2b2310", "#d9a440"),
    "model": ("#1c1d3a", "#9a9bff"),
    "data": ("#0f2826", "#3fb8aa"),
    "join": ("#12281a", "#56c17a"),
    "person": ("#301422", "#f07fb0"),
    "ink": ("#e6edf3", ""),
    "soft": ("#9198a1", ""),
    "always": ("", "#7d8590"),
    "error": ("", "#ff7b72"),
    "back": ("", "#bc8cff"),
}
_FONT = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace"
_FIXED = f""".af text{{font:{SMALL:g}px {_FONT};text-anchor:middle}}
.af .id{{font-size:{ID:g}px;font-weight:600}}
.af .title{{text-anchor:start}}
.af rect{{stroke-width:1}}
.af .fill-frame{{fill-opacity:0.07}}
.af .node rect{{stroke-width:1.25}}
.af .start rect{{stroke-width:2.5}}
.af .line{{fill:none;stroke-width:1.4}}
.af .error .line{{stroke-dasharray:5 4}}"""


def as_svg(plan: Plan) -> str:
    """The drawing: an XML document in UTF-8."""
    cards = [_Card(node, plan.start == node.index) for node in plan.nodes]
    finish = len(cards) if any(edge.target == END for edge in plan.edges) else None
    sizes = [card.size for card in cards] + ([(46.0, 26.0)] if finish is not None else [])
    notes = [_note(plan, edge) for edge in plan.edges]
    links = [
        Link(
            edge.source,
            len(cards) if edge.target == END else edge.target,
            _size(note, SMALL, 8.0, 3.0) if note else None,
            edge.back,
            "error" if edge.kind == "error" else "",
        )
        for edge, note in zip(plan.edges, notes)
    ]
    titles = [f"{captions.AGAIN} {captions.bound(loop)}" for loop in plan.loops]
    groups = [
        Group(loop.parent, _size([title], SMALL, 0.0, 0.0))
        for loop, title in zip(plan.loops, titles)
    ]
    homes = [node.loops[-1] if node.loops else -1 for node in plan.nodes]
    homes += [-1] if finish is not None else []
    drawn = arrange(sizes, links, groups, homes)
    parts = [*_head(plan, drawn.width, drawn.height)]
    for frame, place, title in zip(drawn.frames, drawn.titles, titles):
        parts += _frame(frame, place, title)
    for edge, path in zip(plan.edges, drawn.paths):
        parts += _edge(plan, edge, path)
    for card, box in zip(cards, drawn.boxes):
        parts += card.drawn(box)
    if finish is not None:
        parts += _finish(drawn.boxes[finish])
    for edge, label, note in zip(plan.edges, drawn.labels, notes):
        if label is not None:
            parts += _label(edge, label, note)
    return "\n".join([*parts, "</svg>"]) + "\n"


class _Card:
    """A node's box: its id, what it does, and what its join waits for."""

    def __init__(self, node: PlanNode, starts: bool) -> None:
        self.node, self.starts = node, starts
        self.ids = captions.wrapped(captions.plain(node.id), ID_CELLS, 3)
        self.works = captions.wrapped(captions.work(node), WORK_CELLS, 2)
        self.join = captions.join(node)
        widths = [_width(text, ID) for text in self.ids]
        widths += [_width(text, SMALL) for text in self.works]
        widths += [_width(self.join, SMALL) + 14] if self.join else []
        height = len(self.ids) * ID * LEADING + len(self.works) * SMALL * LEADING
        height += SMALL * LEADING + 7 if self.join else 0
        self.size = max(76.0, *widths) + 2 * SIDE, height + 2 * ABOVE

    def drawn(self, box: Box) -> Iterator[str]:
        tone = TONES.get(self.node.type, "other")
        yield f'<g class="node{" start" if self.starts else ""}">'
        yield f"<title>{_text(self._title())}</title>"
        yield _rect(box, f"fill-{tone} stroke-{tone}", 8)
        y, middle = box.y + ABOVE, box.x + box.width / 2
        for text in self.ids:
            yield _line(middle, y + ID * 1.0, text, "id fill-ink")
            y += ID * LEADING
        for text in self.works:
            yield _line(middle, y + SMALL * 1.02, text, "fill-soft")
            y += SMALL * LEADING
        if self.join:
            width = _width(self.join, SMALL) + 14
            pill = box._replace(x=middle - width / 2, y=y + 3, width=width, height=SMALL * 1.6)
            yield _rect(pill, f"fill-label stroke-{tone}", pill.height / 2)
            yield _line(middle, y + 3 + SMALL * 1.16, self.join, "fill-ink")
        yield "</g>"

    def _title(self) -> str:
        facts = [captions.plain(self.node.id), captions.work(self.node), self.join]
        return ", ".join(fact for fact in [*facts, "start" if self.starts else ""] if fact)


def _note(plan: Plan, edge: PlanEdge) -> list[str]:
    """What is written on an edge, in lines."""
    condition = captions.when(plan, edge)
    mark = f"{captions.AGAIN} " if edge.back else ""
    text = f"{mark}{condition}".strip()
    return captions.wrapped(text, CONDITION_CELLS, CONDITION_LINES) if text else []


def _head(plan: Plan, width: float, height: float) -> Iterator[str]:
    name = captions.plain(plan.name or "") or "workflow"
    size = f"{_n(width)} {_n(height)}"
    mark = f"af-{plan.content_hash[:12]}"
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="af" role="img" viewBox="0 0 {size}" '
        f'width="{_n(width)}" height="{_n(height)}" aria-labelledby="{mark}-title {mark}-desc">'
    )
    yield f'<title id="{mark}-title">{_text(name)}</title>'
    yield f'<desc id="{mark}-desc">{_text(captions.summary(plan))}</desc>'
    yield f"<style>\n{_FIXED}\n{_colours(_LIGHT)}"
    yield f"@media (prefers-color-scheme:dark){{\n{_colours(_DARK)}\n}}</style>"
    yield (
        f'<rect class="fill-ground stroke-ground" x="0.5" y="0.5" width="{_n(width - 1)}" '
        f'height="{_n(height - 1)}" rx="10"/>'
    )


def _colours(palette: dict[str, tuple[str, str]]) -> str:
    rules = []
    for name, (fill, stroke) in palette.items():
        if fill:
            rules.append(f".af .fill-{name}{{fill:{fill}}}")
        if stroke:
            rules.append(f".af .stroke-{name}{{stroke:{stroke}}}")
        if stroke and not fill:
            rules.append(f".af .fill-{name}{{fill:{stroke}}}")
    return "\n".join(rules)


def _frame(frame: Box, place: Box, title: str) -> Iterator[str]:
    yield '<g class="loop">'
    yield _rect(frame, "fill-frame stroke-frame", 12)
    yield _line(place.x, place.y + SMALL, title, "title fill-back")
    yield "</g>"


def _tone(edge: PlanEdge) -> str:
    if edge.kind == "error":
        return "error"
    return "back" if edge.back else "always"


def _edge(plan: Plan, edge: PlanEdge, path: Sequence[Point]) -> Iterator[str]:
    tone = _tone(edge)
    x, y = path[-1]
    short = [*path[:-1], (x, y - HEAD / 2)]
    yield f'<g class="edge {tone}">'
    yield f"<title>{_text(captions.link(plan, edge))}</title>"
    yield f'<path class="line stroke-{tone}" d="{_way(short)}"/>'
    yield (
        f'<path class="head fill-{tone}" d="M{_n(x)} {_n(y)}l{_n(-HALF_HEAD)} {_n(-HEAD)}'
        f'h{_n(2 * HALF_HEAD)}z"/>'
    )
    yield "</g>"


def _label(edge: PlanEdge, box: Box, note: Sequence[str]) -> Iterator[str]:
    yield f'<g class="label {_tone(edge)}">'
    yield _rect(box, "fill-label stroke-label", 5)
    for number, text in enumerate(note):
        y = box.y + 3 + SMALL * (1.0 + number * LEADING)
        ink = "ink" if _tone(edge) == "always" else _tone(edge)
        yield _line(box.x + box.width / 2, y, text, f"fill-{ink}")
    yield "</g>"


def _finish(box: Box) -> Iterator[str]:
    yield '<g class="node end">'
    yield _rect(box, "fill-label stroke-always", box.height / 2)
    yield _line(box.x + box.width / 2, box.y + box.height / 2 + 4, "end", "fill-soft")
    yield "</g>"


def _way(points: Sequence[Point]) -> str:
    """A path's data: curves between points that differ in both coordinates, corners rounded."""
    found = [f"M{_n(points[0][0])} {_n(points[0][1])}"]
    for number in range(1, len(points)):
        (ax, ay), (bx, by) = points[number - 1], points[number]
        if ax != bx and ay != by:
            middle = (ay + by) / 2
            found.append(f"C{_n(ax)} {_n(middle)} {_n(bx)} {_n(middle)} {_n(bx)} {_n(by)}")
            continue
        after = points[number + 1] if number + 1 < len(points) else None
        if after is None or (after[0] != bx and after[1] != by) or (after[0] == bx) == (ax == bx):
            found.append(f"L{_n(bx)} {_n(by)}")
            continue
        start, end = _towards((bx, by), (ax, ay)), _towards((bx, by), after)
        found.append(f"L{_n(start[0])} {_n(start[1])}Q{_n(bx)} {_n(by)} {_n(end[0])} {_n(end[1])}")
    return "".join(found)


def _towards(corner: Point, other: Point) -> Point:
    """The point where a rounded corner begins."""
    (x, y), (ox, oy) = corner, other
    length = abs(ox - x) + abs(oy - y)
    part = min(ROUND, length / 2) / length
    return x + (ox - x) * part, y + (oy - y) * part


def _size(lines: Sequence[str], font: float, beside: float, above: float) -> Size:
    width = max(_width(text, font) for text in lines)
    return width + 2 * beside, len(lines) * font * LEADING + 2 * above


def _width(text: str, font: float) -> float:
    return captions.cells(text) * font * LETTER


def _rect(box: Box, classes: str, radius: float) -> str:
    return (
        f'<rect class="{classes}" x="{_n(box.x)}" y="{_n(box.y)}" width="{_n(box.width)}" '
        f'height="{_n(box.height)}" rx="{_n(radius)}"/>'
    )


def _line(x: float, y: float, text: str, classes: str) -> str:
    return f'<text class="{classes}" x="{_n(x)}" y="{_n(y)}">{_text(text)}</text>'


def _text(text: str) -> str:
    """Text as XML: escaped, and without what XML cannot hold."""
    return escape(
        re.sub("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]", "�", text)
    )


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
