"""Snapshots of long executions: made beside the journal, of what the journal holds and of nothing else.

One is made by folding on from the one before, in small pieces between which the loop does other work; so
it never runs ahead of what is durable, whatever the owner has under way. It is only a shortcut: whoever
cannot read one folds the journal from its beginning.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import pkgutil
from collections.abc import AsyncIterator, Sequence
from functools import cache
from pathlib import Path
from typing import Protocol

from agentflow.errors import StoreError, StoreUnavailable
from agentflow.execution import events, fold, joins, keys, loops, snapshot, state
from agentflow.execution.events import TERMINAL_EXECUTION
from agentflow.execution.fold import apply
from agentflow.execution.journal import Journal, Recorded, Snapshot
from agentflow.execution.snapshot import decoded, encoded, opened, sealed
from agentflow.execution.state import ExecutionState
from agentflow.plan import compile as compiling
from agentflow.plan import plan as planning
from agentflow.plan import topology
from agentflow.plan.plan import Plan
from agentflow.spec import gotos, graph

log = logging.getLogger(__name__)

EVERY = 1000
"""Events of an execution after which a snapshot is made."""
PAGE = 250
"""Events that are folded without a pause."""
LARGEST = 64_000_000
"""Bytes; of a state that takes more no snapshot is made."""
REST = 3
"""After a snapshot the next one waits so many times as long as that one took."""

_SOURCES = (
    *(events, fold, joins, keys, loops, snapshot, state),
    *(compiling, planning, topology, gotos, graph),
)


@cache
def _version() -> bytes:
    """A digest of all that says what a state is and what an event does to it."""
    found = hashlib.sha256()
    for module in _SOURCES:
        file = Path(str(module.__file__)).name
        found.update(pkgutil.get_data(str(module.__package__), file) or b"")
    return found.digest()


def format_of(plan: Plan) -> str:
    """What a snapshot of an execution of this plan is called: whoever calls it the same can read it."""
    return hashlib.sha256(_version() + plan.content_hash.encode()).hexdigest()[:32]


class Kept(Protocol):
    """Where snapshots are: the journal, or the store as one tenant sees it."""

    async def snapshot(self, execution_id: str, format: str) -> Snapshot | None:
        """See execution.journal.Journal."""
        ...


async def last_state(kept: Kept, plan: Plan, execution_id: str) -> ExecutionState:
    """The state of the execution's last snapshot; that before the first event where there is none, or
    none that can be read. Raises StoreUnavailable."""
    state = ExecutionState(plan, execution_id)
    try:
        found = await kept.snapshot(execution_id, format_of(plan))
        if found is None:
            return state
        for told in decoded(plan, execution_id, opened(found.content)):
            state = told
            await asyncio.sleep(0)
        if state.seq == found.seq:
            return state
        reason = f"It is said to be of event {found.seq} and is of event {state.seq}"
    except StoreUnavailable:
        raise
    except StoreError as error:
        reason = error.message
    log.warning("snapshot_ignored", extra={"execution_id": execution_id, "reason": reason})
    return ExecutionState(plan, execution_id)


async def fold_on(
    journal: Journal, state: ExecutionState, until: float = math.inf
) -> AsyncIterator[ExecutionState]:
    """Fold on what the journal holds, page by page, at least as far as event ``until``: the state after
    each page. Raises StoreUnavailable."""
    while state.seq < until and (
        recorded := await journal.read(state.execution_id, state.seq, PAGE)
    ):
        for entry in recorded:
            apply(state, entry.event)
        state.touched.clear()  # whoever goes on looks at every join anew
        yield state
        if len(recorded) < PAGE:
            return


class Snapshots:
    """One coordinator's; a listener. One is made at a time, by :meth:`make`. ``every``: events of an
    execution after which there is to be another."""

    def __init__(self, journal: Journal, every: int = EVERY) -> None:
        self._journal = journal
        self._every = every
        self._made: dict[str, int] = {}
        self._due: dict[str, tuple[Plan, int]] = {}
        self._rest_until = 0.0
        self.nudged = asyncio.Event()
        """Set when there is something to make that was not there before."""

    def on_events(
        self, plan: Plan, tenant: str, execution_id: str, recorded: Sequence[Recorded]
    ) -> None:
        """See execution.listener.Listener."""
        last = recorded[-1]
        if isinstance(last.event, TERMINAL_EXECUTION):
            self._forget(execution_id)
        elif last.seq - self._made.get(execution_id, 0) >= self._every:
            self._made.setdefault(execution_id, 0)
            if execution_id not in self._due:
                self.nudged.set()
            self._due[execution_id] = plan, last.seq

    def on_adopted(self, plan: Plan, tenant: str, execution_id: str) -> None:
        """See execution.listener.Listener."""

    def on_released(self, plan: Plan, tenant: str, execution_id: str) -> None:
        """See execution.listener.Listener."""
        self._forget(execution_id)

    async def make(self) -> None:
        """Make the snapshots that are due. Raises StoreUnavailable."""
        loop = asyncio.get_running_loop()
        while self._due and loop.time() >= self._rest_until:
            execution_id = next(iter(self._due))
            plan, last = self._due.pop(execution_id)
            began = loop.time()
            seq = await self._make(plan, execution_id, last)
            if seq is None:
                self._forget(execution_id)
            elif execution_id in self._made:  # it may have ended meanwhile
                self._made[execution_id] = seq
            self._rest_until = loop.time() + REST * (loop.time() - began)

    async def _make(self, plan: Plan, execution_id: str, last: int) -> int | None:
        """The last event up to which nothing more is to be done: a snapshot was made of it, if it was
        time and if the execution is still ours. None: the execution is over."""
        state = await last_state(self._journal, plan, execution_id)
        before = state.seq
        async for _ in fold_on(self._journal, state, last):
            await asyncio.sleep(0)
        if state.over:
            return None
        if state.seq - before < self._every:
            return before
        lines, size = [], 0
        for line in encoded(state):
            lines.append(line)
            size += len(line)
            if size > LARGEST:
                log.warning("snapshot_too_large", extra={"execution_id": execution_id})
                return state.seq
            await asyncio.sleep(0)
        running = [step for step in state.steps.values() if step.status == "running"]
        made = Snapshot(
            execution_id=execution_id,
            seq=state.seq,
            format=format_of(plan),
            content=sealed(lines),
            running=tuple((step.key, step.generation) for step in running),
        )
        await self._journal.keep_snapshot(made)
        return state.seq

    def _forget(self, execution_id: str) -> None:
        self._made.pop(execution_id, None)
        self._due.pop(execution_id, None)
