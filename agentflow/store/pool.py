"""Connections to PostgreSQL, and what their failures mean."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from agentflow.errors import ConfigError, StoreUnavailable

Pool = asyncpg.Pool
Connection = asyncpg.Connection | PoolConnectionProxy
"""A connection, whether of one's own or of a pool."""

_AWAY = (
    OSError,  # refused, reset, unreachable; also every kind of timeout
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # the server stops, crashed or is starting up
    asyncpg.InsufficientResourcesError,  # no connection left, no disk, no memory
    asyncpg.TransactionRollbackError,  # deadlock or serialisation: rolled back, try again
    asyncpg.ReadOnlySQLTransactionError,  # a standby answers during a failover
    asyncpg.LockNotAvailableError,
    asyncpg.InternalClientError,  # what a statement meets on a connection that is just breaking
)


@contextlib.contextmanager
def unavailable() -> Iterator[None]:
    """Turns every error that says "the database is away" into StoreUnavailable."""
    try:
        yield
    except _AWAY as error:
        raise StoreUnavailable(
            f"The database is away ({type(error).__name__}): see to the server of DATABASE_URL if you set one"
        ) from error
    except asyncpg.InterfaceError as error:
        if "clos" not in str(error):  # "connection is closed", "pool is closing"
            raise
        raise StoreUnavailable("The database is away (connection closed)") from error


async def open_pool(
    dsn: str, *, min_size: int = 0, max_size: int = 8, timeout_s: float = 15.0
) -> Pool:
    """A pool of connections. ``timeout_s`` bounds each connection attempt and each statement.

    Raises StoreUnavailable when the server cannot be reached, ConfigError when it refuses us.
    """
    try:
        with unavailable():
            return await asyncpg.create_pool(
                dsn,
                min_size=min_size,
                max_size=max_size,
                timeout=timeout_s,
                command_timeout=timeout_s,
                reset=_reset,
                server_settings={"application_name": "agentflow", "timezone": "UTC"},
            )
    except _REFUSED as error:
        raise refused(error) from None


async def _reset(connection: Connection) -> None:
    """Spares a round trip at every release: nothing here sets anything on a pool's connection."""
    if connection.is_in_transaction():
        await connection.reset()


async def ping(pool: Pool) -> None:
    """Returns when the server answered. Raises StoreUnavailable."""
    with unavailable():
        await pool.fetchval("SELECT 1")


async def connect(dsn: str, *, timeout_s: float = 15.0) -> asyncpg.Connection:
    """A connection of one's own. Raises as :func:`open_pool`."""
    try:
        with unavailable():
            return await asyncpg.connect(
                dsn,
                timeout=timeout_s,
                command_timeout=timeout_s,
                server_settings={"application_name": "agentflow", "timezone": "UTC"},
            )
    except _REFUSED as error:
        raise refused(error) from None


_REFUSED = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ClientConfigurationError,
)


def refused(error: Exception) -> ConfigError:
    """What to say when the server lets nobody in with this address."""
    return ConfigError(
        f"The database of DATABASE_URL refuses us ({type(error).__name__}): check its user, "
        "password, database name and options"
    )
