"""The process ends at every point between two effects of the engine, and another coordinator goes on.

The points: before and after each commit, each attempt's dispatch, and each report. From such a point on
nothing of the first engine takes effect: its appends hang, what it sends is lost, what is reported to it
is not heard.
"""

from __future__ import annotations

import asyncio
import itertools
import json

import pytest

from agentflow.execution import events as ev
from agentflow.flow import open_nodes
from agentflow.testing import MemoryJournal, MemoryStore, ScriptedWorkers, memory_engine
from tests.crash.test_resume_from_every_prefix import (
    DIAMOND,
    EXAMPLES,
    FAILING,
    NAMES,
    ROUTED,
    answer,
    comparable,
    complete,
    example_answer,
    llm,
    resume_from_every_prefix,
    submission,
    until_over,
)

PAYING = {
    **DIAMOND,
    "nodes": [
        llm("deep", "{left_text}", effects="once", on_error="continue")
        if node["id"] == "deep"
        else node
        for node in DIAMOND["nodes"]
    ],
}
"""The diamond with a step of effects once in the middle."""


COMMIT_TURNS = 5
"""How long a commit takes, in turns of the loop: work that may run ahead of it does."""


class Fuse:
    """Counts points and blows at one of them; ``blown`` stays set from then on."""

    def __init__(self, at: int | None) -> None:
        self.count = 0
        self.blown = asyncio.Event()
        self._at = at

    def dead(self) -> bool:
        """A point: whether the process has ended here, or before."""
        self.count += 1
        if self.count == self._at:
            self.blown.set()
        return self.blown.is_set()


class DyingJournal(MemoryJournal):
    def __init__(self, store: MemoryStore, fuse: Fuse) -> None:
        super().__init__(store)
        self._fuse = fuse

    async def append(self, batch):
        if self._fuse.dead():
            await asyncio.Event().wait()
        for _ in range(COMMIT_TURNS):
            await asyncio.sleep(0)
        await super().append(batch)
        if self._fuse.dead():
            await asyncio.Event().wait()


class DyingWorkers(ScriptedWorkers):
    def __init__(self, reply, fuse: Fuse) -> None:
        super().__init__(reply)
        self._fuse = fuse

    def dispatch(self, attempts):
        for attempt in attempts:
            if not self._fuse.dead():
                super().dispatch([attempt])
                self._fuse.dead()

    def report(self, report):
        if not self._fuse.dead():
            super().report(report)
            self._fuse.dead()


async def die_at(store: MemoryStore, asked, reply, at: int | None) -> tuple[DyingWorkers, bool]:
    """Execute until the fuse blows, or to the end; whether it did blow."""
    fuse = Fuse(at)
    workers = DyingWorkers(reply, fuse)
    journal = DyingJournal(store, fuse)
    engine = memory_engine(store, workers, open_nodes(), journal=journal)
    await engine.start()
    accepting = asyncio.create_task(engine.accept(asked))
    ending = asyncio.create_task(until_over(store, engine, asked))
    blowing = asyncio.create_task(fuse.blown.wait())
    await asyncio.wait({ending, blowing}, return_when=asyncio.FIRST_COMPLETED)
    reached = fuse.blown.is_set()
    fuse.blown.set()
    ending.cancel()
    await engine.close()
    await asyncio.gather(accepting, ending, blowing, return_exceptions=True)
    return workers, reached


async def every_point(asked, reply) -> tuple[int, set[int]]:
    """Die at each point in turn, go on elsewhere, and compare; how many points there are, and at how
    many of them a step was under way whose result was lost."""
    whole = MemoryStore()
    await die_at(whole, asked, reply, None)
    expected = comparable(whole, asked.execution_id)
    relaxed = asked.spec["settings"].get("durability") == "relaxed"
    once = {node["id"] for node in asked.spec["nodes"] if node.get("effects") == "once"}
    repeated: set[int] = set()
    for point in itertools.count(1):
        store = MemoryStore()
        first, reached = await die_at(store, asked, reply, point)
        if not reached:
            assert comparable(store, asked.execution_id) == expected
            return point - 1, repeated
        if asked.execution_id not in store.submissions:
            assert first.calls == [], "something left before the acceptance was committed"
            continue
        committed = list(store.events[asked.execution_id])
        begun = {event.step for event in committed if isinstance(event, ev.StepStarted)}
        done = {event.step for event in committed if isinstance(event, ev.TERMINAL_STEP)}
        called = [attempt.step for attempt in first.calls]
        must_be_known = {key for key in called if not relaxed or key in once}
        assert must_be_known <= begun, f"point {point}: called before its start was committed"
        if asked.execution_id in store.outcomes:
            assert comparable(store, asked.execution_id) == expected
            continue
        second = await complete(store, asked, accept=False, reply=reply)
        again = [attempt.step for attempt in second.calls]
        assert not done & set(again), f"point {point}: a committed step was done again"
        assert sum(key in once for key in (*called, *again)) <= 1, f"point {point}"
        if set(called) & set(again):
            repeated.add(point)
        outcome = store.outcomes[asked.execution_id]
        errors = {error["type"] for error in outcome.final_state["errors"]}
        if "UnknownOutcome" in errors:
            assert outcome.status == "completed" and once & begun - done
        else:
            assert comparable(store, asked.execution_id) == expected, f"point {point}"
    raise AssertionError


@pytest.mark.parametrize("durability", ["strict", "relaxed"])
@pytest.mark.parametrize(
    "document", [DIAMOND, ROUTED, FAILING, PAYING], ids=["diamond", "routed", "failing", "paying"]
)
async def test_execution_goes_on_to_the_same_end_from_every_point_between_two_effects(
    document, durability
):
    asked = submission({**document, "settings": {"durability": durability}})
    points, repeated = await every_point(asked, answer)
    print(f"{points} of {points} points, {len(repeated)} with a call in flight repeated")
    assert points >= 8 and repeated


@pytest.mark.parametrize("durability", ["strict", "relaxed"])
@pytest.mark.parametrize("name", NAMES)
async def test_example_goes_on_to_the_same_end_from_every_point_between_two_effects(
    name, durability
):
    document = json.loads((EXAMPLES / f"{name}.json").read_text())
    document["settings"] = {**document.get("settings", {}), "durability": durability}
    state = json.loads((EXAMPLES / f"{name}.input.json").read_text())
    points, repeated = await every_point(submission(document, state), example_answer)
    print(f"{name}: {points} of {points} points, {len(repeated)} with a call in flight repeated")
    assert points >= 8 and repeated


@pytest.mark.parametrize(
    "document", [DIAMOND, ROUTED, FAILING], ids=["diamond", "routed", "failing"]
)
async def test_relaxed_execution_resumes_to_the_same_end_from_every_prefix_of_its_journal(document):
    asked = submission({**document, "settings": {"durability": "relaxed"}})
    await resume_from_every_prefix(asked, answer)


async def test_execution_without_durability_is_lost_at_every_point_before_its_end():
    asked = submission({**DIAMOND, "settings": {"durability": "none"}})
    for point in itertools.count(1):
        store = MemoryStore()
        first, reached = await die_at(store, asked, answer, point)
        if not reached:
            break
        if asked.execution_id not in store.submissions:
            assert first.calls == []
        elif asked.execution_id in store.outcomes:
            assert store.outcomes[asked.execution_id].status == "completed"
        else:
            second = await complete(store, asked, accept=False)
            assert second.calls == []
            assert store.outcomes[asked.execution_id].error["type"] == "ExecutionLost"
    print(f"{point - 1} of {point - 1} points")
    assert point > 10
