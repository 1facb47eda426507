"""Blobs that the steps of a worker write: what a node's code keeps beside the journal.

The row of a blob comes before its content, as everywhere (see store.sealing): should this process die in
between, or its result never be heard of, the collector finds both. It is named by whoever commits the
step's completion, and proves there that the content is in its place.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from agentflow.errors import BlobLost, InvalidInput, NotFound, StoreError
from agentflow.execution.events import Blob
from agentflow.store.blobs import BlobStore, Draft
from agentflow.store.blobs_references import LONGEST, Reference
from agentflow.store.pool import Pool, unavailable
from agentflow.store.rows import tenant_uuid
from agentflow.store.sealing import TOUCH, is_whole

_SIZE = "SELECT size FROM blobs WHERE tenant_id = $1 AND sha256 = $2"


class Place(NamedTuple):
    """Where blobs and their rows are; ``close`` closes the way there."""

    pool: Pool
    store: BlobStore
    close: Callable[[], Awaitable[None]]


class WorkerBlobs:
    """The blobs of one worker, each of at most ``longest`` bytes. Nothing is opened before the first one
    is written."""

    def __init__(self, open_place: Callable[[], Awaitable[Place]], longest: int = LONGEST) -> None:
        self._open_place, self._longest = open_place, longest
        self._place: Place | None = None
        self._opening = asyncio.Lock()

    @asynccontextmanager
    async def write(self, tenant: str, mime_type: str) -> AsyncIterator[Writing]:
        """A new blob; see nodes.blobs.Blobs. Raises ConfigError, StoreUnavailable."""
        place = await self._opened()
        async with place.store.draft() as draft:
            yield Writing(place, draft, tenant, mime_type, self._longest)

    async def read(self, tenant: str, sha256: str, limit: int) -> bytes:
        """A blob's content; see nodes.blobs.Blobs. Raises NotFound, InvalidInput, BlobLost, ConfigError,
        StoreUnavailable."""
        place, key = await self._opened(), tenant_uuid(tenant)
        with unavailable():
            size = await place.pool.fetchval(_SIZE, key, bytes.fromhex(sha256))
        if size is None:
            raise NotFound("Blob not found")
        if size > limit:
            raise InvalidInput(
                f"The blob sha256:{sha256} has {size} bytes; {limit} are the most here"
            )
        content = await place.store.get(key, sha256)
        if content is None or not await asyncio.to_thread(
            is_whole, Reference(sha256, size), content
        ):
            raise BlobLost(
                f"The blob sha256:{sha256} is missing or damaged in {place.store.place}: bring it back "
                "from a backup"
            )
        return content

    async def _opened(self) -> Place:
        async with self._opening:
            if self._place is None:
                self._place = await self._open_place()
            return self._place

    async def close(self) -> None:
        """Close what is open."""
        if self._place is not None:
            await self._place.close()
            self._place = None


class Writing:
    """One blob under way; see nodes.blobs.BlobWriter."""

    def __init__(
        self, place: Place, draft: Draft, tenant: str, mime_type: str, longest: int
    ) -> None:
        self._place, self._draft, self._longest = place, draft, longest
        self._tenant, self._mime_type = tenant_uuid(tenant), mime_type
        self._hash, self._size = hashlib.sha256(), 0

    async def write(self, content: bytes) -> None:
        """Add one more piece. Raises StoreError above the longest blob, StoreUnavailable."""
        self._size += len(content)
        if self._size > self._longest:
            raise StoreError(f"A value may have {self._longest} bytes at most: keep it in several")
        await asyncio.gather(
            asyncio.to_thread(self._hash.update, content), self._draft.write(content)
        )

    async def keep(self) -> Blob:
        """That was all of it: it is durable when this returns. Raises StoreUnavailable."""
        blob = Blob(self._hash.hexdigest(), self._size, self._mime_type)
        key = [self._tenant], [bytes.fromhex(blob.sha256)], [blob.size], [blob.mime_type]
        with unavailable():
            await self._place.pool.execute(TOUCH, *key)
        await self._draft.keep(self._tenant, blob.sha256, blob.size)
        return blob
