"""Models behind a breaker: while a source is down, and right after it was, few calls reach it.

One breaker for each connection of a worker process. Who is turned away has made no call: that uses up
no attempt of the step, which is tried again when the source may be there.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import cast

from agentflow.errors import (
    CallTimeout,
    ConnectionFailed,
    ContentFiltered,
    ContextLengthExceeded,
    ProviderAuthError,
    ProviderRateLimited,
    ProviderRejected,
    ProviderUnavailable,
)
from agentflow.sources.base import BilledError, ModelReply, ModelRequest, ModelSource, Source
from agentflow.sources.breaker import Breaker, Outcome
from agentflow.sources.connections import Opener, SourceSpec

DOWN = (ProviderUnavailable, ConnectionFailed, CallTimeout)
REFUSED = (ProviderRejected, ProviderAuthError, ContentFiltered, ContextLengthExceeded)


def guarded(opener: Opener) -> Opener:
    """An opener whose models are called through a breaker each."""

    async def opened(source: SourceSpec) -> Source:
        model = cast(ModelSource, await opener(source))
        return GuardedModel(model, source.id, breaker_of(source))

    return opened


def breaker_of(source: SourceSpec) -> Breaker:
    """The breaker of a source: as its configuration says, else with the defaults."""
    wanted = source.config.get("breaker")
    if not wanted:
        return Breaker()
    return Breaker(int(wanted["failures"]), (float(wanted["reset_s"]), float(wanted["reset_s"])))


class GuardedModel:
    """A model, as its callers see it."""

    def __init__(self, model: ModelSource, source_id: str, breaker: Breaker) -> None:
        self._model = model
        self._id = source_id
        self._breaker = breaker

    async def generate(
        self, request: ModelRequest, on_text: Callable[[str], None] | None = None
    ) -> ModelReply:
        """See the contract. Raises ProviderUnavailable, which uses up no attempt, without a call when
        the source is taken for down or has had its share of retries."""
        admitted = self._breaker.admit(time.monotonic(), random.random(), retry=request.attempt > 1)
        if admitted.wait_s is not None:
            raise turned_away(self._id, self._breaker, admitted.wait_s)
        outcome = Outcome.UNKNOWN
        try:
            reply = await self._model.generate(request, on_text)
            outcome = Outcome.THERE
        except (BilledError, *REFUSED):
            outcome = Outcome.THERE
            raise
        except ProviderRateLimited:
            outcome = Outcome.BUSY
            raise
        except DOWN:
            outcome = Outcome.DOWN
            raise
        finally:
            self._breaker.ended(time.monotonic(), random.random(), admitted, outcome)
        return reply

    async def close(self) -> None:
        """Close the connection."""
        await self._model.close()


def turned_away(source_id: str, breaker: Breaker, wait_s: float) -> ProviderUnavailable:
    """The error of a call that is not made, which uses up no attempt."""
    why = "has had its share of retries"
    if breaker.is_open:
        why = f"failed {breaker.failures} times in a row"
    text = f"Source {source_id!r} {why}: no call is made for {wait_s:.1f} s"
    error = ProviderUnavailable(text, after=wait_s)
    error.uncounted = True
    return error
