"""The layout of what lies directly in one frame, or outside of all: rows of items, lines between them.

Between two rows of boxes lies a channel that holds lines only, so that no line crosses a box. Lines
that lead back run down into the channel below, up beside everything, and in again from above.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from agentflow.cli import layering
from agentflow.cli.layering import Segment
from agentflow.cli.shapes import Box, Gate, Part, Point, Region, Size, tidy

APART, APART_LABELS, APART_LINES = 34.0, 20.0, 16.0
"""Between the boxes of a row, between labels, between lines."""
CHANNEL, HIGHEST = 30.0, 120.0
"""Height of a channel: of straight lines, and of lines that lead far to the side."""
LANE = 12.0
"""Between lines that turn in a channel, or run side by side around others."""
LANDING = 12.0
"""The last stretch of every line, straight down to its arrow."""
PORT = 22.0
"""Between lines that meet one side of a box, where it is wide enough."""
PADDING = 18.0
TITLE_MARGIN = 10.0

_Bend = tuple[int, int, float | None, str, int]
"""Where lines merge: row, end, where they enter it, kind, and a link that merges with no other."""
Row = tuple[int, int]
"""A rank, and 0 for its boxes or 1 for the labels below them."""


class _Line(NamedTuple):
    """An end of a line at a box: what it leads to (place in its row, and from its centre), the number of
    the segment (negative for one that leads back), and whether its link is short."""

    place: int
    away: float
    name: int
    short: bool


def laid_out(sizes: Mapping[int, Size], parts: Sequence[Part], title: Size | None) -> Region:
    """Lay out items of these sizes. ``title``: the size of the frame's heading, none for no frame."""
    sheet = _Sheet(sizes, parts, title)
    sheet.order()
    sheet.spread()
    return sheet.measured()


class _Sheet:
    """A region while it is laid out: items (boxes, gates, labels, bends) in rows, and segments."""

    def __init__(self, sizes: Mapping[int, Size], parts: Sequence[Part], title: Size | None):
        self.title = title
        self.names = list(sizes)
        self.local = {name: number for number, name in enumerate(self.names)}
        self.sizes: list[Size] = list(sizes.values())
        self.space = [APART] * len(self.sizes)
        self.firm = [False] * len(self.sizes)
        self.row: list[Row] = []
        self.forward, self.back = self._sorted_out(parts)
        self.entrances: dict[Gate, int] = {}
        self.exits: dict[Gate, int] = {}
        self.labels: dict[int, int] = {}
        self.segments: list[Segment] = []
        self.fixed: list[tuple[bool, bool]] = []
        """For every segment, whether it meets its ends at given places."""
        self.short: list[bool] = []
        """For every segment, whether its link has no label and leads to the next rank."""
        self.chains: dict[int, list[int]] = {}
        """For every link its segments here, from the top down to where it merges with another."""
        self.after: dict[int, int] = {}
        """For every bend the segment that leads on."""
        self.leave: dict[int, float] = {}
        self.enter: dict[int, float] = {}
        """Where the links that lead back meet their ends."""
        self._build()

    def _sorted_out(self, parts: Sequence[Part]) -> tuple[list[Part], list[Part]]:
        """Parts that lead down, and those that lead back; every cycle is broken. Sets the rows."""
        back = [part for part in parts if part.back]
        forward = [part for part in parts if not part.back]
        inner = [part for part in forward if part.source is not None and part.target is not None]
        ends = [(self._at(part.source), self._at(part.target)) for part in inner]
        stays = layering.without_cycles(len(self.names), ends)
        closing = {part.link for part, stay in zip(inner, stays) if not stay}
        back += [part for part in inner if part.link in closing]
        rank = layering.ranks(len(self.names), [end for end, stay in zip(ends, stays) if stay])
        back.sort(key=lambda part: rank[self._at(part.source)] - rank[self._at(part.target)])
        self.row = [(number, 0) for number in rank]
        self.last = max(rank, default=-1) + 1
        return [part for part in forward if part.link not in closing], back

    def _build(self) -> None:
        if self.title is not None:
            self._item(self.title, APART_LABELS, (-1, 0))
        for part in self.forward:
            if part.source is None and part.gate not in self.entrances:
                self.entrances[part.gate] = self._item((0, 0), APART_LINES, (-1, 0))
            if part.target is None and part.gate not in self.exits:
                self.exits[part.gate] = self._item((0, 0), APART_LINES, (self.last, 0))
            if part.label is not None and part.source is not None:
                row = self.row[self.local[part.source]][0], 1
                self.labels[part.link] = self._item(part.label, APART_LABELS, row)
        self.keys = sorted(set(self.row))
        self.number = {key: number for number, key in enumerate(self.keys)}
        bends: dict[_Bend, int] = {}
        joined: dict[tuple[int, int], int] = {}
        for part in self.forward:
            self._chain(part, bends, joined)

    def _item(self, size: Size, space: float, row: Row, *, firm: bool = False) -> int:
        self.sizes.append(size)
        self.space.append(space)
        self.firm.append(firm)
        self.row.append(row)
        return len(self.sizes) - 1

    def _chain(
        self,
        part: Part,
        bends: dict[_Bend, int],
        joined: dict[tuple[int, int], int],
    ) -> None:
        """Lead a part from row to row. Where another of its kind leads to its target, they merge."""
        at = self.entrances[part.gate] if part.source is None else self.local[part.source]
        end = self.exits[part.gate] if part.target is None else self.local[part.target]
        leave = part.leave
        stops: list[int] = []
        if part.link in self.labels:
            stops.append(self.labels[part.link])
        first = self.number[self.row[stops[-1] if stops else at]] + 1
        short = part.label is None and self.row[end][0] - self.row[at][0] == 1
        merged = False
        for number in range(first, self.number[self.row[end]]):
            key = number, end, part.enter, part.gate[1], part.link if short else -1
            merged = key in bends
            if not merged:
                bends[key] = self._item((0, 0), APART_LINES, self.keys[number], firm=True)
            stops.append(bends[key])
            if merged:
                break
        chain = self.chains[part.link] = []
        for stop in stops if merged else [*stops, end]:
            enter = part.enter if stop == end else None
            shared = joined.get((at, stop)) if max(at, stop) >= len(self.names) else None
            if shared is None:
                shared = len(self.segments)
                self.segments.append(Segment(at, stop, leave or 0.0, enter or 0.0))
                self.fixed.append((leave is not None, enter is not None))
                self.short.append(short)
                joined[at, stop] = shared
            chain.append(shared)
            if self.firm[at]:
                self.after[at] = shared
            at, leave = stop, None

    def order(self) -> None:
        """Put the items of every row in order, the heading first."""
        rows: dict[Row, list[int]] = {key: [] for key in self.keys}
        for item, key in enumerate(self.row):
            rows[key].append(item)
        self.rows = layering.ordered(
            list(rows.values()), self.segments, [width for width, _ in self.sizes]
        )
        if self.title is not None:
            self.rows[0].remove(len(self.names))
            self.rows[0].insert(0, len(self.names))
        self.place = {item: number for row in self.rows for number, item in enumerate(row)}

    def spread(self) -> None:
        """Give every line its own place on the sides of the boxes it meets; set the columns."""
        leaving: dict[int, list[_Line]] = defaultdict(list)
        entering: dict[int, list[_Line]] = defaultdict(list)
        for number, (segment, (left, right)) in enumerate(zip(self.segments, self.fixed)):
            upper, lower, leave, enter = segment
            if not left and upper < len(self.names):
                leaving[upper].append(_Line(self.place[lower], enter, number, self.short[number]))
            if not right and lower < len(self.names):
                entering[lower].append(_Line(self.place[upper], leave, number, self.short[number]))
        for part in reversed(self.back):
            name = -1 - part.link
            self.leave[name], self.enter[name] = part.leave or 0.0, part.enter or 0.0
            line = _Line(len(self.sizes), 0.0, name, False)
            if part.leave is None:
                leaving[self._at(part.source)].append(line)
            if part.enter is None:
                entering[self._at(part.target)].append(line)
        for item, lines in leaving.items():
            for name, away in _ports(self.sizes[item][0], lines):
                if name < 0:
                    self.leave[name] = away
                else:
                    self.segments[name] = self.segments[name]._replace(leave=away)
        for item, lines in entering.items():
            for name, away in _ports(self.sizes[item][0], lines):
                if name < 0:
                    self.enter[name] = away
                else:
                    self.segments[name] = self.segments[name]._replace(enter=away)
        self.x = layering.columns(
            self.rows,
            self.segments,
            [width for width, _ in self.sizes],
            lambda left, right: (self.space[left] + self.space[right]) / 2,
            [self._urgency(segment, short) for segment, short in zip(self.segments, self.short)],
        )

    def _urgency(self, segment: Segment, short: bool) -> int:
        if self.firm[segment.upper] and self.firm[segment.lower] and not short:
            return 0
        return 1 if short and not segment.leave and not segment.enter else 2

    def measured(self) -> Region:
        """Set the heights, lead the lines, and move everything to (0, 0)."""
        left = min((x - w / 2 for x, (w, _) in zip(self.x, self.sizes)), default=0.0)
        padding = PADDING if self.title is not None else 0.0
        self.x = [x - left + padding for x in self.x]
        right = max((x + w / 2 for x, (w, _) in zip(self.x, self.sizes)), default=0.0)
        self._lanes()
        bottom = self._heights()
        tails: dict[int, list[Point]] = {}
        routes = {part.link: self._route(part, tails) for part in self.forward}
        labels = {link: self._box(item) for link, item in self.labels.items()}
        for part, track in self._tracks(right, labels):
            routes[part.link] = track
            right = max(right, *(x for x, _ in track))
        right = max([right, *(label.x + label.width for label in labels.values())])
        title = None
        if self.title is not None:
            title = Box(padding - 4, TITLE_MARGIN, *self.title)
        return Region(
            right + padding,
            bottom,
            {name: self._box(number) for number, name in enumerate(self.names)},
            routes,
            labels,
            {gate: self.x[item] for gate, item in self.exits.items()},
            {gate: self.x[item] for gate, item in self.entrances.items()},
            title,
        )

    def _lanes(self) -> None:
        """Which lane of the channels below and above the links that lead back turn in."""
        self.below: Counter[int] = Counter()
        self.above: Counter[int] = Counter()
        self.turns: dict[int, tuple[int, int]] = {}
        for part in self.back:
            source = self._level_of(self._at(part.source))
            target = self._level_of(self._at(part.target))
            self.below[source] += 1
            self.above[target] += 1
            self.turns[part.link] = self.below[source], self.above[target]

    def _at(self, name: int | None) -> int:
        """The item of this name. A link that leads back has one at both ends."""
        return -1 if name is None else self.local[name]

    def _heights(self) -> float:
        """Set top and bottom of every row; returns the bottom of the region."""
        sideways: list[float] = [0.0] * (len(self.rows) + 1)
        for segment in self.segments:
            level = self.number[self.row[segment.upper]]
            start, end = (
                self.x[segment.upper] + segment.leave,
                self.x[segment.lower] + segment.enter,
            )
            sideways[level] = max(sideways[level], abs(start - end))
        self.top, self.bottom = [], []
        framed = self.title is not None
        y = TITLE_MARGIN if framed else 0.0
        for number, row in enumerate(self.rows):
            y += LANE * self.above[number]
            height = max(self.sizes[item][1] for item in row)
            self.top.append(y)
            self.bottom.append(y + height)
            channel = CHANNEL if self.keys[number][1] == 0 else CHANNEL * 0.7
            if self.keys[number][0] == -1:
                channel = LANDING
            y += height + LANE * self.below[number]
            if number + 1 < len(self.rows):
                y += min(HIGHEST, channel + 0.14 * sideways[number])
        if framed and not self.exits:
            y += PADDING
        return y

    def _box(self, item: int) -> Box:
        width, height = self.sizes[item]
        number = self.number[self.row[item]]
        middle = (self.top[number] + self.bottom[number]) / 2
        return Box(self.x[item] - width / 2, middle - height / 2, width, height)

    def _route(self, part: Part, tails: dict[int, list[Point]]) -> list[Point]:
        """The way of a link that leads down. ``tails``: from each bend to the end."""
        chain = self.chains[part.link]
        points: list[Point] = []
        for number in chain:
            points += self._line(number)
        last = self.segments[chain[-1]].lower
        if part.source is None:
            points.insert(0, (points[0][0], 0.0))
        return [*points, *self._tail(last, tails)] if self.firm[last] else points

    def _tail(self, bend: int, tails: dict[int, list[Point]]) -> list[Point]:
        ahead: list[int] = []
        while bend not in tails and self.firm[bend]:
            ahead.append(bend)
            bend = self.segments[self.after[bend]].lower
        found = tails.get(bend, [])
        for one in reversed(ahead):
            found = tidy([*self._line(self.after[one]), *found])
            tails[one] = found
        return found

    def _line(self, number: int) -> list[Point]:
        upper, lower, leave, enter = self.segments[number]
        start, end = self.x[upper] + leave, self.x[lower] + enter
        above, below = self._level_of(upper), self._level_of(lower)
        boxes = upper < len(self.names), lower < len(self.names)
        return [
            (start, self._box(upper).bottom if boxes[0] else self.top[above]),
            (start, self.bottom[above]),
            (end, self.top[below] - (LANDING * 0.8 if boxes[1] else 0.0)),
            (end, self._box(lower).y if boxes[1] else self.top[below]),
        ]

    def _level_of(self, item: int) -> int:
        return self.number[self.row[item]]

    def _tracks(self, right: float, labels: dict[int, Box]) -> list[tuple[Part, list[Point]]]:
        """The way of every link that leads back; adds the boxes of their labels."""
        found: list[tuple[Part, list[Point]]] = []
        beside = right + LANE
        for part in self.back:
            ends = self._at(part.source), self._at(part.target)
            source, target = self._box(ends[0]), self._box(ends[1])
            name = -1 - part.link
            start, end = self.x[ends[0]] + self.leave[name], self.x[ends[1]] + self.enter[name]
            below, above = self.turns[part.link]
            down = self.bottom[self._level_of(ends[0])] + LANE * below
            up = self.top[self._level_of(ends[1])] - LANE * above
            width, height = part.label or (0.0, 0.0)
            x = beside + width / 2
            beside = x + width / 2 + LANE
            if part.label is not None:
                labels[part.link] = Box(x - width / 2, (up + down - height) / 2, width, height)
            turns = [(start, down), (x, down), (x, up), (end, up)]
            points = [(start, source.y + source.height), *turns, (end, target.y)]
            found.append((part, points))
        return found


def _ports(width: float, lines: list[_Line]) -> list[tuple[int, float]]:
    """Where lines meet a side of a box, from its middle. The only short one has the middle, else the only
    one that leads down, so that a chain of boxes stays straight."""
    lines.sort(key=lambda line: line[:2])
    short = [number for number, line in enumerate(lines) if line.short]
    down = [number for number, line in enumerate(lines) if line.name >= 0]
    only = next((found for found in (short, down) if len(found) == 1), None)
    middle = only[0] if only else (len(lines) - 1) / 2
    step = min(PORT, (width / 2 - 12) / max(middle, len(lines) - 1 - middle, 1))
    return [(line.name, (number - middle) * step) for number, line in enumerate(lines)]
