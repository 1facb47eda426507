"""The pure core alone: checking, compiling and deciding, with real inline nodes and no database.

CPU time of this process. A duration is the best of many short turns. Where large work is compared with
small, both take turns of equal length, so that they meet the same machine, and the middle ratio counts.
"""

from __future__ import annotations

import gc
import itertools
import random
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from agentflow.engine.evaluation import Evaluator
from agentflow.engine.workers import Done
from agentflow.execution import happenings as hp
from agentflow.execution.decide import decide
from agentflow.execution.events import Worker
from agentflow.execution.state import ExecutionState
from agentflow.execution.turn import Conclude, Dispatch, Evaluate
from agentflow.nodes.aggregator import AggregatorNode
from agentflow.nodes.base import NodeSet
from agentflow.nodes.input import InputNode
from agentflow.nodes.router import RouterNode
from agentflow.plan.compile import compile_plan
from agentflow.plan.plan import Plan
from agentflow.spec.check import check

Json = Any
Figure = dict[str, Json]
INLINE_US = 30.0
CHECK_MS = 200.0
GROWTH = 1.3
"""By how much the cost of one node, step or edge may grow from a small workload to a large one."""
TURNS = 40
ROUNDS = 3
FRESH = itertools.count()
"""Conditions that were never compiled before differ in this."""
SOURCE = {"id": "m", "kind": "llm", "config": {"provider": "local", "model": "smollm2"}}


def document(nodes: list[Json], edges: list[Json], **others: Json) -> Json:
    """A specification that starts at its first node."""
    return {"nodes": nodes, "edges": edges, "start_node": nodes[0]["id"], **others}


def chain(size: int, kind: str = "input", condition: str | None = None) -> Json:
    nodes = [{"id": f"n{number}", "type": kind} for number in range(size)]
    edges: list[Json] = [{"from": f"n{n}", "to": f"n{n + 1}"} for n in range(size - 1)]
    for edge in edges if condition else ():
        edge["condition"] = condition
    return document(nodes, edges)


def conditions(size: int) -> Json:
    """A chain with a different CEL condition on each edge."""
    spec = chain(size)
    for edge in spec["edges"]:
        edge["condition"] = f"user_input != 'x{next(FRESH)}'"
    return spec


def routers(size: int) -> Json:
    """A chain of keyword routers, each dispatching on what it found."""
    routes = {"routes": [{"intent": "go", "keywords": ["hello"]}]}
    nodes = [{"id": f"n{n}", "type": "router", "metadata": routes} for n in range(size - 1)]
    nodes.append({"id": f"n{size - 1}", "type": "input"})
    edges = [
        {"from": f"n{n}", "to": f"n{n + 1}", "condition": "intent", "key": "go"}
        for n in range(size - 1)
    ]
    return document(nodes, edges)


def join(size: int) -> Json:
    """One node, ``size`` - 2 nodes behind it, and all of them joined in an aggregator."""
    middle = [f"n{number}" for number in range(size - 2)]
    nodes = [{"id": "go", "type": "input"}, *({"id": name, "type": "input"} for name in middle)]
    nodes.append({"id": "join", "type": "aggregator"})
    edges = [{"from": "go", "to": middle}, *({"from": name, "to": "join"} for name in middle)]
    return document(nodes, edges)


def triage(size: int) -> Json:
    """A chain of what people build, five nodes each: an input, a router, two models, of which one is
    chosen by the intent and one by a condition, and their join. All routers write the same field."""
    nodes: list[Json] = []
    edges: list[Json] = []
    for unit in range(size // 5):
        go, route, chosen, other, both = (f"{part}{unit}" for part in "abcde")
        routes = [{"intent": chosen, "keywords": ["hello"]}]
        nodes += [
            {"id": go, "type": "input"},
            {"id": route, "type": "router", "metadata": {"routes": routes}},
            model(chosen, "{user_input} {outputs." + go + "}"),
            model(other, "{user_input}"),
            {"id": both, "type": "aggregator", "metadata": {"source_keys": [chosen, other]}},
        ]
        edges += [
            {"from": go, "to": route},
            {"from": route, "to": chosen, "condition": "intent"},
            {"from": route, "to": other, "condition": f"intent != 'x{next(FRESH)}'"},
            {"from": chosen, "to": both},
            {"from": other, "to": both},
        ]
        if unit:
            edges.append({"from": f"e{unit - 1}", "to": go})
    return document(nodes, edges, sources=[SOURCE])


def model(name: str, prompt: str) -> Json:
    options = {"source": "m", "prompt": prompt, "output_key": name}
    return {"id": name, "type": "llm", "metadata": options}


def races(size: int) -> Json:
    """A chain of diamonds, four nodes each, whose joins go on with the first that arrives: what lies
    in the causal past of a step is found out as it comes about."""
    nodes: list[Json] = []
    edges: list[Json] = []
    for unit in range(size // 4):
        top, left, right, bottom = (f"{part}{unit}" for part in "abcd")
        options = {"strategy": "concat", "source_keys": ["outputs." + left, "outputs." + right]}
        nodes += [{"id": name, "type": "input"} for name in (top, left, right)]
        nodes.append({"id": bottom, "type": "aggregator", "join": "any", "metadata": options})
        edges += [{"from": top, "to": [left, right]}]
        edges += [{"from": name, "to": bottom} for name in (left, right)]
        if unit:
            edges.append({"from": f"d{unit - 1}", "to": top})
    return document(nodes, edges)


def loop(iterations: int) -> Json:
    """Three nodes that count to ``iterations``: by reading what was there, and by a merge rule."""
    nodes = [
        {"id": "go", "type": "input"},
        adder("count", "count + 1"),
        adder("total", "1"),
        {"id": "look", "type": "input"},
        {"id": "out", "type": "aggregator"},
    ]
    edges = [
        {"from": "go", "to": "count"},
        {"from": "count", "to": "total"},
        {"from": "total", "to": "look"},
        {"from": "look", "to": "count", "condition": f"count + total < {2 * iterations}"},
        {"from": "look", "to": "out", "condition": "else"},
    ]
    state = {
        "count": {"type": "int", "default": 0},
        "total": {"type": "int", "default": 0, "merge": "sum"},
    }
    return document(nodes, edges, state=state, settings={"max_iterations": iterations})


def adder(field: str, expression: str) -> Json:
    options = {"strategy": "custom", "expression": expression, "output_key": field}
    return {"id": field, "type": "aggregator", "metadata": options}


def compiled(spec: Json) -> Plan:
    checked = check(spec)
    if checked.normalized is None:
        raise SystemExit(f"The workload does not check: {checked.errors[:3]}")
    return compile_plan(checked.normalized)


def execute(plan: Plan) -> int:
    """Do a whole execution at once, models answering immediately. Returns how many steps it had."""
    nodes = {"input": InputNode(), "aggregator": AggregatorNode(), "router": RouterNode()}
    evaluator = Evaluator(NodeSet(nodes), time.time, random.random)
    state = ExecutionState(plan, "exec_1")
    initial = {"user_input": "hello"}
    waiting: deque[hp.Happening] = deque([hp.Accepted(at=0.0, tenant="t", initial_state=initial)])
    while waiting:
        for command in decide(state, waiting.popleft()).commands:
            if isinstance(command, Evaluate):
                waiting.append(evaluator.evaluate(state, "t", command))
            elif isinstance(command, Dispatch):
                written = {plan.nodes[command.node].output_key or "": "done"}
                told = Done(command.step, {"text": "done"}, written, (), Worker(pid=1))
                waiting.append(
                    evaluator.report(state, command.step, command.attempt, command.generation, told)
                )
            elif isinstance(command, Conclude):
                waiting.append(evaluator.conclude(state))
    if state.status != "completed":
        raise SystemExit(f"The workload {state.status}: {state.error}")
    return len(state.steps)


def seconds(work: Callable[[], object], at_least: float = 0.0) -> float:
    """CPU seconds of the work, which is repeated until all have taken ``at_least`` seconds."""
    turns, taken = 0, 0.0
    gc.collect()
    began = time.process_time()
    while not turns or taken < at_least:
        work()
        turns += 1
        taken = time.process_time() - began
    return taken / turns


def best(work: Callable[[], object]) -> float:
    work()
    return min(seconds(work) for _ in range(TURNS))


def growth(small: Callable[[], object], large: Callable[[], object], more: float) -> float:
    """How many times as much one part of the large work costs as one of the small; ``more``: how many
    times as many parts it has. Cost that is linear in the parts gives 1."""
    small()
    ratios = []
    for _ in range(ROUNDS):
        taken = seconds(large)
        ratios.append(taken / seconds(small, at_least=taken))
    return statistics.median(ratios) / more


def at_most(name: str, value: float, target: float) -> Figure:
    """A figure that is good when it is small."""
    return {"name": name, "value": value, "target": target}


def inline_steps() -> Iterator[Figure]:
    workloads = {
        "input": chain(1000),
        "aggregator": chain(1000, "aggregator"),
        "input, a CEL condition on the edge": chain(1000, condition="user_input != 'x'"),
        "keyword router, dispatch on the edge": routers(1000),
    }
    for name, spec in workloads.items():
        plan = compiled(spec)
        taken = best(partial(execute, plan)) / execute(plan)
        yield at_most(f"inline step, {name}: us", taken * 1e6, INLINE_US)


def checking() -> Iterator[Figure]:
    workloads = {"chain": chain, "join": join, "triage": triage, "conditions": conditions}
    for name, make in workloads.items():
        taken = best(lambda make=make: compiled(make(1000)))
        yield at_most(f"validate and compile 1,000 nodes, {name}: ms", taken * 1e3, CHECK_MS)
        small, large = (lambda size=size, make=make: compiled(make(size)) for size in (100, 10_000))
        grown = growth(small, large, 100)
        yield at_most(f"validate and compile, {name}: per node, 10,000 / 100", grown, GROWTH)


def executing() -> Iterator[Figure]:
    for name, make, small, large in (
        ("chain: per step, 10,000 / 100", chain, 100, 10_000),
        ("join: per edge, 10,000 / 100", join, 102, 10_000),
        ("triage: per step, 10,000 / 100", triage, 100, 10_000),
        ("loop: per step, 1,000 / 10 iterations", loop, 10, 1000),
        ("causal past through joins of any: per step, 2,000 / 100", races, 100, 2000),
    ):
        plans = compiled(make(small)), compiled(make(large))
        more = execute(plans[1]) / execute(plans[0])
        grown = growth(partial(execute, plans[0]), partial(execute, plans[1]), more)
        yield at_most(f"execute, {name}", grown, GROWTH)


def figures() -> list[Figure]:
    """Every figure of the core, with its target."""
    return [*inline_steps(), *checking(), *executing()]


if __name__ == "__main__":
    for figure in figures():
        print(f"{figure['name']:70} {figure['value']:8.3g} {figure['target']:6g}")
