"""The workloads as LangGraph graphs. One superstep is what LangGraph does at once."""

from __future__ import annotations

import asyncio
import itertools
import operator
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph

from benchmarks.peers import serving
from benchmarks.peers.driving import Gate

Json = dict[str, Any]
Node = Callable[[Any, RunnableConfig], Awaitable[Json]]


class Done(TypedDict, total=False):
    """What the steps write; steps of one superstep add up."""

    done: Annotated[list[str], operator.add]


class Carried(TypedDict):
    """The payload."""

    text: str


def body(name: str, sleep_s: float = 0.0) -> Node:
    async def step(state: Done, config: RunnableConfig) -> Json:
        if sleep_s:
            await asyncio.sleep(sleep_s)
        return {"done": [name]}

    return step


def line(graph: StateGraph, names: list[str]) -> None:
    for one, following in itertools.pairwise(names):
        graph.add_edge(one, following)


def chain() -> StateGraph:
    graph = StateGraph(Done)
    names = [f"n{number}" for number in range(serving.CHAIN_STEPS)]
    for name in names:
        graph.add_node(name, body(name))
    line(graph, [START, *names, END])
    return graph


def fan(width: int, step_s: float) -> StateGraph:
    graph = StateGraph(Done)
    graph.add_node("go", body("go"))
    graph.add_node("join", body("join"))
    names = [f"w{number}" for number in range(width)]
    for name in names:
        graph.add_node(name, body(name, step_s))
        graph.add_edge("go", name)
    graph.add_edge(names, "join")
    line(graph, [START, "go"])
    line(graph, ["join", END])
    return graph


def uneven() -> StateGraph:
    graph = StateGraph(Done)
    ends = []
    for branch in serving.UNEVEN_SLOW_AT:
        names = [f"{branch}{position}" for position in range(6)]
        for position, name in enumerate(names):
            graph.add_node(name, body(name, serving.branch_seconds(branch, position)))
        line(graph, [START, *names])
        ends.append(names[-1])
    graph.add_node("join", body("join"))
    graph.add_edge(ends, "join")
    line(graph, ["join", END])
    return graph


def payload() -> StateGraph:
    graph = StateGraph(Carried)

    def carry(number: int) -> Node:
        async def step(state: Carried, config: RunnableConfig) -> Json:
            return {"text": f"{number}{state['text'][1:]}"}

        return step

    names = [f"n{number}" for number in range(serving.PAYLOAD_STEPS)]
    for number, name in enumerate(names):
        graph.add_node(name, carry(number))
    line(graph, [START, *names, END])
    return graph


def recovery(folder: Path) -> StateGraph:
    graph = StateGraph(Done)

    def log(number: int) -> Node:
        async def step(state: Done, config: RunnableConfig) -> Json:
            serving.log_step(folder, config["configurable"]["thread_id"], number)
            await asyncio.sleep(serving.RECOVERY_STEP_S)
            return {"done": [str(number)]}

        return step

    names = [f"n{number}" for number in range(serving.RECOVERY_STEPS)]
    for number, name in enumerate(names):
        graph.add_node(name, log(number))
    line(graph, [START, *names, END])
    return graph


def gate(until: int) -> StateGraph:
    graph, waiting = StateGraph(Done), Gate()

    async def step(state: Done, config: RunnableConfig) -> Json:
        await waiting.wait(until)
        return {"done": ["waited"]}

    graph.add_node("wait", step)
    line(graph, [START, "wait", END])
    return graph


def graph_of(workflow: str, given: Json, folder: Path) -> StateGraph:
    """The graph of a workflow."""
    if workflow == "fan":
        return fan(given["width"], given["step_s"])
    if workflow == "gate":
        return gate(given["until"])
    if workflow == "recovery":
        return recovery(folder)
    return {"chain10": chain, "uneven": uneven, "payload": payload}[workflow]()


def input_of(workflow: str) -> Json:
    """The input of one execution of a workflow."""
    return {"text": serving.payload_text()} if workflow == "payload" else {"done": []}
