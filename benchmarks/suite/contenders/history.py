"""A past for an engine that has none: one execution that is over, copied within the database."""

from __future__ import annotations

from uuid import UUID

import asyncpg

TABLES = ("executions", "journal", "steps")
COLUMNS = """
SELECT column_name FROM information_schema.columns
 WHERE table_name = $1 AND table_schema = 'public' AND is_generated = 'NEVER' ORDER BY ordinal_position"""
AT_ONCE = 20_000


async def copy(connection: asyncpg.Connection, execution: UUID, count: int) -> None:
    """So many executions that are over, each with the rows of this one under an id of its own, which says
    the time as every id of an execution does."""
    await connection.execute("CREATE TEMP TABLE IF NOT EXISTS past (id uuid)")
    statements = [await _statement(connection, table) for table in TABLES]
    for first in range(0, count, AT_ONCE):
        await connection.execute("TRUNCATE past")
        await connection.execute(
            "INSERT INTO past SELECT uuidv7() FROM generate_series(1, $1)",
            min(AT_ONCE, count - first),
        )
        for statement in statements:
            await connection.execute(statement, execution)
    # What the server would still do for the copies is done now, and not while somebody measures.
    await connection.execute("VACUUM ANALYZE")
    await connection.execute("CHECKPOINT")


async def _statement(connection: asyncpg.Connection, table: str) -> str:
    names = [row["column_name"] for row in await connection.fetch(COLUMNS, table)]
    values = ["past.id" if name == "execution_id" else f"t.{name}" for name in names]
    return (
        f"INSERT INTO {table} ({', '.join(names)}) SELECT {', '.join(values)} "
        f"FROM {table} AS t, past WHERE t.execution_id = $1"
    )
