"""Map and subworkflow nodes: their options, and the documents inside them."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from agentflow.plan.compile import compile_plan
from agentflow.spec.check import Checked, check, check_text
from agentflow.spec.normal import content_hash, normalize
from agentflow.spec.schema import first_mismatch, workflow_schema
from tests.soak import cases
from tests.unit.spec.samples import damaged_documents, line, triage

Json = Any
INPUT = {"id": "in", "type": "input"}
SEARCH = {"id": "search", "type": "llm", "metadata": {"source": "small"}}
LATER = {"id": "later", "type": "llm", "metadata": {"source": "small", "output_key": "report"}}
NODE = {"type": "llm", "metadata": {"source": "small", "prompt": "{index}: {item.text}"}}
GRAPH = {
    "nodes": [
        {"id": "draft", "type": "llm", "metadata": {"source": "small", "prompt": "{item}"}},
        {"id": "fix", "type": "llm", "metadata": {"source": "small", "prompt": "{outputs.draft.text}"}},
    ],
    "edges": [{"from": "draft", "to": "fix"}],
    "start_node": "draft",
}  # fmt: skip


def mapped(body: Json, **options: Json) -> dict[str, Json]:
    """in -> search -> each (a map with this body) -> later."""
    metadata = {"items": "${outputs.search.data}", "body": body, **options}
    each = {"id": "each", "type": "map", "metadata": metadata}
    state = {"topic": {"type": "string"}, "flag": {"type": "bool"}}
    return line(INPUT, SEARCH, each, LATER, state=state)


def called(**options: Json) -> dict[str, Json]:
    """in -> call (a subworkflow)."""
    return line(INPUT, {"id": "call", "type": "subworkflow", "metadata": options}, sources=[])


def nested(levels: int, body: Json) -> Json:
    """A body inside so many maps."""
    for _ in range(levels):
        body = {"type": "map", "metadata": {"items": "${item}", "body": body}}
    return body


def errors(checked: Checked) -> list[tuple[str, str]]:
    return [(found.code, found.field) for found in checked.errors]


MAPS: list[dict[str, Json]] = [
    mapped(NODE),
    mapped(GRAPH),
    mapped({"workflow": triage()}),
    mapped({"workflow_id": "wf_1"}),
    mapped({"workflow_id": "wf_1", "version": 3}),
    mapped({"workflow_id": "wf_1", "version": "published"}),
    mapped(
        {"type": "llm", "metadata": {"source_id": "small", "prompt": "{row} {at} {topic}"}},
        item_var="row",
        index_var="at",
        until="result.score > 0.5 && row.size() > 1 || at > 3 || flag",
        max_concurrency=2,
        batch_size=10,
        on_item_error="collect",
        max_items=5,
        output_key="rows",
    ),
    mapped({"type": "input", "metadata": {"input_key": "item", "output_key": "topic"}}),
    mapped({"type": "router", "metadata": {"strategy": "rules", "input_key": "item.text", "routes": [
        {"intent": "a", "condition": "item.score > 1 && index < 3 && topic != '' && flag"}]}}),
    mapped({"type": "aggregator", "metadata": {
        "strategy": "template", "template": "{outputs.search.text} {item}"}}),
    mapped({"type": "aggregator", "metadata": {
        "strategy": "custom", "expression": "outputs.search.text + string(index) + outputs['in']"}}),
    mapped({"type": "map", "metadata": {"items": "${item.parts}", "body": NODE, "item_var": "part"}}),
]  # fmt: skip


@pytest.mark.parametrize("document", MAPS)
def test_check_takes_maps_in_all_their_forms(document: Json) -> None:
    checked = check(document)
    assert checked.errors == () and checked.normalized is not None
    assert [found.code for found in checked.warnings if found.code != "W008"] == []
    assert compile_plan(checked.normalized).unsupported


@pytest.mark.parametrize("document", MAPS)
def test_published_schema_takes_maps_in_all_their_forms(document: Json) -> None:
    assert first_mismatch(workflow_schema(), document) is None


@pytest.mark.parametrize("body", [{}, {"workflow_id": "a", "version": 0}, {"type": "llm", **GRAPH}])
def test_published_schema_refuses_bodies_of_no_form_or_several(body: Json) -> None:
    assert first_mismatch(workflow_schema(), mapped(body)) is not None


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"items": None}, "items"),
        ({"items": ["a"]}, "items"),
        ({"items": "outputs.search"}, "items"),
        ({"items": "${user_input} "}, "items"),
        ({"items": "${user_input"}, "items"),
        ({"items": "${user_input}"}, "items"),
        ({"body": None}, "body"),
        ({"body": "node"}, "body"),
        ({"body": {}}, "body"),
        ({"body": {"type": "llm", "workflow_id": "x"}}, "body"),
        ({"body": {"metadata": {"source": "small"}}}, "body"),
        ({"body": {"workflow": "wf_1"}}, "body.workflow"),
        ({"body": {"workflow_id": 3}}, "body.workflow_id"),
        ({"body": {"workflow_id": "wf_1", "version": 0}}, "body.version"),
        ({"body": {"workflow_id": "wf_1", "version": "latest"}}, "body.version"),
        ({"body": {"workflow_id": "wf_1", "version": True}}, "body.version"),
        ({"body": {"workflow": triage(), "version": 1}}, "body.version"),
        ({"body": {**GRAPH, "sources": []}}, "body.sources"),
        ({"item_var": "a-b"}, "item_var"),
        ({"item_var": "outputs"}, "item_var"),
        ({"item_var": "user_input"}, "item_var"),
        ({"index_var": "in"}, "index_var"),
        ({"index_var": "item"}, "index_var"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"batch_size": 0}, "batch_size"),
        ({"on_item_error": "continue"}, "on_item_error"),
        ({"max_items": 0}, "max_items"),
        ({"output_key": "errors"}, "output_key"),
    ],
)
def test_check_reports_map_options(options: dict[str, Json], field: str) -> None:
    document = mapped(NODE)
    document["nodes"][2]["metadata"].update(options)
    assert errors(check(document)) == [("E024", f"nodes[2].metadata.{field}")]


@pytest.mark.parametrize(
    ("until", "code", "words"),
    [
        ("size(outputs) + 1", "E019", "gives int, not true or false"),
        ("'text'", "E019", "gives string, not true or false"),
        ("result.score >", "E019", "does not compile"),
        ("missing > 1", "E020", "undeclared field 'missing'"),
        ("item > 1", "E020", "undeclared field 'item'"),
        ("outputs.later.text == ''", "E021", "not upstream"),
    ],
)
def test_check_reports_until(until: str, code: str, words: str) -> None:
    [problem] = check(mapped(NODE, until=until, item_var="row")).errors
    assert (problem.code, problem.field) == (code, "nodes[2].metadata.until")
    assert words in problem.message


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({"type": "magic"}, "E004", "body.type"),
        ({"type": 3}, "E003", "body.type"),
        ({"type": "llm"}, "E014", "body.metadata"),
        ({"type": "llm", "metadata": {"source": "gone"}}, "E008", "body.metadata.source"),
        ({"type": "llm", "metadata": {"source_id": "gone"}}, "E008", "body.metadata.source_id"),
        ({"type": "llm", "metadata": {"config": {"source": "gone"}}}, "E008",
         "body.metadata.config.source"),
        ({"type": "db", "metadata": {"source": "small", "query": "SELECT 1"}}, "E024",
         "body.metadata.source"),
        ({"type": "llm", "metadata": {"source": "small", "top_p": 7}}, "E024", "body.metadata.top_p"),
        ({**NODE, "timeout_s": -1}, "E003", "body.timeout_s"),
        ({**NODE, "resources": {"num_gpus": -1}}, "E025", "body.resources.num_gpus"),
        ({**NODE, "queue": "gone"}, "E018", "body.queue"),
        ({**NODE, "on_error": {"goto": "later"}}, "E006", "body.on_error.goto"),
        ({"type": "llm", "metadata": {"source": "small", "prompt": "{outputs.later.text}"}}, "E021",
         "body.metadata.prompt"),
        ({"type": "llm", "metadata": {"source": "small", "prompt": "{outputs.gone.text}"}}, "E020",
         "body.metadata.prompt"),
        (nested(1, {"type": "llm", "metadata": {"source": "small", "prompt": "{outputs.later}"}}),
         "E021", "body.metadata.body.metadata.prompt"),
        ({"type": "aggregator", "metadata": {"strategy": "custom", "expression": "nope"}}, "E020",
         "body.metadata.expression"),
        ({"type": "aggregator", "metadata": {"strategy": "custom", "expression": "item +"}}, "E019",
         "body.metadata.expression"),
        ({"nodes": GRAPH["nodes"], "edges": GRAPH["edges"]}, "E002", "body.start_node"),
        ({**GRAPH, "start_node": "gone"}, "E005", "body.start_node"),
        ({**GRAPH, "nodes": []}, "E001", "body.nodes"),
        ({**GRAPH, "nodes": [{"type": "input"}]}, "E002", "body.nodes[0].id"),
        ({**GRAPH, "nodes": [*GRAPH["nodes"], GRAPH["nodes"][0]]}, "E009", "body.nodes[2].id"),
        ({**GRAPH, "edges": [{"from": "draft", "to": "search"}]}, "E006", "body.edges[0].to"),
        ({**GRAPH, "edges": [{"from_node": "gone", "to": "fix"}]}, "E006", "body.edges[0].from_node"),
        ({**GRAPH, "edges": []}, "E013", "body.nodes[1]"),
        ({**GRAPH, "edges": [*GRAPH["edges"], {"from": "fix", "to": "draft"}]}, "E012",
         "body.edges[1].to"),
        ({**GRAPH, "edges": [{"from": "draft", "to": "fix", "condition": "item"}]}, None, ""),
        ({**GRAPH, "edges": [{"from": "draft", "to": "fix", "condition": "size(item)"}]}, "E019",
         "body.edges[0].condition"),
        ({"workflow": {"nodes": [INPUT], "start_node": "gone"}}, "E005", "body.workflow.start_node"),
        ({"workflow": {"nodes": [{**NODE, "id": "a"}], "start_node": "a"}}, "E008",
         "body.workflow.nodes[0].metadata.source"),
        ({"workflow": triage(output={"x": "${topic}"})}, "E020", "body.workflow.output.x"),
        ({"workflow": triage(state={"item": {"type": "any"}})}, "E003", "body.workflow.state.item"),
        ({"workflow": triage(sources=[{"id": "small", "kind": "llm", "config": {
            "provider": "openai", "model": "m", "api_key_env": "DATABASE_URL"}}])}, "E016",
         "body.workflow.sources[0].config.api_key_env"),
        (nested(2, {"type": "llm"}), "E014", "body.metadata.body.metadata.body.metadata"),
    ],
)  # fmt: skip
def test_check_finds_what_is_wrong_in_a_body_at_its_place(
    body: Json, code: str | None, field: str
) -> None:
    expected = [(code, f"nodes[2].metadata.{field}")] if code else []
    assert errors(check(mapped(body))) == expected


def test_problem_in_a_body_has_a_pointer_the_inner_node_and_a_line() -> None:
    graph = {**GRAPH, "nodes": [GRAPH["nodes"][0], {"id": "fix", "type": "llm"}]}
    document = mapped(graph)
    [found] = check_text(json.dumps(document, indent=1)).errors
    assert found.path == "/nodes/2/metadata/body/nodes/1/metadata"
    assert found.code == "E014" and found.node_id == "fix" and found.edge_index is None
    lines = json.dumps(document, indent=1).split("\n")
    assert found.line is not None and '"id": "fix"' in "".join(
        lines[found.line - 1 : found.line + 3]
    )


def test_body_inside_config_is_found_there() -> None:
    document = mapped({"type": "llm"})
    document["nodes"][2]["metadata"] = {"config": document["nodes"][2]["metadata"]}
    assert errors(check(document)) == [("E014", "nodes[2].metadata.config.body.metadata")]


def test_item_is_known_only_inside_the_body() -> None:
    document = mapped(NODE)
    document["edges"][2]["condition"] = "item == 1"
    assert errors(check(document)) == [("E020", "edges[2].condition")]


def test_renamed_item_replaces_the_usual_name() -> None:
    custom = {"type": "aggregator", "metadata": {"strategy": "custom", "expression": "item"}}
    [found] = check(mapped(custom, item_var="row")).errors
    assert found.code == "E020" and "'item'" in found.message


def test_body_sees_what_nodes_before_the_map_wrote() -> None:
    expression = {"strategy": "custom", "expression": "found + topic"}
    document = mapped({"type": "aggregator", "metadata": expression})
    document["nodes"][1] = {**SEARCH, "metadata": {"source": "small", "output_key": "found"}}
    assert check(document).errors == ()


def test_body_uses_queues_of_the_workflow_around_it() -> None:
    document = mapped({**NODE, "queue": "slow"})
    document["queues"] = [{"id": "slow", "from": "later", "to": "end"}]
    checked = check(document)
    assert checked.errors == () and "W004" not in [found.code for found in checked.warnings]


def test_body_is_judged_by_the_sources_of_the_workflow_around_it() -> None:
    write = {
        "type": "db",
        "metadata": {"source": "rows", "mode": "write", "query": "DELETE FROM t"},
    }
    document = mapped(write)
    rows = {"id": "rows", "kind": "db", "config": {"dsn_ref": "secret://rows"}}
    document["sources"].append(rows)
    assert errors(check(document)) == [("E024", "nodes[2].metadata.body.metadata.mode")]
    rows["config"]["allow_write"] = True
    document["settings"] = {"durability": "none"}
    assert errors(check(document)) == [("E003", "settings.durability")]


def test_models_and_calls_of_a_body_are_judged() -> None:
    document = mapped({**NODE, "queue": "slow"})
    document["nodes"][2]["metadata"]["body"]["metadata"]["model"] = "gpt-4"
    config = {"provider": "openai", "model": "gpt-9", "api_key_env": "OPENAI_API_KEY"}
    document["sources"][0]["config"] = config
    document["queues"] = [
        {"id": "slow", "from": "later", "to": "end", "bandwidth": {"max_tokens_per_minute": 10}}
    ]
    found = [(w.code, w.field) for w in check(document).warnings if w.code in ("W011", "W013")]
    assert sorted(found) == [
        ("W011", "nodes[2].metadata.body"),
        ("W013", "nodes[2].metadata.body.metadata.model"),
    ]


def test_body_has_the_durability_of_the_workflow_around_it() -> None:
    document = mapped({"type": "human"})
    document["settings"] = {"durability": "none"}
    assert errors(check(document)) == [("E003", "settings.durability")]


def test_inner_workflow_has_a_durability_of_its_own() -> None:
    human = {"nodes": [INPUT, {"id": "h", "type": "human"}], "start_node": "in",
             "edges": [{"from": "in", "to": "h"}]}  # fmt: skip
    document = called(workflow=human)
    document["settings"] = {"durability": "none"}
    assert check(document).errors == ()
    human["settings"] = {"durability": "none"}
    place = "nodes[1].metadata.workflow.settings.durability"
    assert errors(check(document)) == [("E003", place)]


def test_bodies_are_checked_though_the_graph_around_them_is_broken() -> None:
    document = mapped({"type": "llm"})
    document["edges"][0]["to"] = "gone"
    document["nodes"][2]["metadata"]["batch_size"] = 0
    assert errors(check(document)) == [
        ("E006", "edges[0].to"),
        ("E024", "nodes[2].metadata.batch_size"),
        ("E014", "nodes[2].metadata.body.metadata"),
    ]


def test_spelling_inside_a_body_is_made_canonical() -> None:
    other = {
        "nodes": [{"id": "a", "type": "api", "metadata": {"path": "https://x.example", "config": {}}}],
        "edges": [{"from_node": "a", "to_node": "end", "default": False}],
        "start_node": "a",
    }  # fmt: skip
    usual = {
        "nodes": [{"id": "a", "type": "http", "metadata": {"url": "https://x.example"}}],
        "edges": [{"from": "a", "to": "end"}],
        "start_node": "a",
    }
    for body in (lambda graph: graph, lambda graph: {"workflow": graph}):
        made = normalize(mapped(body(other)))
        assert made["nodes"][2]["metadata"]["body"] == body(usual)
        assert content_hash(made) == content_hash(normalize(mapped(body(usual))))
    assert normalize(called(workflow=other))["nodes"][1]["metadata"]["workflow"] == usual


def test_normalizing_leaves_the_authors_document_as_it_is() -> None:
    document = mapped({"type": "api", "metadata": {"path": "https://x.example"}})
    before = copy.deepcopy(document)
    check(document)
    assert document == before


def test_two_spellings_inside_a_body_conflict_at_their_place() -> None:
    body = {"type": "llm", "metadata": {"source": "small", "source_id": "big"}}
    assert errors(check(mapped(body))) == [("E003", "nodes[2].metadata.body.metadata.source_id")]


@pytest.mark.parametrize(
    "options",
    [
        {"workflow_id": "wf_1"},
        {"workflow_id": "wf_1", "version": 2, "wait": False, "output_key": "started"},
        {"workflow_id": "wf_1", "version": "published", "input": {"user_input": "${user_input}"}},
        {"workflow": triage(), "output": {"final_output": "${result.output.text}", "n": 1}},
        {"workflow": triage(), "input": {"user_input": "x", "n": ["${intent}"]}},
    ],
)
def test_check_takes_subworkflows_in_all_their_forms(options: dict[str, Json]) -> None:
    checked = check(called(**options))
    assert checked.errors == () and checked.normalized is not None
    assert compile_plan(checked.normalized).unsupported


@pytest.mark.parametrize(
    ("options", "code", "field"),
    [
        ({}, "E024", "workflow_id"),
        ({"workflow_id": ""}, "E024", "workflow_id"),
        ({"workflow_id": "a", "workflow": triage()}, "E024", "workflow"),
        ({"workflow": triage(), "version": 1}, "E024", "version"),
        ({"workflow_id": "a", "version": 0}, "E024", "version"),
        ({"workflow_id": "a", "version": "1"}, "E024", "version"),
        ({"workflow_id": "a", "input": []}, "E024", "input"),
        ({"workflow_id": "a", "wait": "no"}, "E024", "wait"),
        ({"workflow_id": "a", "output": {"cost": "${result.cost}"}}, "E024", "output.cost"),
        ({"workflow_id": "a", "output": {"x": 1}, "wait": False}, "E024", "output"),
        ({"workflow_id": "a", "output": {"x": "${nope}"}}, "E020", "output.x"),
        ({"workflow_id": "a", "input": {"x": "${result}"}}, "E020", "input.x"),
        ({"workflow": {}}, "E001", "workflow.nodes"),
        ({"workflow": {**triage(), "start_node": "gone"}}, "E005", "workflow.start_node"),
    ],
)
def test_check_reports_subworkflow_options(options: dict[str, Json], code: str, field: str) -> None:
    assert (code, f"nodes[1].metadata.{field}") in errors(check(called(**options)))


def test_inner_workflow_sees_nothing_of_the_one_around_it() -> None:
    inner = line(INPUT, {**NODE, "id": "a"}, sources=[], output={"x": "${topic}"})
    document = called(workflow=inner)
    document.update(state={"topic": {"type": "string"}}, sources=triage()["sources"])
    assert errors(check(document)) == [
        ("E008", "nodes[1].metadata.workflow.nodes[1].metadata.source"),
        ("E020", "nodes[1].metadata.workflow.output.x"),
    ]


def test_bodies_lie_sixteen_deep_and_no_deeper() -> None:
    assert check(mapped(nested(15, NODE))).errors == ()
    [found] = check(mapped(nested(16, NODE))).errors
    assert (
        found.code == "E026"
        and found.field == "nodes[2].metadata" + ".body.metadata" * 16 + ".body"
    )


def stored(**documents: Json) -> Any:
    """A resolver over these documents, by id."""
    return documents.get


def calls(*names: str) -> dict[str, Json]:
    """A workflow that executes these stored ones, one after the other."""
    nodes = [
        {"id": f"n{i}", "type": "subworkflow", "metadata": {"workflow_id": name}}
        for i, name in enumerate(names)
    ]
    return line(INPUT, *nodes, sources=[])


def test_workflow_that_leads_back_to_itself_is_found_by_its_id() -> None:
    workflows = stored(b=calls("free", "c"), c=mapped({"workflow_id": "a"}), free=calls())
    [found] = check(calls("free", "b"), workflows=workflows, workflow_id="a").errors
    assert (found.code, found.field) == ("E012", "nodes[2].metadata.workflow_id")
    assert "'a' -> 'b' -> 'c' -> 'a'" in found.message and found.node_id == "n1"


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (calls("a"), "nodes[1].metadata.workflow_id"),
        (mapped({"workflow_id": "a"}), "nodes[2].metadata.body.workflow_id"),
        (mapped({"workflow": calls("a")}),
         "nodes[2].metadata.body.workflow.nodes[1].metadata.workflow_id"),
        (mapped({**calls("a")["nodes"][1]}), "nodes[2].metadata.body.metadata.workflow_id"),
        (called(workflow=calls("a")), "nodes[1].metadata.workflow.nodes[1].metadata.workflow_id"),
    ],
)  # fmt: skip
def test_workflow_that_names_itself_is_found_wherever_it_does(document: Json, field: str) -> None:
    assert errors(check(document, workflows=stored(), workflow_id="a")) == [("E012", field)]
    assert check(document, workflows=stored()).errors == ()
    assert check(document).errors == ()


def test_circle_among_stored_workflows_is_found_from_outside() -> None:
    workflows = stored(b=calls("c"), c=calls("b"))
    assert errors(check(calls("b"), workflows=workflows)) == [
        ("E012", "nodes[1].metadata.workflow_id")
    ]


def test_workflows_lead_sixteen_deep_and_no_deeper() -> None:
    chain = {f"w{i}": calls(f"w{i + 1}") for i in range(1, 30)}
    assert check(calls("w15"), workflows=stored(**chain, w30=calls())).errors == ()
    assert errors(check(calls("w14"), workflows=stored(**chain, w30=calls()))) == [
        ("E026", "nodes[1].metadata.workflow_id")
    ]


def test_many_ways_to_the_same_workflow_are_walked_once() -> None:
    asked: list[str] = []
    layers = {f"w{i}": calls(f"w{i + 1}", f"w{i + 1}") for i in range(12)} | {"w12": calls()}

    def resolve(name: str) -> Json:
        asked.append(name)
        return layers[name]

    assert check(calls("w0", "w0"), workflows=resolve).errors == ()
    assert sorted(asked) == sorted(layers)


quick = settings(
    max_examples=cases(60), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@quick
@given(damaged_documents())
def test_damaged_documents_inside_others_give_the_problems_they_give_alone(document: Json) -> None:
    alone = [(found.code, found.path) for found in check(document).errors]
    if any(code == "E026" for code, _ in alone):
        return
    place = "/nodes/1/metadata/workflow"
    found = check(called(workflow=document)).errors
    if isinstance(document, dict) and ("E001", "") not in alone:
        assert [(problem.code, problem.path.removeprefix(place)) for problem in found] == alone
    for body in ({"workflow": document}, document):
        checked = check(mapped(body))
        assert all(json.dumps(problem.to_json()) for problem in checked.errors)
        if checked.normalized is not None:
            compile_plan(checked.normalized)
