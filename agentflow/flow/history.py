"""Looks into the journals of executions, for Flow: their steps, what a node saw, how two differ."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from agentflow.errors import InvalidInput, NotFound
from agentflow.execution.events import Event

if TYPE_CHECKING:
    from agentflow.engine.inspection import Folding
    from agentflow.engine.plans import Plans
    from agentflow.execution.journal import ExecutionRecord
    from agentflow.execution.state import ExecutionState
    from agentflow.plan.plan import Plan
    from agentflow.store.tenant import TenantStore

Json = Any


class StepPage(msgspec.Struct, frozen=True):
    """Steps in canonical order; ``total`` counts all, ``next_cursor`` is None on the last page."""

    steps: tuple[dict[str, Json], ...]
    total: int
    next_cursor: str | None = None


class History:
    """What the journals of one tenant's executions tell. Cheap: make one per request."""

    def __init__(self, store: TenantStore, plans: Plans) -> None:
        self._store, self._plans = store, plans

    async def plan(self, execution_id: str) -> Plan:
        """The plan that an execution follows. Raises NotFound."""
        return (await self.document(execution_id))[1]

    async def events(self, execution_id: str, after: int = 0) -> AsyncIterator[Event]:
        """Its committed events with a greater seq, in order, read page by page."""
        while recorded := await self._store.events(execution_id, after):
            for entry in recorded:
                yield entry.event
            after = recorded[-1].seq

    async def document(self, execution_id: str) -> tuple[dict[str, Json], Plan]:
        """The normalised workflow that an execution follows, and its plan. Raises NotFound."""
        content_hash = await self._store.content_hash(execution_id)
        spec = await self._store.spec(content_hash)
        return spec, self._plans.of(content_hash, spec)

    async def whole(self, execution_id: str) -> tuple[Folding, list[Event]]:
        """What every step saw, and how each ended: its last terminal event. Raises NotFound."""
        ends: dict[str, Event] = {}
        folding = await self._look(execution_id, lambda key: True, ends=ends)
        return folding, list(ends.values())

    async def fold(self, execution_id: str) -> ExecutionState:
        """An execution as its journal tells it, behind its last snapshot. Raises NotFound."""
        from agentflow.engine.snapshots import last_state
        from agentflow.execution.fold import apply

        state = await last_state(self._store, await self.plan(execution_id), execution_id)
        async for event in self.events(execution_id, state.seq):
            apply(state, event)
            state.touched.clear()
        return state

    async def record(self, row: ExecutionRecord) -> ExecutionRecord:
        """An open execution with what its journal says so far: its partial state and steps."""
        from agentflow.engine.outcome import steps_of
        from agentflow.execution.views import cost, executed, final_state, tokens

        state = await self.fold(row.id)
        steps = executed(state)
        return msgspec.structs.replace(
            row,
            final_state=final_state(state),
            tokens_used=tokens(steps),
            cost=cost(steps),
            nodes_executed=len({step.node for step in steps}),
            steps=steps_of(state),
        )

    async def steps(
        self, execution_id: str, limit: int = 50, cursor: str | None = None
    ) -> StepPage:
        """A page of its steps with what each saw and made, its attempts and its usage.

        Raises NotFound, InvalidInput (a cursor that is not one of ours).
        """
        from agentflow.engine.inspection import details
        from agentflow.execution.views import all_steps

        if cursor is not None and not (cursor.isascii() and cursor.isdecimal()):
            raise InvalidInput("cursor must be the next_cursor of an earlier page")
        begin = int(cursor or 0)
        every = all_steps(await self.fold(execution_id))
        keys = [step.key for step in every[begin : begin + limit]]
        seen = await self._look(execution_id, frozenset(keys).__contains__)
        end = begin + len(keys)
        following = str(end) if end < len(every) else None
        return StepPage(tuple(details(seen, keys)), len(every), following)

    async def step(self, execution_id: str, key: str) -> dict[str, Json]:
        """One step in full. Raises NotFound."""
        from agentflow.engine.inspection import details
        from agentflow.execution.views import all_steps

        seen = await self._look(execution_id, key.__eq__)
        if key not in {found.key for found in all_steps(seen.state)}:
            raise NotFound("Step not found")
        return details(seen, [key])[0]

    async def state(self, execution_id: str, at_node: str | None = None) -> dict[str, Json]:
        """``{execution_id, step, state}``: the state as it stands, or as a node (in its newest step, or
        a step named by its key) saw it. Raises NotFound."""
        from agentflow.execution.keys import node_id_of
        from agentflow.execution.views import final_state

        if at_node is None:
            found = final_state(await self.fold(execution_id))
            return {"execution_id": execution_id, "step": None, "state": found}
        plan = await self.plan(execution_id)
        if node_id_of(at_node) not in plan.ids:
            raise NotFound(f"The workflow of this execution has no node {node_id_of(at_node)!r}")
        seen = await self._look(execution_id, lambda key: at_node in (key, node_id_of(key)))
        if seen.newest is None:
            raise NotFound(f"{at_node!r} has not begun in this execution, so it has seen no state")
        state = seen.seen[seen.newest]
        return {"execution_id": execution_id, "step": seen.newest, "state": state}

    async def diff(self, a: str, b: str) -> dict[str, Json]:
        """How execution b differs from a, step by step, as they stand. Raises NotFound."""
        from agentflow.engine.inspection import compared

        foldings = [await self._look(each, lambda key: False, made_by_all=True) for each in (a, b)]
        return compared(*foldings)

    async def _look(
        self,
        execution_id: str,
        wanted: Callable[[str], bool],
        made_by_all: bool = False,
        ends: dict[str, Event] | None = None,
    ) -> Folding:
        """Folds the journal page by page. ``ends`` is filled with the last terminal event of each step."""
        from agentflow.engine.inspection import Folding
        from agentflow.execution.events import TERMINAL_STEP
        from agentflow.execution.state import ExecutionState

        state = ExecutionState(await self.plan(execution_id), execution_id)
        folding = Folding(state, wanted, made_by_all)
        async for event in self.events(execution_id):
            folding.take(event)
            if ends is not None and isinstance(event, TERMINAL_STEP):
                ends[event.step] = event
        return folding
