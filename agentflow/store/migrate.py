"""Brings the database's schema to the version that this AgentFlow needs, and back.

These functions block, with an event loop of their own: from asyncio call them in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from agentflow.errors import ConfigError
from agentflow.store.pool import connect, unavailable

if TYPE_CHECKING:
    from sqlalchemy import Connection

_FOLDER = Path(__file__).parent / "migrations"
_LOCK = 0x6167656E74666C77
"""Advisory lock of the database: one process migrates at a time, the others wait."""

HEAD = max(path.stem.split("_")[0] for path in (_FOLDER / "versions").glob("[0-9]*.py"))
"""The newest revision this AgentFlow knows. Revisions are numbers, counted up."""


def current(dsn: str) -> str | None:
    """The revision of the database, None when it is empty. Raises StoreUnavailable, ConfigError."""
    return asyncio.run(_current(dsn))


async def _current(dsn: str) -> str | None:
    connection = await connect(dsn)
    try:
        with unavailable():
            revision: str | None = await connection.fetchval(
                "SELECT version_num FROM alembic_version"
            )
            return revision
    except asyncpg.UndefinedTableError:
        return None
    finally:
        await connection.close()


def upgrade(dsn: str) -> None:
    """Bring the schema to HEAD. Any number of processes may do this at once. Cheap when it is there.

    Raises ConfigError when a newer AgentFlow has been here, StoreUnavailable.
    """
    found = current(dsn)
    if found == HEAD:
        return
    if found is not None and found > HEAD:
        raise ConfigError(
            f"The database was brought to revision {found} by a newer AgentFlow; this one knows "
            f"revisions up to {HEAD}: install the newer version"
        )
    from alembic import command

    asyncio.run(_migrate(dsn, lambda config: command.upgrade(config, "head")))


def downgrade(dsn: str, steps: int = 1) -> None:
    """Take the last revisions back. What only they could hold is lost."""
    from alembic import command

    asyncio.run(_migrate(dsn, lambda config: command.downgrade(config, f"-{steps}")))


async def _migrate(dsn: str, act: Callable[[Any], None]) -> None:
    from alembic.config import Config
    from sqlalchemy import NullPool, text
    from sqlalchemy.ext.asyncio import create_async_engine

    def on_connection(connection: Connection) -> None:
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
        act(config)

    async def open_connection() -> asyncpg.Connection:
        return await connect(dsn, timeout_s=600)

    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=open_connection, poolclass=NullPool
    )
    try:
        with unavailable():
            async with engine.begin() as connection:
                await connection.run_sync(on_connection)
    finally:
        await engine.dispose()
