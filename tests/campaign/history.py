"""What happened, from five who do not know of each other: the ledger of who is called, the database's
rows with the times of their commits, those of the database that workflows write to, the client's notes,
and the record of the faults."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from tests.campaign.database import Database
from tests.campaign.faults import Fault
from tests.campaign.target import Write, writes_of

Json = Any

SHOWN = 300
"""Characters of a text that are compared."""


class Call(msgspec.Struct, kw_only=True):
    """One call as the provider saw it. ``complete``: the whole answer was written out."""

    id: int
    key: str
    tag: str
    step: str
    past: str = ""
    pid: int = 0
    began: float = 0.0
    ended: float | None = None
    status: int | None = None
    complete: bool = False
    answer: str = ""
    fence: str = ""

    @property
    def refused(self) -> bool:
        """It was answered, and the answer was no."""
        return self.complete and self.status != 200

    @property
    def hung_up(self) -> bool:
        """Who was called did what was asked for, and ended the connection without an answer."""
        return self.status == 0


class Effect(msgspec.Struct, kw_only=True):
    """Something that the HTTP service did."""

    id: int
    key: str
    tag: str
    step: str
    said: str = ""
    at: float = 0.0


class Answer(msgspec.Struct, kw_only=True):
    """What the client answered to a wait: ``token`` is its word, ``status`` what it was told; None where
    it heard nothing."""

    token: str
    execution: str
    wait: str
    asked: float = 0.0
    told: float | None = None
    status: int | None = None


class Row(msgspec.Struct, kw_only=True):
    """One row of the journal; ``at`` is when its transaction was committed. ``text``: of a result;
    ``error``: the type of an error; ``blobs``: the large values that it names."""

    execution: str
    seq: int
    epoch: int
    kind: str
    step: str = ""
    attempt: int = 1
    generation: int = 0
    at: float = 0.0
    text: str | None = None
    error: str = ""
    blobs: tuple[str, ...] = ()


class Blob(msgspec.Struct, kw_only=True):
    """A large value where it is kept: ``at`` is when it was written, ``whole`` that its content is what
    its name says."""

    at: float
    whole: bool = True


class Owner(msgspec.Struct, kw_only=True):
    """An execution got this owner, in a transaction committed ``at`` that time."""

    execution: str
    owner: str | None
    epoch: int | None
    at: float


class Noted(msgspec.Struct, kw_only=True):
    """An acknowledged execution, as the client knows it."""

    id: str
    tag: str
    kind: str
    acknowledged: float = 0.0
    cancel_asked: float | None = None
    released: int = 0
    seen: float | None = None
    status: str | None = None
    output: str = "null"
    error: str = "null"
    missing: bool = False


class History(msgspec.Struct, kw_only=True):
    """``kinds``: tag -> (execution, kind of workflow), of every execution in the journal, acknowledged
    or not; ``statuses``: the executions' rows."""

    calls: list[Call] = []
    rows: list[Row] = []
    owners: list[Owner] = []
    noted: list[Noted] = []
    faults: list[Fault] = []
    kinds: dict[str, tuple[str, str]] = {}
    statuses: dict[str, str] = {}
    blobs: dict[str, Blob] = {}
    effects: list[Effect] = []
    writes: list[Write] = []
    answers: list[Answer] = []
    fenced: int = 0


def calls_of(path: Path) -> list[Call]:
    database = sqlite3.connect(path)
    names = "id, key, tag, step, past, pid, began, ended, status, complete, answer, fence"
    rows = database.execute(f"SELECT {names} FROM calls ORDER BY began").fetchall()
    database.close()
    fields = names.split(", ")
    return [Call(**{**dict(zip(fields, row)), "complete": bool(row[9])}) for row in rows]


def _all(path: Path, table: str, kind: type[Json]) -> list[Json]:
    """Every row of a table whose columns are the fields of a struct."""
    names = [field.name for field in msgspec.structs.fields(kind)]
    database = sqlite3.connect(path)
    rows = database.execute(f"SELECT {', '.join(names)} FROM {table}").fetchall()
    database.close()
    return [kind(**dict(zip(names, row))) for row in rows]


def noted_of(path: Path) -> list[Noted]:
    database = sqlite3.connect(path)
    names = (
        "id, tag, kind, acknowledged, cancel_asked, released, seen, status, output, error, missing"
    )
    rows = database.execute(f"SELECT {names} FROM executions").fetchall()
    database.close()
    fields = names.split(", ")
    found = []
    for row in rows:
        given = {name: value for name, value in zip(fields, row) if value is not None}
        found.append(Noted(**{**given, "missing": bool(row[10])}))
    return found


async def gather(
    database: Database,
    target: Database,
    ledger: Path,
    notes: Path,
    blobs: Path,
    faults: list[Fault],
) -> History:
    """Everything, read past the proxies and never through the engine."""
    files = await asyncio.to_thread(lambda: {path.name: path for path in blobs.glob("*/*/??/*")})
    connection = await asyncpg.connect(database.dsn)
    try:
        rows, tags = await _journal(connection, files)
        moved = await connection.fetch(
            "SELECT execution_id, owner, epoch, pg_xact_commit_timestamp(xmin) AS at"
            " FROM campaign_owners ORDER BY n"
        )
        found = await connection.fetch("SELECT execution_id, status, workflow_name FROM executions")
    finally:
        await connection.close()
    names = {_id(row): row["workflow_name"] for row in found}
    return History(
        calls=calls_of(ledger),
        rows=rows,
        owners=[
            Owner(execution=_id(row), owner=row["owner"], epoch=row["epoch"], at=_seconds(row))
            for row in moved
        ],
        noted=noted_of(notes),
        faults=faults,
        kinds={tag: (execution, names.get(execution) or "") for tag, execution in tags.items()},
        statuses={_id(row): row["status"] for row in found},
        blobs={
            name: Blob(at=path.stat().st_mtime, whole=_digest(path) == name)
            for name, path in files.items()
        },
        effects=_all(ledger, "effects", Effect),
        writes=await writes_of(target),
        answers=_all(notes, "answers", Answer),
        fenced=database.log().count("fenced out: "),
    )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def _journal(
    connection: asyncpg.Connection, files: dict[str, Path]
) -> tuple[list[Row], dict[str, str]]:
    rows: list[Row] = []
    tags: dict[str, str] = {}
    statement = (
        "SELECT execution_id, seq, epoch, kind, step, attempt, generation, payload,"
        " pg_xact_commit_timestamp(xmin) AS at FROM journal ORDER BY execution_id, seq"
    )
    async with connection.transaction():
        async for row in connection.cursor(statement, prefetch=500):
            payload, named = _payload(row["payload"])
            if row["kind"] == "execution.created":
                tags[str(payload["initial_state"].get("user_input"))] = _id(row)
            text = _word(_found(payload.get("result"), files), files)
            rows.append(
                Row(
                    execution=_id(row),
                    seq=row["seq"],
                    epoch=row["epoch"],
                    kind=row["kind"],
                    step=row["step"] or "",
                    attempt=row["attempt"] or 1,
                    generation=row["generation"] or 0,
                    at=_seconds(row),
                    text=text[:SHOWN] if isinstance(text, str) else None,
                    error=str((payload.get("error") or {}).get("type", "")),
                    blobs=named,
                )
            )
    return rows, tags


def _word(result: Json, files: dict[str, Path]) -> Json:
    """What a step gave: a model's text, the first row of a database, what the service said, an answer."""
    if not isinstance(result, dict):
        return result
    rows, data = result.get("rows"), result.get("data")
    if rows is not None:
        return rows[0]["said"] if len(rows) == 1 else f"{len(rows)} rows"
    if isinstance(data, dict):
        return data.get("said", data.get("token"))
    return result.get("token", _found(result.get("text"), files))


def _payload(content: bytes) -> tuple[dict[str, Json], tuple[str, ...]]:
    """A row's payload, and the large values that it names: each name stands between two bytes 0x01,
    behind one at the beginning."""
    if not content.startswith(b"\x01"):
        return json.loads(content), ()
    marks = content[1:].split(b"\x01")[1::2]
    named = tuple(json.loads(mark)["$blob"]["sha256"] for mark in marks)
    return json.loads(content.replace(b"\x01", b"")), named


def _found(value: Json, files: dict[str, Path]) -> Json:
    """The value itself where another one names it."""
    mark = value.get("$blob") if isinstance(value, dict) else None
    if mark is None or mark["sha256"] not in files:
        return value
    return _payload(files[mark["sha256"]].read_bytes())[0]


def _id(row: asyncpg.Record) -> str:
    return f"exec_{row['execution_id'].hex}"


def _seconds(row: asyncpg.Record) -> float:
    return float(row["at"].timestamp())
