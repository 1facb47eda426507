"""A fold as bytes: what comes back is the same, goes on in the same way, and is refused when damaged."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from agentflow.errors import StoreError
from agentflow.execution import happenings as hp
from agentflow.execution.decide import decide
from agentflow.execution.fold import apply, fold
from agentflow.execution.snapshot import (
    NOTES,
    PIECE,
    StateLine,
    StepLine,
    decoded,
    encoded,
    opened,
    sealed,
)
from agentflow.execution.state import ExecutionState, Items, Step
from agentflow.execution.views import final_state
from agentflow.plan.plan import Plan
from tests.soak import cases
from tests.unit.execution.machine import Machine, facts, map_node, plan_of
from tests.unit.execution.plans import draw_plan
from tests.unit.execution.runs import Incidents, Run, Script

chances = st.integers(0, 2**32).map(Random)
quick = settings(deadline=None, phases=[Phase.generate])


def there_and_back(state: ExecutionState, plan: Plan | None = None) -> ExecutionState:
    content = sealed(list(encoded(state)))
    *_, whole = decoded(plan or state.plan, state.execution_id, opened(content))
    return whole


@settings(quick, max_examples=cases(25))
@given(chances)
def test_every_prefix_comes_back_the_same_and_goes_on_in_the_same_way(chance):
    plan = draw_plan(chance, races=True)
    script = Script(plan, chance.randrange(10**6), tame=False)
    whole = Incidents(Run(plan, script, chance.randrange).accept(), chance).to_the_end()
    state = ExecutionState(plan, "exec_1")
    for event in whole.events:
        copy = there_and_back(state)
        assert facts(copy) == facts(state)
        apply(copy, event)
        apply(state, event)
        assert facts(copy) == facts(state)
    assert final_state(there_and_back(state)) == final_state(state)


@settings(quick, max_examples=cases(25))
@given(chances)
def test_new_owner_decides_the_same_from_a_snapshot_as_from_the_journal(chance):
    plan = draw_plan(chance, races=True)
    script = Script(plan, chance.randrange(10**6), tame=False)
    whole = Incidents(Run(plan, script, chance.randrange).accept(), chance).to_the_end()
    cut = chance.randint(1, len(whole.events))
    length = chance.randint(cut, len(whole.events))
    copy = there_and_back(fold(ExecutionState(plan, "exec_1"), whole.events[:cut]))
    fold(copy, whole.events[cut:length])
    state = fold(ExecutionState(plan, "exec_1"), whole.events[:length])
    taken_over = hp.TakenOver(at=1e6, taken={key: script.taken(key) for key in state.steps})
    assert decide(copy, taken_over) == decide(state, taken_over)
    assert facts(copy) == facts(state)


def test_everything_that_is_folded_is_kept():
    """Whoever adds a field to the state decides here whether it is folded."""
    assert set(ExecutionState.__slots__) == (set(StateLine.__struct_fields__) | NOTES | {"visits"})
    assert set(Step.__slots__) == set(StepLine.__struct_fields__)
    assert set(Items.__slots__) == {"count", "steps", "open", "stopped", "handed", "held"}


def many() -> Machine:
    """More steps than stand on one line."""
    plan = plan_of({"a": "b", "b": ""}, a=map_node(max_concurrency=PIECE * 2))
    machine = Machine(plan, items={"a": PIECE + 10}).accept()
    for index in range(PIECE):
        machine.finish(f"a[{index}]", result={"n": index, "deep": [1.5, None, "ä"]})
    return machine


def test_long_state_comes_back_from_several_lines():
    state = many().folded()
    assert len(list(encoded(state))) == 3
    assert facts(there_and_back(state)) == facts(state)


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "line"])
def test_damaged_content_is_refused(damage):
    content = sealed(list(encoded(many().folded())))
    broken = {
        "cut": content[:-40],
        "changed": content[:-40] + b"x" + content[-39:],
        "empty": b"",
        "line": content.rpartition(b"\n")[0],
    }[damage]
    with pytest.raises(StoreError):
        opened(broken)


def test_lines_that_miss_steps_are_refused():
    lines = list(encoded(many().folded()))
    with pytest.raises(StoreError, match="steps"):
        list(decoded(many().plan, "exec_1", lines[:-1]))


def test_snapshot_of_another_plan_is_refused():
    lines = list(encoded(many().folded()))
    with pytest.raises(StoreError, match="another plan"):
        list(decoded(plan_of({"a": "b c", "b": "", "c": ""}), "exec_1", lines))
