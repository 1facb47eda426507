"""Flow: what the API, the command line and notebooks use to submit, watch and cancel executions."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from agentflow.errors import (
    AgentFlowError,
    Conflict,
    InvalidInput,
    NotFound,
    NotSupported,
    SpecInvalid,
    StoreUnavailable,
    Unauthenticated,
)
from agentflow.execution.events import TERMINAL_EXECUTION
from agentflow.execution.journal import (
    ExecutionRecord,
    ExecutionStatus,
    Recorded,
    Submission,
)
from agentflow.ids import new_id
from agentflow.settings import Settings

if TYPE_CHECKING:
    from agentflow.access.model import Principal
    from agentflow.engine.door import Door
    from agentflow.engine.stream import StreamItem
    from agentflow.plan.plan import Plan
    from agentflow.spec.check import Checked
    from agentflow.store.notices import Outcomes
    from agentflow.store.pool import Pool
    from agentflow.store.tenant import ExecutionPage, TenantStore

Json = Any

SMALL_SPEC = 50
"""Nodes of a document that is checked and compiled on the event loop itself (some milliseconds)."""
FOLLOW_PAUSE_S = 0.2
"""Between two looks at the journal while an execution has no reachable owner."""


class Flow:
    """Submits, watches and cancels executions; one per process, safe for concurrent use."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        door: Door,
        outcomes: Outcomes,
        closers: Sequence[Callable[[], Any]],
    ) -> None:
        from agentflow.engine.plans import Plans

        self.settings = settings
        self._pool = pool
        self._door = door
        self._outcomes = outcomes
        self._closers = closers
        self._plans = Plans()
        self._health: tuple[float, dict[str, Json]] = (0.0, {})

    def check(self, document: Json, *, text: str | None = None) -> Checked:
        """Every problem of a workflow document at once; pure, no network, no credentials."""
        from agentflow.sources.prices import price_known

        return self._check(document, text=text, priced=price_known)

    def _check(self, document: Json, **options: Any) -> Checked:
        from agentflow.spec.check import check
        from agentflow.spec.environment import allowed_names

        return check(
            document,
            allowed_env=allowed_names(self.settings.source_env),
            present_env=frozenset(os.environ),
            **options,
        )

    def plan(self, document: Json) -> Plan:
        """The compiled form of a document. Raises SpecInvalid with every problem."""
        return self._compile(document)[1]

    def _compile(self, document: Json) -> tuple[dict[str, Json], Plan]:
        from agentflow.spec.models import content_hash

        checked = self._check(document)
        if checked.errors or checked.normalized is None:
            raise SpecInvalid(checked.errors)
        return checked.normalized, self._plans.of(
            content_hash(checked.normalized), checked.normalized
        )

    async def _compile_aside(self, document: Json) -> tuple[dict[str, Json], Plan]:
        """Compile without holding up the event loop: a large document goes to a thread."""
        nodes = document.get("nodes") if isinstance(document, dict) else None
        if isinstance(nodes, list) and len(nodes) > SMALL_SPEC:
            return await asyncio.to_thread(self._compile, document)
        return self._compile(document)

    async def submit(
        self,
        tenant: str,
        document: Json,
        *,
        initial_state: dict[str, Json] | None = None,
        metadata: dict[str, Json] | None = None,
        priority: int | None = None,
        trace_id: str | None = None,
    ) -> str:
        """Accept an execution and return its id: it is committed by then.

        Raises SpecInvalid, NotSupported, InvalidInput, StoreUnavailable (then nothing was accepted).
        """
        spec, plan = await self._compile_aside(document)
        if plan.unsupported:
            raise NotSupported("; ".join(plan.unsupported))
        initial_state, metadata = _as_json(initial_state), _as_json(metadata)
        _check_input(plan, spec, initial_state)
        submission = Submission(
            execution_id=new_id("exec"),
            tenant=tenant,
            content_hash=plan.content_hash,
            spec=spec,
            initial_state=initial_state,
            metadata=metadata,
            workflow_name=plan.name,
            priority=priority or plan.settings.priority,
            trace_id=trace_id,
        )
        await self._accept(submission)
        return submission.execution_id

    async def _accept(self, submission: Submission) -> None:
        """The door tries coordinators with the same id; an answer that got lost is looked up."""
        try:
            await self._door.accept(submission)
        except (Conflict, StoreUnavailable):
            store = self._store(submission.tenant)
            try:
                await store.execution(submission.execution_id)
            except NotFound:
                raise StoreUnavailable() from None

    async def get(self, tenant: str, execution_id: str) -> ExecutionRecord:
        """The execution as it stands, with its steps. Raises NotFound."""
        store = self._store(tenant)
        record = await store.execution(execution_id)
        if record.over:
            return record
        return await self._folded(store, record)

    async def _folded(self, store: TenantStore, record: ExecutionRecord) -> ExecutionRecord:
        """An open execution with what its journal says so far: its partial state and steps."""
        from agentflow.engine.outcome import steps_of
        from agentflow.execution.fold import apply
        from agentflow.execution.state import ExecutionState
        from agentflow.execution.views import cost, executed, final_state, tokens

        plan = self._plans.of(record.content_hash, await store.spec(record.content_hash))
        state = ExecutionState(plan, record.id)
        while recorded := await store.events(record.id, state.seq):
            for entry in recorded:
                apply(state, entry.event)
        steps = executed(state)
        return msgspec.structs.replace(
            record,
            final_state=final_state(state),
            tokens_used=tokens(steps),
            cost=cost(steps),
            nodes_executed=len({step.node for step in steps}),
            steps=steps_of(state),
        )

    async def list(
        self,
        tenant: str,
        *,
        status: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> ExecutionPage:
        """A page of the tenant's executions, newest first. Raises InvalidInput."""
        if status is not None and status not in get_args(ExecutionStatus):
            known = ", ".join(get_args(ExecutionStatus))
            raise InvalidInput(f"{status!r} is no status of an execution; they are: {known}")
        return await self._store(tenant).executions(status=status, limit=limit, cursor=cursor)

    async def wait(
        self, tenant: str, execution_id: str, timeout_s: float | None = None
    ) -> ExecutionRecord:
        """The execution once it is over, or as it stands after ``timeout_s`` seconds. Raises NotFound."""
        await self._store(tenant).wait_over(execution_id, timeout_s)
        return await self.get(tenant, execution_id)

    async def follow(
        self, tenant: str, execution_id: str, after: int = 0
    ) -> AsyncIterator[Sequence[StreamItem]]:
        """Every durable event past ``after``, gap-free and in order, with token deltas in between.

        Ends after the terminal event; survives the loss of the owner. Raises NotFound.
        """
        store = self._store(tenant)
        await store.execution(execution_id)
        while True:
            recorded = await store.events(execution_id, after)
            if recorded:
                yield recorded
                after = recorded[-1].seq
                if isinstance(recorded[-1].event, TERMINAL_EXECUTION):
                    return
                continue
            record = await store.execution(execution_id)
            if record.over:
                if not await store.events(execution_id, after):
                    return
                continue
            owner = record.owner
            if owner is not None:
                async for items in self._door.watch(owner, execution_id, after):
                    yield items
                    seqs = [item.seq for item in items if isinstance(item, Recorded)]
                    after = max([after, *seqs])
                    if any(_ends(item) for item in items):
                        return
            await asyncio.sleep(FOLLOW_PAUSE_S)

    async def events(self, tenant: str, execution_id: str, after: int = 0) -> Sequence[Recorded]:
        """The first thousand durable events past ``after`` that exist now. Raises NotFound."""
        return await self._store(tenant).events(execution_id, after)

    async def cancel(self, tenant: str, execution_id: str, reason: str = "") -> ExecutionRecord:
        """Ask that an execution stops; returns it as it stands (``over``: it had ended already).

        The committed request is the promise: the owner obeys within two seconds while it lives.
        Raises NotFound, StoreUnavailable.
        """
        store = self._store(tenant)
        record = await store.execution(execution_id)
        if not record.over:
            await store.cancel(execution_id, reason)
            if record.owner is not None:
                await self._door.nudge(record.owner, execution_id)
        return record

    async def authenticate(self, presented: str) -> Principal:
        """Who presents this API key. Raises Unauthenticated, StoreUnavailable."""
        from agentflow.store.keys import authenticate

        principal = await authenticate(self._pool, presented)
        if principal is None:
            raise Unauthenticated("Invalid API key")
        return principal

    async def health(self) -> dict[str, Json]:
        """State of what this process depends on, at most a second old. Never raises for a sick part."""
        taken_at, health = self._health
        if time.monotonic() - taken_at > 1.0 or not health:
            health = await self._examine()
            self._health = (time.monotonic(), health)
        return health

    async def _examine(self) -> dict[str, Json]:
        database, coordinators = await asyncio.gather(
            self._ask_database(), self._ask_coordinators()
        )
        alive = any(found["alive"] for found in coordinators)
        return {
            "database": database,
            "ray": "ok" if alive else "unavailable",
            "coordinators": coordinators,
        }

    async def _ask_database(self) -> str:
        from agentflow.store.pool import ping

        try:
            async with asyncio.timeout(2):
                await ping(self._pool)
        except (StoreUnavailable, TimeoutError):
            return "unavailable"
        return "ok"

    async def _ask_coordinators(self) -> Sequence[dict[str, Json]]:
        try:
            async with asyncio.timeout(2):
                return await self._door.coordinators()
        except (AgentFlowError, TimeoutError):
            return []

    async def metrics(self) -> str:
        """Prometheus text of every coordinator, each sample labelled with its coordinator."""
        from agentflow.telemetry.metrics import merge

        return merge(await self._door.metrics())

    async def close(self) -> None:
        """Let go of everything this process opened; executions go on where coordinators live."""
        await self._door.close()
        for closer in self._closers:
            done = closer() if asyncio.iscoroutinefunction(closer) else asyncio.to_thread(closer)
            await done

    def _store(self, tenant: str) -> TenantStore:
        from agentflow.store.tenant import for_tenant

        return for_tenant(self._pool, tenant, self._outcomes)


def _ends(item: StreamItem) -> bool:
    return isinstance(item, Recorded) and isinstance(item.event, TERMINAL_EXECUTION)


def _as_json(given: dict[str, Json] | None) -> dict[str, Json]:
    """What a caller gives, as the journal will give it back. Raises InvalidInput."""
    from agentflow.engine.workers import plain

    try:
        kept: dict[str, Json] = plain(given or {})
    except ValueError as error:
        raise InvalidInput(f"initial_state and metadata must be JSON: {error}") from error
    return kept


def _check_input(plan: Plan, spec: dict[str, Json], initial_state: dict[str, Json]) -> None:
    """``initial_state`` is checked before an execution exists. Raises InvalidInput."""
    from agentflow.engine.evaluation import require_fit

    require_fit({field.name: field for field in plan.fields}, None, initial_state)
    schema = spec.get("input_schema")
    if schema is None:
        return
    from agentflow.spec.schema import first_mismatch

    mismatch = first_mismatch(schema, initial_state)
    if mismatch is not None:
        raise InvalidInput(f"initial_state does not fit input_schema: {mismatch}")
