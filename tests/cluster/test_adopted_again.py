"""A coordinator that dropped an execution and takes it over itself: what it was told once is told again."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from agentflow.distributed.workers import ORPHAN_S
from agentflow.engine.workers import Done
from tests.cluster.conftest import Gate, Inbox, attempt, described

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


@pytest.mark.skipif(not os.environ.get("AGENTFLOW_SOAK"), reason="it is kept half a minute")
async def test_report_that_no_owner_takes_holds_up_no_others_for_ever(
    workers: Any, inbox: Inbox
) -> None:
    """As when the journal refused what it led to: its worker lets go of it, and of all behind it."""
    inbox.keeps = True
    refused = attempt("echo")
    workers.dispatch([refused])
    await inbox.end(refused)
    workers.leave([refused.id])
    inbox.keeps, most = False, 0
    async with asyncio.timeout(ORPHAN_S + 10):
        while True:
            other = attempt("echo")
            workers.dispatch([other])
            end = await inbox.end(other)
            kept = (await described(end.worker.pool))["kept"]
            if most > 2 and kept <= 1:  # an acknowledgement leaves with the next attempts
                return
            most = max(most, kept)
            await asyncio.sleep(0.5)
