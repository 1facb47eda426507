"""The journal's contract: accept, append (fenced), read; enter, heartbeat, claim, release.

The rows of one execution are numbered by its single owner and committed in that order; after any crash
the durable rows are a gap-free prefix. Every write proves the owner's lease and epoch in the statement
that inserts, by the database's clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import msgspec

from agentflow.execution.events import Blob, Event

Json = Any

ExecutionStatus = Literal[
    "pending",
    "running",
    "waiting",
    "quarantined",
    "completed",
    "failed",
    "cancelled",
    "timed_out",
]


class Recorded(msgspec.Struct, frozen=True):
    """An event as it stands in the journal; ``seq`` counts from 1, gap-free."""

    seq: int
    event: Event


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """A request to execute: what the API hands to a coordinator. ``spec`` is the normalised spec.

    A fork says which execution it is ``forked_from``, and begins with the completions and skips that
    it takes over from it (``reused``).
    """

    execution_id: str
    tenant: str
    content_hash: str
    spec: dict[str, Json]
    initial_state: dict[str, Json] = {}
    metadata: dict[str, Json] = {}
    workflow_name: str | None = None
    priority: int = 3
    trace_id: str | None = None
    forked_from: str = ""
    reused: tuple[Event, ...] = ()


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How an execution ended: what its row keeps. Times in seconds since the epoch."""

    status: str
    final_state: dict[str, Json]
    output: Json = None
    error: dict[str, Json] | None = None
    tokens_used: int = 0
    cost: float = 0.0
    execution_time: float = 0.0
    nodes_executed: int = 0
    ended_at: float = 0.0
    steps: tuple[dict[str, Json], ...] = ()
    """Rows of the ``steps`` projection."""
    blobs: tuple[Blob, ...] = ()
    """Content that results refer to of which no event was written."""


class Append(msgspec.Struct, frozen=True, kw_only=True):
    """Consecutive events of one execution, written in one transaction with what belongs to them.

    ``accept``: creates the execution's row (and keeps its spec). ``outcome``: closes it.
    ``commands``: ids of the command rows that these events answer; they are deleted with the insert.
    ``closes``: names of the waits that end with these events. ``wake_at``: when an execution that waits
    after these events goes on by itself, in seconds since the epoch.
    """

    execution_id: str
    tenant: str
    first_seq: int
    events: tuple[Event, ...]
    accept: Submission | None = None
    outcome: Outcome | None = None
    commands: tuple[int, ...] = ()
    closes: tuple[str, ...] = ()
    wake_at: float | None = None


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """An execution that now belongs to the caller, with what is needed to fold and go on."""

    execution_id: str
    tenant: str
    content_hash: str
    spec: dict[str, Json]
    strikes: int = 0


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A caller's promise-by-insert (``cancel``, ``retry``, ``release``, ``signal``) that the owner turns
    into events. ``wait``: the wait that a signal or an answer is for, ``by`` whom it is from, ``at``
    when it was given (seconds since the epoch)."""

    id: int
    execution_id: str
    kind: str
    payload: dict[str, Json] = {}
    wait: str = ""
    by: str = ""
    at: float = 0.0


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The fold of the first ``seq`` events of an execution (execution.snapshot), a shortcut and nothing
    more. ``format`` names what wrote it: only the same can read it. ``running``: (step, generation) of
    the steps whose attempts are under way in it."""

    execution_id: str
    seq: int
    format: str
    content: bytes
    running: tuple[tuple[str, int], ...] = ()


class Journal(Protocol):
    """The durable truth, as one coordinator uses it. ``epoch`` is the fence."""

    async def enter(self) -> int:
        """Start, or return after a lapse: always a new epoch, which fences every former self."""
        ...

    async def append(self, batch: Sequence[Append]) -> None:
        """Commit all of it, or none.

        Raises FencedOut when the lease or one of the executions is no longer ours, Conflict when an
        accepted id exists already, StoreUnavailable when the database is away and nothing is known
        about the commit (call :meth:`last_seq` before sending again).
        """
        ...

    async def last_seq(self, execution_ids: Sequence[str]) -> dict[str, int]:
        """The last committed seq of each; 0 where there is none."""
        ...

    async def owned(self, execution_ids: Sequence[str]) -> set[str]:
        """Those of them that this coordinator, at its present epoch, still owns."""
        ...

    async def read(
        self, execution_id: str, after: int = 0, limit: int | None = None
    ) -> list[Recorded]:
        """The first ``limit`` committed events with a greater seq, in order; all unless it is given."""
        ...

    async def snapshot(self, execution_id: str, format: str) -> Snapshot | None:
        """The snapshot of an execution, if there is one of this format that is not ahead of its
        journal."""
        ...

    async def keep_snapshot(self, snapshot: Snapshot) -> bool:
        """Keep it in place of an older one, or of one of another format; whether it was kept. It is not
        where the execution is not ours, or not any more."""
        ...

    async def claim(self, limit: int) -> list[Claimed]:
        """Take over open executions whose owner is dead or released; of those that wait, only the ones
        that are to go on soon or that a command is for. Of those that two owners in a row died with, one
        at a time: it may have killed them."""
        ...

    async def strays(self, known: Sequence[str], limit: int) -> list[Claimed]:
        """Open executions that belong to the caller, without the known ones: a claim may have been
        committed without its answer."""
        ...

    async def commands(self, execution_ids: Sequence[str]) -> list[Command]:
        """Waiting commands for these executions, oldest first; without signals that are kept for a wait
        which has not begun."""
        ...

    async def expire(self, waits: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        """Close waits, given as (execution id, name), to further answers. Those of them that had been
        answered before: they are answered, not expired.

        Only of executions that are the caller's; raises FencedOut when the lease has ended.
        """
        ...

    async def park(self, rests: Sequence[tuple[str, float | None]]) -> None:
        """Give up executions that wait: from now on their rows alone wake them, at the given time
        (seconds since the epoch; None: never), or for a command."""
        ...

    async def release(self) -> None:
        """Give up every execution without a strike and end the lease (a drain)."""
        ...


class ExecutionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An execution's row, for those who ask. Times in seconds since the epoch, or None."""

    id: str
    tenant: str
    status: str
    workflow_name: str | None = None
    content_hash: str = ""
    initial_state: dict[str, Json] = {}
    final_state: dict[str, Json] | None = None
    output: Json = None
    error: dict[str, Json] | None = None
    metadata: dict[str, Json] = {}
    tokens_used: int = 0
    cost: float = 0.0
    execution_time: float = 0.0
    nodes_executed: int = 0
    priority: int = 3
    owner: str | None = None
    created_at: float = 0.0
    started_at: float | None = None
    completed_at: float | None = None
    steps: tuple[dict[str, Json], ...] = ()
    waits: tuple[dict[str, Json], ...] = ()
    """What it waits for at present."""

    @property
    def over(self) -> bool:
        """Whether the execution has ended (an operator's retry may reopen it)."""
        return self.status in ("completed", "failed", "cancelled", "timed_out")
