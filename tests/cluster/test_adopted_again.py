"""A coordinator that dropped an execution and takes it over itself: what it was told once is told again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentflow.engine.workers import Done
from tests.cluster.conftest import Gate, Inbox, attempt

pytestmark = pytest.mark.cluster


async def test_report_that_was_not_taken_in_is_sent_again_when_it_is_adopted(
    workers: Any, inbox: Inbox, gate: Gate
) -> None:
    inbox.keeps = True
    made = attempt("gate", port=gate.port)
    workers.dispatch([made])
    await gate.arrival(made.step)
    gate.tell(made.step, "done")
    await inbox.end(made)
    workers.leave([made.id])
    inbox.reports.clear()
    assert await workers.adopt([made]) == {made.id}
    end = await inbox.end(made)
    assert isinstance(end, Done) and end.result == "done"
    workers.acknowledge([made.id])
    other = attempt("gate", port=gate.port)
    workers.dispatch([other])
    await gate.arrival(other.step)
    gate.tell(other.step, "more")
    assert isinstance(await inbox.end(other), Done)
    workers.acknowledge([other.id])
    await asyncio.sleep(0)
