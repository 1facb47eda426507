"""``wait`` nodes: go on at a time, or when a signal comes."""

from __future__ import annotations

from typing import Any

from agentflow.errors import InvalidInput, StepTimeout
from agentflow.nodes.base import Answer, Pause, StepContext, StepResult
from agentflow.nodes.names import declared_names
from agentflow.spec.kinds.wait import seconds_of
from agentflow.spec.templates import resolve_values

Json = Any


class WaitNode:
    """Waits so many seconds, until a moment, or for a signal, whose payload is the result."""

    def pause(self, context: StepContext) -> Pause:
        """Until when, or for which signal. Raises InvalidInput, ExpressionError."""
        options = context.options
        if options.get("signal") is not None:
            return Pause(kind="signal", signal=options["signal"], after_s=options.get("expires_s"))
        if options.get("seconds") is not None:
            return Pause(kind="timer", after_s=options["seconds"])
        return Pause(kind="timer", until=_moment(context))

    def answered(self, context: StepContext, answer: Answer) -> StepResult:
        """The payload of the signal, also written where the node says so."""
        key = context.options.get("output_key")
        return StepResult(result=answer.data, delta={key: answer.data} if key else {})

    def expired(self, context: StepContext, at: float) -> StepResult:
        """Null after a time. Raises StepTimeout where a signal did not come."""
        name = context.options.get("signal")
        if name is not None:
            limit = context.options["expires_s"]
            raise StepTimeout(
                f"Node {context.node.id!r}: no signal {name!r} came within {limit:g} s"
            )
        return StepResult()


def _moment(context: StepContext) -> float:
    value = resolve_values(context.options["until"], context.view, declared_names(context))
    found = seconds_of(value) if isinstance(value, str) else None
    if found is None:
        shown = str(value)[:100]
        raise InvalidInput(
            f"Node {context.node.id!r}: 'until' is {shown!r}, and not a time with its zone, "
            "such as 2027-01-01T09:00:00Z"
        )
    return found
