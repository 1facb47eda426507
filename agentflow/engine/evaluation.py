"""Turns work into happenings: runs inline steps, chooses edges, weighs what workers report.

The one place where what authors wrote (conditions, templates, outputs) is evaluated; what comes of it
is recorded, and never evaluated again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from agentflow.engine.choices import choose, publish
from agentflow.engine.workers import Done, Failed, describe
from agentflow.errors import (
    InvalidInput,
    NodeFailed,
    StepError,
    WorkerLost,
)
from agentflow.execution import happenings as hp
from agentflow.execution.keys import wait_id
from agentflow.execution.state import ExecutionState
from agentflow.execution.turn import Evaluate, Expire, Fail, Gather
from agentflow.execution.views import final_state, view
from agentflow.nodes.base import (
    Answer,
    AnyNode,
    NodeSet,
    Pause,
    StepContext,
    StepResult,
    WaitingNode,
    is_inline,
    is_waiting,
)
from agentflow.plan.plan import Field, PlanNode
from agentflow.spec.state import fits

Json = Any
log = logging.getLogger(__name__)


def require_fit(
    fields: Mapping[str, Field], node: PlanNode | None, values: dict[str, Json]
) -> None:
    """Values that the merge rule of their field can take; a fold cannot fail then.

    ``node`` wrote them, or the caller did. Raises InvalidInput.
    """
    for name, value in values.items():
        field = fields.get(name)
        if value is not None and field is not None and not fits(field.merge, value):
            origin = f"Node {node.id!r} wrote" if node is not None else "initial_state holds"
            raise InvalidInput(
                f"{origin} {type(value).__name__} into the field {name!r}, "
                f"which its merge rule {field.merge!r} cannot take"
            )


class Evaluator:
    """Evaluates steps against a state; holds nothing between calls."""

    def __init__(
        self, nodes: NodeSet, clock: Callable[[], float], chance: Callable[[], float]
    ) -> None:
        self._nodes = nodes
        self._clock = clock
        self._chance = chance

    def evaluate(
        self, state: ExecutionState, tenant: str, command: Evaluate | Gather | Expire | Fail
    ) -> hp.Happening:
        """Run an inline step and choose its edges; or choose those of a step that cannot run."""
        node = state.plan.nodes[command.node]
        if isinstance(command, Fail):
            return hp.Broke(
                at=self._clock(),
                step=command.step,
                error=command.error,
                taken=self.continuing(state, node),
                inline=True,
            )
        if isinstance(command, Expire):
            return self._expire(state, tenant, node, command.step)

        def work(code: AnyNode, context: StepContext) -> StepResult | Pause:
            if is_waiting(code):
                return code.pause(context)
            if not is_inline(code, node.placement):
                raise NodeFailed(f"Nodes of type {node.type!r} cannot run inside the coordinator")
            return code.run_inline(context)

        return self._weigh(state, tenant, node, command.step, work)

    def answer(
        self, state: ExecutionState, tenant: str, key: str, answer: Answer
    ) -> hp.Finished | hp.Broke | hp.Parked:
        """What an answer to a step that waits means."""
        node = state.node_of(state.steps[key])

        def work(code: AnyNode, context: StepContext) -> StepResult:
            return _waiting(code, node).answered(context, answer)

        return self._weigh(state, tenant, node, key, work, inline=False)

    def _expire(self, state: ExecutionState, tenant: str, node: PlanNode, key: str) -> hp.Happening:
        def work(code: AnyNode, context: StepContext) -> StepResult:
            return _waiting(code, node).expired(context, self._clock())

        return self._weigh(state, tenant, node, key, work, inline=False)

    def _weigh(
        self,
        state: ExecutionState,
        tenant: str,
        node: PlanNode,
        key: str,
        work: Callable[[AnyNode, StepContext], StepResult | Pause],
        inline: bool = True,
    ) -> hp.Finished | hp.Broke | hp.Parked:
        """What comes of work done here, with the edges to take."""
        step = state.steps.get(key)
        which: dict[str, Json] = {
            "step": key,
            "attempt": step.attempt if step and not inline else 1,
            "generation": step.generation if step else 0,
        }
        try:
            with _AsStepError(f"Node {node.id!r}"):
                seen = view(state, node)
                made = work(
                    self._nodes.of_type(node.type), _context(state, tenant, node, which, seen)
                )
                if isinstance(made, Pause):
                    return self._parked(made, which)
                require_fit(state.fields, node, made.delta)
                taken = choose(state.plan, state.fields, node, seen, made.result, made.delta)
        except StepError as error:
            taken = self.continuing(state, node, error.type)
            told = describe(error)
            return hp.Broke(at=self._clock(), error=told, taken=taken, inline=inline, **which)
        return hp.Finished(
            at=self._clock(),
            result=made.result,
            delta=made.delta,
            taken=taken,
            inline=inline,
            **which,
        )

    def _parked(self, pause: Pause, which: dict[str, Json]) -> hp.Parked:
        now = self._clock()
        return hp.Parked(
            at=now,
            wait_id=wait_id(which["step"], which["generation"]),
            kind=pause.kind,
            until=pause.until if pause.after_s is None else now + pause.after_s,
            signal=pause.signal,
            prompt=pause.prompt,
            form=pause.form,
            assignees=pause.assignees,
            **which,
        )

    def report(
        self, state: ExecutionState, key: str, attempt: int, generation: int, told: Done | Failed
    ) -> hp.Happening:
        """What a worker's report means; a condition that fails makes a result a failure."""
        node = state.node_of(state.steps[key])
        if isinstance(told, Failed):
            return self._failure(state, node, (key, attempt, generation), told)
        try:
            with _AsStepError(f"Node {node.id!r}"):
                require_fit(state.fields, node, told.delta)
                seen = view(state, node)
                taken = choose(state.plan, state.fields, node, seen, told.result, told.delta)
        except StepError as error:
            failed = Failed(told.id, describe(error), told.calls, told.worker)
            return self._failure(state, node, (key, attempt, generation), failed)
        return hp.Finished(
            at=self._clock(),
            step=key,
            attempt=attempt,
            generation=generation,
            result=told.result,
            delta=told.delta,
            taken=taken,
            calls=told.calls,
            worker=told.worker,
            blobs=told.blobs,
            cached=told.cached,
        )

    def conclude(self, state: ExecutionState) -> hp.Concluded:
        """The published output, or why it cannot be had."""
        try:
            with _AsStepError("The output"):
                output = publish(state.plan, final_state(state), state.execution_id)
        except StepError as error:
            return hp.Concluded(at=self._clock(), error=describe(error))
        return hp.Concluded(at=self._clock(), output=output)

    def continuing(self, state: ExecutionState, node: PlanNode, error: str = "") -> tuple[int, ...]:
        """Edges to take when the node continues after an error of this type, as after a null result;
        none where the choice of edges is what failed."""
        if node.on_error != "continue" or error in ("ConditionError", "NoRouteTaken"):
            return ()
        try:
            with _AsStepError(f"Node {node.id!r}"):
                return choose(state.plan, state.fields, node, view(state, node), None, {})
        except StepError:  # the step has failed already: no edge can be chosen
            return ()

    def _failure(
        self,
        state: ExecutionState,
        node: PlanNode,
        which: tuple[str, int, int],
        failed: Failed,
    ) -> hp.Broke:
        key, attempt, generation = which
        error = failed.error
        if error.type == "Cancelled":  # by nobody, as the step is still open: its worker went
            error = describe(WorkerLost("The worker stopped under the attempt"))
        return hp.Broke(
            at=self._clock(),
            step=key,
            attempt=attempt,
            generation=generation,
            error=error,
            jitter=self._chance(),
            taken=self.continuing(state, node, error.type),
            calls=failed.calls,
            worker=failed.worker,
        )


def _context(
    state: ExecutionState,
    tenant: str,
    node: PlanNode,
    which: dict[str, Json],
    seen: dict[str, Json],
) -> StepContext:
    return StepContext(
        node=node,
        view=seen,
        fields=state.fields,
        tenant=tenant,
        execution_id=state.execution_id,
        **which,
    )


def _waiting(code: AnyNode, node: PlanNode) -> WaitingNode:
    """Raises NodeFailed for work that does not wait."""
    if not is_waiting(code):
        raise NodeFailed(f"Nodes of type {node.type!r} wait for nothing")
    return code


class _AsStepError:
    """A fault in what is evaluated ends the step or the execution, not the coordinator's loop."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, fault: BaseException | None, trace: object) -> None:
        if isinstance(fault, Exception) and not isinstance(fault, StepError):
            log.error("evaluation_failed", exc_info=fault)
            told = f"{self._where} raised {type(fault).__name__}: {fault}"
            raise NodeFailed(told) from fault
