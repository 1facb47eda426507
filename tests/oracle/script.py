"""Scripted work: results and failures as functions of the node, the step and what it sees."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from agentflow.errors import step_error
from agentflow.execution.events import ModelCall, Usage
from agentflow.plan.plan import PlanNode
from agentflow.testing import Answered
from tests.oracle.workflows import Workflow

Json = Any
FAULTS = ("InvalidInput", "ProviderRejected", "NodeFailed")


class Script:
    """The work of one workflow: the same step with the same view ends the same, wherever it is done.

    ``views`` keeps what every step saw.
    """

    def __init__(self, workflow: Workflow) -> None:
        self._fails = workflow.fails
        self.views: dict[str, dict[str, Json]] = {}

    def work(self, node: PlanNode, key: str, view: dict[str, Json]) -> Answered:
        """What a step gives. Raises StepError."""
        seen = timeless(view)
        assert key not in self.views, f"{key} was done twice"
        self.views[key] = seen
        drawn = _drawn(node.id, key, seen)
        modulus = self._fails.get(node.id)
        if modulus is not None and drawn % modulus == 0:
            raise step_error(FAULTS[drawn % 11 % 3], f"scripted {drawn % 7}")
        calls: tuple[ModelCall, ...] = ()
        if node.type == "llm":
            used = Usage(input_tokens=drawn % 50, output_tokens=3)
            calls = (ModelCall("small", "local", "m", used, drawn % 9 / 1000),)
        return Answered(result=drawn // 3 % 10, delta=_delta(node, drawn // 5), calls=calls)


def timeless(view: dict[str, Json]) -> dict[str, Json]:
    """What is the same of a view on every runtime: without the execution's own name and the times."""
    kept = {name: value for name, value in view.items() if name != "execution"}
    kept.setdefault("error", None)
    if "errors" in kept:
        kept["errors"] = without_times(kept["errors"])
    return kept


def without_times(errors: Json) -> Json:
    return [{name: error[name] for name in error if name != "at"} for error in errors or []]


def _delta(node: PlanNode, drawn: int) -> dict[str, Json]:
    name = node.output_key
    if name is None:
        return {}
    if name.startswith("turns"):
        return {name: 1}
    values: dict[str, Json] = {
        "f_sum": 1 + drawn % 3,
        "f_concat": [drawn % 5] if drawn % 2 else drawn % 5,
        "f_merge": {f"k{drawn % 3}": drawn % 7},
        "f_max": drawn % 20,
        "f_min": drawn % 25,
        "pick": str(drawn % 2),
    }
    return {} if drawn % 13 == 0 else {name: values.get(name, f"v{drawn % 4}")}


def _drawn(node_id: str, key: str, view: dict[str, Json]) -> int:
    text = json.dumps([node_id, key, view], sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6])
