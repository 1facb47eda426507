"""What a coordinator tells a replica of the API, at the coordinator's end of it."""

from __future__ import annotations

import asyncio

from agentflow.distributed.feeds import Ended, Feed, unpack
from agentflow.engine.stream import TokenDelta
from agentflow.errors import StoreUnavailable


class Source:
    """What an engine yields of one execution: as long as it is fed."""

    def __init__(self):
        self.queue = asyncio.Queue()
        self.closed = asyncio.Event()

    async def items(self):
        try:
            while (each := await self.queue.get()) is not None:
                if isinstance(each, Exception):
                    raise each
                yield [TokenDelta("a", 1, 0, each)]
        finally:
            self.closed.set()


async def heard(batches, count):
    """The next so many things that are told: ``(key, text or the end)``."""
    found = []
    async with asyncio.timeout(5):
        while len(found) < count:
            for key, told in unpack(await anext(batches)):
                found.append((key, told if isinstance(told, Ended) else told[0].text))
    return found


async def test_feed_says_first_that_it_is_there():
    batches = Feed().batches()
    assert unpack(await anext(batches)) == []
    await batches.aclose()


async def test_feed_carries_everything_that_came_together_in_one_batch():
    feed, sources = Feed(), [Source() for _ in range(50)]
    batches = feed.batches()
    await anext(batches)
    for key, source in enumerate(sources):
        source.queue.put_nowait(f"of {key}")
        feed.open(key, source.items())
    async with asyncio.timeout(5):
        told = unpack(await anext(batches))
    assert [(key, each[0].text) for key, each in told] == [(key, f"of {key}") for key in range(50)]
    await batches.aclose()


async def test_feed_tells_the_end_after_everything_before_it():
    feed, source = Feed(), Source()
    batches = feed.batches()
    feed.open(7, source.items())
    for each in ("one", "two", None):
        source.queue.put_nowait(each)
    assert await heard(batches, 3) == [(7, "one"), (7, "two"), (7, Ended())]
    await batches.aclose()


async def test_feed_tells_why_it_ended():
    feed, away, broken = Feed(), Source(), Source()
    batches = feed.batches()
    feed.open(1, away.items())
    away.queue.put_nowait(StoreUnavailable("away"))
    [(_, told)] = await heard(batches, 1)
    assert isinstance(told.error, StoreUnavailable) and told.error.message == "away"
    feed.open(2, broken.items())
    broken.queue.put_nowait(KeyError("what"))
    [(_, told)] = await heard(batches, 1)
    assert isinstance(told.error, StoreUnavailable) and "KeyError" in told.error.message
    await batches.aclose()


async def test_feed_listens_no_more_to_what_is_closed_and_says_nothing_of_it():
    feed, left, kept = Feed(), Source(), Source()
    batches = feed.batches()
    feed.open(1, left.items())
    feed.open(2, kept.items())
    left.queue.put_nowait("heard")
    assert await heard(batches, 1) == [(1, "heard")]
    feed.close(1)
    feed.close(1)
    async with asyncio.timeout(5):
        await left.closed.wait()
    kept.queue.put_nowait("still")
    assert await heard(batches, 1) == [(2, "still")]
    await batches.aclose()


async def test_feed_ends_what_it_listens_to_with_its_reader():
    feed, source = Feed(), Source()
    batches = feed.batches()
    feed.open(1, source.items())
    source.queue.put_nowait("one")
    await heard(batches, 1)
    await batches.aclose()
    async with asyncio.timeout(5):
        await source.closed.wait()


async def test_feed_ends_by_itself_only_when_nothing_is_watched():
    feed, source = Feed(idle_s=0.01), Source()
    batches = feed.batches()
    await anext(batches)
    feed.open(1, source.items())
    waiting = asyncio.ensure_future(anext(batches))
    done, _ = await asyncio.wait([waiting], timeout=0.1)
    assert not done
    source.queue.put_nowait(None)
    async with asyncio.timeout(5):
        assert unpack(await waiting) == [(1, Ended())]
        assert await anext(batches, None) is None
