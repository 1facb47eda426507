"""Opens the parts: database, coordinator, worker, flow. Adapters are imported where they are opened."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agentflow.flow.flow import Flow
from agentflow.settings import Settings

if TYPE_CHECKING:
    from agentflow.engine.door import Door
    from agentflow.engine.engine import Engine
    from agentflow.engine.workers import Performer, Workers
    from agentflow.execution.listener import Listener
    from agentflow.nodes.base import NodeSet
    from agentflow.nodes.blobs import Blobs
    from agentflow.sources.base import Source
    from agentflow.sources.connections import Connections, Opener, SourceSpec
    from agentflow.store.blobs import BlobStore
    from agentflow.store.embedded import EmbeddedPostgres
    from agentflow.store.pool import Pool


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
    from agentflow.store.blobs_reading import BlobReader
    from agentflow.store.keys import ensure_bootstrap_key
    from agentflow.store.notices import Outcomes
    from agentflow.store.pool import open_pool
    from agentflow.store.sealing import Sealer

    dsn, closers = await open_database(settings)
    pool = await open_pool(dsn)
    await ensure_bootstrap_key(pool, bootstrap_key(settings))
    outcomes = Outcomes(dsn)
    store = await open_blobs(settings, pool)
    sealer, reader = Sealer(pool, store), BlobReader(pool, store)
    closing = [outcomes.close, pool.close, *closers]
    return Flow(settings, pool, door, outcomes, sealer, reader, closing)


async def open_blobs(settings: Settings, pool: Pool) -> BlobStore:
    """Where values go that are too large for a row. Raises ConfigError, StoreUnavailable."""
    from agentflow.store.blobs import open_store, space_of

    return open_store(settings.blobs, settings.data_dir, await space_of(pool))


async def open_local(settings: Settings) -> Flow:
    """A Flow with its engine and workers in this process: no Ray."""
    from agentflow.engine.door import InProcessDoor
    from agentflow.engine.workers import InProcessWorkers
    from agentflow.telemetry.metrics import MetricsListener

    metrics = MetricsListener()
    coordinator = f"local/{os.getpid()}@{secrets.token_hex(4)}"
    workers = InProcessWorkers(open_performer(settings))
    engine = await open_coordinator(settings, coordinator, workers, [metrics])
    return await open_flow(settings, InProcessDoor(engine, metrics.text))


async def open_coordinator(
    settings: Settings, coordinator_id: str, workers: Workers, listeners: Sequence[Listener] = ()
) -> Engine:
    """One coordinator's engine, entered and claiming. Raises ConfigError, StoreUnavailable."""
    from agentflow.engine.engine import Engine
    from agentflow.engine.lease import LeaseKeeper
    from agentflow.store.cached_results import CachedResults
    from agentflow.store.commands import listen
    from agentflow.store.journal import PostgresJournal
    from agentflow.store.leases import heartbeat
    from agentflow.store.pool import open_pool
    from agentflow.store.retention import Housekeeping
    from agentflow.store.sealing import Sealer

    dsn, closers = await open_database(settings)
    pool = await open_pool(dsn)
    try:
        blobs = await open_blobs(settings, pool)
        await blobs.check()
    except BaseException:
        await pool.close()
        raise
    housekeeping = Housekeeping(
        pool, settings.retention_days_max, blobs=blobs, erasing=settings.retention
    )

    async def close() -> None:
        await housekeeping.close()
        await notices.close()
        await pool.close()
        for closer in closers:
            await asyncio.to_thread(closer)

    sealer = Sealer(pool, blobs)
    engine = Engine(
        coordinator_id,
        journal=PostgresJournal(pool, coordinator_id, settings.lease_s, sealer),
        lease=LeaseKeeper(
            heartbeat(dsn, coordinator_id, settings.lease_s),
            lease_s=settings.lease_s,
            heartbeat_s=settings.heartbeat_s,
            on_buried=lambda buried: engine.on_buried(buried),
        ),
        workers=workers,
        nodes=open_nodes(),
        results=CachedResults(pool, sealer),
        listeners=listeners,
        on_close=close,
    )
    notices = await listen(dsn, engine.nudge)
    try:
        await engine.start()
    except BaseException:
        await engine.close()
        raise
    return engine


def open_nodes(connections: Connections | None = None) -> NodeSet:
    """Every kind of work this version can do. ``connections``: those of a worker; coordinators have
    none, and leave to workers what needs one."""
    from agentflow.nodes.aggregator import AggregatorNode
    from agentflow.nodes.base import NodeSet
    from agentflow.nodes.db import DbNode
    from agentflow.nodes.http import HttpNode
    from agentflow.nodes.human import HumanNode
    from agentflow.nodes.image import ImageNode
    from agentflow.nodes.input import InputNode
    from agentflow.nodes.llm import LlmNode
    from agentflow.nodes.router import RouterNode
    from agentflow.nodes.wait import WaitNode
    from agentflow.sources.connections import Connections

    connections = connections or Connections({})

    return NodeSet(
        {
            "input": InputNode(),
            "router": RouterNode(),
            "llm": LlmNode(),
            "image": ImageNode(),
            "http": HttpNode(connections.open),
            "db": DbNode(),
            "aggregator": AggregatorNode(),
            "human": HumanNode(),
            "wait": WaitNode(),
        }
    )


def open_performer(settings: Settings) -> Performer:
    """What a worker process needs to run attempts."""
    from agentflow.engine.workers import Performer

    connections = open_connections(settings)
    return Performer(
        open_nodes(connections), connections.open, connections.close, worker_blobs(settings)
    )


def worker_blobs(settings: Settings) -> Blobs:
    """Where the steps of a worker process keep content; opened when the first of them does."""
    from agentflow.store.blobs_writing import Place, WorkerBlobs
    from agentflow.store.pool import open_pool

    async def open_place() -> Place:
        dsn, closers = settings.database_url, []
        if dsn is None:
            from agentflow.store.embedded import join

            embedded = await asyncio.to_thread(join, settings.data_dir)
            dsn, closers = embedded.dsn, [embedded.close]
        pool = await open_pool(dsn, max_size=2)

        async def close() -> None:
            await pool.close()
            for closer in closers:
                await asyncio.to_thread(closer)

        try:
            return Place(pool, await open_blobs(settings, pool), close)
        except BaseException:
            await close()
            raise

    return WorkerBlobs(open_place)


def open_connections(settings: Settings) -> Connections:
    """What opens the sources of a worker process, and keeps their connections."""
    from agentflow.sources.connections import Connections

    return Connections(_openers(settings))


def _openers(settings: Settings) -> Mapping[str, Opener]:
    """Provider -> how a connection to it is opened; the module is imported at its first use."""
    from agentflow.egress import Policy
    from agentflow.sources.credentials import Credentials
    from agentflow.sources.guarded import guarded
    from agentflow.sources.guarded_calls import guarded_database, guarded_service
    from agentflow.sources.hosted import hosted_openers
    from agentflow.sources.replies import Replies
    from agentflow.spec.environment import allowed

    policy = Policy(settings.egress_allow)
    credentials = Credentials(os.environ, lambda name: allowed(name, settings.source_env))
    replies = Replies()

    def service(source: SourceSpec) -> Awaitable[Source]:
        from agentflow.sources.api import open_api

        return open_api(
            source.id, source.config, policy=policy, credentials=credentials, replies=replies
        )

    def database(source: SourceSpec) -> Awaitable[Source]:
        from agentflow.sources.sqlserver import open_database

        return open_database(source.id, source.config, policy=policy, credentials=credentials)

    def embedded(source: SourceSpec) -> Awaitable[Source]:
        from agentflow.sources.local import open_local as open_model

        return open_model(
            source.id,
            source.config,
            model_path=settings.local_model,
            threads=settings.local_model_threads,
        )

    return {
        **{name: guarded(each) for name, each in hosted_openers(policy, credentials).items()},
        "local": embedded,
        "api": guarded_service(service),
        **dict.fromkeys(("db", "postgres", "mysql"), guarded_database(database)),
    }


def bootstrap_key(settings: Settings) -> str:
    """The first API key: ``API_KEY``, else one made once and kept in the data folder.

    Raises ConfigError.
    """
    from agentflow.access.bootstrap import kept_key
    from agentflow.store.embedded import make_data_dir

    if settings.api_key is not None:
        return settings.api_key
    make_data_dir(settings.data_dir)
    return kept_key(settings.data_dir)
