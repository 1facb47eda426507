"""An asyncio loop without a clock of its own: its time is the world's, and it never blocks.

The world decides when it takes its next round, so several loops live side by side in one thread, and
one can be stopped in the middle (as SIGSTOP does) or thrown away (as SIGKILL does).
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio import events
from collections.abc import Callable
from typing import Any

NEVER = float("inf")


class _Blind:
    """The selector of a loop that has no files."""

    def select(self, timeout: float | None = None) -> tuple[()]:
        return ()


class VirtualLoop(asyncio.BaseEventLoop):
    """The loop of one simulated process. ``now`` tells the world's time; ``on_fault`` hears of what
    nobody caught."""

    def __init__(
        self, now: Callable[[], float], on_fault: Callable[[dict[str, Any]], None]
    ) -> None:
        super().__init__()
        self.time = now  # type: ignore[method-assign]
        self._clock_resolution = 1e-9
        self._selector = _Blind()
        self.set_debug(False)
        self.set_exception_handler(lambda _, context: on_fault(context))

    def due(self) -> float:
        """When it next has something to do: now, at the time of its first timer, or never."""
        if self._ready:
            return self.time()
        while self._scheduled and self._scheduled[0]._cancelled:
            heapq.heappop(self._scheduled)._scheduled = False
            self._timer_cancelled_count -= 1
        return self._scheduled[0]._when if self._scheduled else NEVER

    def round(self) -> None:
        """Everything that is ready now, once. What is raised there as SystemExit comes out here."""
        before = events._get_running_loop()
        events._set_running_loop(self)
        try:
            self._run_once()
        finally:
            events._set_running_loop(before)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """There are no threads: it is done on the spot."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it is the caller's
            future.set_exception(error)
        return future

    def _process_events(self, event_list: Any) -> None:
        pass

    def _write_to_self(self) -> None:
        pass
