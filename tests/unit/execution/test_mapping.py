"""map: items, some at a time; results in order; failed items; early stop; owners and retries."""

from __future__ import annotations

import pytest

from agentflow.execution import events as ev
from tests.unit.execution.machine import BAD, Machine, facts, map_node, plan_of

LINKS = {"m": "b", "b": ""}
CALL = ev.ModelCall("s", "openai", "m", ev.Usage(3, 4), 0.25)
LOST = ev.ErrorInfo("WorkerLost", "gone", retryable=True)
FLAKY = ev.ErrorInfo("ProviderUnavailable", "503", retryable=True)


def mapped(count: int, settings: object = None, **options: object) -> Machine:
    plan = plan_of(LINKS, m=map_node(**options), settings=settings)
    return Machine(plan, items={"m": count}).accept()


def test_each_item_has_a_step_of_its_own():
    machine = mapped(3)
    assert machine.open == ["m", "m[0]", "m[1]", "m[2]"]
    assert machine.dispatched == ["m[0]", "m[1]", "m[2]"]


def test_number_of_items_is_recorded():
    machine = mapped(3)
    (event,) = [e for e in machine.events if isinstance(e, ev.StepStarted) and e.step == "m"]
    assert event.items == 3


def test_results_are_in_the_order_of_the_items_whatever_the_order_of_their_ends():
    machine = mapped(3)
    for index in (2, 0, 1):
        machine.finish(f"m[{index}]", result=index)
    assert machine.state.steps["m"].result == [0, 1, 2] and machine.open == ["b"]


def test_items_run_as_many_at_once_as_the_node_allows():
    machine = mapped(5, max_concurrency=2)
    assert machine.dispatched == ["m[0]", "m[1]"]
    machine.finish("m[1]")
    assert machine.dispatched == ["m[0]", "m[1]", "m[2]"]
    machine.finish("m[0]").finish("m[2]").finish("m[3]").finish("m[4]")
    assert machine.open == ["b"]


def test_items_are_fifty_at_once_when_the_node_does_not_say():
    machine = mapped(60)
    assert len(machine.dispatched) == 50


def test_items_are_held_back_by_max_parallel_too():
    machine = mapped(3, settings={"max_parallel": 2})
    assert machine.dispatched == ["m[0]", "m[1]"]
    assert machine.finish("m[0]").dispatched == ["m[0]", "m[1]", "m[2]"]


def test_map_does_not_lock_an_execution_that_may_run_one_step_at_a_time():
    machine = mapped(3, settings={"max_parallel": 1})
    for index in range(3):
        assert machine.open == ["m", f"m[{index}]"]
        machine.finish(f"m[{index}]", result=index)
    assert machine.finish("b").state.status == "completed"


def test_empty_list_has_an_empty_result_at_once():
    machine = mapped(0)
    assert machine.state.steps["m"].result == [] and machine.open == ["b"]


def test_failed_item_fails_the_map_and_cancels_its_other_items():
    machine = mapped(3).finish("m[0]").fail("m[1]")
    assert machine.status("m") == "failed" and machine.status("m[2]") == "cancelled"
    assert machine.state.status == "failed"
    assert machine.state.error == ev.ErrorInfo("ProviderRejected", "Item 1: no")


def test_items_that_were_held_back_never_start_after_a_failed_one():
    machine = mapped(9, max_concurrency=2, on_error="continue").fail("m[1]")
    assert machine.open == ["b"] and machine.dispatched == ["m[0]", "m[1]", "b"]


def test_failed_item_leads_to_the_policy_of_the_map():
    plan = plan_of({**LINKS, "h": ""}, m=map_node(on_error={"goto": "h"}))
    machine = Machine(plan, items={"m": 2}).accept().fail("m[0]")
    assert machine.open == ["h"] and machine.seen("h")["error"]["node_id"] == "m"


@pytest.mark.parametrize("policy", ["collect", "skip"])
def test_failed_item_is_left_to_the_gathering_when_the_node_says_so(policy):
    machine = mapped(3, on_item_error=policy).fail("m[1]")
    assert machine.status("m") == "running"
    machine.finish("m[0]", result=0).finish("m[2]", result=2)
    assert machine.state.steps["m"].result == [0, 2] and machine.open == ["b"]
    (event,) = [e for e in machine.events if isinstance(e, ev.StepFailed)]
    assert event.policy == policy


def test_item_is_tried_again_by_the_policy_of_its_node():
    machine = mapped(2, retry={"max_attempts": 2}).fail("m[0]", FLAKY)
    assert machine.status("m[0]") == "retrying"
    machine.due("m[0]").finish("m[0]", result="a").finish("m[1]", result="b")
    assert machine.state.steps["m[0]"].attempt == 2
    assert machine.state.steps["m"].result == ["a", "b"]


def test_early_stop_begins_no_further_item_and_cancels_open_ones():
    machine = mapped(9, max_concurrency=3).finish("m[1]", result="found", stop=True)
    assert machine.status("m[0]") == machine.status("m[2]") == "cancelled"
    assert machine.dispatched == ["m[0]", "m[1]", "m[2]", "b"]
    assert machine.state.steps["m"].result == ["found"]


def test_early_stop_holds_for_another_owner_and_after_a_retry():
    machine = mapped(3, max_concurrency=1)
    machine.holding = {"m"}
    machine.finish("m[0]", result="found", stop=True)
    assert machine.heir().state.steps["m"].result == ["found"]
    machine.cancel()
    machine.holding = set()
    assert machine.retry().state.steps["m"].result == ["found"]


def test_delta_of_an_item_is_discarded():
    plan = plan_of(LINKS, m=map_node())
    machine = Machine(plan, items={"m": 1}).accept().finish("m[0]", delta={"text_result": "x"})
    machine.finish("b")
    assert machine.final_state["text_result"] == ""


def test_usage_of_items_counts_for_the_map_step():
    machine = (
        mapped(2, on_item_error="skip").finish("m[0]", calls=(CALL,)).fail("m[1]", calls=(CALL,))
    )
    assert len(machine.state.steps["m"].calls) == 2
    machine.finish("b")
    assert machine.final_state["tokens_used"] == 14 and machine.final_state["cost"] == 0.5


def test_usage_of_an_attempt_of_an_item_that_is_tried_again_counts_too():
    machine = mapped(1, retry={"max_attempts": 2}).fail("m[0]", FLAKY, calls=(CALL,))
    machine.due("m[0]").finish("m[0]", calls=(CALL,)).finish("b")
    assert machine.final_state["tokens_used"] == 14


def test_items_are_no_steps_of_the_execution_path():
    machine = mapped(2).finish("m[0]").finish("m[1]").finish("b")
    assert machine.final_state["execution_path"] == ["m", "b"]
    assert set(machine.final_state["outputs"]) == {"m", "b"}


def test_map_inside_a_loop_has_items_of_its_own_in_each_iteration():
    plan = plan_of({"a": "m", "m": "a x", "x": ""}, m=map_node())
    machine = Machine(plan, {"m": "a"}, items={"m": 2}).accept().finish("a@1")
    machine.finish("m@1[1]", result="1b").finish("m@1[0]", result="1a").finish("a@2")
    assert machine.open == ["m@2", "m@2[0]", "m@2[1]"]
    machine.choices["m"] = "x"
    machine.finish("m@2[0]", result="2a").finish("m@2[1]", result="2b")
    assert machine.state.steps["m@1"].result == ["1a", "1b"]
    assert machine.state.steps["m@2"].result == ["2a", "2b"] and machine.open == ["x"]


def test_retry_begins_failed_items_and_those_cancelled_with_them_and_keeps_the_others():
    machine = mapped(3).finish("m[0]", result=0).fail("m[1]").retry()
    assert machine.open == ["m", "m[1]", "m[2]"]
    machine.finish("m[2]", result=2).finish("m[1]", result=1)
    assert machine.state.steps["m"].result == [0, 1, 2]
    assert machine.dispatched.count("m[0]") == 1
    assert machine.finish("b").state.status == "completed"


def test_retry_after_the_limit_of_the_map_keeps_finished_items():
    machine = mapped(3, timeout_s=5.0).finish("m[0]", result=0).time_out("m")
    assert machine.state.status == "failed" and machine.retry().open == ["m", "m[1]", "m[2]"]


def test_retry_of_items_respects_the_bound_of_the_node():
    machine = mapped(4, max_concurrency=1).finish("m[0]", result=0).cancel().retry()
    assert machine.open == ["m", "m[1]"]
    for index in (1, 2, 3):
        machine.finish(f"m[{index}]", result=index)
    assert machine.state.steps["m"].result == [0, 1, 2, 3]


def test_new_owner_goes_on_with_the_items_that_are_left():
    machine = mapped(4, max_concurrency=2).finish("m[0]", result=0)
    heir = machine.heir()
    assert heir.open == ["m", "m[1]", "m[2]"] and heir.dispatched == ["m[1]", "m[2]"]
    for index in (1, 2, 3):
        heir.finish(f"m[{index}]", result=index)
    assert heir.state.steps["m"].result == [0, 1, 2, 3]
    assert "m[0]" not in heir.dispatched


def test_new_owner_gathers_when_only_that_was_missing():
    machine = mapped(2).finish("m[0]", result=0)
    machine.holding = {"m"}
    heir = machine.finish("m[1]", result=1).heir()
    assert heir.state.steps["m"].result == [0, 1]


def test_new_owner_fails_the_map_when_the_loss_of_an_item_is_final():
    machine = mapped(2, effects="once")
    heir = machine.heir()
    assert heir.state.status == "failed"
    assert heir.state.error is not None and heir.state.error.type == "UnknownOutcome"


def test_prefixes_of_a_map_resume_to_the_same_result():
    machine = mapped(4, max_concurrency=2, on_item_error="skip").fail("m[1]")
    machine.finish("m[0]", result=0).finish("m[3]", result=3).finish("m[2]", result=2).finish("b")
    for length in range(1, len(machine.events)):
        heir = machine.heir(machine.events[:length])
        while heir.open:
            key = heir.open[-1]
            index = int(key[2:-1]) if "[" in key else None
            heir.fail(key) if index == 1 else heir.finish(key, result=index)
        assert heir.state.steps["m"].result == [0, 2, 3]
        assert heir.state.status == "completed"


def test_map_that_timed_out_while_its_results_were_gathered_stays_so():
    machine = mapped(1, timeout_s=5.0, on_error="skip")
    machine.holding = {"m"}
    machine.finish("m[0]").time_out("m").let_go()
    assert machine.status("m") == "timed_out" and machine.of("step.completed") == ["m[0]"]


def test_late_failure_of_an_item_does_not_end_its_map_twice():
    plan = plan_of({"a": "m c", "m": "", "c": ""}, m=map_node(on_error="continue"))
    machine = Machine(plan, items={"m": 2}).accept().finish("a")
    machine.fail("m[0]", LOST).fail("m[0]").fail("m[0]", BAD, attempt=1)
    assert machine.of("step.failed") == ["m[0]", "m"]


def test_list_that_cannot_be_had_fails_the_map():
    machine = Machine(plan_of(LINKS, m=map_node()), held="m").accept()
    machine.fail_inline("m")
    assert machine.status("m") == "failed" and machine.state.status == "failed"


def test_fold_of_a_map_is_its_state():
    machine = mapped(4, max_concurrency=2).finish("m[1]", result=1).finish("m[0]", stop=True)
    assert facts(machine.folded()) == facts(machine.state)


@pytest.mark.parametrize("policy", ["collect", "skip"])
def test_new_owner_starts_each_further_item_once_after_a_loss_that_is_final(policy):
    machine = mapped(3, max_concurrency=1, effects="once", on_item_error=policy)
    heir = machine.heir()
    assert heir.dispatched == ["m[1]"]
    heir.finish("m[1]", result=1).finish("m[2]", result=2)
    assert heir.state.steps["m"].result == [1, 2]
