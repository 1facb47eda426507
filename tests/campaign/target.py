"""The database that workflows write to. It counts: nothing in it keeps a write from being made twice
but the row by which the engine knows its own."""

from __future__ import annotations

from typing import Any

import asyncpg
import msgspec

from tests.campaign.database import Database

Json = Any
VARIABLE = "CAMPAIGN_TARGET"
"""Names the database to the system."""
DEDUPE = "agentflow_dedupe"
TABLES = f"""
CREATE TABLE written (
    id bigint GENERATED ALWAYS AS IDENTITY, tag text NOT NULL, step text NOT NULL, past text NOT NULL,
    said text GENERATED ALWAYS AS (tag || '.' || step || '.' || id) STORED);
CREATE TABLE {DEDUPE} (key text PRIMARY KEY, result text, at timestamptz NOT NULL DEFAULT now());
"""
BUSY = "SELECT pid FROM pg_stat_activity WHERE application_name = 'agentflow' AND state <> 'idle'"
THINKS = "pg_sleep(0.05 + 0.8 * random())"
"""So long a write takes."""


class Write(msgspec.Struct, kw_only=True):
    """One row that a step wrote; ``at`` is when its transaction was committed."""

    tag: str
    step: str
    said: str
    past: str = ""
    at: float = 0.0


async def prepare(database: Database) -> None:
    await database.execute(TABLES)


async def writes_of(database: Database) -> list[Write]:
    connection = await asyncpg.connect(database.dsn)
    try:
        rows = await connection.fetch(
            "SELECT tag, step, said, past, pg_xact_commit_timestamp(xmin) AS at FROM written ORDER BY id"
        )
    finally:
        await connection.close()
    return [Write(**{**row, "at": row["at"].timestamp()}) for row in rows]


def write(step: str, past: str, source: str = "target") -> Json:
    """A node that writes its own row, which names what came before it (an expression)."""
    asked = {
        "source": source,
        "mode": "write",
        "query": "INSERT INTO written (tag, step, past) SELECT CAST(:tag AS text), CAST(:step AS text),"
        f" CAST(:past AS text) FROM {THINKS} RETURNING said",
        "params": {"tag": "${user_input}", "step": step, "past": past},
    }
    return _db(step, asked)


def read(step: str, of: str) -> Json:
    """A node that reads what a step of its own execution wrote."""
    asked = {
        "source": "target",
        "query": "SELECT said FROM written WHERE tag = :tag AND step = :step ORDER BY id",
        "params": {"tag": "${user_input}", "step": of},
    }
    return _db(step, asked)


def _db(step: str, asked: Json) -> Json:
    retry = {"max_attempts": 12, "initial_s": 0.1, "max_s": 2}
    return {
        "id": step,
        "type": "db",
        "retry": {"max_attempts": 1} if step.startswith("once") else retry,
        "metadata": {**asked, "timeout_s": 5, "output_key": f"said_{step}"},
    }


def sources() -> list[Json]:
    """The database with and without the table by which a repeated write is known."""
    config = {"driver": "postgres", "dsn_env": VARIABLE, "allow_write": True}
    return [
        {"id": "target", "kind": "db", "config": {**config, "dedupe_table": DEDUPE}},
        {"id": "bare", "kind": "db", "config": config},
    ]
