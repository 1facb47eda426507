"""``human`` nodes: ask a person, and go on with the answer."""

from __future__ import annotations

import logging
from typing import Any

from agentflow.errors import StepTimeout
from agentflow.execution.views import timestamp
from agentflow.nodes.base import Answer, Pause, StepContext, StepResult
from agentflow.spec.templates import render

Json = Any
_log = logging.getLogger(__name__)


class HumanNode:
    """Asks a question. The answer has been checked against the form when it comes here."""

    def pause(self, context: StepContext) -> Pause:
        """The question, with what it is about filled in."""
        options = context.options
        missing: list[str] = []
        prompt = render(options.get("prompt") or "", context.view, missing)
        for name in missing:
            _log.warning("Node %r: the prompt names {%s}, which is absent", context.node.id, name)
        return Pause(
            kind="human",
            after_s=options.get("expires_s"),
            prompt=prompt,
            form=options["form"],
            assignees=tuple(options.get("assignees") or ()),
        )

    def answered(self, context: StepContext, answer: Answer) -> StepResult:
        """``{data, decision, by, at}``; ``data`` is also written where the node says so."""
        return _result(context, answer.data, answer.by, answer.at)

    def expired(self, context: StepContext, at: float) -> StepResult:
        """The default as the answer of nobody, where there is one to be taken. Raises StepTimeout."""
        options = context.options
        if options["on_expire"] == "default":
            return _result(context, options["default"], None, at)
        limit = options["expires_s"]
        raise StepTimeout(f"Node {context.node.id!r}: nobody answered within {limit:g} s")


def _result(context: StepContext, data: Json, by: str | None, at: float) -> StepResult:
    key = context.options.get("output_key")
    result = {"data": data, "decision": decision(data), "by": by, "at": timestamp(at)}
    return StepResult(result=result, delta={key: data} if key else {})


def decision(data: Json) -> str:
    """One word for an answer: approved or rejected where it says so, else answered."""
    approved = data.get("approved") if isinstance(data, dict) else None
    if isinstance(approved, bool):
        return "approved" if approved else "rejected"
    return "answered"
