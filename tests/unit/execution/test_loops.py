"""Loops: iterations, what ends them, where they lead, how often they may run."""

from __future__ import annotations

import pytest

from tests.unit.execution.machine import Machine, plan_of

SIMPLE = {"a": "b", "b": "a x", "x": ""}
NESTED = {"a": "i", "i": "k", "k": "i o", "o": "a x", "x": ""}
"""a { i { k } o }, then x."""


def bounded(bound: int, links: dict[str, str] | None = None, **nodes: object) -> Machine:
    return Machine(plan_of(links or SIMPLE, settings={"max_iterations": bound}, **nodes)).accept()


def test_step_keys_count_iterations_from_one():
    machine = Machine(plan_of(SIMPLE)).accept().finish("a@1").finish("b@1", "a").finish("a@2")
    assert machine.dispatched == ["a@1", "b@1", "a@2", "b@2"]


def test_step_keys_of_nested_loops_name_the_outermost_iteration_first():
    machine = Machine(plan_of(NESTED)).accept().finish("a@1").finish("i@1.1").finish("k@1.1", "i")
    machine.finish("i@1.2").finish("k@1.2", "o").finish("o@1", "a").finish("a@2")
    assert machine.open == ["i@2.1"]
    assert "i@1.2" in machine.dispatched


def test_loop_is_left_when_no_back_edge_was_taken():
    machine = Machine(plan_of(SIMPLE)).accept().finish("a@1").finish("b@1", "x")
    assert machine.open == ["x"]
    assert machine.finish("x").state.status == "completed"


def test_back_edge_starts_the_next_iteration_without_a_join():
    plan = plan_of({"s": "a", **SIMPLE}, a={"join": "all"})
    machine = Machine(plan).accept().finish("s").finish("a@1").finish("b@1", "a")
    assert machine.open == ["a@2"]


def test_iteration_waits_for_parallel_branches_inside_the_loop():
    links = {"a": "b slow", "b": "a x", "slow": "t", "t": "a", "x": ""}
    machine = Machine(plan_of(links)).accept().finish("a@1").finish("b@1", "a")
    assert machine.open == ["slow@1"]
    machine.finish("slow@1")
    assert machine.open == ["t@1"]
    assert machine.finish("t@1", "").open == ["a@2"]


def test_loop_is_not_left_while_a_branch_inside_is_open():
    links = {"a": "b slow", "b": "a x", "slow": "a", "x": ""}
    machine = Machine(plan_of(links)).accept().finish("a@1").finish("b@1", "x")
    assert machine.open == ["slow@1"]
    assert machine.finish("slow@1", "").open == ["x"]


def test_back_edge_of_a_slower_branch_starts_the_next_iteration_too():
    links = {"a": "b slow", "b": "a x", "slow": "a", "x": ""}
    machine = Machine(plan_of(links)).accept().finish("a@1").finish("b@1", "x")
    assert machine.finish("slow@1", "a").open == ["a@2"]


def test_taken_exit_edge_of_an_earlier_iteration_has_no_effect():
    links = {"a": "b", "b": "a x", "x": ""}
    machine = Machine(plan_of(links)).accept().finish("a@1").finish("b@1", "a x")
    assert machine.open == ["a@2"]
    machine.finish("a@2").finish("b@2", "")
    assert machine.status("x") == "skipped" and machine.state.status == "completed"


def test_exit_edge_counts_as_it_was_resolved_in_the_last_iteration():
    machine = Machine(plan_of(SIMPLE)).accept().finish("a@1").finish("b@1", "a")
    machine.finish("a@2").finish("b@2", "x")
    assert machine.open == ["x"] and machine.of("step.started").count("x") == 1


def test_edge_to_the_end_from_inside_a_loop_does_not_hold_it():
    machine = Machine(plan_of({"a": "b", "b": "a end"})).accept().finish("a@1").finish("b@1", "end")
    assert machine.state.status == "completed"


def test_member_that_is_skipped_in_one_iteration_runs_in_the_next():
    links = {"a": "b c", "b": "d", "c": "d", "d": "a x", "x": ""}
    machine = Machine(plan_of(links)).accept().finish("a@1", "b").finish("b@1").finish("d@1", "a")
    assert machine.status("c@1") == "skipped"
    machine.finish("a@2", "c").finish("c@2").finish("d@2", "x")
    assert machine.status("b@2") == "skipped" and machine.open == ["x"]


def test_loop_whose_entry_is_skipped_is_skipped_as_a_whole():
    machine = Machine(plan_of({"s": "a y", **NESTED, "y": "x"})).accept().finish("s", "y")
    assert machine.of("step.skipped") == ["a@1", "i@1.1", "k@1.1", "o@1"]
    assert machine.finish("y").open == ["x"]


def test_self_loop_repeats_its_node():
    machine = Machine(plan_of({"a": "a x", "x": ""})).accept()
    machine.finish("a@1", "a").finish("a@2", "a").finish("a@3", "x")
    assert machine.dispatched == ["a@1", "a@2", "a@3", "x"]


def test_self_edge_of_an_entry_belongs_to_the_loop_around_it():
    plan = plan_of({"a": "a b", "b": "a x", "x": ""})
    assert len(plan.loops) == 1
    machine = Machine(plan).accept().finish("a@1", "a")
    assert machine.status("b@1") == "skipped" and machine.open == ["a@2"]


def test_self_loop_inside_a_loop_has_a_counter_of_its_own():
    machine = Machine(plan_of({"a": "b", "b": "b c", "c": "a x", "x": ""})).accept().finish("a@1")
    machine.finish("b@1.1", "b").finish("b@1.2", "c").finish("c@1", "a").finish("a@2")
    assert machine.open == ["b@2.1"]


def test_inner_loop_must_be_left_before_the_outer_iteration_ends():
    machine = Machine(plan_of({**NESTED, "a": "i p", "p": "a"})).accept().finish("a@1")
    machine.finish("p@1", "a")
    assert machine.open == ["i@1.1"], "no second outer iteration yet"
    machine.finish("i@1.1").finish("k@1.1", "o").finish("o@1", "")
    assert machine.open == ["a@2"]


def test_edge_that_leaves_two_loops_counts_when_the_outer_one_is_left():
    plan = plan_of({**NESTED, "k": "i o x", "o": "a x"}, x={"join": "any"})
    machine = Machine(plan).accept().finish("a@1").finish("i@1.1").finish("k@1.1", "o x")
    assert machine.open == ["o@1"]
    machine.finish("o@1", "")
    assert machine.open == ["x"]


def test_edge_that_leaves_two_loops_counts_as_in_the_last_outer_iteration():
    plan = plan_of({**NESTED, "k": "i o x", "o": "a x"})
    machine = Machine(plan).accept().finish("a@1").finish("i@1.1").finish("k@1.1", "o x")
    machine.finish("o@1", "a").finish("a@2").finish("i@2.1").finish("k@2.1", "o").finish("o@2", "")
    assert machine.status("x") == "skipped"


def test_inner_edge_to_the_outer_entry_starts_the_next_outer_iteration():
    machine = Machine(plan_of({**NESTED, "k": "i o a"})).accept().finish("a@1").finish("i@1.1")
    machine.finish("k@1.1", "a")
    assert machine.status("o@1") == "skipped" and machine.open == ["a@2"]


def test_inner_edge_to_the_outer_entry_waits_for_the_inner_loop_and_the_outer_iteration():
    machine = Machine(plan_of({**NESTED, "k": "i o a"})).accept().finish("a@1").finish("i@1.1")
    machine.finish("k@1.1", "i a")
    assert machine.open == ["i@1.2"], "the inner loop goes on"
    machine.finish("i@1.2").finish("k@1.2", "o").finish("o@1", "x")
    assert machine.open == ["x"], "the last inner iteration took no edge to the outer entry"


def test_edge_from_an_inner_loop_into_the_outer_one_counts_when_the_inner_one_is_left():
    machine = Machine(plan_of({**NESTED, "i": "k o"})).accept().finish("a@1").finish("i@1.1")
    machine.finish("k@1.1", "i")
    assert machine.status("o@1") is None and machine.open == ["i@1.2"]
    machine.finish("i@1.2", "o")
    assert machine.open == ["o@1"] and machine.status("k@1.2") == "skipped"


def test_past_of_a_later_iteration_is_what_led_back_to_its_entry():
    links = {"a": "b c", "b": "a", "c": "a x", "x": ""}
    machine = Machine(plan_of(links)).accept().finish("a@1").finish("b@1").finish("c@1", "")
    assert machine.past("a@2") == {"a@1", "b@1", "c@1"}, "edges back that were not taken count too"


def test_past_behind_a_loop_is_that_of_its_last_iteration_and_what_led_to_it():
    machine = Machine(plan_of(SIMPLE)).accept().finish("a@1").finish("b@1", "a")
    machine.finish("a@2").finish("b@2", "x")
    assert machine.past("x") == {"a@1", "b@1", "a@2", "b@2"}


@pytest.mark.parametrize("policy", ["fail", "continue"])
def test_entry_of_one_iteration_too_many_fails_the_execution(policy):
    machine = bounded(2, a={"on_error": policy})
    for turn in (1, 2):
        machine.finish(f"a@{turn}").finish(f"b@{turn}", "a")
    assert machine.dispatched == ["a@1", "b@1", "a@2", "b@2"]
    assert machine.status("a@3") == "failed" and machine.state.status == "failed"
    assert machine.state.error is not None and machine.state.error.type == "IterationLimit"


def test_loop_may_run_as_often_as_its_bound_says():
    machine = bounded(2).finish("a@1").finish("b@1", "a").finish("a@2").finish("b@2", "x")
    assert machine.finish("x").state.status == "completed"


def test_bound_holds_for_each_time_a_loop_is_entered():
    machine = bounded(2, NESTED)
    for outer in (1, 2):
        machine.finish(f"a@{outer}").finish(f"i@{outer}.1").finish(f"k@{outer}.1", "i")
        machine.finish(f"i@{outer}.2").finish(f"k@{outer}.2", "o")
        machine.finish(f"o@{outer}", "a" if outer == 1 else "x")
    assert machine.finish("x").state.status == "completed"


def test_limit_with_skip_skips_the_iteration_and_leaves_the_loop():
    machine = bounded(1, {**SIMPLE, "a": "b y", "y": ""}, a={"on_error": "skip"})
    machine.finish("a@1").finish("b@1", "a x")
    assert machine.status("a@2") == "failed" and machine.status("b@2") == "skipped"
    assert machine.status("x") == "skipped" and machine.status("y") == "skipped"
    assert machine.state.status == "completed"


def test_limit_of_an_inner_loop_with_skip_goes_on_in_the_outer_one():
    machine = bounded(1, {**NESTED, "a": "i o"}, i={"on_error": "skip"})
    machine.finish("a@1").finish("i@1.1").finish("k@1.1", "i")
    assert machine.status("i@1.2") == "failed" and machine.status("k@1.2") == "skipped"
    assert machine.open == ["o@1"]


def test_limit_with_goto_takes_the_error_edge_out_of_the_loop():
    machine = bounded(1, {**SIMPLE, "h": ""}, a={"on_error": {"goto": "h"}})
    machine.finish("a@1").finish("b@1", "a")
    assert machine.status("a@2") == "failed" and machine.open == ["h"]
    assert machine.status("b@2") == "skipped" and machine.status("x") == "skipped"
    assert machine.seen("h")["error"]["type"] == "IterationLimit"


def test_limit_with_goto_into_the_loop_fails_the_execution():
    machine = bounded(1, a={"on_error": {"goto": "b"}}).finish("a@1").finish("b@1", "a")
    assert machine.state.status == "failed" and machine.status("b@2") is None


def test_limit_in_a_raced_branch_acts_as_skip():
    links = {"s": "a y", "a": "a j", "y": "j", "j": ""}
    machine = bounded(1, links, j={"join": "first_success"}).finish("s").finish("a@1", "a")
    assert machine.status("a@2") == "failed" and machine.open == ["y"]


def test_skip_inside_a_loop_spreads_to_the_end_of_the_iteration():
    machine = Machine(plan_of({**SIMPLE, "b": "c", "c": "a x"}, b={"on_error": "skip"})).accept()
    machine.finish("a@1").fail("b@1")
    assert machine.status("c@1") == "skipped" and machine.status("x") == "skipped"
    assert machine.state.status == "completed"


def test_members_run_inline_iteration_after_iteration():
    choices = {"b@1": "a", "b@2": "a", "b@3": "x"}
    machine = Machine(plan_of(SIMPLE, inline="a b"), choices).accept()
    assert machine.of("step.completed") == ["a@1", "b@1", "a@2", "b@2", "a@3", "b@3"]
    assert machine.open == ["x"]


def test_entry_held_back_by_max_parallel_runs_once_in_each_iteration():
    plan = plan_of({"s": "a z", **SIMPLE, "z": ""}, settings={"max_parallel": 1})
    machine = Machine(plan).accept().finish("s").finish("a@1").finish("b@1", "a")
    machine.finish("a@2").finish("b@2", "x").finish("x").finish("z")
    assert machine.state.status == "completed"
    assert sorted(machine.dispatched) == ["a@1", "a@2", "b@1", "b@2", "s", "x", "z"]


def test_other_branches_do_not_wait_for_a_loop():
    machine = Machine(plan_of({"s": "a z", **SIMPLE, "z": "w", "w": ""})).accept().finish("s")
    machine.finish("a@1").finish("z")
    assert machine.open == ["b@1", "w"]


def test_three_loops_in_each_other_are_left_at_once():
    links = {"a": "b", "b": "c", "c": "d", "d": "c b a x", "x": ""}
    machine = Machine(plan_of(links)).accept().finish("a@1").finish("b@1.1").finish("c@1.1.1")
    machine.finish("d@1.1.1", "c b a x")
    assert machine.open == ["c@1.1.2"]
    machine.finish("c@1.1.2").finish("d@1.1.2", "b a x")
    assert machine.open == ["b@1.2"]
    machine.finish("b@1.2").finish("c@1.2.1").finish("d@1.2.1", "a")
    assert machine.open == ["a@2"]
    machine.finish("a@2").finish("b@2.1").finish("c@2.1.1").finish("d@2.1.1", "x")
    assert machine.open == ["x"]


def test_race_inside_an_iteration_past_the_bound_does_not_send_the_loop_round_again():
    plan = plan_of(
        {"s": "a", "a": "j", "j": "a x", "x": ""},
        j={"join": "first_success", "on_error": {"goto": "a"}},
        settings={"max_iterations": 1},
    )
    machine = Machine(plan).accept().finish("s").fail("a@1")
    assert machine.of("step.failed") == ["a@1", "j@1", "a@2"]
    assert machine.status("j@2") == machine.status("x") == "skipped"
    assert machine.state.status == "completed"
