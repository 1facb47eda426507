"""Ends before the time: cancellation, limits, and results that come too late."""

from __future__ import annotations

import pytest

from agentflow.execution import events as ev
from agentflow.execution import happenings as hp
from tests.unit.execution.machine import HUMAN, Machine, map_node, plan_of

DIAMOND = {"a": "b c", "b": "d", "c": "d", "d": ""}
CALL = ev.ModelCall("s", "openai", "m", ev.Usage(3, 4), 0.5)


def test_cancellation_cancels_open_steps_and_ends_the_execution():
    machine = Machine(plan_of(DIAMOND)).accept().finish("a").cancel()
    assert machine.kinds[-3:] == ["step.cancelled", "step.cancelled", "execution.cancelled"]
    assert machine.abandoned == ["b", "c"] and machine.state.status == "cancelled"


def test_cancellation_keeps_what_is_finished():
    machine = Machine(plan_of(DIAMOND)).accept().finish("a", result="kept").cancel()
    assert machine.final_state["outputs"] == {"a": "kept"}


def test_cancellation_leaves_what_follows_the_open_steps_untouched():
    machine = Machine(plan_of(DIAMOND)).accept().finish("a").cancel()
    assert machine.status("d") is None and "step.skipped" not in machine.kinds


@pytest.mark.parametrize("end", [hp.CancelAsked(at=9.0), hp.ExecutionLimit(at=9.0)])
def test_end_reaches_steps_that_wait_or_are_tried_again_and_items(end):
    flaky = ev.ErrorInfo("ProviderUnavailable", "503", retryable=True)
    plan = plan_of({"a": "b h m", "b": "", "h": "", "m": ""}, h=HUMAN, m=map_node())
    machine = Machine(plan, items={"m": 2}).accept().finish("a").fail("b", flaky).happen(end)
    keys = ("b", "h", "m", "m[0]", "m[1]")
    assert [machine.status(key) for key in keys] == ["cancelled"] * len(keys)


def test_end_takes_back_what_was_held_back():
    plan = plan_of(DIAMOND, settings={"max_parallel": 1})
    machine = Machine(plan).accept().finish("a").cancel().finish("b")
    assert machine.dispatched == ["a", "b"] and machine.status("c") is None


def test_inline_step_that_ends_after_the_execution_is_not_recorded():
    machine = Machine(plan_of(DIAMOND, inline="b"), held="b").accept().finish("a").cancel()
    before = len(machine.events)
    assert len(machine.let_go().events) == before


def test_execution_limit_times_out_the_execution_and_keeps_its_partial_state():
    plan = plan_of(DIAMOND, settings={"timeout_s": 60})
    machine = Machine(plan).accept().finish("a", result="kept").happen(hp.ExecutionLimit(at=60.0))
    assert machine.state.status == "timed_out" and machine.events[-1].limit_s == 60
    assert machine.final_state["outputs"] == {"a": "kept"}


LATER = (
    hp.CancelAsked(at=9.0),
    hp.ExecutionLimit(at=9.0),
    hp.StepLimit(at=9.0, step="b"),
    hp.Due(at=9.0, step="b", attempt=1),
    hp.TakenOver(at=9.0),
    hp.Concluded(at=9.0),
    hp.Finished(at=9.0, step="b"),
    hp.Finished(at=9.0, step="d", inline=True),
    hp.Broke(at=9.0, step="b", error=ev.ErrorInfo("x", "x")),
    hp.Broke(at=9.0, step="d", error=ev.ErrorInfo("x", "x"), inline=True),
    hp.Parked(at=9.0, step="b", wait_id="w"),
    hp.Expanded(at=9.0, step="d", items=3),
)


@pytest.mark.parametrize("happening", LATER, ids=lambda h: type(h).__name__)
@pytest.mark.parametrize("how", ["cancelled", "failed", "timed_out", "completed"])
def test_nothing_happens_after_the_end(how, happening):
    machine = Machine(plan_of(DIAMOND)).accept().finish("a")
    if how == "cancelled":
        machine.cancel()
    elif how == "failed":
        machine.fail("c")
    elif how == "timed_out":
        machine.happen(hp.ExecutionLimit(at=9.0))
    else:
        machine.finish("b").finish("c").finish("d")
    assert machine.state.status == how
    before, commands = len(machine.events), len(machine.commands)
    machine.happen(happening)
    assert len(machine.events) == before and len(machine.commands) == commands


@pytest.mark.parametrize("broke", [False, True])
def test_late_result_is_kept_for_what_it_cost_and_its_value_is_never_used(broke):
    machine = Machine(plan_of(DIAMOND)).accept().finish("a").fail("b")
    if broke:
        machine.fail("c", calls=(CALL,))
    else:
        machine.finish("c", calls=(CALL,), result="never used")
    assert machine.kinds[-1] == "step.late"
    assert machine.status("c") == "cancelled" and machine.state.steps["c"].result is None
    assert machine.final_state["tokens_used"] == 7 and machine.final_state["cost"] == 0.5


def test_late_result_that_cost_nothing_is_not_recorded():
    machine = Machine(plan_of(DIAMOND)).accept().finish("a").fail("b")
    assert machine.finish("c").kinds[-1] == "execution.failed"


def test_result_of_an_older_attempt_is_late():
    lost = ev.ErrorInfo("WorkerLost", "gone", retryable=True)
    machine = Machine(plan_of(DIAMOND)).accept().fail("a", lost)
    machine.finish("a", attempt=1, calls=(CALL,), result="old")
    assert machine.kinds[-1] == "step.late" and machine.open == ["a"]
    assert machine.finish("a", result="new").state.steps["a"].result == "new"
    assert machine.final_state["tokens_used"] == 7


def test_result_of_a_step_that_lost_its_race_is_late():
    plan = plan_of({"a": "b c", "b": "j", "c": "j", "j": ""}, j={"join": "first_success"})
    machine = Machine(plan).accept().finish("a").finish("b").finish("c", calls=(CALL,), result=1)
    assert machine.kinds[-1] == "step.late" and machine.state.status == "running"
    assert machine.status("c") == "cancelled"


def test_late_result_of_an_item_counts_for_its_map_step():
    plan = plan_of({"m": "b", "b": ""}, m=map_node())
    machine = Machine(plan, items={"m": 2}).accept().cancel().finish("m[0]", calls=(CALL,))
    assert machine.kinds[-1] == "step.late" and machine.final_state["tokens_used"] == 7


def test_each_step_has_one_terminal_event():
    machine = Machine(plan_of(DIAMOND)).accept().finish("a").finish("b").fail("c").finish("c")
    machine.cancel()
    ends = [event.step for event in machine.events if isinstance(event, ev.TERMINAL_STEP)]
    assert sorted(ends) == ["a", "b", "c"]


def test_execution_whose_output_cannot_be_made_fails():
    machine = Machine(plan_of({"a": ""})).accept()
    machine.happen(hp.Concluded(at=5.0, error=ev.ErrorInfo("ExpressionError", "output: no")))
    assert machine.state.status == "failed" and machine.state.error_node is None
    assert machine.status("a") == "cancelled"
    assert machine.final_state["errors"][-1]["node_id"] is None


def test_output_is_that_of_the_conclusion():
    machine = Machine(plan_of({"a": ""})).accept().finish("a")
    assert machine.state.status == "completed" and machine.state.output == "output"
