"""Blobs as a tenant reads them: only its own, only those that a result of an execution refers to, and
verified on the way."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

import asyncpg

from agentflow.access.links import signing_key
from agentflow.access.model import DEFAULT_TENANT
from agentflow.errors import BlobLost, NotFound, StoreError
from agentflow.execution.events import Blob
from agentflow.store.blobs import BlobStore
from agentflow.store.blobs_references import MEDIA_TYPE
from agentflow.store.keys import BOOTSTRAP
from agentflow.store.pool import unavailable
from agentflow.store.rows import tenant_uuid

log = logging.getLogger(__name__)

# What journal rows are made of is of that other type, and for nobody but the journal. Of a tenant whose
# keys open nothing no link does either.
_FIND = """
SELECT b.sha256, b.size, b.media_type FROM blobs b
 WHERE b.tenant_id = $1 AND b.sha256 = ANY($2::bytea[]) AND b.media_type <> $3
   AND EXISTS (SELECT 1 FROM blob_uses u WHERE u.tenant_id = b.tenant_id AND u.sha256 = b.sha256)
   AND EXISTS (SELECT 1 FROM tenants t WHERE t.tenant_id = b.tenant_id AND t.status = 'active')"""

_SECRETS = """
SELECT k.key_hash, s.space FROM api_keys k, blob_space s WHERE k.tenant_id = $1 AND k.name = $2"""


class Content(NamedTuple):
    """A blob, and its content in pieces: whoever reads them to the end has what was kept."""

    blob: Blob
    pieces: AsyncIterator[bytes]


class BlobReader:
    """Reads blobs; one per process, safe for concurrent use. Every method raises StoreUnavailable while
    the database or the place of blobs is away."""

    def __init__(self, pool: asyncpg.Pool, store: BlobStore) -> None:
        self._pool, self._store = pool, store

    async def find(self, tenant: str, sha256s: Sequence[str]) -> dict[str, Blob]:
        """Those of these blobs that the tenant has, by SHA-256."""
        wanted = [bytes.fromhex(sha256) for sha256 in sha256s]
        with unavailable():
            rows = await self._pool.fetch(_FIND, tenant_uuid(tenant), wanted, MEDIA_TYPE)
        return {
            row["sha256"].hex(): Blob(row["sha256"].hex(), row["size"], row["media_type"])
            for row in rows
        }

    async def open(self, tenant: str, sha256: str) -> Content:
        """A blob and its content. Raises NotFound, BlobLost where it is missing."""
        found = (await self.find(tenant, (sha256,))).get(sha256)
        if found is None:
            raise NotFound("Blob not found")
        if await self._store.size(tenant_uuid(tenant), sha256) != found.size:
            raise self._lost(found, "missing")
        return Content(found, self._verified(tenant, found))

    async def _verified(self, tenant: str, blob: Blob) -> AsyncIterator[bytes]:
        """The content; its last piece is held back until all of it was compared. Raises BlobLost."""
        digest, size, held = hashlib.sha256(), 0, b""
        async for piece in self._store.pieces(tenant_uuid(tenant), blob.sha256):
            digest.update(piece)
            size += len(piece)
            if held:
                yield held
            held = piece
        if size != blob.size or digest.hexdigest() != blob.sha256:
            raise self._lost(blob, "damaged")
        yield held

    def _lost(self, blob: Blob, how: str) -> BlobLost:
        log.error(
            "blob_lost", extra={"sha256": blob.sha256, "how": how, "place": self._store.place}
        )
        return BlobLost(
            f"The blob {blob.uri} ({blob.size} bytes) is {how}: bring it back from a backup, then ask "
            "again"
        )

    async def signing_key(self) -> bytes:
        """The key of links to blobs; see access.links. Raises StoreError where no API key was made."""
        with unavailable():
            row = await self._pool.fetchrow(_SECRETS, tenant_uuid(DEFAULT_TENANT), BOOTSTRAP)
        if row is None:
            raise StoreError("The database holds no first API key; start AgentFlow on it once")
        return signing_key(row["key_hash"], row["space"].bytes)
