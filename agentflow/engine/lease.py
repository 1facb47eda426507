"""Keeps a coordinator's lease alive, from a thread of its own, so that a busy loop cannot fake a death.

No wall clock is read: the lease is granted by the store's clock, and here a monotonic timer stops the
work one margin before the lease could end there. The same thread looks for coordinators whose lease
has ended, or whose session at the store is gone, and buries them.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeVar

from agentflow.errors import AgentFlowError

MARGIN = 1 / 3
"""The part of a lease that is kept in reserve."""
SURE_S = 0.1
"""A session that is gone is looked for once more after so long: its process may have it anew by then."""
_RETRY_S = 0.2
T = TypeVar("T")


class Heartbeat(Protocol):
    """A coordinator's lease in the store, as its keeper uses it: from one event loop alone."""

    async def renew(self, epoch: int) -> bool:
        """Lengthen the lease; False when it is no longer ours. A lapsed lease is never revived.

        Raises StoreUnavailable.
        """
        ...

    async def bury(self) -> list[str]:
        """Raise the epochs of coordinators whose lease has ended; their ids.

        Raises StoreUnavailable.
        """
        ...

    async def missing(self) -> Mapping[str, int]:
        """Coordinators whose lease runs and whose session is gone, with their epochs.

        Empty while that proves nothing, since the store was away. Raises StoreUnavailable.
        """
        ...

    async def bury_early(self, dead: Mapping[str, int]) -> list[str]:
        """Raise the epochs of these where they are still the same; their ids.

        Raises StoreUnavailable.
        """
        ...

    async def rest(self, seconds: float) -> bool:
        """Returns after so long; at once, and False, when our own session breaks."""
        ...

    async def close(self) -> None:
        """Let go of the connection; it is opened anew when it is needed again."""
        ...


class Lease(Protocol):
    """Keeps the coordinator's lease alive from a thread of its own (LeaseKeeper)."""

    @property
    def held(self) -> bool:
        """Whether writes may still be tried: false once the local stop time has passed."""
        ...

    def start(self, epoch: int, on_lost: Callable[[], None]) -> None:
        """Begin to renew for this epoch; ``on_lost`` is called in the keeper's thread."""
        ...

    def hold_still(self) -> None:
        """Be held no more for those who ask, while it is renewed until :meth:`stop`."""
        ...

    def stop(self) -> None:
        """Stop renewing; returns when the thread has ended. The lease runs on until its end, or until
        another coordinator sees that our session is gone."""
        ...


class LeaseKeeper:
    """Renews a lease and tells when it is lost; then it does nothing until it is started again.

    ``on_buried`` gets the ids of coordinators that this one buried, in the keeper's thread: their
    executions can be claimed now.
    """

    def __init__(
        self,
        heartbeat: Heartbeat,
        *,
        lease_s: float,
        heartbeat_s: float,
        on_buried: Callable[[list[str]], None] = lambda _: None,
        sweep_s: float = 1.0,
        watch_s: float = 0.2,
    ) -> None:
        self._heartbeat, self._lease_s, self._heartbeat_s = heartbeat, lease_s, heartbeat_s
        self._on_buried = on_buried
        self._sweep_s = min(sweep_s, heartbeat_s)
        self._watch_s = min(watch_s, self._sweep_s)
        self._swept_at = 0.0
        self._suspects: Mapping[str, int] = {}
        self._still = False
        self._started_at = self._stop_at = self._next_beat = 0.0
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = asyncio.Event()

    @property
    def held(self) -> bool:
        """Whether the lease is ours, for at least one more margin. Never blocks; any thread."""
        return not self._still and time.monotonic() < self._stop_at

    def start(self, epoch: int, on_lost: Callable[[], None]) -> None:
        """Begin to renew, right after the coordinator entered with this epoch.

        ``on_lost`` is called once, in the keeper's thread, when the lease is gone or could not be
        renewed in time.
        """
        self.stop()
        now = time.monotonic()
        self._started_at, self._next_beat = now, now
        self._stop_at = now + self._lease_s * (1 - MARGIN)
        self._still, self._suspects, self._swept_at = False, {}, 0.0
        self._stopped, self._loop = asyncio.Event(), asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._live, args=(self._loop, epoch, on_lost), name="af-lease", daemon=True
        )
        self._thread.start()

    def hold_still(self) -> None:
        """See the contract: what was begun may be ended, and nothing more be begun."""
        self._still = True

    def stop(self) -> None:
        """Stop renewing; the lease runs on until its end, or until another coordinator sees that our
        session is gone. Returns when the thread has ended."""
        thread, self._thread = self._thread, None
        if thread is not None and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended already
                self._loop.call_soon_threadsafe(self._stopped.set)
            if thread is not threading.current_thread():
                thread.join()
        self._stop_at = 0.0

    def _live(
        self, loop: asyncio.AbstractEventLoop, epoch: int, on_lost: Callable[[], None]
    ) -> None:
        stopped = self._stopped
        try:
            with contextlib.closing(loop):
                loop.run_until_complete(self._keep(epoch, stopped))
        finally:
            if not stopped.is_set():
                self._stop_at = 0.0
                on_lost()

    async def _keep(self, epoch: int, stopped: asyncio.Event) -> None:
        """Returns when the lease is lost, or when it is to be kept no longer."""
        beating = asyncio.ensure_future(self._beat(epoch))
        stopping = asyncio.ensure_future(stopped.wait())
        try:
            await asyncio.wait({beating, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            beating.cancel()
            stopping.cancel()
            ended = await asyncio.gather(beating, stopping, return_exceptions=True)
            await self._heartbeat.close()
        if isinstance(ended[0], Exception):
            raise ended[0]

    async def _beat(self, epoch: int) -> None:
        """Renew when it is time, and sweep in between; returns when the lease is lost."""
        while (now := time.monotonic()) < self._stop_at and not self._stopped.is_set():
            if now >= self._next_beat:
                renewed = await self._bounded(self._heartbeat.renew(epoch))
                if renewed is False:
                    return
                if renewed is None:
                    await asyncio.sleep(min(_RETRY_S, self._heartbeat_s / 3))
                    continue
                self._stop_at = now + self._lease_s * (1 - MARGIN)
                self._next_beat = now + self._heartbeat_s
            await self._watch()
            await self._sweep()
            pause = SURE_S if self._suspects else self._watch_s
            pause = min(pause, self._next_beat - time.monotonic())
            if not await self._heartbeat.rest(max(0.0, pause)):
                self._next_beat = 0.0

    async def _watch(self) -> None:
        """Bury those whose session was gone at two looks."""
        missing = await self._bounded(self._heartbeat.missing()) or {}
        dead = {each: epoch for each, epoch in missing.items() if self._suspects.get(each) == epoch}
        self._suspects = missing
        if dead:
            buried = await self._bounded(self._heartbeat.bury_early(dead))
            if buried:
                self._on_buried(buried)

    async def _sweep(self) -> None:
        """Bury only what lapsed while we were seen alive for a whole lease.

        After the store itself was away every lease has lapsed, and that proves nobody's death.
        """
        now = time.monotonic()
        if now - self._started_at < self._lease_s or now - self._swept_at < self._sweep_s:
            return
        self._swept_at = now
        buried = await self._bounded(self._heartbeat.bury())
        if buried:
            self._on_buried(buried)

    async def _bounded(self, call: Awaitable[T]) -> T | None:
        """The call's result; None when the store is away, or silent until the stop time."""
        try:
            async with asyncio.timeout(max(0.01, self._stop_at - time.monotonic())):
                return await call
        except (AgentFlowError, TimeoutError):
            return None
