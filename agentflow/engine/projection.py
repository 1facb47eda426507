"""One execution on LangGraph's own runtime, in this process: the real work of the nodes, nothing kept."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import msgspec

from agentflow.engine.choices import choose, publish
from agentflow.engine.evaluation import require_fit
from agentflow.engine.stream import StreamItem, TokenDelta
from agentflow.engine.workers import Attempt, Done, Failed, Performer, describe
from agentflow.errors import ConditionError, NoRouteTaken, StepError
from agentflow.execution import events as ev
from agentflow.execution.journal import ExecutionRecord, Recorded
from agentflow.execution.keys import attempt_id
from agentflow.execution.retry import next_delay
from agentflow.execution.state import Step
from agentflow.execution.views import cost, timestamp, tokens
from agentflow.plan.graphstate import STEPS
from agentflow.plan.langgraph import (
    StepAnswer,
    StepCall,
    StepFault,
    StepRecord,
    failure_of,
    final_state_of,
    start_values,
    steps_of,
    to_langgraph,
)
from agentflow.plan.plan import Plan

Json = Any
NOT_CONTINUED = (ConditionError.__name__, NoRouteTaken.__name__)
"""Failures after which no edge can be chosen, whatever the node's policy."""


class _Gave(msgspec.Struct, frozen=True):
    """An attempt with a result, and the edges to take."""

    done: Done
    taken: tuple[int, ...]


class _Broke(msgspec.Struct, frozen=True):
    """An attempt without one, why, and the edges to take if the node continues."""

    told: Done | Failed
    error: ev.ErrorInfo
    taken: tuple[int, ...]


class Projection:
    """Executes a plan once, as a LangGraph graph. ``tell`` hears every event, and pieces of replies.

    Attempts, retries and edges are those of our engine; durability and time limits are not there.
    Raises NotSupported, ConfigError (see :func:`agentflow.plan.langgraph.to_langgraph`).
    """

    def __init__(
        self,
        plan: Plan,
        performer: Performer,
        *,
        execution_id: str,
        tenant: str,
        initial_state: dict[str, Json],
        tell: Callable[[StreamItem], None],
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._plan = plan
        self._performer = performer
        self._id = execution_id
        self._tenant = tenant
        self._initial_state = initial_state
        self._tell = tell
        self._clock = clock
        self._chance = chance
        self._fields = {field.name: field for field in plan.fields}
        self._seq = 0
        self._told: set[str] = set()
        self._graph = to_langgraph(plan, self._do_step)
        self._began = clock()

    @property
    def record(self) -> ExecutionRecord:
        """The execution while it goes on."""
        return ExecutionRecord(
            id=self._id,
            tenant=self._tenant,
            status="running",
            workflow_name=self._plan.name,
            content_hash=self._plan.content_hash,
            initial_state=self._initial_state,
            created_at=self._began,
            started_at=self._began,
        )

    async def execute(self) -> ExecutionRecord:
        """The execution, over: completed or failed."""
        values = await self._graph.ainvoke(start_values(self._initial_state))
        steps = steps_of(self._plan, values)
        for key, step in steps:
            if key not in self._told:
                self._tell_rest(key, step)
        ended = self._clock()
        final = final_state_of(self._plan, values)
        output, error = self._outcome(values, self._timed(final, ended))
        if error is not None and error["node_id"] is None:
            final["errors"] = [*final["errors"], error]
        return msgspec.structs.replace(
            self.record,
            status="completed" if error is None else "failed",
            final_state=self._timed(final, ended),
            output=output,
            error=error,
            tokens_used=sum(step["tokens"] for _, step in steps),
            cost=round(sum(step["cost"] for _, step in steps), 6),
            execution_time=round(ended - self._began, 6),
            nodes_executed=len({step["node"] for _, step in steps if step["status"] != "skipped"}),
            completed_at=ended,
        )

    def _outcome(self, values: Json, final: dict[str, Json]) -> tuple[Json, dict[str, Json] | None]:
        """The published output, and why there is none: ``{type, message, node_id}``."""
        failure = failure_of(self._plan, values)
        if failure is not None:
            key, error = failure
            node = self._plan.nodes[values[STEPS][key]["node"]].id
            return None, {"type": error["type"], "message": error["message"], "node_id": node}
        try:
            return publish(self._plan, final, self._id), None
        except StepError as found:
            return None, {"type": found.type, "message": found.message, "node_id": None}

    def _timed(self, final: dict[str, Json], ended: float) -> dict[str, Json]:
        times = {"start_time": timestamp(self._began), "end_time": timestamp(ended)}
        metadata = {**(final.get("metadata") or {}), "execution_id": self._id, **times}
        errors = [
            {**error, "at": error.get("at", times["end_time"])}
            if isinstance(error, dict)
            else error
            for error in final["errors"]
        ]
        final = {**final, "errors": errors}
        return {**final, "execution_time": round(ended - self._began, 6), "metadata": metadata}

    async def _do_step(self, call: StepCall) -> StepAnswer:
        """Attempts, until one has a result or the retry policy gives up."""
        step = Step(call.key, call.node.index, self._clock())
        while True:
            tried = await self._try(call, step)
            if isinstance(tried, _Gave):
                return self._completed(call, step, tried)
            error = tried.error
            delay = next_delay(call.node, step, error, self._chance())
            if delay is None:
                return self._given_up(call, step, tried)
            self._happened(
                ev.StepRetrying(
                    at=self._clock(),
                    step=call.key,
                    attempt=step.attempt,
                    error=error,
                    delay_s=delay,
                    calls=tried.told.calls,
                )
            )
            if error.uncounted:
                step.waited_s += delay
            else:
                step.failures += 1
            step.attempt += 1
            await asyncio.sleep(delay)

    async def _try(self, call: StepCall, step: Step) -> _Gave | _Broke:
        attempt, offset = self._attempt(call, step), 0

        def on_text(text: str) -> None:
            nonlocal offset
            self._tell(TokenDelta(call.key, step.attempt, offset, text))
            offset += len(text)

        if call.node.placement != "inline":
            at = self._clock()
            self._happened(ev.StepStarted(at=at, step=call.key, attempt=step.attempt))
        told = await self._performer.perform(attempt, on_text, "local", "langgraph")
        step.calls += told.calls
        if isinstance(told, Failed):
            if told.error.type == "Cancelled":
                raise asyncio.CancelledError
            return _Broke(told, told.error, self._continuing(call, told.error))
        try:
            require_fit(self._fields, call.node, told.delta)
            return _Gave(told, self._chosen(call, told.result, told.delta))
        except StepError as found:
            error = describe(found)
            return _Broke(told, error, self._continuing(call, error))

    def _attempt(self, call: StepCall, step: Step) -> Attempt:
        execution = {"id": self._id, "attempt": 1, "workflow_id": None, "version": None}
        return Attempt(
            id=attempt_id(self._id, call.key, 0, step.attempt),
            tenant=self._tenant,
            execution_id=self._id,
            step=call.key,
            attempt=step.attempt,
            generation=0,
            epoch=0,
            node=call.node,
            view={**call.view, "execution": execution},
            fields=self._plan.fields,
            sources=tuple(self._plan.source(source) for source in call.node.sources),
        )

    def _chosen(self, call: StepCall, result: Json, delta: dict[str, Json]) -> tuple[int, ...]:
        return choose(self._plan, self._fields, call.node, call.view, result, delta)

    def _continuing(self, call: StepCall, error: ev.ErrorInfo) -> tuple[int, ...]:
        """Edges to take when the node continues after an error, as after a null result."""
        if call.node.on_error != "continue" or error.type in NOT_CONTINUED:
            return ()
        try:
            return self._chosen(call, None, {})
        except StepError:  # the step has failed already: no edge can be chosen
            return ()

    def _completed(self, call: StepCall, step: Step, tried: _Gave) -> StepAnswer:
        done = tried.done
        self._happened(
            ev.StepCompleted(
                at=self._clock(),
                step=call.key,
                attempt=step.attempt,
                result=done.result,
                delta=done.delta,
                taken=tried.taken,
                calls=done.calls,
                worker=done.worker,
                started_at=step.started_at,
                blobs=done.blobs,
            )
        )
        return StepAnswer(
            result=done.result,
            delta=done.delta,
            taken=tried.taken,
            tokens=tokens([step]),
            cost=cost([step]),
        )

    def _given_up(self, call: StepCall, step: Step, tried: _Broke) -> StepAnswer:
        at = self._clock()
        self._happened(
            ev.StepFailed(
                at=at,
                step=call.key,
                attempt=step.attempt,
                error=tried.error,
                policy=call.node.on_error,
                taken=tried.taken,
                calls=tried.told.calls,
                worker=tried.told.worker,
            )
        )
        fault = StepFault(tried.error.type, tried.error.message, timestamp(at))
        return StepAnswer(error=fault, taken=tried.taken, tokens=tokens([step]), cost=cost([step]))

    def _tell_rest(self, key: str, step: StepRecord) -> None:
        """What LangGraph alone decided: steps that were skipped, and loops that passed their bound."""
        error, at = step["error"], self._clock()
        if error is None:
            self._happened(ev.StepSkipped(at=at, step=key))
            return
        info = ev.ErrorInfo(error["type"], error["message"])
        policy = self._plan.nodes[step["node"]].on_error
        self._happened(ev.StepFailed(at=at, step=key, error=info, policy=policy))

    def _happened(self, event: ev.Event) -> None:
        self._seq += 1
        if isinstance(event, ev.TERMINAL_STEP):
            self._told.add(event.step)
        self._tell(Recorded(self._seq, event))
