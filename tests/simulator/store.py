"""The database of a simulated world: the rules of the journal's statements, one transaction at a time.

Every method is one transaction, applied at one moment of the world's time by the world's clock, which
is the only one that leases are judged by.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from agentflow.errors import Conflict, FencedOut, StoreUnavailable
from agentflow.execution import events as ev
from agentflow.execution.journal import (
    Append,
    Claimed,
    Command,
    Outcome,
    Recorded,
    Snapshot,
    Submission,
)

Json = Any
STRIKES = 3
TRIED_S = 10.0
LONG_OWNED_S = 600.0
AHEAD_S = 2.0
CANCELLED = "sim"
"""The reason that callers give."""
BURIED = float("-inf")


class Entry(msgspec.Struct, frozen=True):
    """An event in the journal, and who wrote it."""

    owner: str
    epoch: int
    event: ev.Event


class Row(msgspec.Struct):
    """An execution's row. ``owner`` is empty when it was released."""

    submission: Submission
    owner: str
    epoch: int
    owned_at: float
    strikes: int = 0
    resting: bool = False
    wake_at: float | None = None
    quarantined: bool = False
    outcome: Outcome | None = None

    @property
    def open(self) -> bool:
        return self.outcome is None and not self.quarantined


class Lease(msgspec.Struct):
    """A coordinator's row."""

    epoch: int
    until: float


class SimStore:
    """What outlives every coordinator. ``on_commit`` sees each append just after it was applied;
    ``fenced`` false leaves out every check of who may write."""

    def __init__(
        self,
        now: Callable[[], float],
        lease_s: float,
        on_commit: Callable[[str, int, Append], None],
        fenced: bool = True,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.clock = clock or now
        self.now, self.lease_s, self.fenced = now, lease_s, fenced
        self._on_commit = on_commit
        self.leases: dict[str, Lease] = {}
        self.rows: dict[str, Row] = {}
        self.journal: dict[str, list[Entry]] = {}
        self.snapshots: dict[str, Snapshot] = {}
        self.waiting: dict[int, Command] = {}
        self.waits: dict[tuple[str, str], str] = {}
        self.fenced_writes = 0
        self._commands = 0

    def events(self, key: str) -> list[ev.Event]:
        return [entry.event for entry in self.journal.get(key, ())]

    def cancel(self, key: str) -> bool:
        """A caller's cancellation; False when the execution is over or unknown."""
        row = self.rows.get(key)
        if row is None or row.outcome is not None:
            return False
        if row.quarantined:
            row.quarantined, row.strikes = False, 0
        self._ask(key, "cancel")
        return True

    def answer(self, key: str, wait: str, data: Json) -> bool:
        """A caller's answer; False when the wait takes none any more."""
        row = self.rows.get(key)
        if row is None or row.outcome is not None or self.waits.get((key, wait)) != "open":
            return False
        self.waits[key, wait] = "answered"
        self._commands += 1
        self.waiting[self._commands] = Command(
            id=self._commands,
            execution_id=key,
            kind="signal",
            payload={"data": data},
            wait=wait,
            by="sim",
            at=self.clock(),
        )
        return True

    def retry(self, key: str) -> bool:
        """An operator lets an ended execution go on; False when there is nothing to go on with."""
        row = self.rows.get(key)
        if row is None or row.outcome is None or row.outcome.status == "completed":
            return False
        row.outcome, row.owner, row.strikes = None, "", 0
        self._ask(key, "retry")
        return True

    def free(self, key: str) -> None:
        """An operator gives a quarantined execution back."""
        row = self.rows[key]
        row.quarantined, row.strikes, row.owner = False, 0, ""
        self._ask(key, "release")

    def _ask(self, key: str, kind: str) -> None:
        asked = [(command.execution_id, command.kind) for command in self.waiting.values()]
        if (key, kind) not in asked:
            self._commands += 1
            self.waiting[self._commands] = Command(
                id=self._commands, execution_id=key, kind=kind, payload={"reason": CANCELLED}
            )

    def enter(self, me: str, former: int, unknown: bool) -> int:
        """``former``: this coordinator's epoch as it knows it; ``unknown``: an enter was not answered."""
        lease = self.leases.setdefault(me, Lease(0, BURIED))
        lease.epoch, lease.until = lease.epoch + 1, self.now() + self.lease_s
        newest = lease.epoch - 1 if unknown else former
        for row in self.rows.values():
            if former and row.open and row.owner == me and former <= row.epoch <= newest:
                row.epoch = lease.epoch
        return lease.epoch

    def renew(self, me: str, epoch: int) -> bool:
        if not self._holds(me, epoch):
            return False
        self.leases[me].until = self.now() + self.lease_s
        return True

    def bury(self, me: str) -> list[str]:
        buried = []
        for name, lease in self.leases.items():
            if name != me and BURIED < lease.until < self.now():
                lease.epoch, lease.until = lease.epoch + 1, BURIED
                buried.append(name)
        return buried

    def append(self, me: str, epoch: int, batch: Sequence[Append]) -> None:
        batch = sorted(batch, key=lambda append: (append.execution_id, append.first_seq))
        if self.fenced:
            self._check(me, epoch, batch)
        for append in batch:
            key = append.execution_id
            if append.accept is not None and key not in self.rows:
                self.rows[key] = Row(append.accept, me, epoch, self.now())
            entries = self.journal.setdefault(key, [])
            entries += [Entry(me, epoch, event) for event in append.events]
            row = self.rows[key]
            if any(isinstance(event, ev.StepCompleted) for event in append.events):
                row.strikes = 0
            if append.outcome is not None:
                row.outcome = append.outcome
                for command in [c for c in self.waiting.values() if c.execution_id == key]:
                    del self.waiting[command.id]
            for answered in append.commands:
                self.waiting.pop(answered, None)
            self._note_waits(row, append)
            self._on_commit(me, epoch, append)

    def _note_waits(self, row: Row, append: Append) -> None:
        key = append.execution_id
        for event in append.events:
            if isinstance(event, ev.StepWaiting):
                self.waits[key, event.wait_id] = "open"
            elif isinstance(event, ev.ExecutionWaiting):
                row.resting, row.wake_at = True, append.wake_at
            elif isinstance(event, ev.ExecutionResumed):
                row.resting = False
        for wait in append.closes:
            if self.waits.get((key, wait)) == "open":
                self.waits[key, wait] = "closed"

    def _check(self, me: str, epoch: int, batch: Sequence[Append]) -> None:
        """What the database refuses, before anything of the transaction is seen."""
        accepted = {append.execution_id for append in batch if append.accept}
        if accepted & self.rows.keys():
            raise Conflict("An execution with this id exists already")
        length: dict[str, int] = {}
        for append in batch:
            key = append.execution_id
            row = self.rows.get(key)
            mine = key in accepted or (row is not None and (row.owner, row.epoch) == (me, epoch))
            if not mine or not self._holds(me, epoch):
                self.fenced_writes += 1
                raise FencedOut()
            before = length.setdefault(key, len(self.journal.get(key, ())))
            if append.events and append.first_seq <= before:
                raise StoreUnavailable("The journal holds events that were sent before")
            length[key] = before + len(append.events)
            if any(answered not in self.waiting for answered in append.commands):
                self.fenced_writes += 1
                raise FencedOut()

    def _holds(self, me: str, epoch: int) -> bool:
        lease = self.leases.get(me)
        return lease is not None and lease.epoch == epoch and lease.until > self.now()

    def last_seq(self, keys: Sequence[str]) -> dict[str, int]:
        return {key: len(self.journal.get(key, ())) for key in keys}

    def owned(self, me: str, epoch: int, keys: Sequence[str]) -> set[str]:
        if not self._holds(me, epoch):
            return set()
        rows = self.rows
        return {k for k in keys if k in rows and (rows[k].owner, rows[k].epoch) == (me, epoch)}

    def read(self, key: str, after: int, limit: int | None = None) -> list[Recorded]:
        entries = self.journal.get(key, [])[after:][:limit]
        return [Recorded(after + place, entry.event) for place, entry in enumerate(entries, 1)]

    def snapshot(self, key: str, format: str) -> Snapshot | None:
        found = self.snapshots.get(key)
        return found if found is not None and found.format == format else None

    def keep_snapshot(self, me: str, epoch: int, snapshot: Snapshot) -> bool:
        row = self.rows[snapshot.execution_id]
        if not self._holds(me, epoch) or (row.owner, row.epoch) != (me, epoch):
            return False
        self.snapshots[snapshot.execution_id] = snapshot
        return True

    def claim(self, me: str, epoch: int, limit: int) -> list[Claimed]:
        claimed: list[Claimed] = []
        if not self._holds(me, epoch):
            return claimed
        for key, row in self.rows.items():
            if len(claimed) == limit or not row.open or self._alive(row):
                continue
            if row.resting and not self._wakes(key, row):
                row.owner, row.epoch = "", 0
                continue
            long_owned = row.owned_at < self.now() - LONG_OWNED_S
            strikes = 0 if long_owned else row.strikes
            strikes += bool(row.owner) and self._running(key)
            if strikes == STRIKES - 1 and self._tries(me, epoch):
                continue
            row.strikes, row.owned_at = strikes, self.now()
            row.quarantined = strikes >= STRIKES
            row.owner, row.epoch = ("", 0) if row.quarantined else (me, epoch)
            if not row.quarantined:
                claimed.append(_claimed(row))
        return claimed

    def _tries(self, me: str, epoch: int) -> bool:
        """Whether a coordinator has a suspect already."""
        return any(
            row.open
            and (row.owner, row.epoch, row.strikes) == (me, epoch, STRIKES - 1)
            and row.owned_at > self.now() - TRIED_S
            for row in self.rows.values()
        )

    def _wakes(self, key: str, row: Row) -> bool:
        """Whether an execution that waits is to go on."""
        asked = any(command.execution_id == key for command in self.waiting.values())
        return asked or (row.wake_at is not None and row.wake_at <= self.clock() + AHEAD_S)

    def _alive(self, row: Row) -> bool:
        lease = self.leases.get(row.owner)
        return lease is not None and lease.epoch == row.epoch and lease.until > BURIED

    def _running(self, key: str) -> bool:
        """Whether an attempt runs, as the journal has it."""
        last = {}
        for entry in self.journal.get(key, ()):
            step = getattr(entry.event, "step", None)
            if step is not None and not isinstance(entry.event, ev.StepLate):
                last[step, getattr(entry.event, "generation", 0)] = entry.event
        return any(isinstance(event, ev.StepStarted) for event in last.values())

    def strays(self, me: str, epoch: int, known: Sequence[str], limit: int) -> list[Claimed]:
        ours = [
            row
            for key, row in self.rows.items()
            if row.open and (row.owner, row.epoch) == (me, epoch) and key not in known
        ]
        return [_claimed(row) for row in ours[:limit]]

    def commands(self, keys: Sequence[str]) -> list[Command]:
        return [command for command in self.waiting.values() if command.execution_id in keys]

    def expire(self, me: str, epoch: int, waits: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        """Close waits; those that had been answered before."""
        ours = self.owned(me, epoch, [key for key, _ in waits])
        if any(key not in ours for key, _ in waits):
            raise FencedOut()
        answered = {wait for wait in waits if self.waits.get(wait) == "answered"}
        self.waits.update((wait, "closed") for wait in waits if wait not in answered)
        return answered

    def park(self, me: str, epoch: int, rests: Sequence[tuple[str, float | None]]) -> list[str]:
        """Give up executions that wait; those that were."""
        ours = self.owned(me, epoch, [key for key, _ in rests])
        parked = [key for key in ours if self.rows[key].resting]
        for key in parked:
            row = self.rows[key]
            row.owner, row.epoch, row.wake_at = "", 0, dict(rests)[key]
        return sorted(parked)

    def release(self, me: str, epoch: int) -> None:
        lease = self.leases.get(me)
        if lease is not None and lease.epoch == epoch:
            lease.until = BURIED
        for row in self.rows.values():
            if row.open and (row.owner, row.epoch) == (me, epoch):
                row.owner, row.epoch = "", 0


def _claimed(row: Row) -> Claimed:
    asked = row.submission
    return Claimed(
        execution_id=asked.execution_id,
        tenant=asked.tenant,
        content_hash=asked.content_hash,
        spec=asked.spec,
        strikes=row.strikes,
    )
