"""Turns work into happenings: runs inline steps, chooses edges, weighs what workers report.

The one place where what authors wrote (conditions, templates, outputs) is evaluated; what comes of it
is recorded, and never evaluated again.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from agentflow.engine.choices import choose, publish
from agentflow.engine.workers import Done, Failed, describe
from agentflow.errors import (
    ConditionError,
    InvalidInput,
    NodeFailed,
    NoRouteTaken,
    StepError,
    WorkerLost,
)
from agentflow.execution import happenings as hp
from agentflow.execution.decide import Evaluate
from agentflow.execution.state import ExecutionState
from agentflow.execution.views import final_state, view
from agentflow.nodes.base import NodeSet, StepContext, StepResult, is_inline
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

    def evaluate(self, state: ExecutionState, tenant: str, command: Evaluate) -> hp.Happening:
        """Run an inline step and choose its edges."""
        node = state.plan.nodes[command.node]
        try:
            with _as_step_error(f"Node {node.id!r}"):
                seen = view(state, node)
                result = self._run_inline(state, tenant, node, command.step, seen)
                require_fit(state.fields, node, result.delta)
                taken = choose(state.plan, state.fields, node, seen, result.result, result.delta)
        except StepError as error:
            return hp.Broke(
                at=self._clock(),
                step=command.step,
                error=describe(error),
                taken=self.continuing(state, node, error),
                inline=True,
            )
        return hp.Finished(
            at=self._clock(),
            step=command.step,
            result=result.result,
            delta=result.delta,
            taken=taken,
            inline=True,
        )

    def report(
        self, state: ExecutionState, key: str, attempt: int, generation: int, told: Done | Failed
    ) -> hp.Happening:
        """What a worker's report means; a condition that fails makes a result a failure."""
        node = state.node_of(state.steps[key])
        if isinstance(told, Failed):
            return self._failure(state, node, (key, attempt, generation), told)
        try:
            with _as_step_error(f"Node {node.id!r}"):
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
        )

    def conclude(self, state: ExecutionState) -> hp.Concluded:
        """The published output, or why it cannot be had."""
        try:
            with _as_step_error("The output"):
                output = publish(state.plan, final_state(state), state.execution_id)
        except StepError as error:
            return hp.Concluded(at=self._clock(), error=describe(error))
        return hp.Concluded(at=self._clock(), output=output)

    def continuing(
        self, state: ExecutionState, node: PlanNode, error: StepError | None = None
    ) -> tuple[int, ...]:
        """Edges to take when the node continues after an error, as after a null result."""
        if node.on_error != "continue" or isinstance(error, ConditionError | NoRouteTaken):
            return ()
        try:
            with _as_step_error(f"Node {node.id!r}"):
                return choose(state.plan, state.fields, node, view(state, node), None, {})
        except StepError:  # the step has failed already: no edge can be chosen
            return ()

    def _run_inline(
        self,
        state: ExecutionState,
        tenant: str,
        node: PlanNode,
        key: str,
        seen: dict[str, Json],
    ) -> StepResult:
        code = self._nodes.of_type(node.type)
        if not is_inline(code):
            raise NodeFailed(f"Nodes of type {node.type!r} cannot run inside the coordinator")
        context = StepContext(
            node=node,
            view=seen,
            fields=state.fields,
            tenant=tenant,
            execution_id=state.execution_id,
            step=key,
        )
        return code.run_inline(context)

    def _failure(
        self,
        state: ExecutionState,
        node: PlanNode,
        which: tuple[str, int, int],
        failed: Failed,
    ) -> hp.Broke:
        key, attempt, generation = which
        error = failed.error
        if (
            error.type == "Cancelled"
        ):  # nobody asked for it if the step is still open: its worker went
            error = describe(WorkerLost("The worker stopped under the attempt"))
        return hp.Broke(
            at=self._clock(),
            step=key,
            attempt=attempt,
            generation=generation,
            error=error,
            jitter=self._chance(),
            taken=self.continuing(state, node),
            calls=failed.calls,
            worker=failed.worker,
        )


@contextlib.contextmanager
def _as_step_error(where: str) -> Iterator[None]:
    """A fault in what is evaluated ends the step or the execution, not the coordinator's loop."""
    try:
        yield
    except StepError:
        raise
    except Exception as fault:
        log.exception("evaluation_failed")
        raise NodeFailed(f"{where} raised {type(fault).__name__}: {fault}") from fault
