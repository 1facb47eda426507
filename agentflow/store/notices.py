"""Hints from the database (LISTEN): they wake somebody early, and losing one costs only time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from agentflow.errors import ConfigError, StoreUnavailable
from agentflow.store.pool import connect, unavailable

_CHECK_S = 30.0
_RETRY_S = 0.5


class Notices:
    """Listens on one channel, over a connection of its own that is opened anew when it breaks.

    ``on_notice`` gets each payload; ``on_gap`` is called after a break, when some may be lost.
    """

    def __init__(
        self,
        dsn: str,
        channel: str,
        on_notice: Callable[[str], None],
        on_gap: Callable[[], None] = lambda: None,
    ) -> None:
        self._dsn, self._channel = dsn, channel
        self._on_notice, self._on_gap = on_notice, on_gap
        self.listening = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._listen())

    async def close(self) -> None:
        """Stop listening."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _listen(self) -> None:
        while True:
            try:
                await self._listen_once()
            except (StoreUnavailable, ConfigError):
                await asyncio.sleep(_RETRY_S)

    async def _listen_once(self) -> None:
        connection = await connect(self._dsn)
        broken = asyncio.Event()
        try:
            connection.add_termination_listener(lambda *_: broken.set())
            with unavailable():
                await connection.add_listener(self._channel, self._heard)
                self.listening.set()
                self._on_gap()
                while not broken.is_set():
                    await wait_for_event(broken, _CHECK_S)
                    await connection.execute("SELECT 1")
        finally:
            self.listening.clear()
            connection.terminate()

    def _heard(self, _connection: Any, _pid: int, _channel: str, payload: Any) -> None:
        self._on_notice(str(payload))


async def wait_for_event(event: asyncio.Event, timeout_s: float) -> None:
    """Returns when the event is set or the time is over."""
    try:
        await asyncio.wait_for(event.wait(), timeout_s)
    except TimeoutError:
        pass


class Outcomes:
    """Who waits for which execution to end: one listening connection for a whole process."""

    def __init__(self, dsn: str) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._notices = Notices(dsn, "agentflow_outcomes", self._ended, self._wake_all)

    def expect(self, execution_id: str) -> asyncio.Event:
        """An event that is set when the execution may have ended. Give it back by :meth:`forget`."""
        event = asyncio.Event()
        self._waiting.setdefault(execution_id, set()).add(event)
        return event

    def forget(self, execution_id: str, event: asyncio.Event) -> None:
        """The counterpart of :meth:`expect`."""
        waiting = self._waiting[execution_id]
        waiting.discard(event)
        if not waiting:
            del self._waiting[execution_id]

    async def close(self) -> None:
        """Stop listening; those who wait go on by looking once a second."""
        await self._notices.close()

    def _ended(self, execution_id: str) -> None:
        for event in self._waiting.get(execution_id, ()):
            event.set()

    def _wake_all(self) -> None:
        for events in self._waiting.values():
            for event in events:
                event.set()
