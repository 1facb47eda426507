"""Random plans, random completion orders, every prefix: the same end, nothing completed done twice."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from agentflow.execution import events as ev
from agentflow.execution import happenings as hp
from agentflow.execution.decide import Conclude, Dispatch, Evaluate, decide
from agentflow.execution.state import ExecutionState, fold
from agentflow.plan.plan import Plan
from tests.soak import cases
from tests.unit.execution.test_decide import make_plan


@st.composite
def plans(draw) -> tuple[Plan, dict[str, tuple[int, ...]]]:
    """A random DAG where every node is reachable, some inline, and the edges each node will take."""
    size = draw(st.integers(2, 9))
    names = [f"n{index}" for index in range(size)]
    links: dict[str, list[str]] = {name: [] for name in names}
    for index in range(1, size):
        parents = draw(st.sets(st.integers(0, index - 1), min_size=1, max_size=3))
        for parent in parents:
            links[names[parent]].append(names[index])
    inline = draw(st.sets(st.sampled_from(names)))
    plan = make_plan(links, "n0", **{name: {"placement": "inline"} for name in inline})
    takes = {
        node.id: tuple(edge for edge in node.outgoing if draw(st.integers(0, 3)))
        for node in plan.nodes
    }
    return plan, takes


class Run:
    """Drives the machine with made-up results, in an order that ``choose`` decides."""

    def __init__(self, plan, takes, choose) -> None:
        self.takes, self.choose = takes, choose
        self.state = ExecutionState(plan, "exec_1")
        self.events: list[ev.Event] = []
        self.worked: list[str] = []

    def start(self) -> None:
        self._loop(hp.Accepted(at=0.0, tenant="t", initial_state={}))

    def resume(self, events: list[ev.Event]) -> None:
        fold(self.state, events)
        if not self.state.over:
            self._loop(hp.TakenOver(at=0.0))

    def _loop(self, happening) -> None:
        waiting = [happening]
        while waiting:
            decision = decide(self.state, waiting.pop(self.choose(len(waiting))))
            self.events += decision.events
            for command in decision.commands:
                if isinstance(command, Evaluate | Dispatch):
                    self.worked.append(command.step)
                    waiting.append(self._result(command))
                elif isinstance(command, Conclude):
                    waiting.append(hp.Concluded(at=0.0))

    def _result(self, command) -> hp.Finished:
        inline = isinstance(command, Evaluate)
        return hp.Finished(
            at=0.0,
            step=command.step,
            attempt=1 if inline else command.attempt,
            taken=self.takes[command.step],
            result=f"result of {command.step}",
            inline=inline,
        )


def shape(state: ExecutionState):
    steps = {key: (step.status, step.result) for key, step in state.steps.items()}
    return state.status, steps, bytes(state.edges), state.unresolved, state.taken_in


@settings(max_examples=cases(200), deadline=None)
@given(plans(), st.randoms(use_true_random=False))
def test_completion_order_does_not_change_the_end(drawn, random):
    plan, takes = drawn
    first = Run(plan, takes, lambda count: 0)
    second = Run(plan, takes, random.randrange)
    first.start()
    second.start()
    assert first.state.status == "completed"
    assert shape(first.state) == shape(second.state)
    assert sorted(second.worked) == sorted(set(second.worked))


@settings(max_examples=cases(100), deadline=None)
@given(plans(), st.randoms(use_true_random=False))
def test_every_prefix_resumes_to_the_same_end_without_repeating_a_completed_step(drawn, random):
    plan, takes = drawn
    whole = Run(plan, takes, random.randrange)
    whole.start()
    for length in range(1, len(whole.events) + 1):
        prefix = whole.events[:length]
        done = {event.step for event in prefix if isinstance(event, ev.TERMINAL_STEP)}
        resumed = Run(plan, takes, random.randrange)
        resumed.resume(prefix)
        assert shape(resumed.state) == shape(whole.state)
        assert not done & set(resumed.worked)


@settings(max_examples=cases(100), deadline=None)
@given(plans(), st.randoms(use_true_random=False), st.integers(0, 100))
def test_folding_in_two_parts_is_folding_once(drawn, random, cut):
    plan, takes = drawn
    run = Run(plan, takes, random.randrange)
    run.start()
    once = fold(ExecutionState(plan, "exec_1"), run.events)
    twice = fold(fold(ExecutionState(plan, "exec_1"), run.events[:cut]), run.events[cut:])
    assert shape(once) == shape(twice) == shape(run.state)
    assert once.seq == len(run.events)


@settings(max_examples=cases(100), deadline=None)
@given(plans(), st.randoms(use_true_random=False))
def test_each_step_has_exactly_one_terminal_event(drawn, random):
    plan, takes = drawn
    run = Run(plan, takes, random.randrange)
    run.start()
    ends = [event.step for event in run.events if isinstance(event, ev.TERMINAL_STEP)]
    assert sorted(ends) == sorted(node.id for node in plan.nodes)
