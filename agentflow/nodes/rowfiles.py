"""Rows of a database as the content of a blob: JSON lines, or Parquet (see nodes.parquet).

Rows come in batches, and leave at once: little more than a batch is ever held.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import msgspec

from agentflow.errors import ProviderRejected, QueryFailed
from agentflow.sources.sql import Column, RowFile, as_objects

Json = Any
JSONL, PARQUET = "jsonl", "parquet"
MIME_TYPES = {JSONL: "application/x-ndjson", PARQUET: "application/vnd.apache.parquet"}
"""RFC 6838 knows no name for JSON lines; that of Parquet is registered with IANA."""

Write = Callable[[bytes], Awaitable[None]]
"""Takes the next piece of the content."""


class WholeRowFile(RowFile, Protocol):
    """A file of rows that is written piece by piece."""

    columns: tuple[Column, ...]

    async def finish(self) -> None:
        """There are no more rows. Raises StepError."""
        ...


def row_file(format: str, write: Write) -> WholeRowFile:
    """A file whose content is written there. Raises ProviderRejected where its library is not
    installed."""
    if format == JSONL:
        return JsonLines(write)
    try:
        from agentflow.nodes.parquet import ParquetRows
    except ImportError:
        raise ProviderRejected(
            "Results as Parquet need a library that is not installed here: "
            "pip install 'agentflow[parquet]', or take format 'jsonl'"
        ) from None
    return ParquetRows(write)


class JsonLines:
    """One object a line, with the values that a result of rows has."""

    def __init__(self, write: Write) -> None:
        self.columns: tuple[Column, ...] = ()
        self._write = Limited(write)
        self._encode = msgspec.json.Encoder().encode_lines

    def begin(self, columns: Sequence[Column], most_bytes: int) -> None:
        """See the contract."""
        self.columns = tuple(columns)
        self._write.most = most_bytes

    async def add(self, rows: Sequence[Sequence[Any]]) -> int:
        """See the contract."""
        content = await asyncio.to_thread(self._lines, rows)
        await self._write(content)
        return len(content)

    def _lines(self, rows: Sequence[Sequence[Any]]) -> bytes:
        try:
            return self._encode(as_objects(self.columns, rows))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise QueryFailed(f"A row cannot be written as JSON: {error}") from None

    async def finish(self) -> None:
        """See the contract."""


class Limited:
    """Counts what is written; ``most`` bytes are allowed."""

    def __init__(self, write: Write) -> None:
        self.most = 0
        self._write, self._size = write, 0

    async def __call__(self, content: bytes) -> None:
        """Raises QueryFailed above the most."""
        self._size += len(content)
        if self._size > self.most:
            raise QueryFailed(
                f"The rows exceed {self.most} bytes as a file: select fewer columns or rows, or raise "
                "max_file_bytes of the source"
            )
        await self._write(content)
