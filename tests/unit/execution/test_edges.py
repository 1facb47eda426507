"""Edges: resolved together, once; what is not taken is skipped, and skips spread."""

from __future__ import annotations

from agentflow.execution.state import SKIPPED, TAKEN
from tests.unit.execution.machine import Machine, plan_of

DIAMOND = {"a": "b c", "b": "d", "c": "d", "d": ""}


def test_first_decision_creates_starts_and_releases_the_start_node():
    machine = Machine(plan_of(DIAMOND)).accept()
    assert machine.kinds == ["execution.created", "execution.started", "step.started"]
    assert machine.dispatched == ["a"]


def test_start_node_of_a_loop_begins_without_an_edge():
    machine = Machine(plan_of({"a": "b", "b": "a end"})).accept()
    assert machine.dispatched == ["a@1"]


def test_completion_resolves_all_outgoing_edges_together():
    machine = Machine(plan_of({"a": "b c d", "b": "", "c": "", "d": ""})).accept()
    assert list(machine.state.edges) == [0, 0, 0]
    machine.finish("a", "b d")
    assert list(machine.state.edges) == [TAKEN, SKIPPED, TAKEN]
    assert machine.statuses == {"a": "completed", "b": "running", "c": "skipped", "d": "running"}


def test_edges_are_resolved_once_and_a_second_result_changes_nothing():
    machine = Machine(plan_of(DIAMOND)).accept().finish("a", "b")
    before = list(machine.events)
    machine.finish("a", "c")
    assert machine.events == before and machine.status("c") == "skipped"


def test_two_edges_to_one_node_start_it_when_one_of_them_is_taken():
    plan = plan_of({"a": "b b", "b": ""})
    machine = Machine(plan).accept()
    machine.finish("a", taken=(1,))
    assert machine.open == ["b"]


def test_untaken_edges_end_a_branch_and_skips_spread_through_it():
    plan = plan_of({"a": "b x", "b": "c", "c": "d", "d": "", "x": ""})
    machine = Machine(plan).accept().finish("a", "x")
    assert machine.of("step.skipped") == ["b", "c", "d"]
    assert machine.open == ["x"]


def test_nothing_taken_skips_all_that_follows_and_completes_the_execution():
    machine = Machine(plan_of(DIAMOND)).accept().finish("a", "")
    assert machine.statuses == {"a": "completed", "b": "skipped", "c": "skipped", "d": "skipped"}
    assert machine.kinds[-1] == "execution.completed"


def test_edge_to_the_end_finishes_its_branch_alone():
    machine = Machine(plan_of({"a": "b end", "b": ""})).accept().finish("a")
    assert machine.open == ["b"]
    assert machine.finish("b").state.status == "completed"


def test_step_starts_without_waiting_for_an_unrelated_slow_sibling():
    plan = plan_of({"a": "slow c", "slow": "e", "c": "d", "d": "", "e": ""})
    machine = Machine(plan).accept().finish("a").finish("c")
    assert machine.open == ["slow", "d"]


def test_inline_steps_are_recorded_by_their_terminal_event_alone():
    machine = Machine(plan_of({"a": "b", "b": "c", "c": ""}, inline="a b")).accept()
    assert machine.kinds[2:] == ["step.completed", "step.completed", "step.started"]
    assert machine.state.steps["b"].started_at is not None


def test_max_parallel_holds_back_ready_nodes_in_canonical_order():
    plan = plan_of({"a": "b c d", "b": "", "c": "", "d": ""}, settings={"max_parallel": 2})
    machine = Machine(plan).accept().finish("a")
    assert machine.open == ["b", "c"]
    assert machine.finish("b").dispatched == ["a", "b", "c", "d"]


def test_execution_that_was_never_accepted_is_pending():
    machine = Machine(plan_of(DIAMOND))
    assert machine.state.status == "pending" and not machine.state.over
