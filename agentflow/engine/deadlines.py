"""Many moments at which something is to be called, behind one timer of the event loop.

Nearly all of them are limits that never pass: what matters is what one takes while it stands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any

FEW = 64
"""Cancelled deadlines that are kept in the heap however few others there are."""


class Deadline(float):
    """A moment by the loop's clock, and what is called then. It is a number itself, so that a heap compares
    deadlines as it compares numbers."""

    __slots__ = ("_args", "_call", "_of")

    _args: tuple[Any, ...]
    _call: Callable[..., None] | None
    _of: Deadlines | None

    def cancel(self) -> None:
        """Call nothing any more. Idempotent."""
        if self._call is not None:
            self._call, self._args = None, ()
            if self._of is not None:
                self._of.cancelled()

    @property
    def open(self) -> bool:
        """Whether it has been neither called nor cancelled."""
        return self._call is not None

    def fall_due(self) -> None:
        """Call what is to be called, unless it was cancelled meanwhile."""
        call, args = self._call, self._args
        if call is not None:
            self._call, self._args = None, ()
            call(*args)


class Deadlines:
    """Deadlines of one event loop."""

    __slots__ = ("_closed", "_heap", "_timer", "_when")

    def __init__(self) -> None:
        self._heap: list[Deadline] = []
        self._closed = 0
        self._timer: asyncio.TimerHandle | None = None
        self._when = 0.0

    def later(self, seconds: float, call: Callable[..., None], *args: Any) -> Deadline:
        """Call this after so many seconds."""
        loop = asyncio.get_running_loop()
        deadline = Deadline(loop.time() + seconds)
        deadline._call, deadline._args, deadline._of = call, args, self
        heappush(self._heap, deadline)
        if self._timer is None or deadline < self._when:
            self._arm(loop)
        return deadline

    @property
    def kept(self) -> int:
        """How many are in memory, those among them that were cancelled too."""
        return len(self._heap)

    def cancelled(self) -> None:
        """One of them will not be called."""
        self._closed += 1
        if self._closed == len(self._heap):
            self._heap.clear()
            self._closed = 0
            self._disarm()
        elif self._closed > FEW and 2 * self._closed > len(self._heap):
            self._heap = [deadline for deadline in self._heap if deadline.open]
            heapify(self._heap)
            self._closed = 0

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._disarm()
        self._when = float(self._heap[0])
        self._timer = loop.call_at(self._when, self._pass)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _pass(self) -> None:
        """What is due is called, each by itself, so that an error of one is not another's."""
        self._timer = None
        loop = asyncio.get_running_loop()
        now = max(loop.time(), self._when)
        while self._heap and (self._heap[0] <= now or not self._heap[0].open):
            deadline = heappop(self._heap)
            if deadline.open:
                deadline._of = None
                loop.call_soon(deadline.fall_due)
            else:
                self._closed -= 1
        if self._heap:
            self._arm(loop)
