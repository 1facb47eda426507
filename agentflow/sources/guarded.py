"""Models behind a breaker: while a source is down, and right after it was, few calls reach it.

One breaker for each connection of a worker process. Who is turned away has made no call: that uses up
no attempt of the step, which is tried again when the source may be there.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

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

if TYPE_CHECKING:
    from agentflow.sources.images import ImageSource

DOWN = (ProviderUnavailable, ConnectionFailed, CallTimeout)
THERE = (
    BilledError,
    ProviderRejected,
    ProviderAuthError,
    ContentFiltered,
    ContextLengthExceeded,
)
Errors = tuple[type[Exception], ...]


def guarded(opener: Opener) -> Opener:
    """An opener whose models are called through a breaker each."""

    async def opened(source: SourceSpec) -> Source:
        model = cast(ModelSource, await opener(source))
        return GuardedModel(model, guard_of(source, there=THERE, down=DOWN))

    return opened


def guard_of(source: SourceSpec, *, there: Errors, down: Errors) -> Guard:
    """The guard of a source: as its configuration says, else with the defaults."""
    wanted = source.config.get("breaker")
    breaker = Breaker()
    if wanted:
        pause = float(wanted["reset_s"])
        breaker = Breaker(int(wanted["failures"]), (pause, pause))
    return Guard(source.id, breaker, there=there, down=down)


class Guard:
    """A breaker, asked before every call and told of its end. ``there``: errors of a source that
    answered; ``down``: of one that did not."""

    def __init__(self, source_id: str, breaker: Breaker, *, there: Errors, down: Errors) -> None:
        self._id = source_id
        self._breaker = breaker
        self._there = there
        self._down = down

    @contextmanager
    def call(self, attempt: int) -> Iterator[list[Outcome]]:
        """Raises ProviderUnavailable, which uses up no attempt, when no call may be made. Who knows
        better than the errors say how the call ended appends it."""
        admitted = self._breaker.admit(time.monotonic(), random.random(), retry=attempt > 1)
        if admitted.wait_s is not None:
            raise _turned_away(self._id, self._breaker, admitted.wait_s)
        told: list[Outcome] = []
        outcome = Outcome.UNKNOWN
        try:
            yield told
            outcome = told[-1] if told else Outcome.THERE
        except self._there:
            outcome = Outcome.THERE
            raise
        except ProviderRateLimited:
            outcome = Outcome.BUSY
            raise
        except self._down:
            outcome = Outcome.DOWN
            raise
        finally:
            self._breaker.ended(time.monotonic(), random.random(), admitted, outcome)


class GuardedModel:
    """A model, as its callers see it."""

    def __init__(self, model: ModelSource, guard: Guard) -> None:
        self._model = model
        self._guard = guard

    async def generate(
        self, request: ModelRequest, on_text: Callable[[str], None] | None = None
    ) -> ModelReply:
        """See the contract. Raises ProviderUnavailable, which uses up no attempt, without a call when
        the source is taken for down or has had its share of retries."""
        with self._guard.call(request.attempt):
            return await self._model.generate(request, on_text)

    async def look(self, timeout_s: float) -> str:
        """See the contract of sources of pictures."""
        return await cast("ImageSource", self._model).look(timeout_s)

    async def close(self) -> None:
        """Close the connection."""
        await self._model.close()


def _turned_away(source_id: str, breaker: Breaker, wait_s: float) -> ProviderUnavailable:
    """The error of a call that is not made, which uses up no attempt."""
    why = "has had its share of retries"
    if breaker.is_open:
        why = f"failed {breaker.failures} times in a row"
    text = f"Source {source_id!r} {why}: no call is made for {wait_s:.1f} s"
    error = ProviderUnavailable(text, after=wait_s)
    error.uncounted = True
    return error
