"""Decisions as a whole: how long they take, when all is over, how far a journal may grow."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from agentflow.execution.turn import Conclude
from tests.unit.execution.machine import HUMAN, Machine, map_node, plan_of

WIDE = " ".join(f"n{number}" for number in range(5_000))


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def test_wide_fan_that_is_held_back_is_decided_in_linear_time():
    plan = plan_of({"a": WIDE, **dict.fromkeys(WIDE.split(), "")})
    machine = Machine(plan).accept()
    assert seconds(lambda: machine.finish("a")) < 1
    assert len(machine.dispatched) == 1 + plan.settings.max_parallel


def test_wide_race_is_decided_in_linear_time():
    links = {"a": WIDE, **dict.fromkeys(WIDE.split(), "j"), "j": ""}
    plan = plan_of(links, j={"join": "first_success"}, settings={"max_parallel": 10})
    machine = Machine(plan).accept().finish("a")
    assert seconds(lambda: machine.finish("n0")) < 1
    assert machine.open == ["j"] and len(machine.of("step.cancelled")) == 4_999


def test_map_of_ten_thousand_items_is_decided_in_linear_time():
    machine = Machine(plan_of({"m": ""}, m=map_node()), items={"m": 10_000}).accept()

    def work() -> None:
        for index in range(10_000):
            machine.finish(f"m[{index}]", result=index)

    assert seconds(work) < 4
    assert machine.state.steps["m"].result == list(range(10_000))


def test_conclusion_is_asked_for_once_when_every_step_is_over():
    machine = Machine(plan_of({"a": "b", "b": ""})).accept().finish("a")
    assert Conclude() not in machine.commands
    assert machine.finish("b").commands.count(Conclude()) == 1


def test_journal_that_grows_without_end_fails_the_execution():
    plan = plan_of({"a": "a x", "x": ""}, inline="a", settings={"max_iterations": 10_000})
    settings = msgspec.structs.replace(plan.settings, max_events=1_000)
    plan = msgspec.structs.replace(plan, settings=settings)
    machine = Machine(plan, {"a": "a"}).accept()
    assert machine.state.error is not None and machine.state.error.type == "EventLimit"
    assert 1_000 <= len(machine.events) <= 1_010


def test_conclusion_waits_for_what_waits():
    machine = Machine(plan_of({"h": ""}, h=HUMAN)).accept()
    assert Conclude() not in machine.commands and machine.state.status == "waiting"
