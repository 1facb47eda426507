"""Submissions that travel together: each hears of itself, and who gave up in time is not brought."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from agentflow.distributed.acceptance import LARGE, TOGETHER, UNDER_WAY, Line, Told
from agentflow.errors import Conflict, NotSupported, StoreUnavailable
from agentflow.execution.journal import Outcome, Submission

TENANT = "ten_1"


def submission(name: str, text: str = "") -> Submission:
    return Submission(
        execution_id=f"exec_{name}",
        tenant=TENANT,
        content_hash="hash",
        spec={},
        initial_state={"text": text},
    )


class Coordinator:
    """What is called; answers once ``open`` is set. ``refused``: what it says to which execution."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.called = asyncio.Event()
        self.open = asyncio.Event()
        self.refused: dict[str, Told] = {}
        self.there = True

    async def __call__(self, contents: Sequence[bytes]) -> Sequence[Told] | None:
        names = [
            msgspec.json.decode(each)["execution_id"].removeprefix("exec_") for each in contents
        ]
        self.calls.append(names)
        self.called.set()
        await self.open.wait()
        return [self.refused.get(name) for name in names] if self.there else None


async def held() -> tuple[Line, Coordinator, list[asyncio.Task]]:
    """A line all of whose places are taken by calls that are under way."""
    coordinator = Coordinator()
    line = Line(coordinator)
    under_way = []
    for number in range(UNDER_WAY):
        under_way.append(asyncio.create_task(line.bring(submission(f"first{number}"))))
        coordinator.called.clear()
        await asyncio.wait_for(coordinator.called.wait(), 10)
    return line, coordinator, under_way


async def test_what_comes_while_calls_are_under_way_leaves_together():
    line, coordinator, under_way = await held()
    waiting = [asyncio.create_task(line.bring(submission(f"n{n}"))) for n in range(TOGETHER + 5)]
    await asyncio.sleep(0)
    coordinator.open.set()
    assert await asyncio.gather(*under_way, *waiting) == [(True, None)] * (UNDER_WAY + TOGETHER + 5)
    assert sorted(map(len, coordinator.calls)) == sorted([1] * UNDER_WAY + [TOGETHER, 5])


async def test_each_hears_of_its_own_submission():
    outcome = Outcome(status="completed", final_state={"a": 1})
    line, coordinator, _ = await held()
    coordinator.refused = {
        "taken": Conflict("exists"),
        "odd": NotSupported("no"),
        "over": msgspec.json.encode(outcome),
    }
    names = ("taken", "good", "odd", "over")
    waiting = [asyncio.create_task(line.bring(submission(name))) for name in names]
    await asyncio.sleep(0)
    coordinator.open.set()
    taken, good, odd, over = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(taken, Conflict)
    assert isinstance(odd, NotSupported)
    assert good == (True, None)
    assert over == (True, outcome)


async def test_who_gave_up_before_the_call_is_not_brought():
    line, coordinator, _ = await held()
    stays = asyncio.create_task(line.bring(submission("stays")))
    goes = asyncio.create_task(line.bring(submission("goes")))
    await asyncio.sleep(0)
    goes.cancel()
    await asyncio.wait({goes})
    coordinator.open.set()
    assert await stays == (True, None)
    assert coordinator.calls[-1] == ["stays"]


async def test_nothing_is_called_when_all_gave_up():
    line, coordinator, under_way = await held()
    goes = asyncio.create_task(line.bring(submission("goes")))
    await asyncio.sleep(0)
    goes.cancel()
    await asyncio.wait({goes})
    coordinator.open.set()
    await asyncio.gather(*under_way)
    assert await line.bring(submission("later")) == (True, None)
    assert [call for call in coordinator.calls if "goes" in call] == []


async def test_who_gives_up_takes_nobody_else_with_him():
    line, coordinator, under_way = await held()
    under_way[0].cancel()
    await asyncio.wait({under_way[0]})
    coordinator.open.set()
    assert await asyncio.gather(*under_way[1:]) == [(True, None)] * (UNDER_WAY - 1)


async def test_large_one_leaves_alone_and_at_once():
    line, coordinator, _ = await held()
    large = asyncio.create_task(line.bring(submission("large", "x" * LARGE)))
    coordinator.called.clear()
    await asyncio.wait_for(coordinator.called.wait(), 10)
    assert coordinator.calls[-1] == ["large"]
    coordinator.open.set()
    assert await large == (True, None)


async def test_coordinator_that_is_not_open_yet_is_told_to_all():
    line, coordinator, under_way = await held()
    coordinator.there = False
    coordinator.open.set()
    assert await asyncio.gather(*under_way) == [(False, None)] * UNDER_WAY


async def test_call_that_fails_fails_for_all_that_it_brought():
    async def call(contents: Sequence[bytes]) -> Sequence[Told]:
        raise StoreUnavailable()

    line = Line(call)
    found = await asyncio.gather(
        *(line.bring(submission(f"n{n}")) for n in range(3)), return_exceptions=True
    )
    assert [type(each) for each in found] == [StoreUnavailable] * 3
    with pytest.raises(StoreUnavailable):
        await line.bring(submission("again"))
