"""The vocabulary of databases: a statement, its result, and how its rows become JSON."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Awaitable, Callable, Sequence
from math import isfinite
from typing import Any, Protocol

import msgspec

from agentflow.errors import QueryFailed
from agentflow.sources.base import Source

Json = Any
Row = Any
"""A row as its driver gives it: its values by position."""
_encode = msgspec.json.Encoder().encode
MOST_BYTES = 16 * 2**20
"""What the rows of one result may hold, as JSON; a file of rows may be longer."""
FIRST_ROWS, BATCH_BYTES, BATCH_ROWS = 32, 2**20, 4096
"""How much is fetched at once: so many rows at first, and later as many as that many bytes hold."""
DEDUPE_TABLE = "agentflow_dedupe"
"""The table that ``agentflow sources prepare`` makes where the source names none."""


class SqlRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One statement. ``values``: by the name or the path of its placeholder. ``key``: by it a repeated
    write is known. ``timeout_s`` in seconds, kept by the server too."""

    text: str
    values: dict[str, Json] = {}
    mode: str = "read"
    limit: int = 100
    offset: int = 0
    timeout_s: float | None = None
    key: str = ""
    attempt: int = 1


class SqlReply(msgspec.Struct, frozen=True, kw_only=True):
    """What a statement gave: its rows as JSON, or how many rows it changed. ``truncated``: there were
    more. ``repeated``: the write was done by an earlier attempt, and this is its recorded result."""

    columns: tuple[str, ...] = ()
    rows: list[dict[str, Json]] = []
    row_count: int = 0
    truncated: bool = False
    repeated: bool = False


class Column(msgspec.Struct, frozen=True):
    """A column of a result. ``type``: bool, int16, int32, int64, uint64, float32, float64, decimal (as
    text), date, time, timestamp, timestamptz, uuid, text, bytes, json, other, or such an ``...[]``."""

    name: str
    type: str


class RowFile(Protocol):
    """Takes the rows of a result that is too large to be held, as the driver gives them."""

    def begin(self, columns: Sequence[Column], most_bytes: int) -> None:
        """The columns, before the first rows, and how long the file may be. Raises StepError."""
        ...

    async def add(self, rows: Sequence[Row]) -> int:
        """Take the next rows; how many bytes they are, about. Raises StepError."""
        ...


class SqlService(Source, Protocol):
    """A source of kind ``db``."""

    async def execute(self, request: SqlRequest, file: RowFile | None = None) -> SqlReply:
        """Execute a statement once. ``file`` takes the rows of one that only reads, batch by batch, and
        the reply has none then. Raises StepError."""
        ...

    async def prepare(self) -> str:
        """Create the dedupe table where it is not there; its name. Raises StepError."""
        ...


def as_json(value: Any) -> Json:
    """A value of a driver as JSON: bytes as base64, floats that JSON lacks as text, ranges as objects."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if isfinite(value) else _FLOATS.get(str(value), str(value))
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    if hasattr(value, "items"):
        return {str(key): as_json(item) for key, item in value.items()}
    if hasattr(value, "lower_inc"):
        bounds = ("[" if value.lower_inc else "(") + ("]" if value.upper_inc else ")")
        return {"lower": as_json(value.lower), "upper": as_json(value.upper), "bounds": bounds}
    if hasattr(value, "as_string"):
        return value.as_string()
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return str(value)


_FLOATS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


_PLAIN = ("bool", "int16", "int32", "int64", "uint64", "decimal", "date", "time", "timestamp",
          "timestamptz", "text", "json")  # fmt: skip
"""Types whose values come as JSON has them."""


def as_objects(columns: Sequence[Column], rows: Sequence[Row]) -> list[dict[str, Json]]:
    """Rows of a driver as JSON."""
    names = [column.name for column in columns]
    made = [dict(zip(names, row)) for row in rows]
    for column in columns:
        name = column.name
        if column.type in ("float32", "float64"):
            for row in made:
                if (value := row[name]) is not None and not isfinite(value):
                    row[name] = as_json(value)
        elif column.type not in _PLAIN:
            for row in made:
                row[name] = as_json(row[name])
    return made


class _Result:
    """What was taken of a result so far: ``count`` rows of ``size`` bytes, at most ``most`` rows."""

    def __init__(self, columns: Sequence[str], most: int) -> None:
        doubled = next((name for name in columns if list(columns).count(name) > 1), None)
        if doubled is not None:
            raise QueryFailed(
                f"The result has several columns {doubled[:100]!r}: rename them with AS"
            )
        self.columns = tuple(columns)
        self.truncated = False
        self.count = 0
        self._most = most
        self._size = 0

    @property
    def wanted(self) -> int:
        """How many more rows it takes, with the one that tells that there are more."""
        return self._most + 1 - self.count

    def batch(self, most: int) -> int:
        """How many rows to fetch at once, at most so many: few at first, for nobody knows how long they
        are, and then about so many as :data:`BATCH_BYTES` hold."""
        if not self.count:
            return min(FIRST_ROWS, most)
        return min(max(BATCH_BYTES * self.count // max(self._size, 1), 1), most)


class FiledRows(_Result):
    """Hands the rows of a result on to a file, up to their limit."""

    def __init__(
        self, columns: Sequence[Column], most: int, most_bytes: int, file: RowFile
    ) -> None:
        super().__init__([column.name for column in columns], most)
        self._file = file
        file.begin(columns, most_bytes)

    async def add(self, rows: Sequence[Row]) -> None:
        """Take the next rows, or note that there were more. Raises StepError."""
        room = self._most - self.count
        self.truncated = len(rows) > room
        taken = rows[:room] if self.truncated else rows
        if taken:
            self._size += await self._file.add(taken)
            self.count += len(taken)

    def reply(self) -> SqlReply:
        """The result without its rows."""
        return SqlReply(columns=self.columns, row_count=self.count, truncated=self.truncated)


class Rows(_Result):
    """Collects the rows of a result up to its limits."""

    def __init__(self, columns: Sequence[Column], most: int) -> None:
        super().__init__([column.name for column in columns], most)
        self.rows: list[dict[str, Json]] = []
        self._typed = tuple(columns)

    async def add(self, rows: Sequence[Row]) -> None:
        """Take the next rows, or note that there were more. Raises QueryFailed."""
        room = self._most - self.count
        self.truncated = self.truncated or len(rows) > room
        made = as_objects(self._typed, rows[:room])
        self._size += len(_encode(made))
        if self._size > MOST_BYTES:
            raise QueryFailed(
                f"The rows exceed {MOST_BYTES} bytes: select fewer columns, read them in pages with "
                "limit and offset, or have them as a file with format 'jsonl' or 'parquet'"
            )
        self.rows += made
        self.count += len(made)

    def reply(self) -> SqlReply:
        """The result so far."""
        return SqlReply(
            columns=self.columns,
            rows=self.rows,
            row_count=len(self.rows),
            truncated=self.truncated,
        )


async def take(rows: Rows | FiledRows, fetch: Callable[[int], Awaitable[Sequence[Any]]]) -> None:
    """Take the rows that are wanted, batch by batch; ``fetch`` gives so many more, or all that are left.
    Raises StepError."""
    while not rows.truncated:
        wanted = rows.batch(min(BATCH_ROWS, rows.wanted))
        found = await fetch(wanted)
        await rows.add(found)
        if len(found) < wanted:
            break


def _text(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def recorded(reply: SqlReply) -> str:
    """A write's result as the dedupe table keeps it."""
    return msgspec.json.encode(reply).decode()


def remembered(text: str | bytes | None) -> SqlReply:
    """The result of an earlier attempt, out of the dedupe table."""
    reply = msgspec.json.decode(text or "{}", type=SqlReply)
    return msgspec.structs.replace(reply, repeated=True)


def as_csv(reply: SqlReply) -> str:
    """The rows as CSV (RFC 4180) with a line of names; null is an empty field."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(reply.columns)
    for row in reply.rows:
        writer.writerow(
            [
                "" if value is None else value if isinstance(value, str) else _text(value)
                for value in row.values()
            ]
        )
    return out.getvalue()
