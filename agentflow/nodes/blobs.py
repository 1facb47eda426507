"""Content that a step keeps beside the journal: the contract of the place, and a step's way to it.

The event that says that a step is done names its blobs; from then on they stay for as long as an execution
whose journal names them. What an attempt kept that failed, or was never heard of, is collected after an hour.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from agentflow.errors import (
    ConfigError,
    ConnectionFailed,
    InvalidInput,
    NotFound,
    ProviderRejected,
    ProviderUnavailable,
    StoreError,
)
from agentflow.execution.events import Blob

_ADDRESS = re.compile(r"blob:sha256:[0-9a-f]{64}")


class BlobWriter(Protocol):
    """Takes the content of one blob, piece by piece; little of it is held in memory."""

    async def write(self, content: bytes) -> None:
        """Take one more piece. Raises StoreError above the longest blob, StoreUnavailable."""
        ...

    async def keep(self) -> Blob:
        """That was all of it: it is durable, under its own address, when this returns. Raises
        StoreUnavailable."""
        ...


class Blobs(Protocol):
    """Where the steps of a worker keep content, apart for each tenant. Safe for concurrent use."""

    def write(self, tenant: str, mime_type: str) -> AbstractAsyncContextManager[BlobWriter]:
        """A new blob. Nothing of it is left where the block ends before it is kept. Raises ConfigError,
        StoreUnavailable."""
        ...

    async def read(self, tenant: str, sha256: str, limit: int) -> bytes:
        """The content of one of the tenant's blobs, verified. Raises NotFound, InvalidInput above ``limit``
        bytes, ConfigError, StoreError."""
        ...

    async def close(self) -> None:
        """Close what is open."""
        ...


class StepBlob:
    """A blob as a node's code writes it; once kept it is named with the step's result."""

    def __init__(self, writer: BlobWriter, kept: list[Blob]) -> None:
        self._writer = writer
        self._kept = kept

    async def write(self, content: bytes) -> None:
        """See BlobWriter. Raises StepError."""
        await self._writer.write(content)

    async def keep(self) -> Blob:
        """See BlobWriter. Raises StepError."""
        blob = await self._writer.keep()
        self._kept.append(blob)
        return blob


@asynccontextmanager
async def step_blob(
    blobs: Blobs | None, tenant: str, mime_type: str, kept: list[Blob]
) -> AsyncIterator[StepBlob]:
    """A new blob of a step; what is kept is added to ``kept``. What the place cannot do becomes an error
    of the step. Raises StepError."""
    if blobs is None:
        raise ProviderRejected("This worker has no place for large values")
    try:
        async with blobs.write(tenant, mime_type) as writer:
            yield StepBlob(writer, kept)
    except (StoreError, ConfigError) as error:
        away = ProviderUnavailable if error.retryable else ProviderRejected
        raise away(error.message) from error


async def read_blob(blobs: Blobs | None, tenant: str, uri: str, limit: int) -> bytes:
    """The content of the tenant's blob of this address, at most ``limit`` bytes. Raises StepError."""
    sha256 = uri.removeprefix("blob:sha256:")
    if not _ADDRESS.fullmatch(uri):
        raise InvalidInput(f"{uri[:100]!r} is no address of a blob: blob:sha256:... is")
    if blobs is None:
        raise ProviderRejected("This worker has no place for large values")
    try:
        return await blobs.read(tenant, sha256, limit)
    except NotFound as error:
        raise InvalidInput(f"There is no blob {uri}, or it was erased") from error
    except (StoreError, ConfigError) as error:
        # Nothing was called yet, so being away uses up no attempt.
        away = ConnectionFailed if error.retryable else ProviderRejected
        raise away(error.message) from error
