"""Group commit: order, grouping, refusal one by one, and a commit whose fate is unknown."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from agentflow.engine.writer import MAX_EVENTS, Writer
from agentflow.errors import Conflict, FencedOut, StoreError, StoreUnavailable
from agentflow.execution.events import Event, ExecutionStarted, StepCompleted
from agentflow.execution.journal import Append, Recorded


def append(execution: str, first: int = 1, count: int = 1) -> Append:
    events = tuple(ExecutionStarted(at=float(number)) for number in range(count))
    return Append(execution_id=execution, tenant="t", first_seq=first, events=events)


class Journal:
    """A journal that records transactions and misbehaves as told."""

    def __init__(self) -> None:
        self.transactions: list[list[str]] = []
        self.rows: dict[str, int] = {}
        self.events: dict[str, list[Event]] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.away = 0
        self.commit_then_vanish = 0
        self.foreign: set[str] = set()
        self.lapsed: set[str] = set()
        self.taken: set[str] = set()
        self.broken: set[str] = set()
        self.slow: dict[str, asyncio.Event] = {}
        self.sent: list[int] = []
        self.flying: set[str] = set()

    async def append(self, batch: Sequence[Append]) -> None:
        self.sent.append(len(batch))
        await self.gate.wait()
        await self._last(batch)
        if self.away:
            self.away -= 1
            raise StoreUnavailable()
        names = {entry.execution_id for entry in batch}
        if names & self.broken:
            raise OverflowError("too large")
        if names & self.taken:
            raise Conflict()
        if names & self.foreign:
            raise FencedOut()
        for entry in batch:
            assert self.rows.get(entry.execution_id, 0) == entry.first_seq - 1
            self.rows[entry.execution_id] = entry.first_seq - 1 + len(entry.events)
            self.events.setdefault(entry.execution_id, []).extend(entry.events)
        self.transactions.append([entry.execution_id for entry in batch])
        if self.commit_then_vanish:
            self.commit_then_vanish -= 1
            raise StoreUnavailable()

    async def _last(self, batch: Sequence[Append]) -> None:
        """As long as the slowest execution in it takes; no execution may be in two transactions."""
        names = {entry.execution_id for entry in batch}
        assert not names & self.flying
        self.flying |= names
        for name in sorted(names & self.slow.keys()):
            await self.slow[name].wait()
        self.flying -= names

    async def last_seq(self, execution_ids: Sequence[str]) -> dict[str, int]:
        return {key: self.rows.get(key, 0) for key in execution_ids}

    async def read(
        self, execution_id: str, after: int = 0, limit: int | None = None
    ) -> list[Recorded]:
        events = self.events.get(execution_id, [])
        end = len(events) if limit is None else min(len(events), after + limit)
        return [Recorded(seq, events[seq - 1]) for seq in range(after + 1, end + 1)]

    async def owned(self, execution_ids: Sequence[str]) -> set[str]:
        return set(execution_ids) - self.foreign


class Harness:
    def __init__(self) -> None:
        self.journal = Journal()
        self.commits = 0
        self.settled: list[tuple[str, int, object]] = []
        self.regained = 0
        self.writer = Writer(self.journal, self._committed, self._regain)
        self.writer.start()

    def _committed(self) -> None:
        self.commits += 1

    async def _regain(self) -> None:
        self.regained += 1
        self.journal.foreign -= self.journal.lapsed

    def put(self, entry: Append) -> None:
        def settle(error: object) -> None:
            self.settled.append((entry.execution_id, entry.first_seq, error))

        self.writer.put(entry, settle)

    async def done(self) -> None:
        async with asyncio.timeout(10):
            await self.writer.flush()
        await self.writer.close()


async def test_what_gathers_during_a_commit_leaves_with_the_next_one():
    harness = Harness()
    harness.journal.gate.clear()
    harness.put(append("a", 1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for seq in range(2, 12):
        harness.put(append("a", seq))
    harness.journal.gate.set()
    await harness.done()
    assert [len(batch) for batch in harness.journal.transactions] == [1, 10]
    assert [seq for _, seq, error in harness.settled if error is None] == list(range(1, 12))


async def test_slow_transaction_holds_up_only_its_own_executions():
    harness = Harness()
    harness.journal.slow["a"] = asyncio.Event()
    harness.put(append("a", 1))
    await asyncio.sleep(0)
    harness.put(append("a", 2))
    harness.put(append("b", 1))
    async with asyncio.timeout(10):
        while "b" not in harness.journal.rows:
            await asyncio.sleep(0)
    assert harness.journal.transactions == [["b"]]
    harness.journal.slow["a"].set()
    await harness.done()
    assert harness.journal.transactions == [["b"], ["a"], ["a"]]


async def test_half_of_what_many_executions_gathered_is_under_way_with_the_other_half():
    harness = Harness()
    harness.journal.gate.clear()
    for number in range(64):
        harness.put(append(f"e{number}"))
    async with asyncio.timeout(10):
        while len(harness.journal.sent) < 2:
            await asyncio.sleep(0)
    assert harness.journal.sent == [32, 32]
    harness.journal.gate.set()
    await harness.done()
    assert len(harness.settled) == 64


async def test_what_one_execution_gathered_leaves_together():
    harness = Harness()
    for seq in range(1, 101):
        harness.put(append("a", seq))
    await harness.done()
    assert [len(batch) for batch in harness.journal.transactions] == [100]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=200), st.randoms())
async def test_every_execution_is_written_in_order_and_once_however_long_commits_take(
    order, chance
):
    harness = Harness()
    names = {f"e{number}" for number in order}
    harness.journal.slow = {name: asyncio.Event() for name in names if chance.random() < 0.5}
    last = dict.fromkeys(names, 0)
    for number in order:
        last[f"e{number}"] += 1
        harness.put(append(f"e{number}", last[f"e{number}"]))
        if chance.random() < 0.2:
            await asyncio.sleep(0)
        if harness.journal.slow and chance.random() < 0.1:
            chance.choice(list(harness.journal.slow.values())).set()
    for event in harness.journal.slow.values():
        event.set()
    await harness.done()
    assert harness.journal.rows == last
    for name in names:
        mine = [seq for who, seq, error in harness.settled if who == name and error is None]
        assert mine == list(range(1, last[name] + 1))


async def test_one_transaction_holds_at_most_the_limit_of_events():
    harness = Harness()
    for number in range(10):
        harness.put(append("a", number * 50 + 1, 50))
    await harness.done()
    assert all(len(batch) * 50 <= MAX_EVENTS for batch in harness.journal.transactions)
    assert harness.journal.rows["a"] == 500


async def test_one_transaction_holds_at_most_the_limit_of_bytes():
    harness = Harness()
    harness.journal.gate.clear()
    megabytes = (3, 3, 3, 20, 1, 1)
    for seq, size in enumerate(megabytes, 1):
        event = StepCompleted(at=1.0, step="s", result="x" * (size * 1_000_000))
        harness.put(Append(execution_id="a", tenant="t", first_seq=seq, events=(event,)))
    harness.journal.gate.set()
    await harness.done()
    assert [len(batch) for batch in harness.journal.transactions] == [2, 1, 1, 2]


async def test_append_larger_than_the_limit_still_leaves():
    harness = Harness()
    harness.put(append("a", 1, MAX_EVENTS * 3))
    await harness.done()
    assert harness.journal.rows["a"] == MAX_EVENTS * 3


async def test_database_that_is_away_is_waited_out():
    harness = Harness()
    harness.journal.away = 2
    harness.put(append("a"))
    await harness.done()
    assert harness.settled == [("a", 1, None)] and harness.writer.available


async def test_commit_of_unknown_fate_is_looked_up_and_not_sent_twice():
    harness = Harness()
    harness.journal.commit_then_vanish = 1
    harness.put(append("a", 1, 3))
    await harness.done()
    assert harness.settled == [("a", 1, None)]
    assert harness.journal.rows["a"] == 3 and len(harness.journal.transactions) == 1


async def test_only_the_fenced_execution_is_refused_when_a_batch_is():
    harness = Harness()
    harness.journal.gate.clear()
    names = [f"e{number}" for number in range(12)]
    harness.journal.foreign = {"e3", "e4"}
    for name in names:
        harness.put(append(name))
    harness.journal.gate.set()
    await harness.done()
    refused = {name for name, _, error in harness.settled if isinstance(error, FencedOut)}
    assert refused == {"e3", "e4"}
    assert set(harness.journal.rows) == set(names) - refused


async def test_only_the_conflicting_acceptance_is_refused():
    harness = Harness()
    harness.journal.taken = {"dup"}
    harness.journal.gate.clear()
    for name in ("dup", "x", "y", "z"):
        harness.put(append(name))
    harness.journal.gate.set()
    await harness.done()
    errors = {name: error for name, _, error in harness.settled}
    assert isinstance(errors.pop("dup"), Conflict) and set(errors.values()) == {None}


async def test_what_is_queued_is_refused_on_close():
    harness = Harness()
    harness.journal.gate.clear()
    harness.put(append("a", 1))
    await asyncio.sleep(0)
    harness.put(append("a", 2))
    await harness.writer.close()
    assert [type(error) for _, _, error in harness.settled] == [FencedOut, FencedOut]


async def test_lapsed_lease_is_regained_and_nothing_is_lost():
    harness = Harness()
    harness.journal.foreign, harness.journal.lapsed = {"a"}, {"a"}
    harness.put(append("a", 1))
    harness.put(append("a", 2))
    await harness.done()
    assert harness.regained == 1
    assert [error for _, _, error in harness.settled] == [None, None]


async def test_append_that_breaks_the_journal_is_refused_and_its_lane_goes_on():
    harness = Harness()
    harness.journal.gate.clear()
    harness.journal.broken = {"bad"}
    for name in ("bad", *(f"e{number}" for number in range(8))):
        harness.put(append(name))
    harness.journal.gate.set()
    await harness.writer.flush()
    for number in range(8):
        harness.put(append(f"later{number}"))
    await harness.done()
    errors = {name: error for name, _, error in harness.settled}
    assert isinstance(errors.pop("bad"), StoreError)
    assert len(errors) == 16 and set(errors.values()) == {None}


async def test_settling_that_fails_does_not_end_the_lane():
    harness = Harness()

    def settle(error: object) -> None:
        raise ZeroDivisionError

    harness.writer.put(append("a", 1), settle)
    harness.put(append("a", 2))
    await harness.done()
    assert harness.settled == [("a", 2, None)]


async def test_events_that_another_owner_wrote_in_the_meantime_are_never_taken_for_ours():
    harness = Harness()
    harness.journal.away = 1
    harness.journal.rows["a"] = 2
    harness.journal.events["a"] = [ExecutionStarted(at=99.0), ExecutionStarted(at=98.0)]
    harness.put(append("a", 1, 2))
    harness.put(append("a", 1, 3))
    await harness.done()
    assert [type(error) for _, _, error in harness.settled] == [FencedOut, FencedOut]


async def test_writer_is_available_again_once_the_database_answers_even_by_refusing():
    harness = Harness()
    harness.journal.away, harness.journal.taken = 1, {"dup"}
    harness.put(append("dup"))
    await harness.done()
    assert isinstance(harness.settled[0][2], Conflict) and harness.writer.available
