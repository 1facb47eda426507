"""What steps see: the fold of the deltas of their causal past, in canonical order; the final state."""

from __future__ import annotations

import itertools

import pytest

from agentflow.execution import events as ev
from agentflow.execution import happenings as hp
from agentflow.execution.views import after, executed, timestamp
from agentflow.plan.plan import PlanNode
from tests.unit.execution.machine import Machine, map_node, plan_of

ALL = "{seen} {outputs} {errors} {execution_path} {tokens_used} {cost}"
CALL = ev.ModelCall("s", "openai", "m", ev.Usage(3, 4), 0.25)
FAN = {"a": "b c d", "b": "j", "c": "j", "d": "j", "j": ""}


def reads(text: str = ALL, **fields: object) -> dict:
    """A node that reads, and writes the field ``seen``."""
    metadata = {"source": "model", "prompt": text, "output_key": "seen"}
    return {"metadata": metadata, **fields}


def machine_of(links: dict[str, str], rule: str = "concat", **nodes: object) -> Machine:
    """Every node reads everything and writes ``seen``, which has this merge rule."""
    given = {name: {**reads(), **nodes.pop(name, {})} for name in links}
    plan = plan_of(links, state={"seen": {"merge": rule}}, **given, **nodes)
    return Machine(plan)


def done(
    machine: Machine, key: str, value: object = None, to: str | None = None, **given
) -> Machine:
    """A step ends and writes a value, its own key unless given."""
    value = key if value is None else value
    return machine.finish(key, to, result=f"of {key}", delta={"seen": value}, **given)


def test_step_sees_the_deltas_of_its_past_in_canonical_order_whatever_the_order_of_their_ends():
    for order in itertools.permutations("bcd"):
        machine = done(machine_of(FAN).accept(), "a")
        for key in order:
            done(machine, key)
        assert machine.seen("j")["seen"] == ["a", "b", "c", "d"]


def test_step_sees_no_write_of_a_step_beside_it():
    machine = done(machine_of({"a": "b c", "b": "x", "c": "y", "x": "", "y": ""}).accept(), "a")
    done(machine, "b")
    assert machine.seen("x")["seen"] == ["a", "b"]
    done(machine, "c")
    assert machine.seen("y")["seen"] == ["a", "c"]


@pytest.mark.parametrize(
    ("join", "ended", "seen"),
    [
        ("all", "dbc", ["a", "b", "c", "d"]),
        ("any", "db", ["a", "d"]),
        ({"n_of": 2}, "dcb", ["a", "c", "d"]),
        ("first_success", "c", ["a", "c"]),
    ],
)
def test_step_sees_the_past_of_the_edges_that_count_for_its_join(join, ended, seen):
    machine = done(machine_of(FAN, j={"join": join}).accept(), "a")
    for key in ended:
        done(machine, key)
    assert machine.seen("j")["seen"] == seen
    assert machine.heir().seen("j")["seen"] == seen


def test_step_sees_the_same_while_late_arrivals_come():
    machine = done(machine_of(FAN, j={"join": "any"}).accept(), "a")
    done(machine, "d")
    before = machine.seen("j")
    done(machine, "b")
    assert machine.seen("j") == before


def test_late_arrival_inside_a_loop_is_not_seen_in_that_iteration_nor_in_the_next():
    links = {"a": "b c", "b": "j", "c": "j", "j": "a x", "x": ""}
    machine = done(machine_of(links, j={"join": "any"}).accept(), "a@1")
    done(done(machine, "b@1"), "c@1")
    assert machine.seen("j")["seen"] == ["a@1", "b@1"]
    done(machine, "j@1", to="a")
    assert machine.seen("a")["seen"] == ["a@1", "b@1", "j@1"]


def test_waiting_join_sees_the_same_before_it_is_started():
    plan = plan_of(
        FAN,
        state={"seen": {"merge": "concat"}},
        settings={"max_parallel": 3},
        **{name: reads() for name in "abcd"},
        j={**reads(), "join": "any"},
    )
    machine = Machine(plan).accept().finish("a", delta={"seen": "a"})
    machine.finish("c", delta={"seen": "c"})
    assert machine.seen("j")["seen"] == ["a", "c"]


@pytest.mark.parametrize(
    ("rule", "values", "expected"),
    [
        ("last", (1, 2, 3), 3),
        ("last", (1, 2, None), 2),
        ("first", (None, 2, 3), 2),
        ("sum", (1, 2, 3), 6),
        ("concat", ([1], 2, [3, 4]), [1, 2, 3, 4]),
        ("merge", ({"x": 1}, {"y": 2}, {"x": 3}), {"x": 3, "y": 2}),
        ("max", (2, 5, 3), 5),
        ("min", ("b", "a", "c"), "a"),
    ],
)
def test_field_is_folded_by_its_merge_rule(rule, values, expected):
    machine = machine_of(FAN, rule).accept().finish("a")
    given = dict(zip("bcd", values, strict=True))
    for key in "dcb":
        machine.finish(key, delta={"seen": given[key]})
    assert machine.seen("j")["seen"] == expected
    assert machine.final_state["seen"] == expected


def test_fold_begins_with_the_initial_state_then_with_the_default():
    plan = plan_of({"a": ""}, state={"seen": {"merge": "concat", "default": ["d"]}}, a=reads())
    assert Machine(plan).accept().seen("a")["seen"] == ["d"]
    assert Machine(plan).accept(seen=["i"]).seen("a")["seen"] == ["i"]


def test_undeclared_field_is_seen_only_when_it_has_a_value():
    plan = plan_of({"a": "b", "b": ""}, a=reads("{given} {absent}"), b=reads("{given} {absent}"))
    machine = Machine(plan).accept(given=1)
    assert machine.seen("a")["given"] == 1 and "absent" not in machine.seen("a")


def test_step_sees_the_results_of_its_past_by_node_id():
    machine = done(done(machine_of({"a": "b", "b": "c", "c": ""}).accept(), "a"), "b")
    assert machine.seen("c")["outputs"] == {"a": "of a", "b": "of b"}


def test_last_iteration_wins_in_outputs():
    machine = machine_of({"a": "b", "b": "a x", "x": ""}).accept()
    for key, to in (("a@1", "b"), ("b@1", "a"), ("a@2", "b"), ("b@2", "x")):
        done(machine, key, to=to)
    assert machine.seen("x")["outputs"] == {"a": "of a@2", "b": "of b@2"}


def test_iterations_are_in_canonical_order():
    machine = machine_of({"a": "b", "b": "a x", "x": ""}).accept()
    for key, to in (("a@1", "b"), ("b@1", "a"), ("a@2", "b"), ("b@2", "x")):
        done(machine, key, to=to)
    assert machine.seen("x")["seen"] == ["a@1", "b@1", "a@2", "b@2"]
    assert machine.seen("x")["execution_path"] == ["a", "b", "a", "b"]


def test_nested_iterations_are_in_canonical_order():
    links = {"a": "i", "i": "k", "k": "i o", "o": "a x", "x": ""}
    machine = machine_of(links).accept()
    walk = "a@1 i@1.1 k@1.1>i i@1.2 k@1.2>o o@1>a a@2 i@2.1 k@2.1>o o@2>x"
    for word in walk.split():
        key, _, to = word.partition(">")
        done(machine, key, to=to or None)
    done(machine, "x")
    keys = [word.partition(">")[0] for word in walk.split()]
    assert machine.seen("x")["seen"] == keys
    assert machine.final_state["seen"] == [*keys, "x"]


def test_later_iteration_sees_the_steps_that_led_back_to_it():
    links = {"a": "b c", "b": "a", "c": "a x", "x": ""}
    machine = done(machine_of(links).accept(), "a@1")
    done(done(machine, "c@1", to="x"), "b@1")
    assert machine.seen("a")["seen"] == ["a@1", "b@1", "c@1"]


def test_canonical_order_holds_between_a_loop_and_what_is_beside_it():
    links = {"s": "a p", "a": "b", "b": "a j", "p": "j", "j": ""}
    machine = done(machine_of(links).accept(), "s")
    for key, to in (("p", "j"), ("a@1", "b"), ("b@1", "a"), ("a@2", "b"), ("b@2", "j")):
        done(machine, key, to=to)
    assert machine.seen("j")["seen"] == ["s", "a@1", "b@1", "a@2", "b@2", "p"]


def test_step_sees_tokens_cost_errors_and_path_of_its_past_alone():
    links = {"a": "b c", "b": "x", "c": "y", "x": "", "y": ""}
    machine = machine_of(links, c={"on_error": "continue"}).accept()
    done(done(machine, "a", calls=(CALL,)), "b", calls=(CALL, CALL))
    machine.fail("c", calls=(CALL,))
    x, y = machine.seen("x"), machine.seen("y")
    assert (x["tokens_used"], x["cost"], x["errors"]) == (21, 0.75, [])
    assert (y["tokens_used"], y["cost"], len(y["errors"])) == (14, 0.5, 1)
    assert x["execution_path"] == ["a", "b"] and y["execution_path"] == ["a", "c"]
    assert y["outputs"] == {"a": "of a", "c": None}


def test_skipped_and_cancelled_steps_are_no_part_of_path_and_outputs():
    links = {"a": "b c k", "b": "j", "c": "j", "j": "", "k": ""}
    machine = done(machine_of(links, j={"join": "first_success"}).accept(), "a", to="b c")
    done(done(machine, "b"), "j")
    assert machine.final_state["execution_path"] == ["a", "b", "j"]
    assert set(machine.final_state["outputs"]) == {"a", "b", "j"}
    assert [step.key for step in executed(machine.state)] == ["a", "b", "c", "j"]


def test_view_names_the_execution():
    machine = machine_of({"a": ""}).accept()
    assert machine.seen("a")["execution"]["id"] == "exec_1"


def test_conditions_see_the_steps_own_delta_and_result():
    machine = machine_of({"a": "b", "b": ""}, "sum").accept(seen=1)
    node: PlanNode = machine.plan.node("a")
    seen = after(machine.seen("a"), machine.state.fields, node, "r", {"seen": 2, "other": 3})
    assert (seen["seen"], seen["other"], seen["result"]) == (3, 3, "r")
    assert seen["outputs"] == {"a": "r"}


def test_final_state_is_the_fold_of_all_steps_late_arrivals_included():
    machine = done(machine_of(FAN, j={"join": "any"}).accept(), "a")
    for key in ("d", "j", "c", "b"):
        done(machine, key)
    assert machine.final_state["seen"] == ["a", "b", "c", "d", "j"]


def test_final_state_is_partial_while_the_execution_is_open():
    machine = done(machine_of(FAN).accept(user_input="hello"), "a")
    final = machine.final_state
    assert final["seen"] == ["a"] and final["user_input"] == "hello"
    assert final["execution_time"] == 0.0 and final["metadata"]["end_time"] is None


def test_final_state_holds_unknown_fields_and_the_times():
    machine = done(machine_of({"a": ""}).accept(extra=1, metadata={"by": "me"}), "a")
    final = machine.final_state
    assert final["extra"] == 1 and final["metadata"]["by"] == "me"
    assert final["metadata"]["execution_id"] == "exec_1"
    assert final["metadata"]["start_time"] == timestamp(0.0) == "1970-01-01T00:00:00.000Z"
    assert final["execution_time"] == machine.state.ended_at


def test_final_state_begins_with_what_the_caller_gave_for_fields_of_the_engine():
    machine = machine_of({"a": ""}).accept(tokens_used=10, cost=1.0, outputs={"z": 1})
    done(machine, "a", calls=(CALL,))
    final = machine.final_state
    assert (final["tokens_used"], final["cost"]) == (17, 1.25)
    assert final["outputs"] == {"z": 1, "a": "of a"}


def test_error_of_the_execution_itself_is_among_the_errors():
    machine = machine_of({"a": ""}).accept()
    machine.happen(hp.Concluded(at=5.0, error=ev.ErrorInfo("ExpressionError", "no")))
    assert [e["node_id"] for e in machine.final_state["errors"]] == [None]


def test_item_of_a_map_is_in_nobodys_view():
    links = {"m": "b", "b": ""}
    plan = plan_of(links, state={"seen": {"merge": "concat"}}, m=map_node(), b=reads())
    machine = Machine(plan, items={"m": 2}).accept()
    machine.finish("m[0]", result=0, delta={"seen": "x"}).finish("m[1]", result=1)
    assert machine.seen("b")["seen"] is None and machine.seen("b")["outputs"] == {"m": [0, 1]}
