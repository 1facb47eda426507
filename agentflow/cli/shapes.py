"""The shapes of a layout: points, boxes, and what is known of the part of a drawing inside one frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

NEAR = 0.01
"""Distance below which two numbers are one place."""

Point = tuple[float, float]
Size = tuple[float, float]
Gate = tuple[int, str]
"""Where lines to one node and of one kind pass a frame."""


class Box(NamedTuple):
    """A rectangle: left upper corner, width, height."""

    x: float
    y: float
    width: float
    height: float

    @property
    def bottom(self) -> float:
        """Where the lower side is."""
        return self.y + self.height

    def moved(self, x: float, y: float) -> Box:
        """The same box, so much further right and down."""
        return Box(self.x + x, self.y + y, self.width, self.height)


class Part(NamedTuple):
    """What of a link lies in a region. No source: it comes in through ``gate``; no target: it leaves
    through it. ``leave`` and ``enter``: where it meets an item that is a frame, from the item's centre."""

    link: int
    source: int | None
    target: int | None
    leave: float | None
    enter: float | None
    label: Size | None
    back: bool
    gate: Gate


class Region(NamedTuple):
    """A laid-out region, its left upper corner at (0, 0). ``exits`` and ``entrances``: where the gates
    are on its lower and upper side."""

    width: float
    height: float
    places: dict[int, Box]
    routes: dict[int, list[Point]]
    labels: dict[int, Box]
    exits: dict[Gate, float]
    entrances: dict[Gate, float]
    title: Box | None


def tidy(path: Sequence[Point]) -> list[Point]:
    """A path without points that are where the last one is, or between two others on one line.

    Points that are nearly on one line are put on it.
    """
    found: list[Point] = []
    for x, y in path:
        if found:
            x = found[-1][0] if abs(found[-1][0] - x) < NEAR else x
            y = found[-1][1] if abs(found[-1][1] - y) < NEAR else y
            if found[-1] == (x, y):
                continue
        if len(found) > 1:
            before, last = found[-2:]
            if before[0] == last[0] == x or before[1] == last[1] == y:
                found[-1] = x, y
                continue
        found.append((x, y))
    return found
