"""Failure: another attempt by the retry policy; then fail, continue, skip or goto."""

from __future__ import annotations

import pytest

from agentflow.execution import events as ev
from agentflow.execution.turn import Dispatch, Wake
from tests.unit.execution.machine import BAD, Machine, plan_of

FLAKY = ev.ErrorInfo("ProviderUnavailable", "503", retryable=True)
BUSY = ev.ErrorInfo("ProviderRateLimited", "429", retryable=True, uncounted=True, after=7.0)
LOST = ev.ErrorInfo("WorkerLost", "gone", retryable=True)
DIAMOND = {"a": "b c", "b": "d", "c": "d", "d": ""}
ONE = {"a": "b", "b": ""}


def test_fail_cancels_open_siblings_and_fails_the_execution():
    machine = Machine(plan_of(DIAMOND)).accept().finish("a").fail("b")
    assert machine.kinds[-3:] == ["step.failed", "step.cancelled", "execution.failed"]
    assert machine.abandoned == ["c"] and machine.state.error_node == "b"
    assert machine.state.error == BAD


def test_fail_starts_nothing_more_and_keeps_results():
    machine = Machine(plan_of(DIAMOND)).accept().finish("a", result="kept").fail("b")
    assert machine.dispatched == ["a", "b", "c"] and machine.status("d") is None
    assert machine.final_state["outputs"] == {"a": "kept", "b": None}


def test_continue_records_the_error_and_takes_the_edges():
    machine = Machine(plan_of(DIAMOND, b={"on_error": "continue"})).accept().finish("a")
    machine.fail("b").finish("c")
    assert machine.open == ["d"]
    final = machine.final_state
    assert final["outputs"]["b"] is None
    assert [(e["node_id"], e["type"], e["message"]) for e in final["errors"]] == [
        ("b", "ProviderRejected", "no")
    ]


def test_continue_takes_the_edges_that_were_evaluated_with_a_null_result():
    plan = plan_of({"a": "b c", "b": "", "c": ""}, a={"on_error": "continue"})
    machine = Machine(plan).accept()
    machine.fail("a", taken=machine.edges("a", "c"))
    assert machine.status("b") == "skipped" and machine.open == ["c"]


def test_skip_records_the_error_and_skips_the_edges_while_siblings_go_on():
    machine = Machine(plan_of(DIAMOND, b={"on_error": "skip"})).accept().finish("a").fail("b")
    assert machine.open == ["c"]
    machine.finish("c").finish("d")
    assert machine.state.status == "completed" and len(machine.final_state["errors"]) == 1


def test_skip_skips_what_follows():
    machine = Machine(plan_of(ONE, a={"on_error": "skip"})).accept().fail("a")
    assert machine.status("b") == "skipped" and machine.state.status == "completed"


def test_goto_takes_the_error_edge_and_skips_the_others():
    plan = plan_of({**ONE, "h": ""}, a={"on_error": {"goto": "h"}})
    machine = Machine(plan).accept().fail("a")
    assert machine.status("b") == "skipped" and machine.open == ["h"]
    assert machine.finish("h").state.status == "completed"


def test_error_edge_is_skipped_on_success():
    plan = plan_of({**ONE, "h": ""}, a={"on_error": {"goto": "h"}})
    machine = Machine(plan).accept().finish("a")
    assert machine.status("h") == "skipped" and machine.open == ["b"]


def test_target_of_a_goto_sees_the_error():
    plan = plan_of({**ONE, "h": ""}, a={"on_error": {"goto": "h"}})
    machine = Machine(plan).accept().fail("a")
    expected = {"node_id": "a", "type": "ProviderRejected", "message": "no"}
    assert machine.seen("h")["error"] == expected
    assert machine.heir().seen("h")["error"] == expected


def test_target_of_a_goto_that_is_reached_otherwise_sees_no_error():
    plan = plan_of({"a": "b h", "b": "", "h": ""}, b={"on_error": {"goto": "h"}})
    machine = Machine(plan).accept().finish("a").finish("b")
    assert machine.seen("h")["error"] is None


def test_target_of_several_gotos_sees_the_error_that_fired_it():
    to_h = {"on_error": {"goto": "h"}}
    plan = plan_of({"a": "b c", "b": "", "c": "", "h": ""}, b=to_h, c=to_h)
    machine = Machine(plan).accept().finish("a").fail("c").fail("b")
    assert machine.seen("h")["error"]["node_id"] == "c"


def test_target_of_several_gotos_with_join_all_sees_the_canonically_first_error():
    to_h = {"on_error": {"goto": "h"}}
    plan = plan_of({"a": "b c", "b": "", "c": "", "h": ""}, b=to_h, c=to_h, h={"join": "all"})
    machine = Machine(plan).accept().finish("a").fail("c").fail("b")
    assert machine.seen("h")["error"]["node_id"] == "b"


def test_goto_upstream_is_a_back_edge():
    plan = plan_of({"a": "b", "b": "c", "c": ""}, b={"on_error": {"goto": "a"}})
    machine = Machine(plan).accept().finish("a@1").fail("b@1")
    assert machine.open == ["a@2"]
    assert machine.seen("a")["error"]["node_id"] == "b"
    assert machine.past("a@2") == {"a@1", "b@1"}
    machine.finish("a@2").finish("b@2")
    assert machine.open == ["c"]


def test_next_iteration_without_a_failure_sees_no_error():
    plan = plan_of({"a": "b", "b": "a c", "c": ""}, b={"on_error": {"goto": "a"}})
    machine = Machine(plan).accept().finish("a@1").fail("b@1").finish("a@2").finish("b@2", "a")
    assert machine.open == ["a@3"] and machine.seen("a")["error"] is None


def test_goto_of_a_step_to_itself_repeats_it():
    plan = plan_of({"a": "b", "b": ""}, a={"on_error": {"goto": "a"}})
    machine = Machine(plan).accept().fail("a@1").finish("a@2")
    assert machine.open == ["b"]


def test_default_goto_holds_for_nodes_without_a_policy():
    plan = plan_of({**ONE, "h": "k", "k": ""}, settings={"on_error": {"goto": "h"}})
    machine = Machine(plan).accept().finish("a").fail("b")
    assert machine.open == ["h"]


@pytest.mark.parametrize("node", ["h", "k"])
def test_default_goto_does_not_hold_for_its_target_and_what_follows_it(node):
    plan = plan_of({"a": "b", "b": "", "h": "k", "k": ""}, settings={"on_error": {"goto": "h"}})
    machine = Machine(plan).accept().fail("a")
    if node == "k":
        machine.finish("h")
    assert machine.fail(node).state.status == "failed"


def test_default_policy_of_the_settings_holds_unless_a_node_has_its_own():
    plan = plan_of(DIAMOND, c={"on_error": "fail"}, settings={"on_error": "skip"})
    machine = Machine(plan).accept().finish("a").fail("b")
    assert machine.state.status == "running"
    assert machine.fail("c").state.status == "failed"


def test_failure_of_an_inline_step_is_final():
    plan = plan_of({**ONE, "h": ""}, inline="a", a={"on_error": {"goto": "h"}})
    machine = Machine(plan, held="a").accept()
    machine.fail_inline("a")
    assert machine.kinds[2:] == ["step.failed", "step.skipped", "step.started"]
    assert machine.open == ["h"]


def test_retryable_error_waits_with_full_jitter_then_starts_the_next_attempt():
    machine = Machine(plan_of(ONE)).accept()
    machine.fail("a", FLAKY, jitter=0.5)
    assert machine.kinds[-1] == "step.retrying"
    wake = machine.commands[-1]
    assert wake == Wake("a", 1, 0, 3.5), "at 3, half of the first second later"
    machine.due("a")
    assert machine.commands[-1] == Dispatch("a", 0, 2, 0)


def test_attempts_are_bounded_by_the_policy():
    machine = Machine(plan_of(ONE, a={"retry": {"max_attempts": 3}})).accept()
    machine.fail("a", FLAKY).due("a").fail("a", FLAKY).due("a").fail("a", FLAKY)
    assert machine.state.status == "failed" and machine.state.steps["a"].attempt == 3


def test_error_that_is_not_retryable_is_final_at_once():
    machine = Machine(plan_of(ONE, a={"retry": {"max_attempts": 3}})).accept().fail("a")
    assert machine.state.status == "failed" and machine.state.steps["a"].attempt == 1


def test_uncounted_errors_use_up_no_attempt_and_honour_the_stated_wait():
    machine = Machine(plan_of(ONE, a={"retry": {"max_attempts": 1}})).accept()
    for _ in range(20):
        machine.fail("a", BUSY)
        assert machine.events[-1].delay_s >= 7.0
        machine.due("a")
    assert machine.state.steps["a"].failures == 0 and machine.open == ["a"]


def test_uncounted_errors_are_waited_for_ten_minutes_at_most():
    busy = ev.ErrorInfo("ProviderRateLimited", "429", True, True, 400.0)
    machine = Machine(plan_of(ONE)).accept().fail("a", busy).due("a").fail("a", busy)
    assert machine.state.status == "failed"


def test_uncounted_errors_are_retried_for_steps_that_may_run_once():
    machine = Machine(plan_of(ONE, a={"effects": "once"})).accept().fail("a", BUSY)
    assert machine.status("a") == "retrying"


def test_calls_that_nobody_answered_are_no_reason_to_stop_a_step_that_may_run_once():
    plan = plan_of(ONE, a={"effects": "once"})
    tried = ev.ModelCall("s", "", "", error="ConnectionFailed")
    paid = ev.ModelCall("s", "openai", "m", ev.Usage(3, 4), error="ProviderUnavailable")
    machine = Machine(plan).accept().fail("a", BUSY, calls=(tried,))
    assert machine.status("a") != "failed"
    assert Machine(plan).accept().fail("a", BUSY, calls=(tried, paid)).status("a") == "failed"


def test_step_that_may_run_once_is_not_tried_again_after_another_error():
    plan = plan_of(ONE, a={"effects": "once", "retry": {"max_attempts": 3}})
    assert Machine(plan).accept().fail("a", FLAKY).state.status == "failed"


def test_backoff_stays_within_its_bound_however_often_it_was_tried():
    retry = {"max_attempts": 1, "max_s": 0.2, "multiplier": 10.0}
    machine = Machine(plan_of(ONE, a={"retry": retry})).accept()
    refused = ev.ErrorInfo("ConnectionFailed", "no", retryable=True, uncounted=True)
    pauses = set()
    for _ in range(500):
        machine.fail("a", refused, jitter=0.5)
        pauses.add(machine.events[-1].delay_s)
        machine.due("a")
    assert pauses == {0.1}


def test_lost_worker_uses_up_no_attempt_and_the_third_loss_ends_the_step():
    machine = Machine(plan_of(ONE, a={"retry": {"max_attempts": 1}})).accept()
    machine.fail("a", LOST).fail("a", LOST)
    assert machine.open == ["a"] and machine.state.steps["a"].attempt == 3
    machine.fail("a", LOST)
    assert machine.state.error is not None and machine.state.error.type == "WorkerLost"


def test_lost_worker_leaves_all_attempts_of_the_policy():
    machine = Machine(plan_of(ONE, a={"retry": {"max_attempts": 2}})).accept()
    assert machine.fail("a", LOST).fail("a", FLAKY).status("a") == "retrying"


def test_step_that_may_run_once_has_an_unknown_outcome_after_a_lost_worker():
    plan = plan_of({**ONE, "h": ""}, a={"effects": "once", "on_error": {"goto": "h"}})
    machine = Machine(plan).accept().fail("a", LOST)
    assert machine.seen("h")["error"]["type"] == "UnknownOutcome"
    assert machine.dispatched == ["a", "h"]


def test_step_limit_times_out_the_step_and_applies_its_policy():
    plan = plan_of(DIAMOND, b={"timeout_s": 5.0, "on_error": "skip"})
    machine = Machine(plan).accept().finish("a").time_out("b")
    assert machine.status("b") == "timed_out" and machine.abandoned == ["b"]
    assert machine.final_state["errors"][0]["type"] == "StepTimeout"
    assert machine.finish("c").open == ["d"]


def test_step_limit_with_continue_takes_the_edges():
    plan = plan_of(ONE, a={"timeout_s": 5.0, "on_error": "continue"})
    assert Machine(plan).accept().time_out("a").open == ["b"]


def test_step_limit_with_goto_takes_the_error_edge():
    plan = plan_of({**ONE, "h": ""}, a={"timeout_s": 5.0, "on_error": {"goto": "h"}})
    machine = Machine(plan).accept().time_out("a")
    assert machine.open == ["h"] and machine.seen("h")["error"]["type"] == "StepTimeout"


def test_step_limit_with_fail_fails_the_execution():
    machine = Machine(plan_of(DIAMOND, b={"timeout_s": 5.0})).accept().finish("a").time_out("b")
    assert machine.state.status == "failed" and machine.state.error_node == "b"
    assert machine.status("c") == "cancelled"


def test_step_limit_ends_a_step_that_waits_for_its_next_attempt():
    plan = plan_of(ONE, a={"timeout_s": 5.0, "on_error": "skip"})
    machine = Machine(plan).accept().fail("a", FLAKY).time_out("a")
    assert machine.status("a") == "timed_out"
    before = len(machine.events)
    assert len(machine.due("a").events) == before


def test_step_limit_of_a_step_that_is_over_changes_nothing():
    machine = Machine(plan_of(ONE, a={"timeout_s": 5.0})).accept().finish("a")
    before = len(machine.events)
    assert len(machine.time_out("a").events) == before


def test_failure_of_an_older_attempt_changes_nothing():
    machine = Machine(plan_of(ONE)).accept().fail("a", LOST)
    before = len(machine.events)
    assert len(machine.fail("a", attempt=1).events) == before


@pytest.mark.parametrize(
    ("policy", "status", "opened"),
    [({"goto": "h"}, "running", ["h"]), ("skip", "completed", []), ("continue", "failed", [])],
)
def test_join_that_fails_with_the_limit_of_its_branch_obeys_its_own_policy(policy, status, opened):
    plan = plan_of(
        {"s": "a", "a": "a j", "j": "k", "k": "", "h": ""},
        j={"join": "first_success", "on_error": policy},
        settings={"max_iterations": 1},
    )
    machine = Machine(plan).accept().finish("s").finish("a@1", "a")
    assert machine.state.steps["j"].error.type == "IterationLimit"
    assert machine.open == opened and machine.state.status == status
