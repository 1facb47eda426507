"""The composition root: opens every part from Settings, closes it; the only chooser of adapters.

A :class:`Flow` is what the API, the command line and notebooks use. ``open_coordinator`` and
``open_performer`` are called by dotted name inside the actors of ``distributed``; adapters are imported
where they are opened, so that a process loads only what it uses.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from agentflow.errors import (
    AgentFlowError,
    ConfigError,
    Conflict,
    InvalidInput,
    NotFound,
    NotSupported,
    SpecInvalid,
    StoreUnavailable,
    Unauthenticated,
)
from agentflow.execution.events import TERMINAL_EXECUTION
from agentflow.execution.journal import ExecutionRecord, Recorded, Submission
from agentflow.ids import new_id
from agentflow.settings import Settings

if TYPE_CHECKING:
    from asyncpg import Pool

    from agentflow.access.model import Principal
    from agentflow.engine.door import Door
    from agentflow.engine.engine import Engine
    from agentflow.engine.stream import StreamItem
    from agentflow.engine.workers import Performer, Workers
    from agentflow.execution.listener import Listener
    from agentflow.plan.plan import Plan, PlanSource
    from agentflow.sources.base import Source
    from agentflow.spec.check import Checked
    from agentflow.store.embedded import EmbeddedPostgres
    from agentflow.store.notices import Outcomes
    from agentflow.store.tenant import ExecutionPage, TenantStore

Json = Any

KEY_FILE = "api-key"
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
        from agentflow.spec.check import check
        from agentflow.spec.environment import allowed_names

        return check(
            document,
            text=text,
            allowed_env=allowed_names(self.settings.source_env),
            present_env=frozenset(os.environ),
        )

    def plan(self, document: Json) -> Plan:
        """The compiled form of a document. Raises SpecInvalid with every problem."""
        return self._compile(document)[1]

    def _compile(self, document: Json) -> tuple[dict[str, Json], Plan]:
        from agentflow.spec.models import content_hash

        checked = self.check(document)
        if checked.errors or checked.normalized is None:
            raise SpecInvalid(checked.errors)
        return checked.normalized, self._plans.of(
            content_hash(checked.normalized), checked.normalized
        )

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
        spec, plan = self._compile(document)
        if plan.unsupported:
            raise NotSupported("; ".join(plan.unsupported))
        _check_input(spec, initial_state or {})
        submission = Submission(
            execution_id=new_id("exec"),
            tenant=tenant,
            content_hash=plan.content_hash,
            spec=spec,
            initial_state=initial_state or {},
            metadata=metadata or {},
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
        if record.over or record.status == "quarantined":
            return record
        return await self._folded(store, record)

    async def _folded(self, store: TenantStore, record: ExecutionRecord) -> ExecutionRecord:
        """An open execution with what its journal says so far: its partial state and steps."""
        from agentflow.engine.outcome import steps_of
        from agentflow.execution.state import ExecutionState, apply
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
        """A page of the tenant's executions, newest first."""
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
        from agentflow.store.pool import unavailable

        try:
            async with asyncio.timeout(2):
                with unavailable():
                    await self._pool.fetchval("SELECT 1")
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


class LocalDoor:
    """The door to one engine in this very process."""

    def __init__(self, engine: Engine, metrics: Any) -> None:
        self._engine = engine
        self._metrics = metrics

    async def accept(self, submission: Submission) -> None:
        await self._engine.accept(submission)

    def watch(
        self, owner: str, execution_id: str, after: int
    ) -> AsyncIterator[Sequence[StreamItem]]:
        return self._engine.watch(execution_id, after)

    async def nudge(self, owner: str, execution_id: str) -> None:
        self._engine.nudge(execution_id)

    async def metrics(self) -> dict[str, str]:
        return {self._engine.id: self._metrics.text()}

    async def coordinators(self) -> list[dict[str, Json]]:
        return [
            {
                "id": self._engine.id,
                "alive": self._engine.available,
                "active": self._engine.active,
                "pid": os.getpid(),
                "node": "local",
            }
        ]

    async def close(self) -> None:
        await self._engine.drain()
        await self._engine.close()


def _ends(item: StreamItem) -> bool:
    return isinstance(item, Recorded) and isinstance(item.event, TERMINAL_EXECUTION)


def _check_input(spec: dict[str, Json], initial_state: dict[str, Json]) -> None:
    """``input_schema`` is checked before an execution exists. Raises InvalidInput."""
    schema = spec.get("input_schema")
    if schema is None:
        return
    from agentflow.spec.schema import first_mismatch

    mismatch = first_mismatch(schema, initial_state)
    if mismatch is not None:
        raise InvalidInput(f"initial_state does not fit input_schema: {mismatch}")


async def open_database(settings: Settings) -> tuple[str, list[Any]]:
    """The DSN of the database, started and migrated if it is the embedded one, and what closes it.

    Raises ConfigError, StoreUnavailable.
    """
    from agentflow.store.migrate import upgrade

    if settings.database_url is not None:
        await asyncio.to_thread(upgrade, settings.database_url)
        return settings.database_url, []
    from agentflow.store.embedded import join

    embedded: EmbeddedPostgres = await asyncio.to_thread(join, settings.data_dir)
    await asyncio.to_thread(upgrade, embedded.dsn)
    return embedded.dsn, [embedded.close]


async def open_flow(settings: Settings, door: Door) -> Flow:
    """A Flow over coordinators that live elsewhere. Raises ConfigError, StoreUnavailable."""
    from agentflow.store.keys import ensure_bootstrap_key
    from agentflow.store.notices import Outcomes
    from agentflow.store.pool import open_pool

    dsn, closers = await open_database(settings)
    pool = await open_pool(dsn)
    await ensure_bootstrap_key(pool, bootstrap_key(settings))
    outcomes = Outcomes(dsn)
    return Flow(settings, pool, door, outcomes, [outcomes.close, pool.close, *closers])


async def open_local(settings: Settings) -> Flow:
    """A Flow with its engine and workers in this process: no Ray."""
    from agentflow.engine.workers import InProcessWorkers
    from agentflow.telemetry.metrics import MetricsListener

    metrics = MetricsListener()
    coordinator = f"local/{os.getpid()}"
    workers = InProcessWorkers(open_performer(settings))
    engine = await open_coordinator(settings, coordinator, workers, [metrics])
    return await open_flow(settings, LocalDoor(engine, metrics))


async def open_coordinator(
    settings: Settings, coordinator_id: str, workers: Workers, listeners: Sequence[Listener] = ()
) -> Engine:
    """One coordinator's engine, entered and claiming. Raises ConfigError, StoreUnavailable."""
    from agentflow.engine.engine import Engine
    from agentflow.engine.lease import LeaseKeeper
    from agentflow.store.commands import listen
    from agentflow.store.journal import PostgresJournal
    from agentflow.store.leases import heartbeat
    from agentflow.store.pool import open_pool

    dsn, closers = await open_database(settings)
    pool = await open_pool(dsn)

    async def close() -> None:
        await notices.close()
        await pool.close()
        for closer in closers:
            await asyncio.to_thread(closer)

    engine = Engine(
        coordinator_id,
        journal=PostgresJournal(pool, coordinator_id, settings.lease_s),
        lease=LeaseKeeper(
            heartbeat(dsn, coordinator_id, settings.lease_s),
            lease_s=settings.lease_s,
            heartbeat_s=settings.heartbeat_s,
            on_buried=lambda buried: engine.on_buried(buried),
        ),
        workers=workers,
        nodes=open_nodes(),
        listeners=listeners,
        on_close=close,
    )
    notices = await listen(dsn, engine.nudge)
    await engine.start()
    return engine


def open_nodes() -> Any:
    """Every kind of work this version can do."""
    from agentflow.nodes.aggregator import AggregatorNode
    from agentflow.nodes.base import NodeSet
    from agentflow.nodes.input import InputNode
    from agentflow.nodes.llm import LlmNode
    from agentflow.nodes.router import RouterNode

    return NodeSet(
        {
            "input": InputNode(),
            "router": RouterNode(),
            "llm": LlmNode(),
            "aggregator": AggregatorNode(),
        }
    )


def open_performer(settings: Settings) -> Performer:
    """What a worker process needs to run attempts."""
    from agentflow.engine.workers import Performer
    from agentflow.sources.connections import Connections

    connections = Connections(_openers(settings))
    return Performer(open_nodes(), connections.open, connections.close)


def _openers(settings: Settings) -> dict[str, Callable[[PlanSource], Awaitable[Source]]]:
    """Provider -> how a connection to it is opened; the module is imported at its first use."""
    from agentflow.egress import Policy
    from agentflow.sources.credentials import Credentials
    from agentflow.spec.environment import allowed

    policy = Policy(settings.egress_allow)
    credentials = Credentials(os.environ, lambda name: allowed(name, settings.source_env))

    def hosted(source: PlanSource) -> Awaitable[Source]:
        from agentflow.sources.openai import open_openai

        return open_openai(
            source.id, source.provider, source.config, policy=policy, credentials=credentials
        )

    def embedded(source: PlanSource) -> Awaitable[Source]:
        from agentflow.sources.local import open_local as open_model

        return open_model(
            source.id,
            source.config,
            model_path=settings.local_model,
            threads=settings.local_model_threads,
        )

    return {
        "openai": hosted,
        "openai-compatible": hosted,
        "vllm": hosted,
        "local": embedded,
    }


def bootstrap_key(settings: Settings) -> str:
    """The first API key: ``API_KEY``, else one made once and kept in the data folder, mode 0600.

    Raises ConfigError when the data folder cannot be written or the file is open to others.
    """
    if settings.api_key is not None:
        return settings.api_key
    path = settings.data_dir / KEY_FILE
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _write_new(path)
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"{path} can be read by others; run: chmod 600 {path}")
        return path.read_text().strip()
    except OSError as error:
        raise ConfigError(
            f"The API key cannot be kept in {settings.data_dir} ({error.strerror}); "
            "set API_KEY, or AGENTFLOW_DATA_DIR to a folder you may write"
        ) from error


def _write_new(path: Any) -> None:
    """Create the key file whole: of two processes that start at once, one key wins."""
    from agentflow.access.apikeys import new_key

    draft = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(new_key() + "\n")
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(draft)
