"""What a state lets go of in a long execution nobody can see any more."""

from __future__ import annotations

from random import Random

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from agentflow.execution import events as ev
from agentflow.execution.views import final_state, view
from tests.soak import cases
from tests.unit.execution.machine import Machine, map_node, plan_of
from tests.unit.execution.plans import draw_plan
from tests.unit.execution.runs import Incidents, Run, Script

chances = st.integers(0, 2**32).map(Random)
quick = settings(deadline=None, phases=[Phase.generate])


class Compared(Run):
    """Compares what each step sees with what it would see had nothing been let go of."""

    def _see(self, command):
        super()._see(command)
        if "[" not in command.step:
            node = self.plan.nodes[command.node]
            assert view(self.state, node) == self.with_everything(lambda: view(self.state, node))

    def _look(self, decision, was_over):
        super()._look(decision, was_over)
        assert final_state(self.state) == self.with_everything(lambda: final_state(self.state))

    def with_everything(self, look):
        """What is seen when each step has what its completion recorded, and no view is remembered."""
        state = self.state
        ends = {e.step: e for e in self.events if isinstance(e, ev.StepCompleted)}
        before = {key: (step.result, step.delta) for key, step in state.steps.items()}
        known, state.known = state.known, {}
        for key, end in ends.items():
            if key in state.steps and state.steps[key].status == "completed":
                state.steps[key].result, state.steps[key].delta = end.result, end.delta
        try:
            return look()
        finally:
            state.known = known
            for key, (result, delta) in before.items():
                state.steps[key].result, state.steps[key].delta = result, delta


@settings(quick, max_examples=cases(60))
@given(chances)
def test_nothing_that_can_still_be_seen_is_let_go_of(chance):
    plan = draw_plan(chance, races=True)
    script = Script(plan, chance.randrange(10**6), tame=False)
    Incidents(Compared(plan, script, chance.randrange).accept(), chance).to_the_end()


def loop(count: int) -> Machine:
    """A loop of two nodes after so many iterations."""
    links = {"a": "b", "b": "a x", "x": ""}
    machine = Machine(plan_of(links, settings={"max_iterations": count + 1})).accept()
    for n in range(1, count + 1):
        machine.finish(f"a@{n}", result="r" * 100, delta={"text": f"of {n}"})
        machine.finish(f"b@{n}", "a", result="r" * 100, delta={"other": n})
    return machine


def test_results_of_former_iterations_are_let_go_of():
    state = loop(50).state
    held = [key for key, step in state.steps.items() if step.result is not None or step.delta]
    assert held == ["a@50", "b@50"]
    assert [step.key for step in state.kept[0]] == ["a@50", "a@51"]
    assert not any(step.past for key, step in state.steps.items() if key != "a@51")
    assert final_state(state)["text"] == "of 50" and final_state(state)["other"] == 50


def test_iteration_that_did_not_complete_keeps_what_was_written_before():
    links = {"a": "b c", "b": "d", "c": "d", "d": "a x", "x": ""}
    machine = Machine(plan_of(links)).accept()
    machine.finish("a@1", "b").finish("b@1", result=1, delta={"text": "kept"}).finish("d@1", "a")
    machine.finish("a@2", "c").finish("c@2").finish("d@2", "a")
    assert machine.state.steps["b@1"].result == 1
    assert final_state(machine.state)["text"] == "kept"


def test_values_that_add_up_are_kept():
    links = {"a": "a x", "x": ""}
    fields = {"all": {"type": "list", "merge": "concat", "default": []}}
    machine = Machine(plan_of(links, state=fields)).accept()
    for n in range(1, 5):
        machine.finish(f"a@{n}", "a", result=n, delta={"all": [n], "last": n})
    assert machine.state.steps["a@2"].delta == {"all": [2]}
    assert final_state(machine.state)["all"] == [1, 2, 3, 4]


def test_items_of_a_map_step_that_is_complete_keep_no_results():
    plan = plan_of({"m": "x", "x": ""}, m=map_node())
    machine = Machine(plan, items={"m": 3}).accept()
    for index in range(3):
        machine.finish(f"m[{index}]", result="r" * 10)
    assert machine.state.steps["m"].result == ["r" * 10] * 3
    assert [step.result for step in machine.state.items["m"].steps.values()] == [None] * 3
