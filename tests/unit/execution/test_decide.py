"""The state machine alone: no engine, no journal."""

from __future__ import annotations

import time

import msgspec
import pytest

from agentflow.execution import events as ev
from agentflow.execution import happenings as hp
from agentflow.execution.decide import Abandon, Conclude, Decision, Dispatch, Evaluate, Wake, decide
from agentflow.execution.state import ExecutionState, fold
from agentflow.plan.plan import END, Plan, PlanEdge, PlanNode, Retry, Settings


def make_plan(links: dict[str, list[str]], start: str, **nodes: dict) -> Plan:
    """A plan of remote nodes: ``links`` maps a node to its targets, in order."""
    ids = list(links)
    edges = [
        PlanEdge(number, ids.index(source), END if target == "end" else ids.index(target))
        for number, (source, target) in enumerate(
            (source, target) for source in ids for target in links[source]
        )
    ]
    made = [
        PlanNode(
            index=index,
            id=node_id,
            type="llm",
            options={},
            rank=index,
            **{"placement": "io", "effects": "idempotent", "retry": Retry(max_attempts=3)}
            | nodes.get(node_id, {}),
            incoming=tuple(edge.index for edge in edges if edge.target == index),
            outgoing=tuple(edge.index for edge in edges if edge.source == index),
        )
        for index, node_id in enumerate(ids)
    ]
    return Plan(
        content_hash="h",
        name=None,
        nodes=tuple(made),
        edges=tuple(edges),
        start=ids.index(start),
        order=tuple(range(len(made))),
        fields=(),
        sources=(),
        settings=nodes.get("settings") or Settings(),
    )


def begin(plan: Plan) -> tuple[ExecutionState, Decision]:
    state = ExecutionState(plan, "exec_1")
    return state, decide(state, hp.Accepted(at=0.0, tenant="t", initial_state={}))


def finish(state: ExecutionState, step: str, taken=None, at=1.0, **given) -> Decision:
    node = state.plan.node(step)
    taken = node.outgoing if taken is None else taken
    attempt = given.pop("attempt", state.steps[step].attempt if step in state.steps else 1)
    return decide(state, hp.Finished(at=at, step=step, attempt=attempt, taken=taken, **given))


def broke(state: ExecutionState, step: str, error: ev.ErrorInfo, **given) -> Decision:
    attempt = given.pop("attempt", state.steps[step].attempt)
    return decide(state, hp.Broke(at=1.0, step=step, attempt=attempt, error=error, **given))


def released(decision: Decision) -> list[str]:
    return [c.step for c in decision.commands if isinstance(c, Dispatch | Evaluate)]


def kinds(decision: Decision) -> list[str]:
    return [ev.kind(event) for event in decision.events]


BAD = ev.ErrorInfo("ProviderRejected", "no")
FLAKY = ev.ErrorInfo("ProviderUnavailable", "503", retryable=True)
BUSY = ev.ErrorInfo("ProviderRateLimited", "429", retryable=True, uncounted=True, after=7.0)
LOST = ev.ErrorInfo("WorkerLost", "gone", retryable=True)
DIAMOND = {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": ["end"]}


def test_start_is_created_started_and_released_in_one_decision():
    _, decision = begin(make_plan(DIAMOND, "a"))
    assert kinds(decision) == ["execution.created", "execution.started", "step.started"]
    assert released(decision) == ["a"]


def test_join_runs_once_when_every_edge_is_resolved():
    state, _ = begin(make_plan(DIAMOND, "a"))
    assert released(finish(state, "a")) == ["b", "c"]
    assert released(finish(state, "b")) == []
    assert released(finish(state, "c")) == ["d"]
    assert state.steps["d"].status == "running"


def test_step_starts_without_waiting_for_an_unrelated_slow_sibling():
    state, _ = begin(make_plan({"a": ["b", "c"], "b": ["e"], "c": ["d"], "d": [], "e": []}, "a"))
    finish(state, "a")
    assert released(finish(state, "c")) == ["d"]


def test_untaken_edge_skips_the_dead_path_and_the_join_still_runs():
    plan = make_plan({"a": ["b", "c"], "b": ["x"], "x": ["d"], "c": ["d"], "d": []}, "a")
    state, _ = begin(plan)
    decision = finish(state, "a", taken=(1,))
    assert kinds(decision) == ["step.completed", "step.skipped", "step.skipped", "step.started"]
    assert released(finish(state, "c")) == ["d"]


def test_everything_downstream_is_skipped_when_nothing_is_taken():
    state, _ = begin(make_plan(DIAMOND, "a"))
    decision = finish(state, "a", taken=())
    assert [c for c in decision.commands if isinstance(c, Conclude)]
    assert {key: step.status for key, step in state.steps.items()} == {
        "a": "completed",
        "b": "skipped",
        "c": "skipped",
        "d": "skipped",
    }
    done = decide(state, hp.Concluded(at=2.0, output=5))
    assert kinds(done) == ["execution.completed"] and state.status == "completed"


def test_failure_cancels_running_siblings_and_ends_the_execution():
    state, _ = begin(make_plan(DIAMOND, "a"))
    finish(state, "a")
    decision = broke(state, "b", BAD)
    assert kinds(decision) == ["step.failed", "step.cancelled", "execution.failed"]
    assert [c.step for c in decision.commands if isinstance(c, Abandon)] == ["c"]
    assert state.status == "failed" and state.error_node == "b"


def test_retryable_error_waits_with_full_jitter_then_starts_the_next_attempt():
    state, _ = begin(make_plan({"a": []}, "a"))
    decision = broke(state, "a", FLAKY, jitter=0.5)
    assert kinds(decision) == ["step.retrying"]
    assert decision.commands == [Wake("a", 1, 0, 1.5)]
    again = decide(state, hp.Due(at=1.5, step="a", attempt=1))
    assert again.commands == [Dispatch("a", 0, 2, 0)]


def test_attempts_are_bounded_by_the_policy():
    state, _ = begin(make_plan({"a": []}, "a"))
    for attempt in (1, 2):
        broke(state, "a", FLAKY, jitter=0.5)
        decide(state, hp.Due(at=2.0, step="a", attempt=attempt))
    assert kinds(broke(state, "a", FLAKY)) == ["step.failed", "execution.failed"]
    assert state.steps["a"].attempt == 3


def test_rate_limit_uses_up_no_attempt_and_honours_the_stated_wait():
    state, _ = begin(make_plan({"a": []}, "a", a={"retry": Retry(max_attempts=1)}))
    for attempt in range(1, 20):
        decision = broke(state, "a", BUSY, jitter=0.0)
        assert decision.commands == [Wake("a", attempt, 0, 8.0)]
        decide(state, hp.Due(at=8.0, step="a", attempt=attempt))
    assert state.steps["a"].failures == 0


def test_rate_limit_gives_up_after_ten_minutes_of_waiting():
    state, _ = begin(make_plan({"a": []}, "a"))
    busy = ev.ErrorInfo("ProviderRateLimited", "429", retryable=True, uncounted=True, after=400.0)
    broke(state, "a", busy)
    decide(state, hp.Due(at=401.0, step="a", attempt=1))
    assert "step.failed" in kinds(broke(state, "a", busy))


def test_lost_worker_uses_up_no_attempt_and_the_third_loss_ends_the_step():
    state, _ = begin(make_plan({"a": []}, "a", a={"retry": Retry(max_attempts=1)}))
    assert released(broke(state, "a", LOST)) == ["a"]
    assert released(broke(state, "a", LOST)) == ["a"]
    assert kinds(broke(state, "a", LOST))[0] == "step.failed"
    assert state.steps["a"].error.type == "WorkerLost"


def test_once_step_is_never_repeated_after_a_lost_worker():
    state, _ = begin(make_plan({"a": []}, "a", a={"effects": "once"}))
    broke(state, "a", LOST)
    assert state.steps["a"].error.type == "UnknownOutcome"


@pytest.mark.parametrize("policy", ["continue", "skip"])
def test_failed_step_lets_siblings_go_on_when_its_policy_says_so(policy):
    state, _ = begin(make_plan(DIAMOND, "a", b={"on_error": policy}))
    finish(state, "a")
    decision = broke(state, "b", BAD, taken=(2,))
    assert kinds(decision) == ["step.failed"]
    assert released(finish(state, "c")) == ["d"]


def test_result_of_an_ended_step_is_kept_as_late_only_for_what_it_cost():
    state, _ = begin(make_plan(DIAMOND, "a"))
    finish(state, "a")
    broke(state, "b", BAD)
    call = ev.ModelCall("s", "openai", "m", ev.Usage(3, 4))
    assert kinds(finish(state, "c", attempt=1, calls=(call,), result="never used")) == ["step.late"]
    assert state.steps["c"].result is None and state.steps["c"].calls == [call]
    assert kinds(finish(state, "c", attempt=1)) == []


def test_result_of_an_older_attempt_is_late():
    state, _ = begin(make_plan({"a": []}, "a"))
    broke(state, "a", LOST)
    assert state.steps["a"].attempt == 2
    assert kinds(finish(state, "a", attempt=1)) == []
    assert state.steps["a"].status == "running"


def test_cancel_ends_open_steps_and_later_happenings_change_nothing():
    state, _ = begin(make_plan(DIAMOND, "a"))
    finish(state, "a")
    decision = decide(state, hp.CancelAsked(at=2.0, reason="enough"))
    assert kinds(decision) == ["step.cancelled", "step.cancelled", "execution.cancelled"]
    assert decide(state, hp.ExecutionLimit(at=9.0)).events == []


def test_step_limit_times_out_the_step_and_applies_its_policy():
    state, _ = begin(make_plan(DIAMOND, "a", b={"timeout_s": 5.0, "on_error": "skip"}))
    finish(state, "a")
    decision = decide(state, hp.StepLimit(at=6.0, step="b"))
    assert kinds(decision) == ["step.timed_out"]
    assert state.steps["b"].error.type == "StepTimeout"
    assert released(finish(state, "c")) == ["d"]


def test_execution_limit_keeps_partial_state():
    state, _ = begin(make_plan(DIAMOND, "a"))
    finish(state, "a", result="kept")
    decide(state, hp.ExecutionLimit(at=3600.0))
    assert state.status == "timed_out" and state.steps["a"].result == "kept"


def test_max_parallel_holds_back_ready_nodes_in_canonical_order():
    plan = make_plan(
        {"a": ["d", "c", "b"], "b": [], "c": [], "d": []}, "a", settings=Settings(max_parallel=2)
    )
    state, _ = begin(plan)
    assert released(finish(state, "a")) == ["b", "c"]
    assert released(finish(state, "b")) == ["d"]


def test_new_owner_tries_lost_attempts_again_and_releases_what_was_ready():
    plan = make_plan(DIAMOND, "a")
    state, first = begin(plan)
    events = first.events + finish(state, "a").events + finish(state, "b").events
    adopted = fold(ExecutionState(plan, "exec_1"), events)
    decision = decide(adopted, hp.TakenOver(at=9.0))
    assert kinds(decision) == ["step.retrying", "step.started"]
    assert decision.commands == [Dispatch("c", 2, 2, 0)]
    assert released(finish(adopted, "c")) == ["d"]


def test_new_owner_concludes_when_only_the_end_was_missing():
    plan = make_plan({"a": []}, "a")
    state, first = begin(plan)
    events = first.events + finish(state, "a").events
    adopted = fold(ExecutionState(plan, "exec_1"), events)
    assert decide(adopted, hp.TakenOver(at=9.0)).commands == [Conclude()]


def test_events_survive_the_journal_encoding():
    state, first = begin(make_plan(DIAMOND, "a"))
    call = ev.ModelCall("s", "p", "m", ev.Usage(1, 2, 3, True), 0.25)
    events = [
        *first.events,
        *finish(state, "a", result={"x": [1, None]}, calls=(call,)).events,
        *broke(state, "b", FLAKY, jitter=0.1).events,
        *decide(state, hp.CancelAsked(at=2.0)).events,
    ]
    assert [ev.decode(ev.encode(event)) for event in events] == events


def test_backoff_stays_within_its_bound_however_often_it_was_tried():
    state, _ = begin(make_plan({"a": []}, "a", a={"retry": Retry(max_s=0.2, multiplier=10.0)}))
    pauses = []
    refused = ev.ErrorInfo("ConnectionFailed", "no", retryable=True, uncounted=True)
    for attempt in range(1, 500):
        decision = broke(state, "a", refused, jitter=0.5)
        pauses.append(decision.events[0].delay_s)
        decide(state, hp.Due(at=1.0, step="a", attempt=attempt))
    assert set(pauses) == {0.1}


def test_wide_fan_that_is_held_back_is_decided_in_linear_time():
    leaves = [f"n{number}" for number in range(20_000)]
    plan = make_plan({"a": []}, "a")
    edges = tuple(PlanEdge(number, 0, number + 1) for number in range(len(leaves)))
    made = tuple(
        msgspec.structs.replace(
            plan.nodes[0], index=edge.target, rank=edge.target, id=leaf, incoming=(edge.index,)
        )
        for leaf, edge in zip(leaves, edges, strict=True)
    )
    first = msgspec.structs.replace(plan.nodes[0], outgoing=tuple(edge.index for edge in edges))
    plan = msgspec.structs.replace(
        plan, nodes=(first, *made), edges=edges, order=tuple(range(len(made) + 1)), ids={}
    )
    state, _ = begin(plan)
    began = time.process_time()
    decision = finish(state, "a")
    assert len(released(decision)) == plan.settings.max_parallel
    assert time.process_time() - began < 3
