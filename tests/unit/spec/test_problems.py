"""Each code for its cause, at its place, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from agentflow.spec.check import Checked, check, check_text
from tests.unit.spec.samples import line, triage

Json = Any


def errors(checked: Checked) -> list[tuple[str, str]]:
    return [(found.code, found.field) for found in checked.errors]


def warnings(checked: Checked) -> set[str]:
    return {found.code for found in checked.warnings}


def llm(node_id: str = "m", **metadata: Json) -> dict[str, Json]:
    return {"id": node_id, "type": "llm", "metadata": {"source": "small", **metadata}}


def source(**config: Json) -> list[dict[str, Json]]:
    given = {"provider": "openai", "model": "gpt", "api_key_env": "OPENAI_API_KEY", **config}
    return [{"id": "small", "kind": "llm", "config": {k: v for k, v in given.items() if v != ""}}]


INPUT = {"id": "in", "type": "input"}
BAD_PATTERN = {"intent": "a", "pattern": "(?=x)"}


def test_check_finds_nothing_wrong_with_a_valid_workflow() -> None:
    checked = check(triage())
    assert checked.valid
    assert checked.warnings == ()
    assert checked.normalized is not None


def test_check_reports_one_error_when_the_start_node_does_not_exist() -> None:
    checked = check(triage(start_node="aks"))
    assert errors(checked) == [("E005", "start_node")]
    assert "Start node" in checked.errors[0].message
    assert "does not exist" in checked.errors[0].message
    assert "ask" in (checked.errors[0].hint or "")


def test_check_reports_one_error_when_the_start_node_is_absent() -> None:
    document = triage()
    del document["start_node"]
    assert errors(check(document)) == [("E002", "start_node")]


@pytest.mark.parametrize(("end", "role"), [("to", "destination"), ("from", "source")])
def test_check_reports_one_error_for_an_edge_to_nowhere(end: str, role: str) -> None:
    document = triage()
    document["edges"][0] = {"from": "ask", "to": "route", end: "nowhere"}
    checked = check(document)
    assert errors(checked) == [("E006", f"edges[0].{end}")]
    assert f"non-existent {role} node" in checked.errors[0].message
    assert checked.errors[0].edge_index == 0


def test_check_points_into_a_list_of_targets() -> None:
    document = line(INPUT, llm())
    document["edges"] = [{"from": "in", "to": ["m", "n"]}]
    assert errors(check(document)) == [("E006", "edges[0].to[1]")]


def test_check_reports_an_llm_node_without_source() -> None:
    assert errors(check(line({"id": "m", "type": "llm"}))) == [("E014", "nodes[0].metadata")]


@pytest.mark.parametrize(
    "document",
    [
        {"start_node": "in", "nodes": [INPUT]},
        line({"id": "r", "type": "router", "metadata": {"source": "small"}}),
        line(INPUT, edges=[{"from": "in", "to": "end"}]),
        line(INPUT, edges=[{"from": "in", "to": "__end__"}]),
        line({"id": "in", "type": "input", "metadata": None, "x": 1.5, "y": -2, "colour": "red"}),
    ],
)
def test_check_accepts_small_workflows(document: Json) -> None:
    assert errors(check(document)) == []


def test_check_keeps_unknown_fields() -> None:
    checked = check(line({**INPUT, "x": 1, "editor": {"a": None}}, canvas={"zoom": 2}))
    assert checked.normalized is not None
    assert checked.normalized["nodes"][0]["editor"] == {"a": None}
    assert checked.normalized["canvas"] == {"zoom": 2}


@pytest.mark.parametrize("value", [None, [], 3, "text", True])
def test_check_refuses_what_is_not_an_object(value: Json) -> None:
    assert [found.code for found in check(value).errors] == ["E001"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"nodes": []}, ("E001", "nodes")),
        ({"nodes": {}}, ("E001", "nodes")),
        ({"edges": 3}, ("E001", "edges")),
        ({"edges": [4]}, ("E001", "edges[0]")),
        ({"name": "n" * 201}, ("E003", "name")),
        ({"spec_version": "2"}, ("E003", "spec_version")),
        ({"settings": {"priority": 9}}, ("E003", "settings.priority")),
        ({"settings": {"timeout_s": 0}}, ("E003", "settings.timeout_s")),
        ({"settings": {"max_parallel": 1.5}}, ("E003", "settings.max_parallel")),
        ({"settings": {"on_error": "ignore"}}, ("E003", "settings.on_error")),
        ({"settings": {"on_error": {"goto": "x"}}}, ("E006", "settings.on_error.goto")),
        ({"state": {"a": {"type": "text"}}}, ("E003", "state.a.type")),
        ({"state": {"cost": {"type": "number"}}}, ("E003", "state.cost")),
        ({"state": {"a": {"type": "int", "default": "x"}}}, ("E003", "state.a.default")),
        ({"state": {"a": {"type": "string", "merge": "sum"}}}, ("E003", "state.a.merge")),
        ({"output": {"a": "${outputs.nope}"}}, ("E020", "output.a")),
        ({"output": {"a": "${1 +}"}}, ("E019", "output.a")),
        ({"input_schema": 3}, ("E003", "input_schema")),
    ],
)
def test_check_reports_the_document(change: dict[str, Json], expected: tuple[str, str]) -> None:
    assert errors(check(triage(**change))) == [expected]


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ({"id": "a b", "type": "input"}, ("E003", "nodes[0].id")),
        ({"id": "", "type": "input"}, ("E003", "nodes[0].id")),
        ({"type": "input"}, ("E002", "nodes[0].id")),
        ({"id": "a"}, ("E002", "nodes[0].type")),
        ({"id": "end", "type": "input"}, ("E003", "nodes[0].id")),
        ({"id": "a", "type": "imput"}, ("E004", "nodes[0].type")),
        ({"id": "a", "type": "input", "metadata": 3}, ("E003", "nodes[0].metadata")),
        ({"id": "a", "type": "input", "timeout_s": -1}, ("E003", "nodes[0].timeout_s")),
        ({"id": "a", "type": "input", "retry": {"max_attempts": 0}}, ("E003", "nodes[0].retry.max_attempts")),
        ({"id": "a", "type": "input", "join": {"n_of": 0}}, ("E003", "nodes[0].join")),
        ({"id": "a", "type": "input", "join": {"n_of": 2}}, ("E023", "nodes[0].join")),
        ({"id": "a", "type": "input", "queue": "q"}, ("E018", "nodes[0].queue")),
        ({"id": "a", "type": "input", "on_error": {"goto": "b"}}, ("E006", "nodes[0].on_error.goto")),
        ({"id": "a", "type": "input", "resources": {"num_cpus": 1}}, ("E025", "nodes[0].resources")),
        ({"id": "a", "type": "image"}, ("E014", "nodes[0].metadata")),
        ({"id": "a", "type": "http", "metadata": {"url": "/x"}}, ("E014", "nodes[0].metadata")),
        ({"id": "a", "type": "llm", "metadata": {"source": "x"}}, ("E008", "nodes[0].metadata.source")),
        (llm(source=["small", "x"]), ("E008", "nodes[0].metadata.source[1]")),
    ],
)  # fmt: skip
def test_check_reports_a_node(node: dict[str, Json], expected: tuple[str, str]) -> None:
    document = line(INPUT)
    document.update(nodes=[node], start_node=node.get("id", "a"), edges=[])
    found = errors(check(document))
    assert expected in found
    assert len(found) == 1 or expected[1].endswith(".id")


@pytest.mark.parametrize(
    ("resources", "field"),
    [
        ({"num_cpus": -1}, "num_cpus"),
        ({"num_gpus": 1.5}, "num_gpus"),
        ({"num_gpus": -0.5}, "num_gpus"),
        ({"memory_mb": 0}, "memory_mb"),
        ({"num_tpus": 1}, "num_tpus"),
        ({"num_cpus": "2"}, "num_cpus"),
        ({"labels": {"": "x"}}, "labels"),
    ],
)
def test_check_reports_impossible_resources(resources: Json, field: str) -> None:
    checked = check(line({**llm(), "resources": resources}))
    assert errors(checked) == [("E025", f"nodes[0].resources.{field}")]


@pytest.mark.parametrize("resources", [{"num_gpus": 0.5}, {"num_gpus": 2}, {"num_cpus": 0.25}])
def test_check_accepts_possible_resources(resources: Json) -> None:
    assert check(line({**llm(), "resources": resources})).valid


@pytest.mark.parametrize(
    ("node_type", "metadata", "place"),
    [
        ("input", {"transform": "reverse"}, "transform"),
        ("input", {"validate": {"pattern": "("}}, "validate.pattern"),
        ("input", {"validation": {"pattern": "("}}, "validation.pattern"),
        ("input", {"validate": {"min_length": 3, "max_length": 2}}, "validate.max_length"),
        ("input", {"schema": {"type": "nothing"}}, "schema"),
        ("router", {"routes": [{"intent": "a"}]}, "routes[0].keywords"),
        ("router", {"strategy": "pattern", "routes": [BAD_PATTERN]}, "routes[0].pattern"),
        ("router", {"strategy": "rules"}, "routes"),
        ("router", {"strategy": "magic"}, "strategy"),
        ("router", {"routes": [{"keywords": ["a"]}]}, "routes[0].intent"),
        ("llm", {"source": "small", "temperature": 3}, "temperature"),
        ("llm", {"source": "small", "config": {"max_tokens": 0}}, "config.max_tokens"),
        ("llm", {"source": "small", "response_schema": {"type": 3}}, "response_schema"),
        ("llm", {"source": "small", "messages": "hello"}, "messages"),
        ("llm", {"source": "small", "messages": [{"role": "user"}]}, "messages[0]"),
        ("llm", {"source": 7}, "source"),
        ("aggregator", {"strategy": "template"}, "template"),
        ("aggregator", {"strategy": "custom"}, "expression"),
        ("aggregator", {"strategy": "select"}, "select_key"),
        ("aggregator", {"min_votes": 0}, "min_votes"),
    ],
)  # fmt: skip
def test_check_reports_options(node_type: str, metadata: Json, place: str) -> None:
    checked = check(line({"id": "n", "type": node_type, "metadata": metadata}))
    assert ("E024", f"nodes[0].metadata.{place}") in errors(checked)
    assert {code for code, _ in errors(checked)} <= {"E024", "E014"}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"provider": "opnai"}, [("E015", "provider")]),
        ({"provider": ""}, [("E002", "provider")]),
        ({"model": ""}, [("E002", "model")]),
        ({"api_key_env": ""}, [("E002", "api_key_env")]),
        ({"temperature": 5}, [("E003", "temperature")]),
        ({"base_url": "ftp://x"}, [("E003", "base_url")]),
        ({"limits": {"max_concurrent": 0}}, [("E017", "limits.max_concurrent")]),
        ({"api_key_env": "lower"}, [("E003", "api_key_env")]),
        ({"api_key_env": "DATABASE_URL"}, [("E016", "api_key_env")]),
        ({"api_key_env": "AGENTFLOW_DATA_DIR"}, [("E016", "api_key_env")]),
        ({"api_key_env": "MY_OWN_KEY"}, [("E016", "api_key_env")]),
        ({"api_key_env": "sk-abcdefghijklmnop1234"}, [("E016", "api_key_env")]),
        ({"api_key_env": "", "api_key": "sk-abcdefghijklmnop1234"}, [("E016", "api_key")]),
        ({"base_url": "https://user:pass@host/v1"}, [("E016", "base_url")]),
        ({"headers": {"Authorization": "Bearer 123"}}, [("E016", "headers.Authorization")]),
        ({"password": "hunter2"}, [("E016", "password")]),
        ({"api_key_env": "", "api_key_ref": "openai"}, [("E003", "api_key_ref")]),
    ],
)  # fmt: skip
def test_check_reports_a_source(config: Json, expected: list[tuple[str, str]]) -> None:
    checked = check(line(llm(), sources=source(**config)))
    assert errors(checked) == [(code, f"sources[0].config.{field}") for code, field in expected]


@pytest.mark.parametrize(
    "secret", ["sk-abcdefghijklmnop1234", "postgres://me:hunter22@db/x", "Bearer hunter22"]
)
def test_check_never_repeats_a_credential(secret: str) -> None:
    config = {"api_key": secret, "headers": {"Authorization": secret}, "api_key_env": secret}
    checked = check(line(llm(), sources=source(**config)))
    assert "E016" in {code for code, _ in errors(checked)}
    assert all(
        "hunter22" not in str(found.to_json()) and "abcdefgh" not in str(found.to_json())
        for found in checked.errors
    )


def test_check_allows_names_that_the_operator_added_but_never_its_own() -> None:
    mine = line(llm(), sources=source(api_key_env="MY_OWN_KEY"))
    assert check(mine, allowed_env=("MY_OWN_KEY",)).valid
    never = line(llm(), sources=source(api_key_env="DATABASE_URL"))
    assert not check(never, allowed_env=("DATABASE_URL",)).valid


def test_check_reports_duplicates_at_their_second_use() -> None:
    document = triage()
    document["nodes"].append({"id": "ask", "type": "input"})
    document["sources"] *= 2
    document["queues"] = [
        {"id": "q", "from": "ask", "to": "route", "sub_queues": [{"id": "s", "weight": 1}] * 2},
        {"id": "q", "from": "ask", "to": "route"},
    ]
    assert errors(check(document)) == [
        ("E009", "nodes[5].id"),
        ("E011", "queues[0].sub_queues[1].id"),
        ("E011", "queues[1].id"),
        ("E010", "sources[1].id"),
    ]


def test_check_reports_queues() -> None:
    queues = [
        {"id": "q", "from": "ask", "to": "nowhere", "bandwidth": {"max_concurrent": 0}},
        {"id": "r", "from": "ask", "to": "route", "sub_queues": [{"id": "s", "weight": 2}]},
        {"id": "t", "from": "ask", "to": "route", "sub_queues": [{"id": "s", "weight": 0, "match": "1"}]},
    ]  # fmt: skip
    assert ("E017", "queues[0].bandwidth.max_concurrent") in errors(check(triage(queues=queues)))
    assert ("E017", "queues[1].sub_queues[0].weight") in errors(check(triage(queues=queues)))
    assert ("E007", "queues[0].to") in errors(check(triage(queues=queues[:1])))
    assert ("E019", "queues[0].sub_queues[0].match") in errors(check(triage(queues=queues[2:])))


@pytest.mark.parametrize(
    ("condition", "code", "offset"),
    [
        ("intent ==", "E019", 9),
        ("intent + 'x'", "E019", 0),
        ("size(intent)", "E019", 0),
        ("intnt == 'x'", "E020", 0),
        ("intnt", "E020", 0),
        ("true && outputs.nope.x", "E020", 8),
        ("outputs.join.text == 'x'", "E021", 0),
    ],
)
def test_check_reports_a_condition_with_its_offset(condition: str, code: str, offset: int) -> None:
    document = triage()
    document["edges"][1]["condition"] = condition
    checked = check(document)
    assert errors(checked) == [(code, "edges[1].condition")]
    assert f"(at character {offset})" in checked.errors[0].message
    assert checked.errors[0].edge_index == 1


@pytest.mark.parametrize(
    "condition",
    ["intent == 'a'", "outputs.route.matched", "result.confidence > 0.5", "tokens_used > 3",
     "outputs['route'].intent in ['a', 'b']", "cost < 1", "state.intent == 'a'", "else", "intent"],
)  # fmt: skip
def test_check_accepts_conditions(condition: str) -> None:
    document = triage()
    document["edges"][1]["condition"] = condition
    assert errors(check(document)) == []


def test_check_reports_a_second_dispatch_field() -> None:
    document = triage()
    document["edges"][2]["condition"] = "user_input"
    assert errors(check(document)) == [("E019", "edges[2].condition")]


def test_check_reports_templates() -> None:
    document = line(INPUT, llm(prompt="{outputs.later.text} {outputs.none} {free} {user_input}"))
    document["nodes"].append(llm("later"))
    document["edges"].append({"from": "m", "to": "later"})
    checked = check(document)
    assert errors(checked) == [
        ("E020", "nodes[1].metadata.prompt"),
        ("E021", "nodes[1].metadata.prompt"),
    ]
    assert "W008" in warnings(checked)


def test_check_reports_nodes_that_cannot_be_reached() -> None:
    document = triage()
    document["nodes"].append({"id": "lost", "type": "input"})
    assert errors(check(document)) == [("E013", "nodes[5]")]


def looping(*edges: tuple[str, str, str | None]) -> dict[str, Json]:
    document = line(INPUT, llm("a"), llm("b"), {"id": "out", "type": "aggregator"})
    document["edges"] = [
        {"from": source, "to": target, "condition": condition}
        for source, target, condition in edges
    ]
    return document


def test_check_accepts_a_loop_with_one_entry_and_a_conditional_exit() -> None:
    document = looping(
        ("in", "a", None), ("a", "b", None), ("b", "a", "else"), ("b", "out", "cost > 1")
    )
    assert errors(check(document)) == []


def test_check_reports_a_loop_without_conditional_exit() -> None:
    document = looping(("in", "a", None), ("a", "b", None), ("b", "a", None), ("b", "out", None))
    assert errors(check(document)) == [("E012", "edges[2].to")]


def test_check_reports_a_loop_with_two_entries() -> None:
    document = looping(
        ("in", "a", None), ("in", "b", None), ("a", "b", None), ("b", "a", "else"),
        ("b", "out", "cost > 1"),
    )  # fmt: skip
    assert [code for code, _ in errors(check(document))] == ["E012"]


def fork(**metadata: Json) -> dict[str, Json]:
    document = line(INPUT, llm("a", **metadata), llm("b", **metadata))
    document["edges"] = [{"from": "in", "to": ["a", "b"]}]
    return document


def test_check_reports_unordered_writers_of_an_undeclared_field() -> None:
    assert errors(check(fork(output_key="draft"))) == [("E022", "nodes[2]")]


def test_check_accepts_unordered_writers_with_a_merge_rule() -> None:
    document = {**fork(output_key="draft"), "state": {"draft": {"merge": "concat"}}}
    assert errors(check(document)) == []


def test_check_warns_of_unordered_writers_of_a_builtin_field() -> None:
    checked = check(fork())
    assert checked.valid
    assert {"W001", "W002"} <= warnings(checked)


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        ({"condition": "intent"}, {"condition": "intent"}, False),
        ({"condition": "intent"}, {"condition": "else"}, False),
        ({"condition": "intent", "key": "b"}, {"condition": "intent"}, True),
        ({"condition": "cost > 1"}, {"condition": "else"}, False),
        ({"condition": "cost > 1"}, {"condition": "cost > 2"}, True),
    ],
)
def test_check_knows_which_branches_exclude_each_other(
    first: Json, second: Json, together: bool
) -> None:
    document = fork(output_key="draft")
    document["edges"] = [{"from": "in", "to": "a", **first}, {"from": "in", "to": "b", **second}]
    assert ("E022" in {code for code, _ in errors(check(document))}) == together


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"nodes": [llm()], "start_node": "m", "edges": []}, "W007"),
        ({"sources": [*triage()["sources"], {**triage()["sources"][0], "id": "spare"}]}, "W003"),
        ({"queues": [{"id": "q", "from": "ask", "to": "join"}]}, "W004"),
        ({"edges": [*triage()["edges"], {"from": "ask", "to": "route", "condition": "else"}]}, "W005"),
    ],
)  # fmt: skip
def test_check_warns(change: dict[str, Json], code: str) -> None:
    checked = check(triage(**change))
    assert errors(checked) == []
    assert code in warnings(checked)


def test_check_warns_of_a_router_whose_edges_are_all_taken() -> None:
    document = triage()
    document["edges"][1:3] = [{"from": "route", "to": ["answer", "chat"]}]
    assert "W006" in warnings(check(document))


def test_check_warns_of_variables_that_are_not_set() -> None:
    document = line(llm(), sources=source())
    assert "W009" in warnings(check(document, present_env=()))
    assert "W009" not in warnings(check(document, present_env=("OPENAI_API_KEY",)))
    assert "W009" not in warnings(check(document))


def test_check_refuses_durability_none_with_effects_once() -> None:
    document = line({**llm(), "effects": "once"}, settings={"durability": "none"})
    assert errors(check(document)) == [("E003", "settings.durability")]


def test_check_refuses_workflows_that_are_too_large() -> None:
    nodes = [{"id": f"n{i}", "type": "input"} for i in range(10_001)]
    assert errors(check({"start_node": "n0", "nodes": nodes})) == [("E026", "nodes")]
    edge = {"from": "ask", "to": ["route"] * 50_001}
    assert errors(check(triage(edges=[edge]))) == [("E026", "edges")]


def test_check_reports_everything_at_once_in_order_of_place() -> None:
    document = triage(start_node="nowhere", settings={"priority": 0})
    document["edges"][3]["to"] = "gone"
    document["nodes"][2]["metadata"]["temperature"] = 9
    document["nodes"][3]["metadata"]["source"] = "smal"
    assert errors(check(document)) == [
        ("E006", "edges[3].to"),
        ("E024", "nodes[2].metadata.temperature"),
        ("E008", "nodes[3].metadata.source"),
        ("E003", "settings.priority"),
        ("E005", "start_node"),
    ]


def test_check_gives_line_and_column_where_the_author_wrote_it() -> None:
    text = """{
  "start_node": "m",
  "nodes": [
    {"id": "m", "type": "llm",
     "metadata": {"config": {
        "source_id": "nowhere"}}}
  ]
}"""
    found = check_text(text).errors[0]
    assert (found.code, found.line, found.column) == ("E008", 6, 22)
    assert found.path == "/nodes/0/metadata/config/source_id"


def test_problem_leaves_out_what_is_unknown_but_keeps_the_node_id() -> None:
    document = triage()
    del document["start_node"]
    found = check(document).to_json()["errors"][0]
    assert set(found) == {"code", "type", "message", "path", "field", "node_id"}
    assert found["node_id"] is None
    assert (found["type"], found["path"]) == ("schema", "/start_node")


def test_check_accepts_every_node_type_of_the_reference() -> None:
    least: dict[str, Json] = {
        "langgraph": {"graph": "reviews"},
        "map": {"items": "${[1, 2]}", "body": {"type": "input"}},
        "subworkflow": {"workflow_id": "wf_1"},
        "human": {},
        "wait": {"seconds": 1},
        "plugin": {"plugin": "redact"},
    }
    for node_type, metadata in least.items():
        node = {"id": "n", "type": node_type, "metadata": {"unknown": 1, **metadata}}
        assert errors(check(line(node))) == []


@pytest.mark.parametrize("name", ["cost", "tokens_used", "outputs", "state", "execution", "errors"])
def test_output_key_cannot_be_a_name_that_the_engine_provides(name):
    document = {
        "nodes": [
            {"id": "a", "type": "llm", "metadata": {"source": "m", "output_key": name}},
        ],
        "sources": [
            {"id": "m", "kind": "llm", "config": {"provider": "local", "model": "smollm2"}}
        ],
        "start_node": "a",
    }
    found = check(document).errors
    assert [problem.code for problem in found] == ["E024"]
    assert found[0].path == "/nodes/0/metadata/output_key" and repr(name) in found[0].message


def test_name_that_no_database_can_hold_is_refused():
    document = {"name": "a\x00b", "nodes": [{"id": "a", "type": "input"}], "start_node": "a"}
    found = check(document).errors
    assert [(problem.code, problem.path) for problem in found] == [("E003", "/name")]


def test_check_accepts_two_conditional_edges_from_one_router() -> None:
    document = triage()
    document["edges"][1]["condition"] = "intent == 'answer'"
    document["edges"][2]["condition"] = "intent == 'chat'"
    assert check(document).valid
