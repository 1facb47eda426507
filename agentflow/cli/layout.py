"""Where the boxes, lines, labels and frames of a drawing go. Pure arithmetic, from the top down.

A group (a loop) is laid out by itself and then takes part in what is around it as one box: frames
never overlap what they do not hold. Lines that cross a frame pass through a gate, a point on its upper
or lower edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from agentflow.cli.region import laid_out
from agentflow.cli.shapes import Box, Part, Point, Region, Size, tidy

OUTSIDE = -1
MARGIN = 20.0


class Link(NamedTuple):
    """A line from a node to a node. ``label``: the size of what is written on it. ``back``: leads up,
    around the side. Lines of one ``kind`` may be merged on the way to their target."""

    source: int
    target: int
    label: Size | None = None
    back: bool = False
    kind: str = ""


class Group(NamedTuple):
    """A frame. ``parent``: the group around it, or OUTSIDE. ``title``: the size of its heading."""

    parent: int
    title: Size


class Layout(NamedTuple):
    """The drawing: a box per node, a path and a box (or none) for the label per link, a frame and a box
    for the heading per group.

    A path starts on the lower side of its source and ends on the upper side of its target. Points that
    differ in both coordinates are joined by a curve, all others by a straight line.
    """

    width: float
    height: float
    boxes: list[Box]
    paths: list[list[Point]]
    labels: list[Box | None]
    frames: list[Box]
    titles: list[Box]


class _Way(NamedTuple):
    """The groups a link leaves, the innermost group around both its ends, the groups it enters."""

    leaves: list[int]
    meeting: int
    enters: list[int]

    @property
    def groups(self) -> list[int]:
        return [*self.leaves, self.meeting, *self.enters]


def arrange(
    sizes: Sequence[Size],
    links: Sequence[Link],
    groups: Sequence[Group] = (),
    homes: Sequence[int] = (),
) -> Layout:
    """Lay out nodes of these sizes. ``homes``: for every node the innermost group around it, or OUTSIDE.

    A group comes after its parent.
    """
    homes = homes or [OUTSIDE] * len(sizes)
    ways = [_way(link, groups, homes) for link in links]
    passing: dict[int, list[int]] = {group: [] for group in range(OUTSIDE, len(groups))}
    for number, way in enumerate(ways):
        for group in way.groups:
            passing[group].append(number)
    items: dict[int, list[int]] = {group: [] for group in passing}
    for node, home in enumerate(homes):
        items[home].append(node)
    for group, (parent, _) in enumerate(groups):
        items[parent].append(len(sizes) + group)
    done: dict[int, Region] = {}
    for group in range(len(groups) - 1, OUTSIDE - 1, -1):
        parts = [
            _part(number, links[number], ways[number], group, homes, len(sizes), done)
            for number in passing[group]
        ]
        inside = {item: _size(item, sizes, done) for item in items[group]}
        done[group] = laid_out(inside, parts, groups[group].title if group != OUTSIDE else None)
    return _assembled(len(sizes), ways, groups, done)


def _way(link: Link, groups: Sequence[Group], homes: Sequence[int]) -> _Way:
    up, down = _around(link.source, groups, homes), _around(link.target, groups, homes)
    inside = set(down)
    meeting = next(group for group in up if group in inside)
    return _Way(up[: up.index(meeting)], meeting, down[: down.index(meeting)][::-1])


def _around(node: int, groups: Sequence[Group], homes: Sequence[int]) -> list[int]:
    """The groups around a node, innermost first, and OUTSIDE."""
    found = [homes[node]]
    while found[-1] != OUTSIDE:
        found.append(groups[found[-1]].parent)
    return found


def _size(item: int, sizes: Sequence[Size], done: dict[int, Region]) -> Size:
    if item < len(sizes):
        return sizes[item]
    region = done[item - len(sizes)]
    return region.width, region.height


def _part(
    number: int,
    link: Link,
    way: _Way,
    group: int,
    homes: Sequence[int],
    count: int,
    done: dict[int, Region],
) -> Part:
    """What of a link lies in a group: from an item or a gate to an item or a gate."""
    at = way.groups.index(group)
    gate = (link.target, link.kind)
    first, last = at == 0, at == len(way.groups) - 1
    source: int | None = None
    target: int | None = None
    leave = enter = None
    if at <= len(way.leaves):
        source = link.source if first else count + way.groups[at - 1]
        if not first:
            region = done[way.groups[at - 1]]
            leave = region.exits[gate] - region.width / 2
    if at >= len(way.leaves):
        target = link.target if last else count + way.groups[at + 1]
        if not last:
            region = done[way.groups[at + 1]]
            enter = region.entrances[gate] - region.width / 2
    back = link.back and group == way.meeting
    return Part(number, source, target, leave, enter, link.label if first else None, back, gate)


def _assembled(
    count: int, ways: Sequence[_Way], groups: Sequence[Group], done: dict[int, Region]
) -> Layout:
    boxes: dict[int, Box] = {}
    origins: dict[int, Point] = {OUTSIDE: (MARGIN, MARGIN)}
    for group in range(OUTSIDE, len(groups)):
        x, y = origins[group]
        for item, box in done[group].places.items():
            boxes[item] = box.moved(x, y)
            if item >= count:
                origins[item - count] = (boxes[item].x, boxes[item].y)
    paths: list[list[Point]] = []
    labels: list[Box | None] = []
    for number, way in enumerate(ways):
        path: list[Point] = []
        label = None
        for group in way.groups:
            x, y = origins[group]
            path += [(px + x, py + y) for px, py in done[group].routes[number]]
            found = done[group].labels.get(number)
            label = found.moved(x, y) if found else label
        paths.append(tidy(path))
        labels.append(label)
    titles = [
        title.moved(*origins[group])
        for group in range(len(groups))
        if (title := done[group].title) is not None
    ]
    return Layout(
        done[OUTSIDE].width + 2 * MARGIN,
        done[OUTSIDE].height + 2 * MARGIN,
        [boxes[node] for node in range(count)],
        paths,
        labels,
        [boxes[count + group] for group in range(len(groups))],
        titles,
    )
