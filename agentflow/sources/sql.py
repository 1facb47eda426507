"""The vocabulary of databases: a statement, its result, and how its rows become JSON."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import msgspec

from agentflow.errors import QueryFailed
from agentflow.sources.base import Source

Json = Any
MOST_BYTES = 16 * 2**20
"""What the rows of one result may hold, as JSON."""
FIRST_ROWS, BATCH_BYTES = 32, 2**20
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


class SqlService(Source, Protocol):
    """A source of kind ``db``."""

    async def execute(self, request: SqlRequest) -> SqlReply:
        """Execute a statement once. Raises StepError."""
        ...

    async def prepare(self) -> str:
        """Create the dedupe table where it is not there; its name. Raises StepError."""
        ...


def as_json(value: Any) -> Json:
    """A value of a driver as JSON: bytes as base64, floats that JSON lacks as text, ranges as objects."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else _FLOATS.get(str(value), str(value))
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


_PLAIN = (int, bool, type(None))
_FLOATS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


class Rows:
    """Collects the rows of a result up to its limits."""

    def __init__(self, columns: Sequence[str], most: int) -> None:
        doubled = next((name for name in columns if list(columns).count(name) > 1), None)
        if doubled is not None:
            raise QueryFailed(
                f"The result has several columns {doubled[:100]!r}: rename them with AS"
            )
        self.columns = tuple(columns)
        self.rows: list[dict[str, Json]] = []
        self.truncated = False
        self._most = most
        self._size = 0

    def batch(self, most: int) -> int:
        """How many rows to fetch at once, at most so many: few at first, for nobody knows how long they
        are, and then about so many as :data:`BATCH_BYTES` hold."""
        if not self.rows:
            return min(FIRST_ROWS, most)
        return min(max(BATCH_BYTES * len(self.rows) // max(self._size, 1), 1), most)

    def add(self, row: Iterable[Any]) -> None:
        """Take one more row, or note that there was one more. Raises QueryFailed."""
        if len(self.rows) >= self._most:
            self.truncated = True
            return
        values = list(row)
        size = 8 * len(values)
        for index, value in enumerate(values):
            if type(value) is str:
                size += len(value)
            elif type(value) not in _PLAIN:
                values[index] = made = as_json(value)
                size += len(made) if isinstance(made, str) else len(_text(made))
        self._size += size
        if self._size > MOST_BYTES:
            raise QueryFailed(
                f"The rows exceed {MOST_BYTES} bytes: select fewer columns, or read them in pages "
                "with limit and offset"
            )
        self.rows.append(dict(zip(self.columns, values)))

    def reply(self) -> SqlReply:
        """The result so far."""
        return SqlReply(
            columns=self.columns,
            rows=self.rows,
            row_count=len(self.rows),
            truncated=self.truncated,
        )


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
