"""Reuse of results: attempts of nodes with ``cache`` are looked up on their way to the workers.

The loop never waits for a look-up: an attempt that is looked up stands aside until the answer comes, all
of one turn are asked for together, and whoever gets no answer in time does its work. What was found is
reported as a worker would report it, so it is journaled before anything follows from it. Two executions
that look at the same moment both find nothing, and both work.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from agentflow.engine.owned import Owned
from agentflow.engine.workers import Attempt, Done, Failed, OnReports
from agentflow.errors import StoreError
from agentflow.execution.caching import Kept, Results, Wanted, is_makeshift, result_key
from agentflow.execution.events import (
    TERMINAL_EXECUTION,
    Cached,
    ErrorInfo,
    StepCompleted,
    Worker,
)
from agentflow.execution.journal import Recorded
from agentflow.execution.keys import attempt_id, node_id_of
from agentflow.plan.plan import Plan

log = logging.getLogger(__name__)

BATCH = 100
"""Results that are asked for, or kept, at once."""
PATIENCE_S = 2.0
"""How long a look-up may take before the work is done instead."""
CLOSING_S = 1.0
"""How long what was done last may take to be kept when the coordinator stops."""
BACKLOG = 1000
"""Results that wait to be kept; further ones are let go of."""


class Reuse:
    """One coordinator's; a listener of its events. ``send``, ``abandon``, ``leave``: where attempts go
    that are not looked up, or were in vain (see engine.outbox). ``results`` None: nothing is reused."""

    def __init__(
        self,
        results: Results | None,
        *,
        send: Callable[[Attempt, Owned], None],
        abandon: Callable[[Sequence[str]], None],
        leave: Callable[[Sequence[str]], None],
        on_reports: OnReports,
    ) -> None:
        self._results = results
        self._send, self._abandon, self._leave = send, abandon, leave
        self._on_reports = on_reports
        self._new: list[str] = []
        self._aside: dict[str, tuple[Attempt, Owned]] = {}
        self._missed: dict[str, dict[str, Wanted]] = {}
        """Execution -> attempt -> what its result is to be kept as."""
        self._to_keep: list[tuple[Wanted, Kept]] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def put(self, attempt: Attempt, owned: Owned) -> None:
        """Send an attempt off, or look first whether its result is there."""
        if attempt.node.cache is None or self._results is None:
            self._send(attempt, owned)
            return
        self._aside[attempt.id] = attempt, owned
        self._new.append(attempt.id)
        self._work("look up", self._look_up)

    def abandon(self, attempt_ids: Sequence[str]) -> None:
        """Ask that attempts stop; those that stand aside never leave."""
        mine = {key for key in attempt_ids if self._aside.pop(key, None) is not None}
        if mine:
            asyncio.get_running_loop().call_soon(self._withdrawn, sorted(mine))
        self._abandon([key for key in attempt_ids if key not in mine])

    def leave(self, attempt_ids: Sequence[str]) -> None:
        """These are no longer ours; those that stand aside never leave."""
        self._leave([key for key in attempt_ids if self._aside.pop(key, None) is None])

    def on_events(
        self, plan: Plan, tenant: str, execution_id: str, recorded: Sequence[Recorded]
    ) -> None:
        """Keep the results that were worked for after a look-up in vain."""
        missed = self._missed.get(execution_id)
        if missed is None:
            return
        for record in recorded:
            event = record.event
            if isinstance(event, StepCompleted):
                name = attempt_id(execution_id, event.step, event.generation, event.attempt)
                wanted = missed.pop(name, None)
                if wanted is None or is_makeshift(plan.node(node_id_of(event.step)), event.result):
                    continue
                self._keep(wanted, execution_id, event)
            elif isinstance(event, TERMINAL_EXECUTION):
                self._missed.pop(execution_id, None)

    def on_adopted(self, plan: Plan, tenant: str, execution_id: str) -> None:
        """What was looked up before is not known here: the results of its attempts are not kept."""

    def on_released(self, plan: Plan, tenant: str, execution_id: str) -> None:
        self._missed.pop(execution_id, None)

    async def close(self) -> None:
        """Stop. What stands aside is left to the next owner; what waits to be kept has a moment yet."""
        self._aside.clear()
        if tasks := list(self._tasks.values()):
            await asyncio.wait(tasks, timeout=CLOSING_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _work(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = self._tasks.get(name)
        if task is None or task.done():
            self._tasks[name] = asyncio.create_task(work(), name=f"results: {name}")

    async def _look_up(self) -> None:
        while self._new:
            asked, self._new = self._new[:BATCH], self._new[BATCH:]
            attempts = [self._aside[key][0] for key in asked if key in self._aside]
            answer = await self._answer(attempts)
            if answer is None:  # nor would those behind them be answered
                waiting, self._new = [*asked, *self._new], []
                for key in waiting:
                    if key in self._aside:
                        self._send(*self._aside.pop(key))
                continue
            for looked_up, want, kept in zip(attempts, *answer, strict=True):
                aside = self._aside.pop(looked_up.id, None)
                if aside is None:  # abandoned, or left, while it was looked up
                    continue
                attempt, owned = aside
                if kept is not None:
                    self._on_reports([_done(attempt, kept)])
                    continue
                if want is not None and owned.wants(attempt):
                    self._missed.setdefault(attempt.execution_id, {})[attempt.id] = want
                self._send(attempt, owned)

    async def _answer(
        self, attempts: Sequence[Attempt]
    ) -> tuple[Sequence[Wanted | None], Sequence[Kept | None]] | None:
        """What each attempt would be kept as, and what there is of it; None where nobody answers."""
        assert self._results is not None
        try:
            async with asyncio.timeout(PATIENCE_S):
                wanted = await asyncio.to_thread(_wanted, attempts)
                return wanted, await self._results.find(wanted)
        except (StoreError, TimeoutError) as error:
            log.warning("results_not_looked_up", extra=_told(error, len(attempts)))
            return None
        except Exception:  # whatever is wrong with the cache, the work is done
            log.exception("results_not_looked_up", extra={"results": len(attempts)})
        nothing = [None] * len(attempts)
        return nothing, nothing

    def _keep(self, wanted: Wanted, execution_id: str, event: StepCompleted) -> None:
        if len(self._to_keep) >= BACKLOG:
            log.warning("result_not_kept", extra={"execution_id": execution_id, "step": event.step})
            return
        kept = Kept(
            result=event.result,
            delta=event.delta,
            blobs=event.blobs,
            execution_id=execution_id,
            tokens=sum(call.usage.total for call in event.calls),
            cost=round(sum(call.cost for call in event.calls), 6),
        )
        self._to_keep.append((wanted, kept))
        self._work("keep", self._keep_all)

    async def _keep_all(self) -> None:
        assert self._results is not None
        while self._to_keep:
            batch, self._to_keep = self._to_keep[:BATCH], self._to_keep[BATCH:]
            try:
                await self._results.keep(batch)
            except StoreError as error:
                log.warning("results_not_kept", extra=_told(error, len(batch)))
            except Exception:  # the executions have what they need
                log.exception("results_not_kept", extra={"results": len(batch)})

    def _withdrawn(self, attempt_ids: Sequence[str]) -> None:
        error = ErrorInfo("Cancelled", "The attempt was cancelled before it left")
        self._on_reports([Failed(key, error, (), Worker(os.getpid())) for key in attempt_ids])


def _wanted(attempts: Sequence[Attempt]) -> list[Wanted]:
    """What results are looked up by."""
    found = []
    for attempt in attempts:
        assert attempt.node.cache is not None
        key = result_key(
            attempt.tenant, attempt.node, attempt.sources, attempt.fields, attempt.view
        )
        found.append(Wanted(attempt.tenant, key, attempt.node.cache.ttl_s))
    return found


def _done(attempt: Attempt, kept: Kept) -> Done:
    earlier = Cached(kept.execution_id, kept.at, kept.tokens, kept.cost)
    return Done(attempt.id, kept.result, kept.delta, (), None, kept.blobs, earlier)


def _told(error: Exception, count: int) -> dict[str, object]:
    return {"reason": getattr(error, "message", "no answer in time"), "results": count}
