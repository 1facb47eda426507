"""Warnings about models, limits and effects: each for its cause, at its place, and not without it."""

from __future__ import annotations

from typing import Any

import pytest

from agentflow.spec.check import check
from tests.unit.spec.samples import line

Json = Any

INPUT = {"id": "in", "type": "input"}


def llm(node_id: str = "m", **metadata: Json) -> dict[str, Json]:
    return {"id": node_id, "type": "llm", "metadata": {"source": "small", **metadata}}


def post(node_id: str, **more: Json) -> dict[str, Json]:
    metadata = {"method": "POST", "url": "https://example.com"}
    return {"id": node_id, "type": "http", "metadata": metadata, **more}


def source(name: str = "small", **config: Json) -> dict[str, Json]:
    given = {"provider": "openai", "model": "gpt-9", "api_key_env": "OPENAI_API_KEY", **config}
    return {"id": name, "kind": "llm", "config": given}


def warnings(document: Json, *codes: str, **options: Any) -> list[tuple[str, str]]:
    """(code, place) of the warnings with these codes, in a document without errors."""
    found = check(document, **options)
    assert found.errors == ()
    return [(w.code, w.field) for w in found.warnings if w.code in codes]


def of_model(*nodes: dict[str, Json], config: dict[str, Json] | None = None) -> dict[str, Json]:
    return line(INPUT, *nodes, sources=[source(**(config or {}))])


@pytest.mark.parametrize(
    ("config", "metadata", "places"),
    [
        ({"model": "gpt-4-turbo"}, {}, ["sources[0].config.model"]),
        ({"model": "gpt-9"}, {"model": "gpt-4-turbo"}, ["nodes[1].metadata.model"]),
        ({"model": "gpt-9"}, {}, []),
        ({"provider": "anthropic", "model": "claude-2.1"}, {}, ["sources[0].config.model"]),
        ({"provider": "anthropic", "model": "gpt-4-turbo"}, {}, []),
        ({"provider": "google", "model": "models/gemini-1.5-pro"}, {}, ["sources[0].config.model"]),
    ],
)
def test_deprecated_models_are_told(
    config: dict[str, Json], metadata: dict[str, Json], places: list[str]
) -> None:
    document = of_model(llm(**metadata), config=config)
    assert warnings(document, "W013") == [("W013", place) for place in places]


def test_deprecated_model_of_an_agent_is_told() -> None:
    agents = [{"name": "a", "source": "small", "model": "gpt-4", "system_prompt": "Help"}]
    document = of_model({"id": "n", "type": "agent", "metadata": {"agents": agents}})
    assert warnings(document, "W013") == [("W013", "nodes[1].metadata.agents[0].model")]


def known(provider: str, model: str, base_url: str | None) -> bool | None:
    """A price list of one model, which cannot judge gemini."""
    return None if provider == "gemini" else (model, base_url) == ("priced", None)


@pytest.mark.parametrize(
    ("config", "metadata", "places"),
    [
        ({"model": "priced"}, {}, []),
        ({"model": "unknown"}, {}, ["sources[0].config.model"]),
        ({"model": "priced"}, {"model": "unknown"}, ["nodes[1].metadata.model"]),
        ({"model": "priced", "base_url": "https://a.example"}, {}, ["sources[0].config.model"]),
        ({"model": "unknown", "price": {"input_per_mtok": 0}}, {"model": "other"}, []),
        ({"model": "unknown", "price": {}}, {}, ["sources[0].config.model"]),
        ({"model": "unknown", "provider": "gemini"}, {}, []),
    ],
)
def test_models_without_a_price_are_told(
    config: dict[str, Json], metadata: dict[str, Json], places: list[str]
) -> None:
    document = of_model(llm(**metadata), config=config)
    assert warnings(document, "W010", priced=known) == [("W010", place) for place in places]
    assert warnings(document, "W010") == []


def limited(tokens: int, **queue: Json) -> list[dict[str, Json]]:
    bandwidth = {"max_tokens_per_minute": tokens}
    return [{"id": "slow", "from": "in", "to": "m", "bandwidth": bandwidth, **queue}]


@pytest.mark.parametrize(
    ("tokens", "metadata", "told"),
    [
        (4100, {"prompt": "x" * 16}, False),
        (4099, {"prompt": "x" * 16}, True),
        (4099, {"prompt": "", "system_prompt": "x" * 13}, True),
        (110, {"prompt": "x" * 40, "max_tokens": 100}, False),
        (109, {"prompt": "x" * 40, "max_tokens": 100}, True),
        (105, {"messages": [{"role": "user", "content": "x" * 100}], "max_tokens": 90}, True),
    ],
)
def test_calls_larger_than_their_queue_are_told(
    tokens: int, metadata: dict[str, Json], told: bool
) -> None:
    document = {**of_model(llm(**metadata)), "queues": limited(tokens)}
    assert warnings(document, "W011") == ([("W011", "nodes[1]")] if told else [])


def test_calls_are_held_by_the_queue_of_node_edge_and_source() -> None:
    elsewhere = limited(10, to="end")
    by_node = {**of_model({**llm(), "queue": "slow"}), "queues": elsewhere}
    by_edge = {**of_model(llm()), "queues": elsewhere}
    assert warnings(by_edge, "W011") == []
    by_edge["edges"] = [{"from": "in", "to": "m", "queue": "slow"}]
    by_source = of_model(llm(), config={"limits": {"max_tokens_per_minute": 10}})
    small = of_model(llm(), config={"limits": {"max_tokens_per_minute": 50}, "max_tokens": 10})
    assert [warnings(d, "W011") for d in (by_node, by_edge, by_source)] == [
        [("W011", "nodes[1]")]
    ] * 3
    assert warnings(small, "W011") == []


def test_calls_of_agents_are_judged_one_by_one() -> None:
    agents = [
        {"name": "a", "source": "small", "system_prompt": "Help"},
        {"name": "b", "source": "small", "system_prompt": "x" * 4000},
    ]
    metadata = {"agents": agents, "pattern": "sequence"}
    node = {"id": "m", "type": "agent", "metadata": metadata}
    document = of_model(node, config={"max_tokens": 100})
    assert warnings({**document, "queues": limited(1000)}, "W011") == [("W011", "nodes[1]")]
    assert warnings({**document, "queues": limited(2000)}, "W011") == []


@pytest.mark.parametrize(
    ("node", "places"),
    [
        ({**llm(), "effects": "once", "retry": {"max_attempts": 2}}, ["nodes[1].retry"]),
        ({**llm(), "effects": "once", "retry": {"max_attempts": 1}}, []),
        (post("m", retry={"max_attempts": 3}), ["nodes[1].retry"]),
        (post("m", retry={"max_attempts": 3}, effects="idempotent"), []),
        ({**llm(source=["small", "other"]), "effects": "once"}, ["nodes[1].metadata.source"]),
        (
            {**llm(source=["small", "other"], race=True), "effects": "once"},
            ["nodes[1].metadata.race"],
        ),
        (llm(source=["small", "other"], race=True), []),
        ({**llm(source="leads"), "effects": "once"}, ["nodes[1].metadata.source"]),
    ],
)
def test_effects_once_do_not_go_with_repetition(node: dict[str, Json], places: list[str]) -> None:
    sources = [source(), source("other"), source("leads", fallbacks=["small"])]
    document = line(INPUT, node, sources=sources)
    assert warnings(document, "W012") == [("W012", place) for place in places]


def race(*edges: tuple[str, Any], join: str = "first_success") -> dict[str, Json]:
    nodes = [
        INPUT,
        post("a"),
        post("b"),
        post("c"),
        {"id": "j", "type": "aggregator", "join": join},
    ]
    document = line(*nodes, sources=[])
    document["edges"] = [{"from": start, "to": target} for start, target in edges]
    return document


@pytest.mark.parametrize(
    ("edges", "raced"),
    [
        ([("in", ["a", "b"]), ("a", "j"), ("b", "c"), ("c", "j")], [1, 2, 3]),
        ([("in", "a"), ("a", ["b", "c"]), ("b", "j"), ("c", "j")], [2, 3]),
        ([("in", ["a", "b", "j"]), ("a", "c"), ("b", ["c", "j"]), ("c", "j")], [1, 2, 3]),
        ([("in", ["a", "j"]), ("a", ["b", "c"]), ("b", "j"), ("c", "end")], [2]),
        ([("in", "a"), ("a", "b"), ("b", "c"), ("c", "j")], []),
    ],
)
def test_effects_once_in_a_raced_branch_are_told(
    edges: list[tuple[str, Any]], raced: list[int]
) -> None:
    expected = [("W012", f"nodes[{index}]") for index in raced]
    assert warnings(race(*edges), "W012") == expected
    assert warnings(race(*edges, join="any"), "W012") == []


def test_effects_once_in_a_loop_inside_a_raced_branch_are_told() -> None:
    document = race(("in", ["a", "c"]), ("a", "b"), ("c", "j"))
    document["edges"] += [
        {"from": "b", "to": "a"},
        {"from": "a", "to": "j", "condition": "cost > 1.0"},
    ]
    assert warnings(document, "W012") == [("W012", f"nodes[{index}]") for index in (1, 2, 3)]


def test_effects_once_before_a_loop_that_was_left_are_not_told() -> None:
    document = race(("in", "a"), ("a", "b"), ("b", "a"), ("c", "j"), ("j", "end"))
    document["edges"] += [{"from": "b", "to": ["c", "j"], "condition": "cost > 1.0"}]
    assert warnings(document, "W012") == [("W012", "nodes[3]")]


def test_effects_once_behind_an_earlier_join_that_does_not_wait_are_told() -> None:
    document = race(("in", ["a", "b"]), ("a", "c"), ("b", "c"), ("c", "j"))
    document["nodes"][3]["join"] = "any"
    assert warnings(document, "W012") == [("W012", "nodes[1]"), ("W012", "nodes[2]")]
    document["nodes"][3]["join"] = {"n_of": 2}
    assert warnings(document, "W012") == []


def test_sources_of_agents_tools_and_fallbacks_are_used() -> None:
    tools = [{"name": "find", "type": "db", "ref": "tickets"}]
    agents = [{"name": "a", "source": "small", "system_prompt": "Help", "tools": ["find"]}]
    node = {"id": "n", "type": "agent", "metadata": {"agents": agents, "tools": tools}}
    spare = {"id": "spare", "kind": "api", "config": {"base_url": "https://example.com"}}
    tickets = {"id": "tickets", "kind": "db", "config": {"dsn_ref": "secret://tickets"}}
    document = line(INPUT, node, sources=[source(), tickets, spare])
    assert warnings(document, "W003") == [("W003", "sources[2]")]
