"""When a source may be called: not while it is down, and never by a storm of retries. Pure: time (seconds
of a clock that never goes back) and chance (in [0, 1)) arrive as arguments.

A source that failed :data:`FAILURES` times in a row is *open*: nobody calls it for a pause. Then one call
goes through as a probe; if it fails the pause is longer, and if it is answered the source is *closed*
again. What waited comes back spread over time, and is a retry: of these few are made on trust.
"""

from __future__ import annotations

from collections import deque
from enum import Enum

import msgspec

FAILURES = 5
"""Calls that fail one after the other, in whatever order they were made, until nobody calls."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 15.0
"""The first pause, and the one to which it is doubled; a quarter more or less, by chance."""
WINDOW_S = 10.0
RATIO, FLOOR = 0.1, 10
"""Retries in a window: so many, and so large a part of the first calls; one that is answered counts no
more, so a healthy source gets as many as it can take."""
COME_BACK = 20.0
"""Those that were turned away come back over a second for each so many of them."""
LEAST_WAIT_S = 0.5


class Outcome(Enum):
    """How a call ended: the source is there (even if it refused), busy (it asked to wait), down, or
    nobody knows (it was given up)."""

    THERE = "there"
    BUSY = "busy"
    DOWN = "down"
    UNKNOWN = "unknown"


class Admission(msgspec.Struct, frozen=True):
    """The answer to a call that is about to be made. ``wait_s``: it must not be made for so long; None:
    it may. ``probe``: it finds out whether the source is there again."""

    wait_s: float | None = None
    retry: bool = False
    probe: bool = False


class Breaker:
    """What is known of one source. Ask :meth:`admit` before a call, and tell :meth:`ended` after it.

    ``most``: failures in a row until it is open; ``pauses``: the first and the longest, in seconds.
    """

    def __init__(
        self,
        most: int = FAILURES,
        pauses: tuple[float, float] = (FIRST_PAUSE_S, LONGEST_PAUSE_S),
    ) -> None:
        self.failures = 0
        self._most = most
        self._pauses = pauses
        self._pause_s = 0.0
        self._open_until = 0.0
        self._probing = False
        self._firsts = _Recent()
        self._turned_away = _Recent()
        self._retries: deque[float] = deque()

    @property
    def is_open(self) -> bool:
        """Whether the source is taken for down."""
        return self._pause_s > 0

    def admit(self, now: float, chance: float, *, retry: bool) -> Admission:
        """Whether a call may be made now. ``retry``: the same was tried before."""
        if self.is_open:
            if now >= self._open_until and not self._probing:
                self._probing = True
                return Admission(retry=retry, probe=True)
            return self._turn_away(now, chance, self._open_until - now)
        if not retry:
            self._firsts.add(now)
            return Admission()
        while self._retries and self._retries[0] <= now - WINDOW_S:
            self._retries.popleft()
        if len(self._retries) >= FLOOR + RATIO * self._firsts.count(now):
            return self._turn_away(now, chance, 0.0)
        self._retries.append(now)
        return Admission(retry=True)

    def ended(self, now: float, chance: float, admitted: Admission, outcome: Outcome) -> None:
        """A call that was admitted has ended."""
        if admitted.probe:
            self._probing = False
        if outcome is Outcome.THERE and admitted.retry and self._retries:
            self._retries.popleft()
        if outcome in (Outcome.THERE, Outcome.BUSY):
            self.failures, self._pause_s = 0, 0.0
        elif outcome is Outcome.DOWN:
            self.failures += 1
            if admitted.probe or (self.failures >= self._most and not self.is_open):
                first, longest = self._pauses
                self._pause_s = min(2 * self._pause_s, longest) or first
                self._open_until = now + self._pause_s * (0.75 + chance / 2)

    def _turn_away(self, now: float, chance: float, least: float) -> Admission:
        self._turned_away.add(now)
        spread = max(1.0, self._turned_away.count(now) / COME_BACK)
        return Admission(wait_s=max(least, LEAST_WAIT_S) + spread * chance)


class _Recent:
    """How often something happened within the window, to the second."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, int]] = deque()

    def add(self, now: float) -> None:
        second, count = int(now), 0
        if self._seconds and self._seconds[-1][0] == second:
            _, count = self._seconds.pop()
        self._seconds.append((second, count + 1))

    def count(self, now: float) -> int:
        while self._seconds and self._seconds[0][0] <= int(now) - WINDOW_S:
            self._seconds.popleft()
        return sum(count for _, count in self._seconds)
