"""Submissions on their way to a coordinator: those that come together travel in one call.

They cross as JSON, as the store keeps them: it is a fraction of the work of pickling them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from agentflow.engine.engine import Engine
from agentflow.errors import AgentFlowError, StoreError
from agentflow.execution.journal import Outcome, Submission

Told = bytes | AgentFlowError | None
"""Of one submission: its outcome, why it was refused, or nothing but that it is committed."""
Call = Callable[[Sequence[bytes]], Awaitable[Sequence[Told] | None]]

UNDER_WAY = 2
"""Calls to one coordinator; what comes meanwhile leaves together when one of them has returned."""
TOGETHER, LARGE = 64, 64 * 1024
"""Submissions in one call at most, and bytes of one that leaves alone, at once."""

log = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode
_submission = msgspec.json.Decoder(Submission).decode
_outcome = msgspec.json.Decoder(Outcome).decode


class Line:
    """The submissions to one coordinator. ``call`` brings some of them there and returns what became of
    each, None when the coordinator is not open yet; what it raises is raised to each of them."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._slots = asyncio.Semaphore(UNDER_WAY)
        self._boarding: _Batch | None = None

    async def bring(self, submission: Submission) -> tuple[bool, Outcome | None]:
        """Whether the coordinator is open, and how the execution ended where it told so.

        Raises what the coordinator refused it with, and what ``call`` raises.
        """
        content = _encode(submission)
        if len(content) > LARGE:
            alone = await self._call([content])
            return (False, None) if alone is None else (True, _read(alone[0]))
        batch = self._boarding
        if batch is None or len(batch.contents) >= TOGETHER:
            batch = self._boarding = _Batch()
            batch.told = asyncio.create_task(self._leave(batch))
            batch.told.add_done_callback(_heard)
        batch.contents[submission.execution_id] = content
        try:
            told = await asyncio.shield(batch.told)
        except asyncio.CancelledError:
            # Whoever gave up tells his caller that nothing was accepted: if it has not left, it never will.
            batch.contents.pop(submission.execution_id, None)
            raise
        return (False, None) if told is None else (True, _read(told[submission.execution_id]))

    async def _leave(self, batch: _Batch) -> dict[str, Told] | None:
        async with self._slots:
            if self._boarding is batch:
                self._boarding = None
            leaving, batch.contents = batch.contents, {}
            told = await self._call(list(leaving.values())) if leaving else ()
            return None if told is None else dict(zip(leaving, told, strict=True))


class _Batch:
    """What leaves in one call, by the ids of the executions, and what becomes of it."""

    told: asyncio.Task[dict[str, Told] | None]

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}


def _heard(told: asyncio.Task[dict[str, Told] | None]) -> None:
    """An error is nobody's where all have given up."""
    if not told.cancelled():
        told.exception()


def _read(told: Told) -> Outcome | None:
    if isinstance(told, AgentFlowError):
        raise told
    return None if told is None else _outcome(told)


async def accept_all(engine: Engine, contents: Sequence[bytes]) -> list[Told]:
    """Let the engine accept each submission; what was refused is in the place of its submission."""
    calls = [engine.accept(_submission(content)) for content in contents]
    return [_told(each) for each in await asyncio.gather(*calls, return_exceptions=True)]


def _told(answer: Any) -> Told:
    if isinstance(answer, Outcome):
        return _encode(msgspec.structs.replace(answer, steps=(), blobs=()))
    if answer is None or isinstance(answer, AgentFlowError):
        return answer
    if not isinstance(answer, Exception):
        raise answer
    log.error("acceptance_failed", exc_info=answer)  # those that came along were accepted
    return StoreError(f"The coordinator could not accept it: {type(answer).__name__}: {answer}")
