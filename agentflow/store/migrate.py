"""Brings the database's schema to the version that this AgentFlow needs, and back.

These functions block, with an event loop of their own: from asyncio call them in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from agentflow.errors import ConfigError
from agentflow.store.pool import Connection as StoreConnection
from agentflow.store.pool import connect, unavailable

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

_FOLDER = Path(__file__).parent / "migrations"
_LOCK = 0x6167656E74666C77
"""Advisory lock of the database: one process migrates at a time, the others wait."""

REVISIONS = frozenset(path.stem.split("_")[0] for path in (_FOLDER / "versions").glob("[0-9]*.py"))
HEAD = max(REVISIONS)
"""The newest revision this AgentFlow knows. Revisions are numbers, counted up."""


def current(dsn: str) -> str | None:
    """The revision of the database, None when it is empty. Raises StoreUnavailable, ConfigError."""
    return asyncio.run(_current(dsn))


async def _current(dsn: str) -> str | None:
    connection = await connect(dsn)
    try:
        with unavailable():
            return await revision_of(connection)
    finally:
        await connection.close()


async def revision_of(connection: StoreConnection) -> str | None:
    """As :func:`current`, on a connection that is open, also within its transaction."""
    if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
        return None
    revision: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
    return revision


def upgrade(dsn: str) -> None:
    """Bring the schema to HEAD. Any number of processes may do this at once. Cheap when it is there.

    Raises ConfigError when a newer AgentFlow has been here, StoreUnavailable.
    """
    found = current(dsn)
    if found == HEAD:
        return
    if found is not None:
        refuse_newer(found)
    from alembic import command

    asyncio.run(_migrate(dsn, lambda config: command.upgrade(config, "head")))


def refuse_newer(revision: str) -> None:
    """Raises ConfigError when this AgentFlow does not know the revision."""
    if revision > HEAD:
        raise ConfigError(
            f"The database was brought to revision {revision} by a newer AgentFlow; this one knows "
            f"revisions up to {HEAD}: install the newer version"
        )


def downgrade(dsn: str, steps: int = 1) -> None:
    """Take the last revisions back. What only they could hold is lost."""
    from alembic import command

    asyncio.run(_migrate(dsn, lambda config: command.downgrade(config, f"-{steps}")))


async def rebuild(
    dsn: str,
    revision: str,
    check: Callable[[asyncpg.Connection], Awaitable[None]],
    fill: Callable[[asyncpg.Connection], Awaitable[None]],
) -> None:
    """Make the schema anew and fill it, in one transaction: on an error all is as it was.

    ``check`` looks at what is there, if anything is, and raises to stop; then that is dropped, and
    ``fill`` gets the schema of ``revision``, which is brought to HEAD afterwards. Raises as
    :func:`upgrade`, and what the two raise.
    """
    from alembic import command

    async with _transaction(dsn) as (connection, driver):
        found = await revision_of(driver)
        if found is not None:
            refuse_newer(found)
            await check(driver)
            await connection.run_sync(
                _with_config(lambda config: command.downgrade(config, "base"))
            )
        await connection.run_sync(_with_config(lambda config: command.upgrade(config, revision)))
        await fill(driver)
        await connection.run_sync(_with_config(lambda config: command.upgrade(config, "head")))


async def _migrate(dsn: str, act: Callable[[Any], None]) -> None:
    async with _transaction(dsn) as (connection, _):
        await connection.run_sync(_with_config(act))


def _with_config(act: Callable[[Any], None]) -> Callable[[Connection], None]:
    from alembic.config import Config

    def on_connection(connection: Connection) -> None:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
        act(config)

    return on_connection


@contextlib.asynccontextmanager
async def _transaction(dsn: str) -> AsyncIterator[tuple[AsyncConnection, asyncpg.Connection]]:
    """One transaction, seen through both libraries, that excludes everybody else's migration."""
    from sqlalchemy import NullPool, text
    from sqlalchemy.ext.asyncio import create_async_engine

    async def open_connection() -> asyncpg.Connection:
        return await connect(dsn, timeout_s=600)

    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=open_connection, poolclass=NullPool
    )
    try:
        with unavailable():
            async with engine.begin() as connection:
                await connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
                raw = await connection.get_raw_connection()
                driver: asyncpg.Connection | None = raw.driver_connection
                assert driver is not None
                yield connection, driver
    finally:
        await engine.dispose()
