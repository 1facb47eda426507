"""What a journal tells about its steps: what each saw and made, how each attempt went; and how two
executions differ."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from typing import Any

import msgspec

from agentflow.engine.outcome import error_of, steps_of
from agentflow.execution import events as ev
from agentflow.execution.fold import apply
from agentflow.execution.keys import node_id_of
from agentflow.execution.state import ExecutionState, Step
from agentflow.execution.views import all_steps, cost, executed, execution_time, tokens, view
from agentflow.execution.views import timestamp as time_of

Json = Any

DIFF_LINES = 12
DIFF_CHARACTERS = 20_000
"""How much of two outputs is compared line by line, and how much of the difference is shown."""
_BEGINS = (ev.StepStarted, ev.StepWaiting)
_INLINE = (ev.StepCompleted, ev.StepFailed)


class Folding:
    """Folds a journal event by event, and notes of the ``wanted`` steps what they saw (``seen``: step
    key -> the fields that its node reads, in its newest generation), the incoming edges that released
    them (``counted``), their ``attempts`` and what they ``made``: result and delta, which the state lets
    go of. ``made_by_all``: note that much of every step of a node."""

    def __init__(
        self,
        state: ExecutionState,
        wanted: Callable[[str], bool],
        made_by_all: bool = False,
    ) -> None:
        self.state = state
        self.made: dict[str, tuple[Json, dict[str, Json]]] = {}
        self._made_by_all = made_by_all
        self.seen: dict[str, dict[str, Json]] = {}
        self.counted: dict[str, tuple[int, ...]] = {}
        self.newest: str | None = None
        self.attempts: dict[str, list[dict[str, Json]]] = {}
        self._wanted = wanted

    def take(self, event: ev.Event) -> None:
        """Apply the next event."""
        key = getattr(event, "step", None)
        wanted = key is not None and self._wanted(key)
        self.state.touched.clear()  # nobody goes on from here
        if isinstance(event, ev.StepCompleted) and (wanted or self._made_by_all):
            self.made[event.step] = (event.result, event.delta)
        if key is None or not wanted:
            apply(self.state, event)
            return
        if isinstance(event, _INLINE) and self._begins(key):
            self._look(key, event.counted)
        apply(self.state, event)
        if isinstance(event, _BEGINS):
            self._look(key, event.counted)
        self._note(key, event)

    def _begins(self, key: str) -> bool:
        step = self.state.steps.get(key)
        return step is None or step.status == "pending"

    def _look(self, key: str, counted: tuple[int, ...]) -> None:
        """What the step sees now. A journal does not say what was about to begin: that is put in its
        place while we look."""
        if key.endswith("]"):
            return
        node = self.state.plan.nodes[self.state.plan.ids[node_id_of(key)]]
        self.state.released[node.index] = counted
        self.seen[key] = view(self.state, node)
        self.counted[key] = counted
        self.newest = key
        del self.state.released[node.index]

    def _note(self, key: str, event: Any) -> None:
        known = self.attempts.setdefault(key, [])
        place = (event.generation, event.attempt)
        found = next((a for a in known if (a["generation"], a["attempt"]) == place), None)
        if found is None:
            if isinstance(event, (ev.StepSkipped, ev.StepCancelled, ev.StepLate)):
                return
            found = _attempt(event)
            known.append(found)
        if isinstance(event, _BEGINS):
            found["status"] = "running" if isinstance(event, ev.StepStarted) else "waiting"
            return
        found["calls"] += [msgspec.to_builtins(call) for call in getattr(event, "calls", ())]
        if isinstance(event, ev.StepLate):
            return
        retried = isinstance(event, ev.StepRetrying)
        found["status"] = "failed" if retried else ev.kind(event).removeprefix("step.")
        found["ended_at"] = time_of(event.at)
        error = getattr(event, "error", None)
        found["error"] = {"type": error.type, "message": error.message} if error else None


def _attempt(event: Any) -> dict[str, Json]:
    begun = getattr(event, "started_at", None) or event.at
    return {
        "generation": event.generation,
        "attempt": event.attempt,
        "status": "running",
        "started_at": time_of(begun),
        "ended_at": None,
        "error": None,
        "calls": [],
    }


def details(folding: Folding, keys: list[str]) -> list[dict[str, Json]]:
    """These steps in full: their rows, with inputs, outputs, attempts and usage."""
    state = folding.state
    rows = {row["step"]: row for row in steps_of(state)}
    return [_detail(folding, rows[key], state.steps[key]) for key in keys]


def _detail(folding: Folding, row: dict[str, Json], step: Step) -> dict[str, Json]:
    ended = step.status in ("completed", "failed", "timed_out")
    result, delta = folding.made.get(step.key, (None, {}))
    return {
        **row,
        "inputs": folding.seen.get(step.key),
        "outputs": {"result": result, "delta": delta} if ended else None,
        "history": folding.attempts.get(step.key, []),
        "usage": [msgspec.to_builtins(call) for call in step.calls],
    }


def compared(a: Folding, b: Folding) -> dict[str, Json]:
    """How execution b differs from a: per step its status, output, tokens, cost and duration. Both have
    noted what every step made."""
    mine = {step.key: step for step in all_steps(a.state)}
    theirs = {step.key: step for step in all_steps(b.state)}
    keys = [*mine, *(key for key in theirs if key not in mine)]
    return {
        "a": _whole(a.state),
        "b": _whole(b.state),
        "same_workflow": a.state.plan.content_hash == b.state.plan.content_hash,
        "nodes": [
            _pair(key, (mine.get(key), _result(a, key)), (theirs.get(key), _result(b, key)))
            for key in keys
        ],
    }


def _whole(state: ExecutionState) -> dict[str, Json]:
    steps = executed(state)
    return {
        "execution_id": state.execution_id,
        "content_hash": state.plan.content_hash,
        "status": state.status,
        "error": error_of(state),
        "tokens": tokens(steps),
        "cost": cost(steps),
        "duration_s": execution_time(state),
    }


def _pair(key: str, a: tuple[Step | None, Json], b: tuple[Step | None, Json]) -> dict[str, Json]:
    """``a``, ``b``: the step and its result, where there is one."""
    same = a[0] is not None and b[0] is not None and a[1] == b[1]
    return {
        "step": key,
        "node_id": node_id_of(key),
        "a": _side(a[0]),
        "b": _side(b[0]),
        "output_equal": same,
        "difference": None if same else difference(a[1], b[1]),
    }


def _side(step: Step | None) -> dict[str, Json] | None:
    if step is None:
        return None
    ended = step.ended_at
    return {
        "status": step.status,
        "tokens": tokens([step]),
        "cost": cost([step]),
        "duration_s": round(ended - step.started_at, 6) if ended is not None else None,
        "error": step.error.type if step.error else None,
    }


def _result(folding: Folding, key: str) -> Json:
    return folding.made.get(key, (None, None))[0]


def difference(a: Json, b: Json) -> str:
    """The lines in which two outputs differ, ``-`` of a and ``+`` of b; cut off after a few."""
    lines = difflib.unified_diff(_lines(a), _lines(b), lineterm="", n=0)
    shown = [line for line in lines if not line.startswith(("---", "+++", "@@"))]
    rest = len(shown) - DIFF_LINES
    more = [f"... {rest} more lines"] if rest > 0 else []
    return "\n".join([*(line[:200] for line in shown[:DIFF_LINES]), *more])


def _lines(value: Json) -> list[str]:
    if value is None:
        return []
    text = value if isinstance(value, str) else json.dumps(value, indent=1, ensure_ascii=False)
    return text[:DIFF_CHARACTERS].splitlines()
