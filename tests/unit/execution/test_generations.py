"""An operator's retry: a new generation of what was not met, and of nothing else."""

from __future__ import annotations

import pytest

from agentflow.execution import events as ev
from agentflow.execution import happenings as hp
from tests.unit.execution.machine import BAD, HUMAN, Machine, facts, map_node, plan_of

DIAMOND = {"a": "b c", "b": "d", "c": "d", "d": ""}
RACE = {"a": "b c", "b": "y", "y": "j", "c": "j", "j": ""}
FIRST = {"join": "first_success"}
FLAKY = ev.ErrorInfo("ProviderUnavailable", "503", retryable=True)
LOST = ev.ErrorInfo("WorkerLost", "gone", retryable=True)


def failed(**nodes: object) -> Machine:
    """b failed while c was open."""
    return Machine(plan_of(DIAMOND, **nodes)).accept().finish("a", result="kept").fail("b")


def ended(how: str) -> Machine:
    """Ended early, in one of the ways from which a retry is allowed, with b and c open."""
    machine = Machine(plan_of(DIAMOND)).accept().finish("a", result="kept")
    if how == "failed":
        machine.fail("b")
    elif how == "timed_out":
        machine.happen(hp.ExecutionLimit(at=9.0))
    else:
        machine.cancel()
    assert machine.state.status == how
    return machine


each_end = pytest.mark.parametrize("how", ["failed", "timed_out", "cancelled"])


def terminals(machine: Machine) -> list[tuple[str, int]]:
    ends = [event for event in machine.events if isinstance(event, ev.TERMINAL_STEP)]
    return [(event.step, event.generation) for event in ends]


@each_end
def test_retry_begins_anew_what_was_not_met_and_keeps_results(how):
    machine = ended(how)
    machine.retry()
    assert machine.state.status == "running" and machine.open == ["b", "c"]
    assert machine.state.steps["a"].result == "kept" and machine.dispatched.count("a") == 1
    machine.finish("b").finish("c").finish("d")
    assert machine.state.status == "completed"


@each_end
def test_retry_opens_a_new_generation(how):
    machine = ended(how)
    machine.retry()
    generations = {key: step.generation for key, step in machine.state.steps.items()}
    assert generations == {"a": 0, "b": 1, "c": 1}
    machine.finish("b").finish("c").finish("d")
    assert terminals(machine) == [*terminals(machine)[:3], ("b", 1), ("c", 1), ("d", 0)]


@each_end
def test_retry_is_recorded_and_event_numbers_go_on(how):
    machine = ended(how)
    before = machine.state.seq
    machine.retry()
    assert machine.kinds[before] == "execution.resumed" and machine.events[before].reason == "retry"
    assert machine.state.seq == len(machine.events) > before


@each_end
def test_retry_starts_the_execution_clock_anew(how):
    machine = ended(how)
    machine.retry()
    assert machine.state.clock_at > machine.state.created_at
    assert machine.state.ended_at is None and machine.state.error is None


@pytest.mark.parametrize("how", ["running", "completed"])
def test_retry_is_refused_unless_the_execution_ended_early(how):
    machine = Machine(plan_of({"a": ""})).accept()
    if how == "completed":
        machine.finish("a")
    before = len(machine.events)
    assert len(machine.retry().events) == before


def test_retry_counts_attempts_failures_and_losses_anew():
    plan = plan_of({"a": ""}, a={"retry": {"max_attempts": 2}})
    machine = Machine(plan).accept().fail("a", FLAKY).due("a").fail("a", LOST).fail("a", FLAKY)
    assert machine.state.status == "failed" and machine.state.steps["a"].attempt == 3
    machine.retry()
    step = machine.state.steps["a"]
    assert (step.attempt, step.failures, step.losses, step.waited_s) == (1, 0, 0, 0.0)
    assert machine.fail("a", FLAKY).status("a") == "retrying"


def test_retry_does_not_touch_failures_that_were_met():
    plan = plan_of(DIAMOND, c={"on_error": "skip"})
    machine = Machine(plan).accept().finish("a").fail("c").fail("b").retry()
    assert machine.open == ["b"] and machine.status("c") == "failed"
    assert machine.finish("b").open == ["d"]


def test_retry_does_not_touch_losers_of_a_race():
    plan = plan_of(RACE, j=FIRST)
    machine = Machine(plan).accept().finish("a").finish("c").fail("j").retry()
    assert machine.open == ["j"] and machine.status("b") == "cancelled"


def test_retry_begins_steps_of_the_coordinator_anew_too():
    machine = Machine(plan_of(DIAMOND, inline="b"), held="b").accept().finish("a").fail_inline("b")
    machine.holding = set()
    machine.retry().finish("c")
    assert machine.status("b") == "completed" and machine.state.steps["b"].generation == 1
    assert machine.open == ["d"]


def test_retry_releases_what_had_not_begun():
    plan = plan_of({"a": "b c d", "b": "", "c": "", "d": ""}, settings={"max_parallel": 1})
    machine = Machine(plan).accept().finish("a").cancel().retry()
    machine.finish("b").finish("c").finish("d")
    assert machine.state.status == "completed"


def test_retry_waits_anew():
    machine = Machine(plan_of({"h": "b", "b": ""}, h=HUMAN)).accept().cancel().retry()
    assert machine.status("h") == "waiting" and machine.state.status == "waiting"
    assert machine.finish("h").open == ["b"]


def test_second_retry_opens_a_third_generation():
    machine = failed().retry().fail("c").retry()
    assert machine.open == ["b", "c"]
    assert machine.state.steps["b"].generation == machine.state.steps["c"].generation == 2
    machine.finish("b").finish("c").finish("d")
    assert machine.state.status == "completed"
    assert sorted(terminals(machine)) == sorted(set(terminals(machine)))


def test_second_retry_knows_what_the_first_one_finished():
    machine = failed().retry().finish("b", result=2).fail("c").retry()
    assert machine.open == ["c"] and machine.state.steps["b"].result == 2
    assert machine.finish("c").open == ["d"]


def test_step_that_a_second_end_kept_from_beginning_has_its_terminal_event_too():
    plan = plan_of(DIAMOND, c=HUMAN)
    machine = Machine(plan).accept().finish("a").cancel()
    machine.holding = {"c"}
    machine.retry().fail("b")
    assert machine.status("c") == "cancelled" and ("c", 1) in terminals(machine)
    machine.holding = set()
    machine.retry()
    assert machine.open == ["b", "c"]
    assert sorted(terminals(machine)) == sorted(set(terminals(machine)))


def test_results_of_an_older_generation_are_late():
    call = ev.ModelCall("s", "openai", "m", ev.Usage(3, 4))
    machine = failed().retry()
    machine.finish("c", generation=0, calls=(call,), result="old")
    assert machine.kinds[-1] == "step.late" and machine.open == ["b", "c"]
    assert machine.state.steps["c"].result is None


def test_limits_and_wakes_of_an_older_generation_change_nothing():
    machine = failed(b={"timeout_s": 5.0}).retry()
    before = len(machine.events)
    machine.happen(hp.StepLimit(at=99.0, step="b", generation=0))
    machine.happen(hp.Due(at=99.0, step="b", attempt=1, generation=0))
    assert len(machine.events) == before


def test_conclusion_that_was_asked_for_before_the_end_is_ignored_after_a_retry():
    machine = failed().retry()
    machine.happen(hp.Concluded(at=99.0, output="stale"))
    assert machine.state.status == "running"


def test_usage_of_all_generations_counts():
    call = ev.ModelCall("s", "openai", "m", ev.Usage(3, 4))
    machine = Machine(plan_of({"a": ""})).accept().fail("a", calls=(call,)).retry()
    machine.finish("a", calls=(call,))
    assert machine.final_state["tokens_used"] == 14


def test_errors_of_a_step_that_succeeded_in_the_end_are_gone():
    machine = failed().retry().finish("b").finish("c").finish("d")
    assert machine.final_state["errors"] == []


def test_retry_of_an_output_that_failed_makes_it_again():
    machine = Machine(plan_of({"a": ""})).accept()
    machine.happen(hp.Concluded(at=5.0, error=ev.ErrorInfo("ExpressionError", "no")))
    machine.retry().finish("a")
    assert machine.state.status == "completed"


def test_retry_inside_a_loop_goes_on_in_the_same_iteration():
    plan = plan_of({"a": "b", "b": "a x", "x": ""})
    machine = Machine(plan).accept().finish("a@1").finish("b@1", "a").finish("a@2").fail("b@2")
    machine.retry()
    assert machine.open == ["b@2"] and machine.state.steps["b@2"].generation == 1
    assert machine.finish("b@2", "x").open == ["x"]


def test_retry_does_not_pass_the_bound_of_a_loop():
    plan = plan_of({"a": "a x", "x": ""}, settings={"max_iterations": 1})
    machine = Machine(plan).accept().finish("a@1", "a").retry()
    assert machine.state.status == "failed" and machine.dispatched == ["a@1"]
    assert terminals(machine) == [("a@1", 0), ("a@2", 0), ("a@2", 1)]


def race_lost_by_all(**nodes: object) -> Machine:
    machine = Machine(plan_of(RACE, j=FIRST, **nodes)).accept().finish("a").fail("b").fail("c")
    assert machine.status("j") == "failed" and machine.state.status == "failed"
    return machine


def test_retry_of_a_race_that_all_lost_runs_it_again():
    machine = race_lost_by_all().retry()
    assert machine.open == ["b", "c"] and "j" not in machine.dispatched
    machine.finish("b").finish("y")
    assert machine.status("c") == "cancelled"
    assert machine.finish("j").state.status == "completed"
    assert sorted(terminals(machine)) == sorted(set(terminals(machine)))


def test_retry_of_a_race_that_all_lose_again_fails_again():
    machine = race_lost_by_all().retry().fail("b").fail("c")
    assert machine.state.status == "failed" and machine.state.error == BAD
    assert sorted(terminals(machine)) == sorted(set(terminals(machine)))


def test_retry_of_a_race_shows_each_join_what_released_it():
    machine = race_lost_by_all(y={"join": "any"}).retry().finish("b").finish("y")
    assert machine.past("y") == {"a", "b"} and machine.past("j") == {"a", "b", "y"}
    assert facts(machine.folded()) == facts(machine.state)


def test_retry_of_a_race_begins_the_items_of_its_maps_anew():
    plan = plan_of({"a": "m c", "m": "j", "c": "j", "j": ""}, j=FIRST, m=map_node())
    machine = Machine(plan, items={"m": 3}).accept().finish("a").fail("c")
    machine.finish("m[0]", result=0).fail("m[1]")
    assert machine.state.status == "failed"
    machine.retry().finish("m[1]", result=1).finish("m[2]", result=2)
    assert machine.state.steps["m"].result == [0, 1, 2] and machine.open == ["j"]


def test_loser_that_is_pending_after_a_retry_never_starts():
    plan = plan_of({"a": "b c", "b": "j", "c": "j", "j": ""}, c=HUMAN, j=FIRST)
    machine = Machine(plan).accept().finish("a").cancel()
    machine.holding = {"c"}
    machine.retry().finish("b").let_go()
    assert machine.status("c") == "cancelled" and machine.open == ["j"]


def test_new_owner_in_the_middle_of_a_retry_goes_on_with_it():
    machine = failed().retry()
    cut = machine.kinds.index("execution.resumed") + 1
    heir = machine.heir(machine.events[:cut])
    assert heir.open == ["b", "c"]
    assert heir.state.steps["b"].generation == 1
    heir.finish("b").finish("c").finish("d")
    assert heir.state.status == "completed"


def test_new_owner_whose_losses_end_the_execution_does_nothing_more():
    plan = plan_of({"a": "b h", "b": "", "h": ""}, b={"effects": "once"}, h=HUMAN)
    machine = Machine(plan).accept().finish("a").cancel().retry()
    last = max(i for i, e in enumerate(machine.events) if isinstance(e, ev.StepStarted))
    heir = machine.heir(machine.events[: last + 1])
    assert heir.state.status == "failed" and heir.kinds[-1] == "execution.failed"
    assert heir.dispatched == []


def test_new_owner_tries_lost_attempts_again_and_releases_what_was_ready():
    machine = Machine(plan_of(DIAMOND)).accept().finish("a").finish("b")
    cut = [i for i, event in enumerate(machine.events) if isinstance(event, ev.StepStarted)]
    heir = machine.heir(machine.events[: cut[1] + 1])
    assert heir.kinds == ["step.retrying", "step.started", "step.started"]
    assert heir.open == ["b", "c"] and heir.state.steps["b"].attempt == 2


def test_new_owner_starts_what_was_only_accepted():
    machine = Machine(plan_of(DIAMOND)).accept()
    heir = machine.heir(machine.events[:1])
    assert heir.kinds == ["execution.started", "step.started"]


def test_new_owner_concludes_when_only_the_end_was_missing():
    machine = Machine(plan_of({"a": ""})).accept().finish("a")
    heir = machine.heir(machine.events[:-1])
    assert heir.kinds == ["execution.completed"]


def test_new_owner_wakes_steps_that_wait_for_their_next_attempt():
    machine = Machine(plan_of({"a": ""}, a={"retry": {"max_attempts": 2}})).accept()
    heir = machine.fail("a", FLAKY, jitter=0.5).heir()
    assert heir.kinds == [] and [c.at for c in heir.commands] == [3.5]
    assert heir.due("a").open == ["a"] and heir.dispatched == ["a"]


def test_new_owner_takes_the_edges_it_was_given_when_a_loss_ends_a_step():
    plan = plan_of({"a": "b c", "b": "", "c": ""}, a={"effects": "once", "on_error": "continue"})
    machine = Machine(plan).accept()
    heir = Machine(plan)
    heir.take_over(machine.events, taken={"a": heir.edges("a", "c")})
    assert heir.status("b") == "skipped" and heir.open == ["c"]


def test_retry_opens_the_branches_of_a_race_inside_a_loop_and_the_iteration_waits_for_them():
    links = {"s": "e", "e": "a b", "a": "j", "b": "j", "j": "c", "c": "e end"}
    machine = Machine(plan_of(links, inline="s e c", j={"join": "first_success"})).accept()
    machine.fail("a@1").fail("b@1")
    assert machine.state.status == "failed"
    machine.happen(hp.RetryAsked(at=2.0))
    assert machine.open == ["a@1", "b@1"]
    machine.choices = {"c@1": "e", "c@2": "end"}
    machine.finish("a@1").finish("j@1")
    assert machine.open == ["a@2", "b@2"]
    machine.finish("b@2").finish("j@2")
    assert machine.state.status == "completed"
