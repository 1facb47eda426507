"""Random plans, random orders, every prefix: the same end, nothing completed done twice."""

from __future__ import annotations

from random import Random

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from agentflow.execution import events as ev
from agentflow.execution.fold import fold
from agentflow.execution.state import ExecutionState
from agentflow.execution.views import final_state
from agentflow.plan.plan import Plan
from tests.soak import cases
from tests.unit.execution.machine import facts
from tests.unit.execution.plans import draw_plan
from tests.unit.execution.runs import Incidents, Run, Script

chances = st.integers(0, 2**32).map(Random)
"""Drawn by seed: what a case does would grow, not shrink, with what Hypothesis takes away."""

quick = settings(deadline=None, phases=[Phase.generate])


def folded(plan: Plan, events: list[ev.Event]) -> ExecutionState:
    return fold(ExecutionState(plan, "exec_1"), events)


def tame(chance: Random) -> tuple[Plan, Script]:
    """A plan and a script that leave time no influence."""
    plan = draw_plan(chance, races=False)
    return plan, Script(plan, chance.randrange(10**6), tame=True)


def wild(chance: Random) -> Run:
    """An execution with races and incidents, at its end."""
    plan = draw_plan(chance, races=True)
    script = Script(plan, chance.randrange(10**6), tame=False)
    return Incidents(Run(plan, script, chance.randrange).accept(), chance).to_the_end()


def outcome(run: Run) -> dict[str, object]:
    """What must not depend on the order in which work ends."""
    state = run.state
    final = final_state(state)
    for name in ("execution_time", "metadata"):
        del final[name]
    final["errors"] = [{**error, "at": None} for error in final["errors"]]
    steps = {key: (step.status, step.result) for key, step in sorted(state.steps.items())}
    return {"status": state.status, "steps": steps, "final": final}


def views(run: Run) -> dict[str, object]:
    return {
        key: {**seen, "errors": [{**error, "at": None} for error in seen.get("errors", [])]}
        for key, seen in run.views.items()
    }


@settings(quick, max_examples=cases(150))
@given(chances)
def test_order_of_completion_changes_neither_the_end_nor_what_any_step_sees(chance):
    plan, script = tame(chance)
    first = Run(plan, script, lambda count: 0).accept().to_the_end()
    second = Run(plan, script, chance.randrange).accept().to_the_end()
    third = Run(plan, script, lambda count: count - 1).accept().to_the_end()
    assert first.state.status == "completed"
    assert outcome(first) == outcome(second) == outcome(third)
    assert views(first) == views(second) == views(third)


@settings(quick, max_examples=cases(25))
@given(chances)
def test_every_prefix_resumes_to_the_same_end_and_repeats_no_completed_step(chance):
    plan, script = tame(chance)
    whole = Run(plan, script, chance.randrange).accept().to_the_end()
    for length in range(1, len(whole.events) + 1):
        prefix = whole.events[:length]
        done = {event.step for event in prefix if isinstance(event, ev.TERMINAL_STEP)}
        heir = Run(plan, script, chance.randrange).adopt(prefix).to_the_end()
        assert _without_usage(outcome(heir)) == _without_usage(outcome(whole))
        assert not done & {key for key in heir.worked if key not in heir.state.items}


def _without_usage(found: dict[str, object]) -> dict[str, object]:
    """An attempt that was lost is paid for again; what was lost was never reported."""
    final = dict(found["final"])
    return {**found, "final": {k: v for k, v in final.items() if k not in ("tokens_used", "cost")}}


@settings(quick, max_examples=cases(200))
@given(chances)
def test_every_execution_ends_whatever_comes_between(chance):
    run = wild(chance)
    assert run.state.over, run.state.status


@settings(quick, max_examples=cases(100))
@given(chances)
def test_each_step_has_one_terminal_event_in_each_generation(chance):
    run = wild(chance)
    ends = [(e.step, e.generation) for e in run.events if isinstance(e, ev.TERMINAL_STEP)]
    assert sorted(ends) == sorted(set(ends))
    last = {key: step.generation for key, step in run.state.steps.items()}
    assert set(last.items()) <= set(ends)


@settings(quick, max_examples=cases(60))
@given(chances)
def test_every_prefix_of_a_wild_journal_resumes_to_an_end(chance):
    run = wild(chance)
    for length in range(1, len(run.events), 1 + len(run.events) // 25):
        prefix = run.events[:length]
        heir = Run(run.plan, run.script, chance.randrange).adopt(prefix).to_the_end()
        assert heir.state.over
        assert facts(folded(run.plan, heir.events)) == facts(heir.state)


@settings(quick, max_examples=cases(150))
@given(chances)
def test_state_that_decisions_leave_is_the_fold_of_their_events(chance):
    run = wild(chance)
    assert facts(folded(run.plan, run.events)) == facts(run.state)
    assert run.state.seq == len(run.events)


@settings(quick, max_examples=cases(40))
@given(chances)
def test_folding_in_two_parts_is_folding_once(chance):
    run = wild(chance)
    once = facts(run.state)
    for cut in range(0, len(run.events), 1 + len(run.events) // 15):
        first = folded(run.plan, run.events[:cut])
        assert facts(fold(first, run.events[cut:])) == once


@settings(quick, max_examples=cases(60))
@given(chances)
def test_events_survive_the_journal_encoding(chance):
    run = wild(chance)
    decoded = [ev.decode(ev.encode(event)) for event in run.events]
    assert decoded == run.events
    assert facts(folded(run.plan, decoded)) == facts(run.state)


def leading_only_to(plan: Plan, join: int) -> set[int]:
    """The nodes that can reach a join and nothing else, neither the end nor another iteration of a loop
    around it: the largest set that holds by its own definition."""
    loops = plan.nodes[join].loops
    if loops and plan.loops[loops[-1]].entry == join:
        loops = loops[:-1]
    kept = {
        node.index
        for node in plan.nodes
        if node.index != join and node.loops[: len(loops)] == loops and node.outgoing
    }
    kept -= set(plan.loops[plan.nodes[join].loops[-1]].members) if _heads(plan, join) else set()
    kept &= _upstream(plan, join)
    for _ in plan.nodes:
        for index in list(kept):
            edges = [plan.edges[edge] for edge in plan.nodes[index].outgoing]
            again = any(edge.back and edge.level in loops for edge in edges)
            if again or any(edge.target != join and edge.target not in kept for edge in edges):
                kept.discard(index)
    return kept


def _upstream(plan: Plan, join: int) -> set[int]:
    found = {join}
    for _ in plan.nodes:
        found |= {edge.source for edge in plan.edges if edge.target in found}
    return found


def _heads(plan: Plan, node: int) -> bool:
    loops = plan.nodes[node].loops
    return bool(loops) and plan.loops[loops[-1]].entry == node


@settings(quick, max_examples=cases(200))
@given(chances)
def test_branch_of_a_race_is_all_that_leads_only_to_its_join(chance):
    plan = draw_plan(chance, races=True)
    for node in plan.nodes:
        expected = leading_only_to(plan, node.index) if node.join == "first_success" else set()
        assert set(node.branch) == expected
        assert all(node.index in plan.nodes[other].races for other in node.branch)
