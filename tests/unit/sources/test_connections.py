"""Shared connections."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from agentflow.errors import ConnectionFailed, NotSupported
from agentflow.plan.plan import PlanSource
from agentflow.sources.base import Source
from agentflow.sources.connections import Connections, SourceSpec


class Line:
    """A connection that tells whether it is open."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.closed = asyncio.Event()

    async def close(self) -> None:
        self.closed.set()


class Exchange:
    """Opens lines, as slowly as its gate; the first ``failures`` openings fail."""

    def __init__(self, failures: int = 0) -> None:
        self.lines: list[Line] = []
        self.openings = 0
        self.failures = failures
        self.gate = asyncio.Event()
        self.gate.set()

    async def open(self, source: SourceSpec) -> Source:
        self.openings += 1
        await self.gate.wait()
        if self.openings <= self.failures:
            raise ConnectionFailed("no line")
        self.lines.append(Line(source.config))
        return self.lines[-1]


def spec(id: str = "a", provider: str = "x", **config: Any) -> PlanSource:
    return PlanSource(id, "llm", provider, config)


async def test_equal_configurations_share_one_connection() -> None:
    exchange = Exchange()
    connections = Connections({"x": exchange.open})
    exchange.gate.clear()
    opening = asyncio.gather(*(connections.open(spec(n=1, m=2), "t1") for _ in range(5)))
    await asyncio.sleep(0)
    exchange.gate.set()
    await opening
    await connections.open(spec("other-id", m=2, n=1), "t1")
    assert exchange.openings == 1
    await connections.close()
    assert exchange.lines[0].closed.is_set()


async def test_equal_ids_never_mix() -> None:
    exchange = Exchange()
    connections = Connections({"x": exchange.open, "y": exchange.open})
    first: Any = await connections.open(spec(n=1), "t1")
    second: Any = await connections.open(spec(n=2), "t1")
    await connections.open(spec(n=1), "t2")
    await connections.open(spec(n=1, provider="y"), "t1")
    assert exchange.openings == 4
    assert (first.config, second.config) == ({"n": 1}, {"n": 2})
    await connections.close()


async def test_longest_unused_is_closed_but_none_that_is_held() -> None:
    exchange = Exchange()
    connections = Connections({"x": exchange.open}, capacity=2)
    held = await connections.open(spec(n=0), "t")
    for n in (1, 2, 3):
        await connections.open(spec(n=n), "t")
    gc.collect()
    async with asyncio.timeout(5):
        await exchange.lines[1].closed.wait()
        await exchange.lines[2].closed.wait()
    assert not exchange.lines[0].closed.is_set() and connections.open_count == 2
    del held
    gc.collect()
    await connections.open(spec(n=4), "t")
    async with asyncio.timeout(5):
        await exchange.lines[0].closed.wait()
    await connections.close()


async def test_failed_opening_is_tried_again() -> None:
    exchange = Exchange(failures=1)
    connections = Connections({"x": exchange.open})
    with pytest.raises(ConnectionFailed):
        await connections.open(spec(), "t")
    assert connections.open_count == 0
    await connections.open(spec(), "t")
    assert exchange.openings == 2
    await connections.close()


async def test_cancelled_waiter_does_not_stop_the_opening_for_others() -> None:
    exchange = Exchange()
    connections = Connections({"x": exchange.open})
    exchange.gate.clear()
    first, second = (asyncio.create_task(connections.open(spec(), "t")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    exchange.gate.set()
    await second
    assert first.cancelled() and exchange.openings == 1
    await connections.close()


async def test_unknown_provider_is_not_supported() -> None:
    with pytest.raises(NotSupported, match="'z'"):
        await Connections({}).open(spec(provider="z"), "t")
