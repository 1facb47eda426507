"""Recorded journals: how they were made, and what their fold is, as text that a person can review."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from agentflow.execution import events as ev
from agentflow.execution.fold import apply
from agentflow.execution.joins import past_of
from agentflow.execution.keys import node_id_of
from agentflow.execution.state import ExecutionState
from agentflow.execution.views import all_steps, final_state
from agentflow.plan.plan import Plan

Json = Any
FOLDER = Path(__file__).resolve().parents[2] / "golden" / "journals"


def read(path: Path) -> tuple[Plan, list[ev.Event]]:
    """The plan (first line) and the events of a recorded journal."""
    first, *rest = path.read_bytes().splitlines()
    return msgspec.json.decode(first, type=Plan), [ev.decode(line) for line in rest]


def write(path: Path, plan: Plan, events: list[ev.Event]) -> None:
    """Record a journal."""
    lines = [msgspec.json.encode(plan), *map(ev.encode, events)]
    path.write_bytes(b"\n".join(lines) + b"\n")


def text_of(plan: Plan, events: list[ev.Event]) -> str:
    """The journal, its steps and the final state, one line each."""
    state, pasts = ExecutionState(plan, "exec_1"), {}
    for event in events:
        pasts |= _past(state, event)
        apply(state, event)
    lines = [f"{number:>3} {_said(plan, event)}" for number, event in enumerate(events, 1)]
    lines += ["", f"execution {state.status}"]
    lines += [f"step {line}" for line in _steps(state, pasts)]
    lines += [""]
    for name, value in final_state(state).items():
        if value not in (None, "", [], {}, 0):
            lines.append(f"{name} {json.dumps(value, sort_keys=True)}")
    return "\n".join(lines) + "\n"


def _said(plan: Plan, event: ev.Event) -> str:
    parts = [ev.kind(event), getattr(event, "step", "")]
    taken = [plan.nodes[plan.edges[i].target].id for i in getattr(event, "taken", ())]
    counted = [plan.nodes[plan.edges[i].source].id for i in getattr(event, "counted", ())]
    parts += [f"to {' '.join(taken)}"] if taken else []
    parts += [f"because of {' '.join(counted)}"] if counted else []
    return " ".join(filter(None, parts))


def _past(state: ExecutionState, event: ev.Event) -> dict[str, int]:
    """The causal past of a step that begins with this event; the fold lets go of it in later iterations."""
    key = getattr(event, "step", "[")
    step = state.steps.get(key)
    if state.plan.fixed or "[" in key or (step is not None and step.status != "pending"):
        return {}
    return {key: past_of(state, state.plan.node(node_id_of(key)), getattr(event, "counted", ()))}


def _steps(state: ExecutionState, pasts: dict[str, int]) -> Iterator[str]:
    for step in all_steps(state):
        names = {other.ordinal: key for key, other in state.steps.items()}
        past = sorted(
            name for bit, name in names.items() if bit and pasts.get(step.key, 0) >> bit & 1
        )
        shown = f"{step.key} {step.status} generation {step.generation} attempt {step.attempt}"
        yield shown + (f" saw {' '.join(past)}" if past else "")
