"""Flow: what the API, the command line and notebooks use to submit, watch and cancel executions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import msgspec

from agentflow.errors import (
    AgentFlowError,
    Conflict,
    InvalidInput,
    NotFound,
    NotSupported,
    StoreUnavailable,
    Unauthenticated,
)
from agentflow.execution.events import TERMINAL_EXECUTION
from agentflow.execution.journal import (
    ExecutionRecord,
    ExecutionStatus,
    Outcome,
    Recorded,
    Submission,
)
from agentflow.flow.inputs import as_json, check_input
from agentflow.ids import new_id
from agentflow.settings import Settings

if TYPE_CHECKING:
    from agentflow.access.model import Principal
    from agentflow.engine.door import Door
    from agentflow.engine.stream import StreamItem
    from agentflow.flow.forking import Fork
    from agentflow.flow.history import History
    from agentflow.flow.waits import Resumed
    from agentflow.plan.plan import Plan
    from agentflow.spec.check import Checked
    from agentflow.store.blobs_reading import BlobReader
    from agentflow.store.notices import Outcomes
    from agentflow.store.pool import Pool
    from agentflow.store.sealing import Sealer
    from agentflow.store.tenant import ExecutionPage, TenantStore

Json = Any

FOLLOW_PAUSE_S = 0.2
"""Between two looks at the journal while an execution has no reachable owner."""


class Begun(NamedTuple):
    """An accepted execution, and its outcome where that was committed with the acceptance."""

    execution_id: str
    outcome: Outcome | None


class Flow:
    """Submits, watches and cancels executions; one per process, safe for concurrent use."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        door: Door,
        outcomes: Outcomes,
        sealer: Sealer,
        blobs: BlobReader,
        closers: Sequence[Callable[[], Any]],
    ) -> None:
        from agentflow.engine.plans import Plans
        from agentflow.flow.documents import Documents

        self.settings, self.blobs = settings, blobs
        self._pool = pool
        self._door = door
        self._outcomes = outcomes
        self._sealer = sealer
        self._closers = closers
        self._plans = Plans()
        self._documents = Documents(settings, self._plans)
        self._health: tuple[float, dict[str, Json]] = (0.0, {})

    def check(self, document: Json, *, text: str | None = None) -> Checked:
        """Every problem of a workflow document at once; pure, no network, no credentials."""
        from agentflow.sources.prices import price_known

        return self._documents.check(document, text=text, priced=price_known)

    def plan(self, document: Json) -> Plan:
        """The compiled form of a document. Raises SpecInvalid with every problem."""
        return self._documents.compiled(document)[1]

    async def submit(self, tenant: str, document: Json, **given: Any) -> str:
        """As :meth:`begin`, but returns the id alone."""
        return (await self.begin(tenant, document, **given)).execution_id

    async def begin(
        self,
        tenant: str,
        document: Json,
        *,
        initial_state: dict[str, Json] | None = None,
        metadata: dict[str, Json] | None = None,
        priority: int | None = None,
        trace_id: str | None = None,
    ) -> Begun:
        """Accept an execution: it is committed when this returns, and its outcome too if it is told.

        Raises SpecInvalid, NotSupported, InvalidInput, StoreUnavailable (then nothing was accepted).
        """
        spec, plan = await self._documents.compiled_aside(document)
        if plan.unsupported:
            raise NotSupported("; ".join(plan.unsupported))
        initial_state, metadata = as_json(initial_state), as_json(metadata)
        check_input(plan, spec, initial_state)
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
        return Begun(submission.execution_id, await self._accept(submission))

    async def _accept(self, submission: Submission) -> Outcome | None:
        """The door tries coordinators with the same id; where one had it already it is looked up. Not
        where one refused it: should it be committed after all, that one takes it back."""
        try:
            return await self._door.accept(submission)
        except Conflict:
            store = self._store(submission.tenant)
            try:
                await store.execution(submission.execution_id)
            except NotFound:
                raise StoreUnavailable() from None
            return None

    async def get(self, tenant: str, execution_id: str) -> ExecutionRecord:
        """The execution as it stands, with its steps. Raises NotFound."""
        store = self._store(tenant)
        record = await store.execution(execution_id)
        if record.over:
            return record
        from agentflow.flow.waits import open_waits

        found = await self.history(tenant).record(record)
        return msgspec.structs.replace(found, waits=await open_waits(store, execution_id))

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
        self,
        tenant: str,
        execution_id: str,
        timeout_s: float | None = None,
        *,
        at_rest: bool = False,
    ) -> ExecutionRecord:
        """The execution once it is over, or as it stands after ``timeout_s`` seconds; with ``at_rest``
        also once it waits for somebody (not for a time alone). Raises NotFound."""
        await self._store(tenant).wait_over(execution_id, timeout_s, at_rest=at_rest)
        return await self.get(tenant, execution_id)

    async def follow(
        self, tenant: str, execution_id: str, after: int = 0
    ) -> AsyncIterator[Sequence[StreamItem]]:
        """Every durable event past ``after``, gap-free and in order, with token deltas in between.

        Ends after a terminal event that no operator's retry follows; survives the loss of the owner.
        Raises NotFound.
        """
        store = self._store(tenant)
        await store.execution(execution_id)
        while True:
            recorded = await store.events(execution_id, after)
            if recorded:
                yield recorded
                after = recorded[-1].seq
                continue
            if await store.is_over(execution_id):
                if not await store.events(execution_id, after):
                    return
                continue
            owner, ended = await store.owner_of(execution_id), False
            if owner is not None:
                async for items in self._door.watch(owner, execution_id, after):
                    yield items
                    seqs = [item.seq for item in items if isinstance(item, Recorded)]
                    after = max([after, *seqs])
                    if ended := any(_ends(item) for item in items):
                        break
            if not ended:
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

    def history(self, tenant: str) -> History:
        """Looks into the journals of the tenant's executions."""
        from agentflow.flow.history import History

        return History(self._store(tenant), self._plans)

    async def fork(
        self,
        tenant: str,
        execution_id: str,
        from_node: str,
        *,
        state: dict[str, Json] | None = None,
        document: Json = None,
        preview: bool = False,
    ) -> Fork:
        """Begin a new execution that goes on from a node of another one, whose other steps it reuses.

        ``state``: dotted path -> value, over the fields it began with; ``document``: another workflow
        for it; ``preview``: say what would be reused, and begin nothing.
        Raises NotFound, InvalidInput, SpecInvalid, NotSupported, StoreUnavailable.
        """
        from agentflow.flow.forking import fork

        record = await self._store(tenant).execution(execution_id)
        other = None if document is None else await self._documents.compiled_aside(document)
        made = await fork(self.history(tenant), record, from_node, state or {}, other)
        check_input(made.plan, made.submission.spec, made.submission.initial_state)
        if not preview:
            await self._accept(made.submission)
        return made

    async def retry(self, tenant: str, execution_id: str) -> None:
        """Let an execution go on from what failed, timed out or was cancelled; when this returns it is
        open again, and the request is committed. Finished steps keep their results.

        Raises NotFound, Conflict (its status does not allow it), StoreUnavailable.
        """
        await self._store(tenant).retry(execution_id)

    async def resume(
        self,
        tenant: str,
        execution_id: str,
        data: Json = None,
        *,
        by: str,
        wait_id: str | None = None,
        node_id: str | None = None,
        signal: str | None = None,
    ) -> Resumed:
        """Answer what an execution waits for: one of the wait's name, its node, or a signal's name.

        The committed answer is the promise; a second one is never taken. A signal that comes before
        its wait is kept for it. Raises NotFound, Conflict (answered, expired or over), InvalidInput
        (the answer does not fit), StoreUnavailable.
        """
        from agentflow.flow import waits

        given = as_json({"data": data}, "data")["data"]
        store, plan = self._store(tenant), await self.history(tenant).plan(execution_id)
        if signal is not None:
            taken = await waits.signal(store, plan, execution_id, signal, given, by)
        else:
            taken = await waits.answer(
                store, plan, execution_id, given, by, wait_id=wait_id, node_id=node_id
            )
        owner = await store.owner_of(execution_id)
        if owner is not None:
            await self._door.nudge(owner, execution_id)
        return taken

    async def release(self, tenant: str, execution_id: str, reason: str = "") -> None:
        """Let a quarantined execution run again; when this returns the request is committed.

        Raises NotFound, Conflict (it is not quarantined), StoreUnavailable.
        """
        await self._store(tenant).release(execution_id, reason)

    async def is_over(self, tenant: str, execution_id: str) -> bool:
        """Whether an execution has ended (an operator's retry may reopen it). Raises NotFound."""
        return await self._store(tenant).is_over(execution_id)

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

        return for_tenant(self._pool, tenant, self._outcomes, self._sealer)


def _ends(item: StreamItem) -> bool:
    return isinstance(item, Recorded) and isinstance(item.event, TERMINAL_EXECUTION)
