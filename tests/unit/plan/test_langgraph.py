"""The LangGraph form of a plan, against executions worked out by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from agentflow.engine.choices import choose
from agentflow.errors import ConfigError, NotSupported
from agentflow.plan.compile import compile_plan
from agentflow.plan.langgraph import (
    StepAnswer,
    StepCall,
    StepFault,
    failure_of,
    final_state_of,
    start_values,
    steps_of,
    to_langgraph,
)
from agentflow.plan.plan import Plan
from agentflow.spec.check import check

Json = Any


class Done:
    """One execution on LangGraph: what its steps saw and became, and how it ended."""

    def __init__(self, plan: Plan, fails: dict[str, str], writes: dict[str, Json]) -> None:
        self.plan = plan
        self.seen: dict[str, dict[str, Json]] = {}
        self.values: dict[str, Json] = {}
        self._fails = fails
        self._writes = writes
        self._fields = {field.name: field for field in plan.fields}

    async def do_step(self, call: StepCall) -> StepAnswer:
        """The result of a step is its key; a step or node may be told to fail or to write."""
        self.seen[call.key] = call.view
        node = call.node
        message = self._fails.get(call.key, self._fails.get(node.id))
        result = None if message else call.key
        written = self._writes.get(call.key, self._writes.get(node.id))
        delta = {node.output_key: written} if written is not None and not message else {}
        taken: tuple[int, ...] = ()
        if not message or node.on_error == "continue":
            taken = choose(self.plan, self._fields, node, call.view, result, delta)
        if message:
            return StepAnswer(error=StepFault("NodeFailed", message), taken=taken)
        return StepAnswer(result=result, delta=delta, taken=taken, tokens=2, cost=0.25)

    @property
    def statuses(self) -> dict[str, str]:
        return {key: step["status"] for key, step in steps_of(self.plan, self.values)}

    @property
    def final(self) -> dict[str, Json]:
        return final_state_of(self.plan, self.values)


def compiled(document: Json) -> Plan:
    checked = check(document)
    assert checked.valid and checked.normalized is not None, checked.errors
    return compile_plan(checked.normalized)


async def executed(
    document: Json,
    fails: dict[str, str] | None = None,
    writes: dict[str, Json] | None = None,
    initial_state: dict[str, Json] | None = None,
) -> Done:
    done = Done(compiled(document), fails or {}, writes or {})
    graph = to_langgraph(done.plan, done.do_step)
    done.values = await graph.ainvoke(start_values(initial_state or {}))
    return done


def node(name: str, reads: str = "-", output_key: str = "final_output", **more: Json) -> Json:
    metadata = {
        "strategy": "template",
        "template": reads,
        "source_keys": [],
        "output_key": output_key,
    }
    return {"id": name, "type": "aggregator", "metadata": metadata, **more}


def edge(source: str, target: str, condition: str | None = None) -> Json:
    return {"from": source, "to": target, **({"condition": condition} if condition else {})}


def workflow(nodes: list[Json], edges: list[Json], **more: Json) -> Json:
    state = {
        "n": {"type": "int", "merge": "sum", "default": 0},
        "m": {"type": "int", "merge": "sum", "default": 0},
        "words": {"type": "list", "merge": "concat"},
    }
    given = {"nodes": nodes, "edges": edges, "start_node": nodes[0]["id"], "state": state}
    return {**given, **more}


async def test_skip_spreads_and_a_join_waits_for_the_longer_branch():
    done = await executed(
        workflow(
            [
                node("a"),
                node("b"),
                node("c"),
                node("d"),
                node("x"),
                node("y"),
                node("j", "{outputs}"),
            ],
            [
                edge("a", "b"),
                edge("b", "c"),
                edge("c", "d"),
                edge("d", "j"),
                edge("a", "x", "1 > 2"),
                edge("x", "y"),
                edge("y", "j"),
                edge("a", "j"),
            ],
        )
    )
    assert done.statuses == {
        **dict.fromkeys("abcdj", "completed"),
        **dict.fromkeys("xy", "skipped"),
    }
    assert done.seen["j"]["outputs"] == {name: name for name in "abcd"}
    assert done.final["execution_path"] == ["a", "b", "c", "d", "j"]
    assert (done.final["tokens_used"], done.final["cost"]) == (10, 1.25)


async def test_step_sees_its_past_and_not_what_merely_finished_earlier():
    done = await executed(
        workflow(
            [
                node("a", output_key="words"),
                node("fast", output_key="words"),
                node("slow1", output_key="words"),
                node("slow2", "{words}", output_key="words"),
                node("j", "{words}"),
            ],
            [
                edge("a", "fast"),
                edge("a", "slow1"),
                edge("slow1", "slow2"),
                edge("fast", "j"),
                edge("slow2", "j"),
            ],
        ),
        writes={name: name for name in ("a", "fast", "slow1", "slow2")},
        initial_state={"words": ["given"]},
    )
    assert done.seen["slow2"]["words"] == ["given", "a", "slow1"]
    assert done.seen["j"]["words"] == ["given", "a", "fast", "slow1", "slow2"]


LOOP = workflow(
    [node("a"), node("b", "{n}", "n"), node("c", "{n} {outputs}"), node("out", "{n} {outputs}")],
    [
        edge("a", "b"),
        edge("b", "c"),
        edge("c", "b", "n < 3"),
        edge("c", "out", "n >= 1"),
    ],
)


async def test_loop_goes_on_until_no_back_edge_is_taken_and_leaves_once():
    done = await executed(LOOP, writes={"b": 1})
    keys = ["a", "b@1", "c@1", "b@2", "c@2", "b@3", "c@3", "out"]
    assert list(done.statuses) == keys
    assert set(done.statuses.values()) == {"completed"}
    assert [done.seen[f"b@{turn}"]["n"] for turn in (1, 2, 3)] == [0, 1, 2]
    assert done.seen["out"] == {"n": 3, "outputs": {"a": "a", "b": "b@3", "c": "c@3"}}


async def test_exit_edge_keeps_the_resolution_of_the_last_iteration():
    document = json.loads(json.dumps(LOOP))
    document["edges"][3]["condition"] = "n == 1"
    done = await executed(document, writes={"b": 1})
    assert done.statuses["out"] == "skipped"


NESTED = workflow(
    [
        node("o", output_key="m"),
        node("i", "{n}", "n"),
        node("t"),
        node("beside"),
        node("end_of_turn", "{n} {m}"),
        node("out", "{execution_path}"),
    ],
    [
        edge("o", "i"),
        edge("i", "t"),
        edge("t", "i", "n % 2 == 1"),
        edge("t", "end_of_turn", "else"),
        edge("o", "beside"),
        edge("beside", "end_of_turn"),
        edge("end_of_turn", "o", "m < 2"),
        edge("end_of_turn", "out", "else"),
    ],
)


async def test_inner_iterations_begin_anew_in_each_outer_one():
    done = await executed(NESTED, writes={"i": 1, "o": 1})
    inner = [key for key in done.statuses if key.startswith("i@")]
    assert inner == ["i@1.1", "i@1.2", "i@2.1", "i@2.2"]
    assert [done.seen[key]["n"] for key in inner] == [0, 1, 2, 3]
    assert done.seen["end_of_turn@2"] == {"n": 4, "m": 2}
    turn = ["o", "i", "t", "i", "t", "beside", "end_of_turn"]
    assert done.final["execution_path"] == [*turn, *turn, "out"]


async def test_edge_that_leaves_two_loops_counts_when_the_outer_one_is_left():
    document = json.loads(json.dumps(NESTED))
    document["edges"].append(edge("t", "out", "n == 2"))
    done = await executed(document, writes={"i": 1, "o": 1})
    assert done.statuses["out"] == "completed"
    document["edges"][-2]["condition"] = "m > 9"
    done = await executed(document, writes={"i": 1, "o": 1})
    assert done.statuses["out"] == "skipped"


async def test_loop_whose_entry_is_skipped_is_skipped_as_a_whole():
    document = json.loads(json.dumps(LOOP))
    document["edges"][0]["condition"] = "1 > 2"
    done = await executed(document)
    assert done.statuses == {
        "a": "completed",
        "b@1": "skipped",
        "c@1": "skipped",
        "out": "skipped",
    }


async def test_goto_leads_to_its_target_with_the_error():
    document = workflow(
        [node("a", on_error={"goto": "mend"}), node("b"), node("mend", "{error}"), node("j")],
        [edge("a", "b"), edge("b", "j"), edge("mend", "j")],
    )
    done = await executed(document, fails={"a": "broken"})
    assert done.statuses == {
        "a": "failed",
        "b": "skipped",
        "mend": "completed",
        "j": "completed",
    }
    assert done.seen["mend"]["error"] == {
        "node_id": "a",
        "type": "NodeFailed",
        "message": "broken",
    }
    well = await executed(document)
    assert (well.statuses["mend"], well.statuses["b"]) == ("skipped", "completed")


async def test_goto_upstream_starts_the_next_iteration():
    document = workflow(
        [node("a", "{error} {errors}"), node("b", on_error={"goto": "a"}), node("out")],
        [edge("a", "b"), edge("b", "out", "1 < 2")],
    )
    done = await executed(document, fails={"b@1": "broken"})
    assert done.statuses == {
        "a@1": "completed",
        "b@1": "failed",
        "a@2": "completed",
        "b@2": "completed",
        "out": "completed",
    }
    assert done.seen["a@1"]["error"] is None
    assert done.seen["a@2"]["error"]["node_id"] == "b"
    assert [error["message"] for error in done.seen["a@2"]["errors"]] == ["broken"]


async def test_continue_takes_the_edges_of_a_null_result_and_skip_takes_none():
    document = workflow(
        [
            node("a"),
            node("b", on_error="continue"),
            node("c", on_error="skip"),
            node("j", "{errors}"),
        ],
        [edge("a", "b"), edge("a", "c"), edge("b", "j", "result == null"), edge("c", "j")],
    )
    done = await executed(document, fails={"b": "one", "c": "two"})
    assert done.statuses["j"] == "completed"
    assert [error["message"] for error in done.seen["j"]["errors"]] == ["one", "two"]
    assert done.final["outputs"]["b"] is None


async def test_failure_ends_the_execution_and_keeps_what_was_done():
    document = workflow([node("a"), node("b"), node("c")], [edge("a", "b"), edge("b", "c")])
    done = await executed(document, fails={"b": "broken"})
    assert done.statuses == {"a": "completed", "b": "failed"}
    assert failure_of(done.plan, done.values) == ("b", {"type": "NodeFailed", "message": "broken"})
    assert done.final["execution_path"] == ["a", "b"]


@pytest.mark.parametrize("policy", ["fail", "continue", {"goto": "b"}, {"goto": "d"}])
async def test_iteration_past_the_bound_fails_the_execution(policy):
    document = bounded(policy)
    done = await executed(document)
    failure = failure_of(done.plan, done.values)
    assert failure is not None and failure[0] == "b@3"
    assert failure[1]["type"] == "IterationLimit"


async def test_iteration_past_the_bound_can_be_skipped_or_led_out():
    skipped = await executed(bounded("skip"))
    assert (skipped.statuses["b@3"], skipped.statuses["c@3"]) == ("failed", "skipped")
    assert skipped.statuses["out"] == "skipped"
    led = await executed(bounded({"goto": "out"}))
    assert (led.statuses["b@3"], led.statuses["out"]) == ("failed", "completed")
    assert led.seen["out"]["error"]["type"] == "IterationLimit"


def bounded(policy: Json) -> Json:
    """a -> b -> c -> d -> b without end; what fails is b."""
    return workflow(
        [node("a"), node("b", on_error=policy), node("c"), node("d"), node("out")],
        [
            edge("a", "b"),
            edge("b", "c"),
            edge("c", "d"),
            edge("d", "b", "1 < 2"),
            edge("d", "out", "else"),
        ],
        settings={"max_iterations": 2},
    )


def diamond(**last: Json) -> Json:
    return workflow(
        [node("a"), node("b"), node("c"), node("j", **last)],
        [edge("a", "b"), edge("a", "c"), edge("b", "j"), edge("c", "j")],
    )


REFUSED = {
    "any": (diamond(join="any"), "'j': join 'any'"),
    "n_of": (diamond(join={"n_of": 1}), "'j': join 'n_of'"),
    "first_success": (diamond(join="first_success"), "'j': join 'first_success'"),
    "timeout of a step": (diamond(timeout_s=3), "'j': timeout_s"),
    "timeout of the execution": (
        {**diamond(), "settings": {"timeout_s": 9}},
        "settings.timeout_s",
    ),
    "several failures lead to one node": (
        workflow(
            [
                node("a"),
                node("b", on_error={"goto": "mend"}),
                node("c", on_error={"goto": "mend"}),
                node("mend"),
            ],
            [edge("a", "b"), edge("a", "c")],
        ),
        "'mend': join 'any'",
    ),
    "a name of LangGraph's": (
        workflow([node("__error__")], []),
        "'__error__'",
    ),
}


@pytest.mark.parametrize("feature", REFUSED)
def test_what_depends_on_time_is_refused_by_name(feature):
    document, named = REFUSED[feature]
    plan = compiled(document)
    with pytest.raises(NotSupported) as refused:
        to_langgraph(plan, Done(plan, {}, {}).do_step)
    assert named in refused.value.message


def test_graph_can_be_drawn_with_the_names_of_the_author():
    plan = compiled(NESTED)
    graph = to_langgraph(plan, Done(plan, {}, {}).do_step).get_graph()
    assert {found.id for found in plan.nodes} < set(graph.nodes)
    drawn = graph.draw_mermaid()
    assert "end_of_turn" in drawn and "loop i" in drawn
    pairs = {(found.source, found.target) for found in graph.edges}
    assert {("o", "i"), ("o", "beside"), ("loop i", "i"), ("after loop o", "out")} <= pairs


async def test_state_of_the_graph_is_plain_data():
    done = await executed(NESTED, writes={"i": 1, "o": 1})
    assert json.loads(json.dumps(done.values)) == done.values


def test_library_is_loaded_only_when_a_graph_is_made():
    program = "import agentflow.plan.langgraph, sys; sys.exit('langgraph' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_missing_library_is_named_with_the_way_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "langgraph.graph", None)
    plan = compiled(diamond())
    with pytest.raises(ConfigError, match=r"pip install 'agentflow\[langgraph\]'"):
        to_langgraph(plan, Done(plan, {}, {}).do_step)
