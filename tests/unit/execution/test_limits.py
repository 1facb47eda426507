"""What bounds an execution that would go on for ever."""

from __future__ import annotations

import msgspec

from tests.unit.execution.machine import Machine, plan_of


def test_journal_that_grows_without_end_fails_with_event_limit():
    plan = plan_of({"a": "b", "b": "b end"}, inline="a b", settings={"max_iterations": 1000})
    settings = msgspec.structs.replace(plan.settings, max_events=50)
    machine = Machine(msgspec.structs.replace(plan, settings=settings), {"b": "b"}).accept()
    assert machine.state.status == "failed"
    assert machine.state.error is not None and machine.state.error.type == "EventLimit"
    assert machine.kinds[-1] == "execution.failed" and len(machine.events) == 51
