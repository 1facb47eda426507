"""The workloads as workflow documents."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from agentflow.access.model import DEFAULT_TENANT
from agentflow.execution.journal import Submission
from agentflow.ids import new_id
from agentflow.spec.check import check
from agentflow.spec.models import content_hash
from benchmarks.peers import serving
from benchmarks.peers.driving import Gate
from benchmarks.suite.contenders.bodies import CARRIED

Json = Any
SOURCE = {
    "id": "m",
    "kind": "llm",
    "config": {"provider": "openai", "model": "gpt-4o-mini", "api_key_env": "OPENAI_API_KEY"},
}
"""A hosted model, whose steps share a worker: those of a local one would have a core each."""


def step(name: str, prompt: str = "nothing", **options: Json) -> Json:
    return {"id": name, "type": "llm", "metadata": {"source": "m", "prompt": prompt, **options}}


def document(nodes: list[Json], edges: list[Json], durability: str, **more: Json) -> Json:
    settings = {"durability": durability, "timeout_seconds": 3600}
    return {
        "name": nodes[0]["id"],
        "nodes": nodes,
        "edges": edges,
        "sources": [SOURCE],
        "start_node": nodes[0]["id"],
        "settings": settings,
        **more,
    }


def linked(nodes: list[Json]) -> list[Json]:
    names = [node["id"] for node in nodes]
    return [{"from": one, "to": next_} for one, next_ in itertools.pairwise(names)]


def chain(length: int, durability: str, prompt: str = "nothing") -> Json:
    nodes = [step(f"n{number}", prompt) for number in range(length)]
    return document(nodes, linked(nodes), durability)


def gated(until: int, hold_s: float, length: int, durability: str) -> Json:
    """A chain whose first step waits until so many executions have come to it, and a moment more."""
    nodes = [step("n0", f"gate {until} {hold_s}"), *(step(f"n{n}") for n in range(1, length))]
    return document(nodes, linked(nodes), durability)


def fan(width: int, durability: str, prompt: str = "nothing") -> Json:
    """One step, ``width`` behind it, and one behind all of these."""
    middle = [step(f"w{number}", prompt) for number in range(width)]
    names = [node["id"] for node in middle]
    edges = [{"from": "go", "to": names}, *({"from": name, "to": "join"} for name in names)]
    return document([step("go"), *middle, step("join")], edges, durability)


def uneven(durability: str) -> Json:
    nodes, edges = [{"id": "go", "type": "input"}], []
    for branch in serving.UNEVEN_SLOW_AT:
        steps = [
            step(f"{branch}{position}", f"sleep {serving.branch_seconds(branch, position)}")
            for position in range(6)
        ]
        nodes += steps
        edges += [{"from": "go", "to": f"{branch}0"}, *linked(steps)]
        edges.append({"from": f"{branch}5", "to": "join"})
    return document([*nodes, step("join")], edges, durability)


def payload(durability: str) -> Json:
    """Steps that read a text of 1 MB, change it and write it."""
    nodes = [
        step(f"n{number}", f"carry {number} {{{CARRIED}}}", output_key=CARRIED)
        for number in range(serving.PAYLOAD_STEPS)
    ]
    state = {CARRIED: {"type": "string"}}
    return document(nodes, linked(nodes), durability, state=state)


def recovery(durability: str) -> Json:
    nodes = [
        step(f"n{number}", f"log {number} {serving.RECOVERY_STEP_S}")
        for number in range(serving.RECOVERY_STEPS)
    ]
    return document(nodes, linked(nodes), durability)


class Prepared:
    """A workflow that was checked once and is executed often."""

    def __init__(self, workflow: Json, initial: Callable[[], Json] = dict) -> None:
        checked = check(workflow)
        if checked.normalized is None:
            raise ValueError(f"The workload does not check: {checked.errors[:3]}")
        self._spec = checked.normalized
        self._hash = content_hash(checked.normalized)
        self._initial = initial
        self.steps = len(workflow["nodes"])

    def submission(self) -> Submission:
        return Submission(
            execution_id=new_id("exec"),
            tenant=DEFAULT_TENANT,
            content_hash=self._hash,
            spec=self._spec,
            initial_state={"user_input": "go", **self._initial()},
            workflow_name=self._spec["name"],
        )


def prepared(kind: str, durability: str, size: int = 0, prompt: str = "nothing") -> Prepared:
    """A workload by name; ``size``: of a chain or a fan, whose steps have this prompt, or how many wait for
    each other."""
    if kind == "chain":
        return Prepared(chain(size, durability, prompt))
    if kind == "gate":
        return Prepared(gated(size, Gate.HOLD_S, 1, durability))
    if kind == "gated chain":
        return Prepared(gated(size, 0.0, serving.CHAIN_STEPS, durability))
    if kind == "fan":
        return Prepared(fan(size, durability, prompt))
    if kind == "payload":
        return Prepared(payload(durability), lambda: {CARRIED: serving.payload_text()})
    return Prepared({"uneven": uneven, "recovery": recovery}[kind](durability))
