"""Steps that wait for a person, a time or a signal."""

from __future__ import annotations

from agentflow.execution import events as ev
from agentflow.execution import happenings as hp
from agentflow.execution.turn import Expire, Wake
from tests.unit.execution.machine import HUMAN, Machine, facts, plan_of

LINKS = {"a": "h b", "h": "j", "b": "j", "j": ""}


def waiting(until: float | None = None, **nodes: object) -> Machine:
    return Machine(plan_of(LINKS, h=HUMAN, **nodes), until=until).accept().finish("a")


def test_step_that_waits_is_recorded_with_what_it_waits_for():
    machine = waiting(until=99.0)
    (event,) = [e for e in machine.events if isinstance(e, ev.StepWaiting)]
    assert (event.step, event.wait_id, event.until) == ("h", "wait h", 99.0)
    assert machine.status("h") == "waiting" and machine.commands.count(Wake("h", 1, 0, 99.0)) == 1


def test_other_branches_go_on_while_a_step_waits():
    machine = waiting()
    assert machine.state.status == "running" and machine.open == ["b", "h"]


def test_execution_waits_when_all_that_is_open_waits():
    machine = waiting().finish("b")
    assert machine.state.status == "waiting" and machine.kinds[-1] == "execution.waiting"
    assert machine.kinds.count("execution.waiting") == 1


def test_execution_goes_on_when_the_answer_comes():
    machine = waiting().finish("b").finish("h", result="yes")
    assert machine.state.status == "running" and machine.open == ["j"]
    resumed, started = (machine.kinds.index(k) for k in ("execution.resumed", "step.completed"))
    assert started < resumed < len(machine.kinds) - 1
    assert machine.finish("j").state.status == "completed"


def test_execution_that_did_not_wait_is_not_resumed():
    machine = waiting().finish("h").finish("b").finish("j")
    assert "execution.resumed" not in machine.kinds and machine.state.status == "completed"


def test_execution_may_wait_again_and_again():
    plan = plan_of({"h": "i", "i": ""}, h=HUMAN, i=HUMAN)
    machine = Machine(plan).accept().finish("h").finish("i")
    kinds = [kind for kind in machine.kinds if kind.startswith("execution.")]
    assert kinds[2:] == ["execution.waiting", "execution.resumed"] * 2 + ["execution.completed"]


def test_two_waits_are_answered_one_by_one():
    plan = plan_of({"a": "h i", "h": "", "i": ""}, h=HUMAN, i=HUMAN)
    machine = Machine(plan).accept().finish("a").finish("h")
    assert machine.state.status == "waiting" and machine.open == ["i"]
    assert machine.finish("i").state.status == "completed"


def test_second_answer_changes_nothing():
    machine = waiting().finish("h", result="first").finish("h", result="second")
    assert machine.state.steps["h"].result == "first"


def test_steps_that_wait_take_no_place_of_max_parallel():
    plan = plan_of(LINKS, h=HUMAN, settings={"max_parallel": 1})
    machine = Machine(plan).accept().finish("a")
    assert sorted(machine.open) == ["b", "h"]


def test_wait_expires_at_its_time():
    machine = waiting(until=50.0).finish("b")
    before = len(machine.events)
    machine.due("h", at=49.0)
    assert len(machine.events) == before, "not yet"
    machine.due("h", at=50.0)
    assert machine.status("h") == "completed" and Expire("h", 1) in machine.commands


def test_answer_before_the_expiry_wins():
    machine = waiting(until=50.0).finish("h", result="yes")
    before = len(machine.events)
    assert len(machine.due("h", at=50.0).events) == before


def test_wait_without_an_end_does_not_expire():
    machine = waiting()
    before = len(machine.events)
    assert len(machine.due("h", at=1e9).events) == before


def test_expiry_may_fail_the_step():
    machine = waiting(until=50.0).finish("b")
    machine.holding = {"h"}
    machine.due("h", at=50.0).fail("h", ev.ErrorInfo("WaitExpired", "no answer"))
    assert machine.state.status == "failed"


def test_step_limit_ends_a_wait_and_the_execution_goes_on():
    plan = plan_of({"h": "b", "b": ""}, h={**HUMAN, "timeout_s": 5.0, "on_error": "continue"})
    machine = Machine(plan).accept().time_out("h")
    assert machine.state.status == "running" and machine.open == ["b"]


def test_late_report_does_not_resume_an_execution_that_waits():
    lost = ev.ErrorInfo("WorkerLost", "gone", retryable=True)
    machine = waiting().fail("b", lost).finish("b")
    before = len(machine.events)
    assert len(machine.fail("b", attempt=1).events) == before


def test_cancellation_ends_a_wait():
    machine = waiting().finish("b").cancel()
    assert machine.status("h") == "cancelled" and machine.state.status == "cancelled"


def test_new_owner_finds_the_wait_as_it_was():
    machine = waiting(until=50.0).finish("b")
    heir = machine.heir()
    assert heir.kinds == [] and heir.commands == [Wake("h", 1, 0, 50.0)]
    assert heir.state.status == "waiting"
    assert heir.finish("h").open == ["j"]


def test_new_owner_records_that_the_execution_waits_when_only_that_was_missing():
    machine = waiting().finish("b")
    assert machine.heir(machine.events[:-1]).kinds == ["execution.waiting"]


def test_wait_inside_a_loop_begins_anew_in_each_iteration():
    plan = plan_of({"h": "h x", "x": ""}, h=HUMAN)
    machine = Machine(plan).accept().finish("h@1", "h")
    assert machine.open == ["h@2"] and machine.state.status == "waiting"
    assert machine.finish("h@2", "x").open == ["x"]


def test_wait_that_was_not_asked_for_is_ignored():
    machine = waiting()
    before = len(machine.events)
    machine.happen(hp.Parked(at=9.0, step="j", wait_id="w"))
    machine.happen(hp.Parked(at=9.0, step="a", wait_id="w"))
    assert len(machine.events) == before


def test_fold_of_a_wait_is_its_state():
    machine = waiting(until=50.0).finish("b")
    assert facts(machine.folded()) == facts(machine.state)
