"""Joins: when a node runs, when it is skipped, who loses a race."""

from __future__ import annotations

from agentflow.execution import events as ev
from tests.unit.execution.machine import BAD, HUMAN, Machine, map_node, plan_of

FAN = {"a": "b c d", "b": "j", "c": "j", "d": "j", "j": ""}
RACE = {"a": "b c", "b": "j", "c": "j", "j": ""}
FIRST = {"join": "first_success"}


def fan(join: object, **nodes: object) -> Machine:
    return Machine(plan_of(FAN, j={"join": join}, **nodes)).accept().finish("a")


def test_all_waits_for_every_edge_and_runs_once():
    machine = fan("all").finish("b").finish("c")
    assert machine.status("j") is None
    machine.finish("d").finish("j")
    assert machine.of("step.started").count("j") == 1


def test_all_runs_when_one_edge_was_taken_and_the_others_skipped():
    machine = fan("all").finish("b", "").finish("c").finish("d", "")
    assert machine.open == ["j"]


def test_all_is_skipped_when_every_edge_was_skipped():
    machine = fan("all").finish("b", "").finish("c", "").finish("d", "")
    assert machine.status("j") == "skipped" and machine.state.status == "completed"


def test_any_runs_at_the_first_taken_edge():
    machine = fan("any").finish("b", "").finish("c")
    assert machine.status("j") == "running" and machine.open == ["d", "j"]


def test_any_runs_once_and_later_edges_are_recorded_only():
    machine = fan("any").finish("b").finish("j").finish("c").finish("d")
    assert machine.of("step.started").count("j") == 1
    assert machine.state.status == "completed"


def test_any_lets_the_other_branches_go_on():
    machine = fan("any").finish("b")
    assert machine.open == ["c", "d", "j"] and machine.abandoned == []


def test_any_is_skipped_when_all_edges_were_skipped():
    machine = fan("any").finish("b", "").finish("c", "")
    assert machine.status("j") is None
    assert machine.finish("d", "").status("j") == "skipped"


def test_past_of_any_is_the_edge_that_fired_it_and_late_arrivals_are_not_in_it():
    machine = fan("any").finish("c", result="c").finish("b", result="b")
    assert machine.past("j") == {"a", "c"}
    assert machine.state.steps["b"].status == "completed"


def test_late_arrival_enters_the_final_state():
    machine = fan("any").finish("c").finish("b", result="late").finish("j").finish("d")
    assert machine.state.status == "completed"
    assert machine.final_state["outputs"]["b"] == "late"
    assert machine.final_state["execution_path"] == ["a", "b", "c", "d", "j"]


def test_started_records_the_edges_that_counted():
    machine = fan("any").finish("c")
    (event,) = [e for e in machine.events if isinstance(e, ev.StepStarted) and e.step == "j"]
    assert [machine.name(machine.plan.edges[i].source) for i in event.counted] == ["c"]
    again = machine.folded()
    assert again.steps["j"].past == machine.state.steps["j"].past


def test_inline_completion_records_the_edges_that_counted():
    machine = Machine(plan_of(FAN, inline="j", j={"join": "any"})).accept().finish("a").finish("d")
    (event,) = [e for e in machine.events if isinstance(e, ev.StepCompleted) and e.step == "j"]
    assert [machine.name(machine.plan.edges[i].source) for i in event.counted] == ["d"]


def test_n_of_runs_at_the_kth_taken_edge():
    machine = fan({"n_of": 2}).finish("b").finish("c", "")
    assert machine.status("j") is None
    assert machine.finish("d").status("j") == "running"


def test_past_of_n_of_is_that_of_the_k_first_taken_edges():
    machine = fan({"n_of": 2}).finish("d").finish("c").finish("b")
    assert machine.past("j") == {"a", "c", "d"}


def test_n_of_is_skipped_as_soon_as_fewer_than_k_can_be_taken():
    machine = fan({"n_of": 2}).finish("b", "").finish("c", "")
    assert machine.status("j") == "skipped" and machine.open == ["d"]
    assert machine.finish("d").state.status == "completed"


def test_n_of_that_needs_all_edges_is_skipped_at_the_first_that_is_not_taken():
    machine = fan({"n_of": 3}).finish("b").finish("c", "")
    assert machine.status("j") == "skipped" and machine.open == ["d"]


def test_n_of_counts_edges_that_arrive_together():
    plan = plan_of({"a": "b b c", "b": "", "c": ""}, b={"join": {"n_of": 2}})
    machine = Machine(plan).accept().finish("a")
    assert machine.status("b") == "running"


def test_first_success_cancels_the_losers_and_skips_their_edges():
    plan = plan_of({**RACE, "c": "x", "x": "j"}, j=FIRST)
    machine = Machine(plan).accept().finish("a").finish("b")
    assert machine.statuses == {
        "a": "completed",
        "b": "completed",
        "c": "cancelled",
        "x": "skipped",
        "j": "running",
    }
    (event,) = [e for e in machine.events if isinstance(e, ev.StepCancelled)]
    assert event.race == "j" and machine.abandoned == ["c"]


def test_first_success_leaves_steps_alone_that_lead_elsewhere_too():
    machine = Machine(plan_of({**RACE, "c": "j k", "k": ""}, j=FIRST)).accept().finish("a")
    machine.finish("b")
    assert machine.open == ["c", "j"]
    assert machine.finish("c").open == ["j", "k"]


def test_first_success_leaves_steps_alone_that_lead_to_the_end_too():
    machine = Machine(plan_of({**RACE, "c": "j end"}, j=FIRST)).accept().finish("a").finish("b")
    assert machine.open == ["c", "j"]


def test_first_success_leaves_steps_alone_whose_failure_leads_elsewhere():
    plan = plan_of({**RACE, "e": ""}, j=FIRST, c={"on_error": {"goto": "e"}})
    machine = Machine(plan).accept().finish("a").finish("b")
    assert machine.open == ["c", "j"]


def test_past_of_first_success_is_the_edge_that_fired_it():
    machine = Machine(plan_of(RACE, j=FIRST)).accept().finish("a").finish("c")
    assert machine.past("j") == {"a", "c"}


def test_first_success_is_skipped_when_nothing_was_taken_and_nothing_failed():
    machine = Machine(plan_of(RACE, j=FIRST)).accept().finish("a").finish("b", "").finish("c", "")
    assert machine.status("j") == "skipped" and machine.state.status == "completed"


def test_raced_out_nodes_that_are_held_back_never_start():
    plan = plan_of(
        {"a": "b c d", "b": "j", "c": "j", "d": "j", "j": ""},
        j=FIRST,
        settings={"max_parallel": 2},
    )
    machine = Machine(plan).accept().finish("a").finish("b")
    assert machine.status("d") == "cancelled" and "d" not in machine.dispatched


def test_raced_out_nodes_that_are_being_evaluated_never_complete():
    plan = plan_of(RACE, inline="c", j=FIRST)
    machine = Machine(plan, held="c").accept().finish("a").finish("b")
    assert machine.status("c") == "cancelled"
    assert machine.let_go().status("c") == "cancelled"


def test_raced_out_wait_does_not_begin():
    machine = Machine(plan_of(RACE, c=HUMAN, j=FIRST), held="c").accept().finish("a").finish("b")
    assert machine.let_go().status("c") == "cancelled"
    assert "step.waiting" not in machine.kinds


def test_raced_out_wait_ends():
    machine = Machine(plan_of(RACE, c=HUMAN, j=FIRST)).accept().finish("a").finish("b")
    assert machine.status("c") == "cancelled" and machine.open == ["j"]


def test_raced_out_map_ends_with_its_items():
    plan = plan_of(RACE, c=map_node(max_concurrency=2), j=FIRST)
    machine = Machine(plan, items={"c": 5}).accept().finish("a").finish("b")
    assert [machine.status(key) for key in ("c", "c[0]", "c[1]")] == ["cancelled"] * 3
    assert machine.open == ["j"] and "c[2]" not in machine.dispatched
    assert machine.finish("j").state.status == "completed"


def test_raced_out_map_stays_cancelled_when_its_results_were_being_gathered():
    machine = Machine(plan_of(RACE, c=map_node(), j=FIRST)).accept().finish("a")
    machine.holding = {"c"}
    machine.finish("c[0]").finish("b").let_go()
    assert machine.status("c") == "cancelled" and machine.of("step.completed").count("c") == 0


def test_nodes_of_the_branch_that_would_start_later_are_skipped():
    links = {"a": "w y", "y": "z", "z": "j", "w": "z j", "j": ""}
    machine = Machine(plan_of(links, j=FIRST)).accept().finish("a").finish("w")
    assert machine.status("y") == "cancelled" and machine.status("z") == "skipped"
    assert "z" not in machine.dispatched and machine.open == ["j"]


def test_race_is_undecided_while_its_join_was_only_skipped():
    links = {"a": "x w", "x": "z", "w": "y", "z": "y", "y": "j", "j": ""}
    machine = Machine(plan_of(links, y={"join": "any"}, j=FIRST)).accept().finish("a").finish("w")
    machine.finish("y", "")
    assert machine.status("j") == "skipped"
    assert machine.finish("x").status("z") == "running"


def test_nested_races_are_decided_one_by_one():
    links = {"a": "b c d", "b": "i", "c": "i", "i": "j", "d": "j", "j": ""}
    machine = Machine(plan_of(links, i=FIRST, j=FIRST)).accept().finish("a").finish("b")
    assert machine.status("c") == "cancelled" and machine.open == ["d", "i"]
    machine.finish("i")
    assert machine.status("d") == "cancelled" and machine.open == ["j"]


def test_outer_race_ends_the_race_inside_it():
    links = {"a": "b c d", "b": "i", "c": "i", "i": "j", "d": "j", "j": ""}
    machine = Machine(plan_of(links, i=FIRST, j=FIRST)).accept().finish("a").finish("d")
    assert [machine.status(key) for key in ("b", "c", "i")] == ["cancelled", "cancelled", "skipped"]
    assert machine.open == ["j"]


def test_failure_in_a_raced_branch_acts_as_skip():
    machine = Machine(plan_of(RACE, j=FIRST)).accept().finish("a").fail("b")
    assert machine.state.status == "running" and machine.open == ["c"]
    assert machine.finish("c").finish("j").state.status == "completed"


def test_continue_in_a_raced_branch_takes_its_edges():
    plan = plan_of(RACE, j=FIRST, b={"on_error": "continue"})
    machine = Machine(plan).accept().finish("a").fail("b")
    assert machine.status("c") == "cancelled" and machine.open == ["j"]


def test_first_success_fails_with_the_canonically_first_error_of_its_branch():
    machine = Machine(plan_of(RACE, j=FIRST)).accept().finish("a")
    machine.fail("c", ev.ErrorInfo("Second", "c")).fail("b", ev.ErrorInfo("First", "b"))
    assert machine.status("j") == "failed" and machine.state.status == "failed"
    assert machine.state.error == ev.ErrorInfo("First", "b") and machine.state.error_node == "j"


def test_first_success_fails_when_one_branch_failed_and_the_other_took_nothing():
    machine = Machine(plan_of(RACE, j=FIRST)).accept().finish("a").finish("b", "").fail("c")
    assert machine.status("j") == "failed" and machine.state.error == BAD


def test_timed_out_branch_counts_as_failed():
    plan = plan_of(RACE, j=FIRST, b={"timeout_s": 5})
    machine = Machine(plan).accept().finish("a").time_out("b").finish("c", "")
    assert machine.state.error is not None and machine.state.error.type == "StepTimeout"


def test_first_success_that_fails_obeys_its_own_policy():
    plan = plan_of({**RACE, "j": "k", "k": ""}, j={**FIRST, "on_error": "continue"})
    machine = Machine(plan).accept().finish("a").fail("b").fail("c")
    assert machine.status("j") == "failed" and machine.open == ["k"]


def test_error_of_a_branch_is_seen_in_whichever_iteration_it_happened():
    plan = plan_of({"s": "x", "x": "x j", "j": ""}, j=FIRST, x={"on_error": "continue"})
    machine = Machine(plan).accept().finish("s")
    machine.fail("x@1", taken=machine.edges("x@1", "x")).finish("x@2", "")
    assert machine.status("j") == "failed" and machine.state.error == BAD


def test_join_any_inside_a_loop_fires_anew_in_each_iteration():
    links = {"a": "b c", "b": "j", "c": "j", "j": "a x", "x": ""}
    machine = Machine(plan_of(links, j={"join": "any"})).accept()
    machine.finish("a@1").finish("c@1").finish("j@1", "a")
    assert machine.open == ["b@1"], "the iteration has not ended"
    machine.finish("b@1").finish("a@2").finish("b@2")
    assert machine.past("j@2") == {"a@2", "b@2", "j@1", "c@1", "a@1"}
    machine.finish("j@2", "x").finish("c@2")
    assert machine.open == ["x"]


def test_first_success_inside_a_loop_races_anew_in_each_iteration():
    links = {"a": "b c", "b": "j", "c": "j", "j": "a x", "x": ""}
    machine = Machine(plan_of(links, j=FIRST)).accept()
    machine.finish("a@1").finish("b@1").finish("j@1", "a").finish("a@2")
    assert machine.status("c@1") == "cancelled" and machine.open == ["b@2", "c@2"]
    machine.finish("c@2")
    assert machine.status("b@2") == "cancelled" and machine.open == ["j@2"]


def test_loop_that_loses_a_race_is_left_at_once():
    links = {"a": "b l", "b": "j", "l": "m n", "m": "l", "n": "l j", "j": ""}
    machine = Machine(plan_of(links, j=FIRST)).accept().finish("a").finish("l@1").finish("m@1")
    machine.finish("b")
    assert machine.status("n@1") == "cancelled" and machine.open == ["j"]
    assert machine.of("step.started").count("l@2") == 0
    assert machine.finish("j").state.status == "completed"


def test_first_success_at_the_entry_of_a_loop_ends_its_race_in_later_iterations_too():
    links = {"a": "b c", "b": "e", "c": "e", "e": "e x", "x": ""}
    machine = Machine(plan_of(links, e=FIRST)).accept().finish("a").finish("b")
    assert machine.status("c") == "cancelled"
    machine.finish("e@1", "e").finish("e@2", "x")
    assert machine.open == ["x"]


def test_any_at_the_entry_of_a_loop_hears_late_edges_in_no_iteration():
    links = {"a": "b c", "b": "e", "c": "e", "e": "e x", "x": ""}
    machine = Machine(plan_of(links, e={"join": "any"})).accept().finish("a").finish("b")
    machine.finish("e@1", "e").finish("c")
    assert machine.open == ["e@2"]
    machine.finish("e@2", "x")
    assert machine.past("x") == {"a", "b", "e@1", "e@2"}


def test_skipped_step_has_the_past_of_its_edges_only_where_its_join_is_all():
    links = {"a": "b k", "b": "c d", "c": "", "d": "", "k": ""}
    machine = Machine(plan_of(links, d={"join": "any"})).accept().finish("a").finish("b", "")
    assert machine.past("c") == {"a", "b"} and machine.past("d") == set()


def test_join_of_error_edges_alone_waits_for_any_of_them():
    plan = plan_of(
        {"a": "b c", "b": "", "c": "", "h": ""},
        b={"on_error": {"goto": "h"}},
        c={"on_error": {"goto": "h"}},
    )
    assert plan.node("h").join == "any"
    machine = Machine(plan).accept().finish("a").fail("c")
    assert machine.status("h") == "running"


def test_join_of_error_edges_keeps_what_its_author_says():
    plan = plan_of(
        {"a": "b c", "b": "", "c": "", "h": ""},
        b={"on_error": {"goto": "h"}},
        c={"on_error": {"goto": "h"}},
        h={"join": "all"},
    )
    machine = Machine(plan).accept().finish("a").fail("c")
    assert machine.status("h") is None
    assert machine.finish("b").status("h") == "running"


def test_join_with_an_ordinary_edge_beside_an_error_edge_waits_for_all():
    plan = plan_of({"a": "b h", "b": "", "h": ""}, b={"on_error": {"goto": "h"}})
    assert plan.node("h").join == "all"
    machine = Machine(plan).accept().finish("a")
    assert machine.status("h") is None
    assert machine.finish("b").status("h") == "running"
