"""Small random workflows, and the scripted work of their steps.

A *calm* workflow leaves time no influence: however it is disturbed, it ends in the same state. The
others have races, limits, steps that must not be done twice, and less durable journals.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from random import Random
from typing import Any

import msgspec

from agentflow.engine.plans import Plans
from agentflow.errors import step_error
from agentflow.execution.events import ModelCall, Usage
from agentflow.nodes.base import StepContext
from agentflow.plan.plan import PlanNode
from agentflow.spec.check import check
from agentflow.spec.models import content_hash
from agentflow.testing import Answered
from tests.oracle import workflows
from tests.oracle.script import timeless

Json = Any
KINDS = 30
"""How many workflows of each sort the worlds draw from."""
LARGEST = 7
"""Nodes of a workflow."""
PLANS = Plans()
"""Every plan once, however many coordinators there are."""


class Sample(msgspec.Struct, frozen=True, eq=False):
    """A workflow as it is submitted. ``fails``: node -> it fails in one of so many steps."""

    name: str
    spec: dict[str, Json]
    content_hash: str
    initial_state: dict[str, Json]
    fails: dict[str, int]
    calm: bool

    @property
    def durability(self) -> str:
        return str(self.spec["settings"].get("durability", "strict"))


class _Small(workflows._Author):
    """Regions of few parts."""

    def region(self, size: int, depth: int) -> workflows._Part:
        return super().region(min(size, self.chance.randint(1, 2)), depth)


@cache
def sample(number: int, calm: bool) -> Sample:
    """The workflow of this number."""
    chance = Random(2 * number + calm)
    while True:
        drawn = _Small(chance).workflow()
        if len(drawn.document["nodes"]) > LARGEST:
            continue
        if not calm:
            _hurry(drawn.document, chance)
        checked = check(drawn.document)
        spec = checked.normalized
        if not checked.valid or spec is None or len(spec["nodes"]) > LARGEST:
            continue
        if sum(node["type"] == "llm" for node in spec["nodes"]) < 3:
            continue
        plan = PLANS.of(content_hash(spec), spec)
        if not plan.unsupported and len(plan.loops) < 2:
            break
    waiting = _with_waits(drawn.document, Random(f"waits {number} {calm}"), calm)
    fails = drawn.fails
    if waiting and not (calm and plan.loops):
        spec = waiting
        fails = {} if calm else fails  # what fails first, and ends the others, would depend on time
    name = f"{'calm' if calm else 'hasty'} {number}"
    return Sample(name, spec, content_hash(spec), drawn.initial_state, fails, calm)


def _hurry(document: Json, chance: Random) -> None:
    """Give a workflow joins that race, limits, and steps that must not be repeated."""
    for node in document["nodes"]:
        sources = [edge["from"] for edge in document["edges"] if edge["to"] == node["id"]]
        if len(sources) > 1 and chance.random() < 0.5:
            kinds = ("any", "first_success", {"n_of": chance.randint(1, len(sources))})
            node["join"] = chance.choice(kinds)
        if node["type"] == "llm" and chance.random() < 0.3:
            node["timeout_s"] = chance.choice((0.5, 2.0))
        if node["type"] == "llm" and chance.random() < 0.15:
            node["effects"] = "once"
    kept = chance.choice(("strict", "strict", "strict", "relaxed", "none"))
    if kept != "none" or all(node.get("effects") != "once" for node in document["nodes"]):
        document["settings"]["durability"] = kept
    if chance.random() < 0.3:
        document["settings"]["timeout_s"] = chance.choice((2.0, 6.0))


def _with_waits(document: Json, chance: Random, calm: bool) -> Json:
    """The same workflow with steps that wait between others, or None: not every workflow has them. A
    calm one waits only for what time has no influence on."""
    plain = [edge for edge in document["edges"] if not edge.get("condition") and "key" not in edge]
    if document["settings"].get("durability") == "none" or not plain or chance.random() < 0.5:
        return None
    nodes, edges = list(document["nodes"]), list(document["edges"])
    for number, edge in enumerate(chance.sample(plain, min(len(plain), chance.randint(1, 2)))):
        name = f"wait_{number}"
        nodes.append({"id": name, **_wait(chance, calm)})
        edges.remove(edge)
        edges += [{**edge, "to": name}, {"from": name, "to": edge["to"]}]
    checked = check({**document, "nodes": nodes, "edges": edges})
    if checked.normalized is None or not checked.valid:
        return None
    plan = PLANS.of(content_hash(checked.normalized), checked.normalized)
    return None if plan.unsupported else checked.normalized


def _wait(chance: Random, calm: bool) -> dict[str, Json]:
    kind = chance.choice(("timer", "signal") if calm else ("timer", "signal", "human"))
    if kind == "timer":
        return {"type": "wait", "metadata": {"seconds": chance.choice((0.2, 1.5, 7.0))}}
    expiry = {} if calm else chance.choice(({}, {"expires_s": 1.0}, {"expires_s": 2.5}))
    if kind == "signal":
        return {"type": "wait", "on_error": "continue", "metadata": {"signal": "go", **expiry}}
    default = {"on_expire": "default", "default": {"approved": False}} if expiry else {}
    return {"type": "human", "metadata": {**expiry, **default}}


class Work:
    """What steps give: a function of the node, the step and what it sees, wherever it is done."""

    def __init__(self, found: Sample) -> None:
        self._fails = found.fails

    def give(self, node: PlanNode, key: str, view: dict[str, Json]) -> Answered:
        """The result of a step. Raises StepError."""
        seen = timeless(view)
        for name in ("tokens_used", "cost"):  # a result that came too late has its price as well
            seen.pop(name, None)
        drawn = draw(node.id, key, seen)
        modulus = self._fails.get(node.id)
        if modulus is not None and drawn % modulus == 0:
            raise step_error(("InvalidInput", "ProviderRejected")[drawn % 2], f"fault {drawn % 7}")
        calls: tuple[ModelCall, ...] = ()
        if node.type == "llm":
            calls = (ModelCall("small", "local", "m", Usage(drawn % 50, 3), drawn % 9 / 1000),)
        return Answered(result=drawn // 3 % 10, delta=_delta(node, drawn // 5), calls=calls)


class InlineWork:
    """The work of steps inside the coordinator, whatever workflow they belong to."""

    def __init__(self, works: dict[str, Work]) -> None:
        self._works = works

    def run_inline(self, context: StepContext) -> Answered:
        work = self._works[context.execution_id]
        return work.give(context.node, context.step, dict(context.view))


class RemoteWork:
    """Work that leaves the coordinator; the simulated workers do it."""

    async def run(self, context: StepContext) -> Answered:
        raise AssertionError("simulated workers do it")


def draw(*about: Json) -> int:
    """A number that depends on all of this."""
    text = json.dumps(about, sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6])


def _delta(node: PlanNode, drawn: int) -> dict[str, Json]:
    name = node.output_key
    if name is None:
        return {}
    if name.startswith("turns"):
        return {name: 1}
    values: dict[str, Json] = {
        "f_sum": 1 + drawn % 3,
        "f_concat": [drawn % 5],
        "f_merge": {f"k{drawn % 3}": drawn % 7},
        "f_max": drawn % 20,
        "f_min": drawn % 25,
        "pick": str(drawn % 2),
    }
    return {} if drawn % 13 == 0 else {name: values.get(name, f"v{drawn % 4}")}
