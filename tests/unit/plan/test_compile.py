"""What the compiler makes of a valid spec."""

from __future__ import annotations

import pickle
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentflow.plan.compile import compile_plan
from agentflow.plan.plan import END, Plan
from agentflow.spec.check import check
from tests.soak import cases
from tests.unit.spec.samples import line, triage

Json = Any
LIMITED = {"id": "q", "from": "ask", "to": "route", "bandwidth": {"max_concurrent": 1}}


def compiled(document: dict[str, Json]) -> Plan:
    checked = check(document)
    assert checked.normalized is not None, [found.message for found in checked.errors]
    return compile_plan(checked.normalized)


def llm(node_id: str = "m", **metadata: Json) -> dict[str, Json]:
    return {"id": node_id, "type": "llm", "metadata": {"source": "small", **metadata}}


def reads(plan: Plan, node_id: str) -> dict[str, list[str]]:
    return {
        read.field: [plan.nodes[index].id for index in read.writers]
        for read in plan.node(node_id).reads
    }


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Json]:
    """A random acyclic workflow in which every node is reached."""
    size = draw(st.integers(1, 12))
    names = draw(st.permutations([f"n{i}" for i in range(size)]))
    nodes: list[Json] = []
    edges: list[Json] = []
    past: list[set[int]] = []
    for i, name in enumerate(names):
        some = st.lists(st.integers(0, max(0, i - 1)), min_size=1, max_size=3, unique=True)
        sources = draw(some) if i else []
        past.append({*sources, *(p for source in sources for p in past[source])})
        read = draw(st.sampled_from(sorted(past[i]))) if i else 0
        text = "{text_result} {cost}" + (f" {{outputs.{names[read]}.text}}" if i else "")
        nodes.append(llm(name, prompt=text))
        for source in sources:
            condition = draw(st.sampled_from([None, "cost > 1", "else"]))
            edges.append({"from": names[source], "to": name, "condition": condition})
    shuffled = draw(st.permutations(nodes))
    return line(llm("x"), nodes=shuffled, start_node=names[0], edges=edges)


@settings(max_examples=cases(60), deadline=None)
@given(graphs())
def test_compile_orders_every_node_after_its_past(document: dict[str, Json]) -> None:
    plan = compiled(document)
    assert sorted(plan.order) == list(range(len(plan.nodes)))
    for edge in plan.edges:
        assert plan.nodes[edge.source].rank < plan.nodes[edge.target].rank
    for node in plan.nodes:
        assert plan.order[node.rank] == node.index
        assert all(plan.edges[index].target == node.index for index in node.incoming)
        assert all(plan.edges[index].source == node.index for index in node.outgoing)


@settings(max_examples=cases(60), deadline=None)
@given(graphs())
def test_compile_gives_every_read_its_writers_in_the_past(document: dict[str, Json]) -> None:
    plan = compiled(document)
    past = _past(plan)
    for node in plan.nodes:
        for read in node.reads:
            ranks = [plan.nodes[index].rank for index in read.writers]
            assert ranks == sorted(ranks)
            assert set(read.writers) <= past[node.index]
            if read.field in ("text_result", "cost"):
                assert set(read.writers) == past[node.index]


@settings(max_examples=cases(30), deadline=None)
@given(graphs(), st.randoms())
def test_compile_is_deterministic(document: dict[str, Json], rng: random.Random) -> None:
    shuffled = dict(rng.sample(list(document.items()), len(document)))
    assert compiled(document) == compiled(shuffled)
    assert pickle.loads(pickle.dumps(compiled(document))) == compiled(document)


def _past(plan: Plan) -> list[set[int]]:
    past: list[set[int]] = [set() for _ in plan.nodes]
    for index in plan.order:
        for edge in plan.nodes[index].incoming:
            source = plan.edges[edge].source
            past[index] |= past[source] | {source}
    return past


def test_compile_breaks_ties_by_position() -> None:
    document = line(llm("z"), llm("c"), llm("a"), llm("b"))
    document["edges"] = [{"from": "z", "to": ["b", "a", "c"]}]
    plan = compiled(document)
    assert [plan.nodes[index].id for index in plan.order] == ["z", "c", "a", "b"]


def test_compile_splits_list_edges_and_knows_the_end() -> None:
    document = line(llm("a"), llm("b"))
    document["edges"] = [{"from": "a", "to": ["b", "end", "__end__"], "condition": "cost > 1"}]
    plan = compiled(document)
    assert [edge.target for edge in plan.edges] == [1, END, END]
    assert {edge.condition for edge in plan.edges} == {"cost > 1"}


@pytest.mark.parametrize(
    ("edge", "kind", "condition", "field"),
    [
        ({}, "always", None, None),
        ({"condition": "cost > 1"}, "cel", "cost > 1", None),
        ({"condition": "true"}, "cel", "true", None),
        ({"condition": "urgent"}, "cel", "urgent", None),
        ({"condition": "intent", "key": "k"}, "dispatch", None, "intent"),
        ({"condition": "else"}, "else", None, None),
        ({"default": True}, "else", None, None),
    ],
)
def test_compile_tells_the_kinds_of_edges(
    edge: Json, kind: str, condition: str | None, field: str | None
) -> None:
    document = line(llm("a"), llm("b"), state={"urgent": {"type": "bool"}})
    document["edges"] = [{"from": "a", "to": "b", **edge}]
    found = compiled(document).edges[0]
    assert (found.kind, found.condition, found.field) == (kind, condition, field)
    assert found.key == edge.get("key")


@pytest.mark.parametrize(
    ("change", "config", "attempts"),
    [
        ({}, {}, 3),
        ({}, {"max_retries": 0}, 1),
        ({}, {"max_retries": 5}, 6),
        ({"retry": {"max_attempts": 2}}, {"max_retries": 5}, 2),
        ({"retry": {"initial_s": 0.5}}, {"max_retries": 5}, 6),
    ],
)
def test_compile_takes_attempts_from_node_then_source_then_type(
    change: Json, config: Json, attempts: int
) -> None:
    document = line({**llm(), **change})
    document["sources"][0]["config"].update(config)
    assert compiled(document).nodes[0].retry.max_attempts == attempts


@pytest.mark.parametrize(
    ("node", "config", "placement"),
    [
        ({"id": "m", "type": "input"}, {}, "inline"),
        (llm(), {}, "cpu"),
        (llm(), {"provider": "openai", "api_key_env": "OPENAI_API_KEY"}, "io"),
        ({**llm(), "resources": {"num_gpus": 0.5}}, {}, "pool"),
    ],
)
def test_compile_places_nodes(node: Json, config: Json, placement: str) -> None:
    document = line(node)
    document["sources"][0]["config"].update(config)
    assert compiled(document).nodes[0].placement == placement


def test_compile_takes_on_error_from_the_node_then_from_the_settings() -> None:
    plan = compiled(
        line(llm("a"), {**llm("b"), "on_error": "skip"}, settings={"on_error": "continue"})
    )
    assert [node.on_error for node in plan.nodes] == ["continue", "skip"]


def test_compile_fills_in_defaults_of_options() -> None:
    plan = compiled(triage())
    assert plan.node("chat").options["prompt"] == "{user_input}"
    assert plan.node("route").options["strategy"] == "keyword"
    assert plan.node("join").options["priority_order"] == [
        "text_result",
        "image_result",
        "db_result",
    ]
    assert plan.source("small").config["timeout_s"] == 120.0


def test_compile_declares_undeclared_fields_that_nodes_write() -> None:
    plan = compiled(line(llm("a", output_key="draft"), llm("b", prompt="{draft} {free}")))
    assert "draft" in {field.name for field in plan.fields}
    assert "free" not in {field.name for field in plan.fields}
    assert reads(plan, "b") == {"draft": ["a"], "free": []}


def test_compile_ships_only_the_outputs_that_are_read() -> None:
    plan = compiled(
        line(llm("a"), llm("b"), llm("c", prompt="{outputs.a.text}"), llm("d", prompt="{outputs}"))
    )
    assert reads(plan, "c") == {"outputs": ["a"]}
    assert reads(plan, "d") == {"outputs": ["a", "b", "c"]}


def test_compile_takes_the_whole_state_for_every_field() -> None:
    plan = compiled(line(llm("a"), llm("b", prompt="{state}")))
    assert set(reads(plan, "b")) == {field.name for field in plan.fields}
    assert reads(plan, "b")["text_result"] == ["a"]


def test_compile_drops_writers_that_were_surely_overwritten_from_long_chains() -> None:
    plan = compiled(line(*(llm(f"n{i}", prompt="{text_result}") for i in range(100))))
    assert reads(plan, "n50")["text_result"] == [f"n{i}" for i in range(50)]
    assert reads(plan, "n99")["text_result"] == ["n98"]


def test_compile_keeps_all_writers_of_long_chains_that_may_go_on_after_a_failure() -> None:
    nodes = [llm(f"n{i}", prompt="{text_result}") for i in range(100)]
    plan = compiled(line(*nodes, settings={"on_error": "continue"}))
    assert len(reads(plan, "n99")["text_result"]) == 99


def test_compile_names_nothing_unsupported_in_a_plain_workflow() -> None:
    assert compiled(triage()).unsupported == ()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"metadata": {"source": "small", "spill": {"to": "small"}}}, "'spill'"),
        ({"type": "image", "metadata": {"source": "pictures"}}, "no model that makes pictures"),
        (
            {"type": "router", "metadata": {"strategy": "classifier", "plugin": "p"}},
            "router strategy 'classifier'",
        ),
    ],
)
def test_compile_names_unsupported_features_of_a_node(change: Json, says: str) -> None:
    document = line({**llm(), **change})
    document["sources"].append(
        {"id": "pictures", "kind": "image", "config": {"provider": "local", "model": "p"}}
    )
    document["edges"] = [{"from": "m", "to": "end", "condition": "cost > 1"}]
    assert any(says in sentence for sentence in compiled(document).unsupported)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"settings": {"budget": {"max_tokens": 5}}}, "budget"),
        ({"queues": [LIMITED]}, "Queue 'q'"),
    ],
)
def test_compile_names_unsupported_features_of_the_workflow(change: Json, says: str) -> None:
    (sentence,) = compiled(triage(**change)).unsupported
    assert says in sentence


def test_compile_ignores_settings_that_do_no_harm() -> None:
    document = triage(
        settings={"retention_days": 3, "deadline_s": 9, "durability": "relaxed"},
        queues=[{"id": "q", "from": "ask", "to": "route"}],
    )
    assert compiled(document).unsupported == ()


def test_compile_adds_what_a_source_says_comes_after_it() -> None:
    document = line(llm(), llm("own", source=["small", "small"]))
    document["sources"][0]["config"]["fallbacks"] = ["big"]
    document["sources"].append({**document["sources"][0], "id": "big"})
    alone, own = (node for node in compiled(document).nodes if node.type == "llm")
    assert (alone.options["source"], alone.sources) == (["small", "big"], ("small", "big"))
    assert own.options["source"] == ["small", "small"]


@pytest.mark.parametrize(
    ("config", "supported"),
    [
        ({"provider": "vllm", "base_url": "http://gpu:8000/v1"}, True),
        ({"provider": "vllm"}, False),
        ({"provider": "openai-compatible", "base_url": "http://gpu:8000/v1"}, True),
        ({"provider": "anthropic", "api_key_env": "ANTHROPIC_API_KEY"}, True),
        ({"fallbacks": ["small"]}, True),
    ],
)
def test_compile_knows_which_providers_can_be_called(config: Json, supported: bool) -> None:
    document = line(llm())
    document["sources"][0]["config"].update(config)
    assert (compiled(document).unsupported == ()) == supported
