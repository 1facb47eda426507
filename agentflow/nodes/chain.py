"""The models of a step: one source; a chain, of which the next one serves when one fails; or a race.

A source's call index follows from its place in the chain and the round of asking (a repair is a second
round), whatever the others did: so a source is asked with the same idempotency key in every attempt.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, cast

import msgspec

from agentflow.errors import ProviderRateLimited, StepError
from agentflow.nodes.base import StepContext
from agentflow.nodes.calls import AnyModel, call, record_failure
from agentflow.sources.base import Billed, ModelReply

Json = Any
OnText = Callable[[str], None]
Request = TypeVar("Request", bound=msgspec.Struct)
Reply = TypeVar("Reply", bound=Billed)
_log = logging.getLogger(__name__)

PATIENCE_S = 5.0
"""The longest wait, in seconds, that a rate-limited source may ask for before the chain moves on."""


class Chain(Generic[Request, Reply]):
    """The sources of one attempt of a step, in the order of the spec. ``fallback_on``: the types of
    error on which the next one is asked. ``race``: all are asked at once, the first answer counts."""

    def __init__(
        self,
        context: StepContext,
        sources: Sequence[str],
        fallback_on: Sequence[str],
        *,
        race: bool = False,
    ) -> None:
        self._context = context
        self._sources = tuple(sources)
        self._fallback_on = frozenset(fallback_on)
        self._race = race and len(self._sources) > 1
        self._rounds = 0
        self._serving = 0

    async def ask(self, request: Request, on_text: OnText | None = None) -> Reply:
        """The answer of the first source that gives one; every call is recorded. A later round begins
        with the source that answered. What a failed source had said of its answer cannot be taken back
        from whoever listens, so ``on_text`` hears no other one then; a race is heard when it is won.

        Raises StepError: the last one, or of several that ended the chain one that is worth a retry.
        """
        first = self._rounds * len(self._sources)
        self._rounds += 1
        if self._race:
            return await self._raced(request, first, on_text)
        heard = _Heard(on_text)
        failures: list[tuple[str, StepError]] = []
        for place in range(self._serving, len(self._sources)):
            is_last = place == len(self._sources) - 1
            listener = heard if on_text is not None and not heard.something else None
            try:
                reply = await self._patiently(
                    place, request, first + place, listener, is_last=is_last
                )
            except StepError as error:
                failures.append((self._sources[place], error))
                if is_last or error.type not in self._fallback_on:
                    raise _verdict(failures) from None
                _log.warning(
                    "Node %r moves on to source %r: %s",
                    self._context.node.id,
                    self._sources[place + 1],
                    error.message,
                )
            else:
                self._serving = place
                return reply
        raise AssertionError("a chain has at least one source")

    async def _patiently(
        self,
        place: int,
        request: Request,
        index: int,
        on_text: OnText | None,
        *,
        is_last: bool,
    ) -> Reply:
        """One source's answer; asked once more after a wait that is short enough to sit out."""
        try:
            return await self._one(place, request, index, on_text)
        except ProviderRateLimited as error:
            if is_last or error.after is None or error.after > PATIENCE_S:
                raise
            await asyncio.sleep(error.after)
        return await self._one(place, request, index, on_text)

    async def _one(self, place: int, request: Request, index: int, on_text: OnText | None) -> Reply:
        source_id = self._sources[place]
        recorded = len(self._context.calls)
        try:
            source = cast("AnyModel[Request, Reply]", await self._context.source(source_id))
            return await call(self._context, source_id, source, request, index, on_text)
        except StepError as error:
            if len(self._sources) > 1:
                record_failure(self._context, source_id, error.type, since=recorded)
            raise

    async def _raced(self, request: Request, first: int, on_text: OnText | None) -> Reply:
        """The first answer; the other calls are cancelled, and recorded as that."""
        tasks = {
            asyncio.create_task(self._one(place, request, first + place, None)): source_id
            for place, source_id in enumerate(self._sources)
        }
        failures: list[tuple[str, StepError]] = []
        pending = set(tasks)
        try:
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in (each for each in tasks if each in done):
                    try:
                        reply = task.result()
                    except StepError as error:
                        failures.append((tasks[task], error))
                        continue
                    if on_text is not None:
                        on_text(cast(ModelReply, reply).text)
                    return reply
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for task in (each for each in tasks if each.cancelled()):
                record_failure(self._context, tasks[task], "Cancelled")
        raise _verdict(failures)


class _Heard:
    """Passes text on, and remembers whether there was any."""

    def __init__(self, on_text: OnText | None) -> None:
        self._on_text = on_text
        self.something = False

    def __call__(self, text: str) -> None:
        self.something = True
        if self._on_text is not None:
            self._on_text(text)


def _verdict(failures: Sequence[tuple[str, StepError]]) -> StepError:
    """The error of a chain that gave no answer. A retry asks every source again, so it is worth one if
    any of them is; and nothing has happened only if nothing did anywhere."""
    if len(failures) == 1:
        return failures[0][1]
    retryable = [error for _, error in failures if error.retryable]
    chosen = retryable[-1] if retryable else failures[-1][1]
    waits = [error.after for error in retryable if error.after is not None]
    said = "; ".join(f"{source_id!r}: {error.message}" for source_id, error in failures)
    verdict = type(chosen)(
        f"None of {len(failures)} sources answered. {said}",
        after=min(waits) if len(waits) == len(retryable) and waits else None,
    )
    verdict.uncounted = all(error.uncounted for _, error in failures)
    return verdict
