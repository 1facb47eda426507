"""Rows of a database as Parquet, row group by row group.

Types are those of https://parquet.apache.org/docs/file-format/types/logicaltypes/. A ``numeric`` is text, for
a database does not say how many digits it may have; so is what Parquet has no type for.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import time
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from agentflow.errors import QueryFailed
from agentflow.nodes.rowfiles import Limited, Write
from agentflow.sources.sql import Column, as_json

GROUP_BYTES = 8 * 2**20
"""What a row group holds in memory, about."""
GROUP_ROWS = 2**17

_TYPES: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "uint64": pa.uint64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", tz="UTC"),
    "bytes": pa.binary(),
}
"""The other types are text."""


def _json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _as_text(value: Any) -> str:
    """A value that Parquet has no type for: as JSON has it, and where that is no text, the JSON."""
    made = as_json(value)
    return made if isinstance(made, str) else _json_text(made)


def _uuid_text(value: Any) -> str:
    if isinstance(value, list):
        raise TypeError("an array of arrays")
    return str(value)


_CONVERTED: dict[str, Callable[[Any], Any]] = {
    "time": time.fromisoformat,
    "uuid": _uuid_text,
    "json": _json_text,
    "other": _as_text,
}
_PARSED = ("date", "timestamp", "timestamptz")
"""Types whose values come as text that is read a column at a time."""


class ParquetRows:
    """A Parquet file (zstd) that leaves as it grows: what is held is one row group. All of it is made in one
    thread, for each thread keeps some of the memory that it has freed."""

    def __init__(self, write: Write) -> None:
        self.columns: tuple[Column, ...] = ()
        self._write = Limited(write)
        self._out = _Pieces()
        self._schema = pa.schema([])
        self._writer: pq.ParquetWriter | None = None
        self._batches: list[pa.RecordBatch] = []
        self._bytes = self._rows = 0
        self._thread = ThreadPoolExecutor(1, "parquet")

    def begin(self, columns: Sequence[Column], most_bytes: int) -> None:
        """See the contract."""
        self.columns = tuple(columns)
        self._write.most = most_bytes
        self._schema = pa.schema([pa.field(each.name, _type(each.type)) for each in columns])
        self._writer = pq.ParquetWriter(
            pa.PythonFile(self._out, "w"), self._schema, compression="zstd"
        )

    async def add(self, rows: Sequence[Sequence[Any]]) -> int:
        """See the contract."""
        loop = asyncio.get_running_loop()
        batch = await loop.run_in_executor(self._thread, self._batch, rows)
        self._batches.append(batch)
        size = int(batch.nbytes)
        self._bytes += size
        self._rows += batch.num_rows
        if self._bytes >= GROUP_BYTES or self._rows >= GROUP_ROWS:
            await self._flush()
        return size

    async def finish(self) -> None:
        """See the contract."""
        await self._flush(last=True)
        self._thread.shutdown(wait=False)

    async def _flush(self, last: bool = False) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._group, last)
        for piece in self._out.taken():
            await self._write(piece)

    def _group(self, last: bool) -> None:
        assert self._writer is not None
        batches, self._batches, self._bytes, self._rows = self._batches, [], 0, 0
        if batches:
            table = pa.Table.from_batches(batches, self._schema)
            del batches
            self._writer.write_table(table, row_group_size=table.num_rows)
            del table
            pa.default_memory_pool().release_unused()
        if last:
            self._writer.close()

    def _batch(self, rows: Sequence[Sequence[Any]]) -> pa.RecordBatch:
        if not self.columns:
            return pa.RecordBatch.from_struct_array(pa.array([{}] * len(rows), pa.struct([])))
        arrays = [
            _array(column, values) for column, values in zip(self.columns, zip(*rows, strict=True))
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)


class _Pieces:
    """A file that only grows, and whose content is taken from it."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, content: bytes | memoryview) -> int:
        self._pieces.append(bytes(content))
        return len(self._pieces[-1])

    def flush(self) -> None:
        """Everything is there."""

    def close(self) -> None:
        self.closed = True

    def taken(self) -> list[bytes]:
        """What was written since the last time, in one piece."""
        pieces, self._pieces = self._pieces, []
        return [b"".join(pieces)] if pieces else []


def _type(name: str) -> pa.DataType:
    inner = name.removesuffix("[]")
    found = _TYPES.get(inner, pa.string())
    return found if inner == name else pa.list_(found)


def _array(column: Column, values: Sequence[Any]) -> pa.Array:
    """The values of a column. Raises QueryFailed for one that its type cannot hold."""
    wanted = _type(column.type)
    inner = column.type.removesuffix("[]")
    is_list = inner != column.type
    convert = _CONVERTED.get(inner)
    try:
        if convert is not None:
            values = [_converted(value, convert, is_list) for value in values]
        if inner in _PARSED:
            text = pa.list_(pa.string()) if is_list else pa.string()
            return pa.array(values, text).cast(wanted)
        return pa.array(values, wanted)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise QueryFailed(
            f"Column {column.name!r} ({column.type}) holds a value that a Parquet column of its type "
            f"cannot hold ({str(error)[:200]}): cast it to text in the statement, or an array of several "
            "dimensions to JSON"
        ) from None


def _converted(value: Any, convert: Callable[[Any], Any], is_list: bool) -> Any:
    if value is None:
        return None
    if is_list:
        return [None if item is None else convert(item) for item in value]
    return convert(value)
