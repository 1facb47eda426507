"""Attempts that outlive their coordinator: the next owner adopts them before it starts any."""

from __future__ import annotations

import asyncio

from agentflow.errors import FencedOut
from agentflow.flow import open_nodes
from agentflow.testing import MemoryJournal, MemoryStore, ScriptedWorkers, memory_engine
from tests.crash.test_resume_from_every_prefix import DIAMOND, answer, submission
from tests.engine.test_engine import ended, kinds, one
from tests.engine.test_faults import two


def gated(gate: asyncio.Event, begun: asyncio.Event):
    """Answers once the gate is open."""

    async def reply(attempt):
        begun.set()
        await gate.wait()
        return answer(attempt)

    return reply


class Fenced(MemoryJournal):
    """Once it is fenced out, nothing is its own, and there is nothing for it to claim."""

    fenced = False

    async def append(self, batch):
        try:
            await super().append(batch)
        except FencedOut:
            self.fenced = True
            raise

    async def owned(self, execution_ids):
        return set() if self.fenced else await super().owned(execution_ids)

    async def claim(self, limit):
        return [] if self.fenced else await super().claim(limit)

    async def strays(self, known, limit):
        return [] if self.fenced else await super().strays(known, limit)


async def test_running_attempt_is_adopted_and_not_made_again():
    store, asked = MemoryStore(), submission(one())
    gate, begun = asyncio.Event(), asyncio.Event()
    workers = ScriptedWorkers(gated(gate, begun), kept=True)
    first = memory_engine(store, workers, open_nodes())
    await first.start()
    await first.accept(asked)
    await begun.wait()
    await first.drain()
    second = memory_engine(store, workers, open_nodes())
    await second.start()
    while not workers.adopted:
        await asyncio.sleep(0)
    gate.set()
    outcome = await ended(store, asked.execution_id)
    await second.close()
    assert outcome.status == "completed"
    assert len(workers.calls) == 1 and workers.cancelled == []
    assert "step.retrying" not in kinds(store, asked.execution_id)


async def test_step_that_begins_before_the_workers_have_answered_is_not_made_again():
    """What is adopted may end, and release the next step, while its adoption is still under way."""
    store, asked = MemoryStore(), submission(two())
    first_goes_on, second_goes_on, begun = asyncio.Event(), asyncio.Event(), asyncio.Event()

    class Slow(ScriptedWorkers):
        async def adopt(self, attempts):
            found = await super().adopt(attempts)
            first_goes_on.set()
            while len(self.calls) < 2:
                await asyncio.sleep(0)
            return found

    async def reply(attempt):
        begun.set()
        await (first_goes_on if attempt.step == "a" else second_goes_on).wait()
        return answer(attempt)

    workers = Slow(reply, kept=True)
    first = memory_engine(store, workers, open_nodes())
    await first.start()
    await first.accept(asked)
    await begun.wait()
    await first.drain()
    adopted = Adopted()
    second = memory_engine(store, workers, open_nodes(), listeners=[adopted])
    await second.start()
    await adopted.once.wait()
    second_goes_on.set()
    outcome = await ended(store, asked.execution_id)
    await second.close()
    assert outcome.status == "completed"
    assert [call.step for call in workers.calls] == ["a", "b"]
    assert "step.retrying" not in kinds(store, asked.execution_id)


class Adopted:
    """Hears when an execution was taken over."""

    def __init__(self) -> None:
        self.once = asyncio.Event()

    def on_events(self, plan, tenant, execution_id, recorded):
        """Not listened to."""

    def on_adopted(self, plan, tenant, execution_id):
        self.once.set()

    def on_released(self, plan, tenant, execution_id):
        """Not listened to."""


async def test_result_that_nobody_heard_is_kept_for_the_next_owner():
    store, asked = MemoryStore(), submission(one())
    gate, begun = asyncio.Event(), asyncio.Event()
    workers = ScriptedWorkers(gated(gate, begun), kept=True)
    first = memory_engine(store, workers, open_nodes())
    await first.start()
    await first.accept(asked)
    await begun.wait()
    await first.drain()
    await first.close()
    gate.set()
    while not workers._unheard:
        await asyncio.sleep(0)
    second = memory_engine(store, workers, open_nodes())
    await second.start()
    outcome = await ended(store, asked.execution_id)
    await second.close()
    assert outcome.status == "completed" and len(workers.calls) == 1
    assert "step.retrying" not in kinds(store, asked.execution_id)


async def test_coordinator_that_is_fenced_out_leaves_its_attempts_to_the_next_owner():
    store, asked = MemoryStore(), submission(DIAMOND)
    gate, begun = asyncio.Event(), asyncio.Event()

    async def reply(attempt):
        if attempt.step == "right":
            begun.set()
            await gate.wait()
        return answer(attempt)

    workers = ScriptedWorkers(reply, kept=True)
    first = memory_engine(store, workers, open_nodes(), journal=Fenced(store, lose_owner_after=5))
    await first.start()
    await first.accept(asked)
    await begun.wait()
    second = memory_engine(store, workers, open_nodes())
    await second.start()
    while not workers.adopted:
        await asyncio.sleep(0)
    gate.set()
    outcome = await ended(store, asked.execution_id)
    await first.close()
    await second.close()
    assert outcome.status == "completed"
    assert [call.step for call in workers.calls].count("right") == 1


async def test_report_is_acknowledged_once_what_it_led_to_is_durable():
    store, asked = MemoryStore(), submission(one())
    workers = ScriptedWorkers(answer)
    engine = memory_engine(store, workers, open_nodes())
    await engine.start()
    await engine.accept(asked)
    await ended(store, asked.execution_id)
    while not workers.acknowledged:
        await asyncio.sleep(0)
    await engine.close()
    assert workers.acknowledged == [workers.calls[0].id]
    assert kinds(store, asked.execution_id)[-1] == "execution.completed"
