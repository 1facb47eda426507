"""Where large values are kept: the contract, and the choice between a folder and a bucket.

Content is addressed by its SHA-256, apart for each tenant, in a space of the database's own: several
databases may share one place. A blob never changes; the rows that say which there are stand in PostgreSQL.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NamedTuple, Protocol
from uuid import UUID

import asyncpg

from agentflow.errors import ConfigError, StoreError
from agentflow.store.pool import Connection, unavailable

BUCKET = "s3://"
PIECE_BYTES = 1 << 20
"""What is read at once of a blob that is read in pieces."""
ABANDONED_S = 86_400.0
"""Age of a draft after which :meth:`BlobStore.check` removes it: its writer is gone."""
_SPACE = "SELECT space FROM blob_space"


class Held(NamedTuple):
    """A blob that lies in a store; ``size`` in bytes."""

    tenant: UUID
    sha256: str
    size: int


class Draft(Protocol):
    """Content under way whose address is not known yet. Raises StoreUnavailable as the store does."""

    async def write(self, content: bytes) -> None:
        """Add one more piece."""
        ...

    async def keep(self, tenant: UUID, sha256: str, size: int) -> None:
        """That was all of it: the blob is durable under its address when this returns. What is there
        already stays."""
        ...


class BlobStore(Protocol):
    """Keeps blobs. Every method raises StoreUnavailable while the place cannot be reached or written."""

    place: str
    """The folder, or ``s3://bucket/prefix``: for people. Never holds a credential."""
    local: bool
    """Whether the blobs lie on a disk of ours, so that a backup takes them along."""

    async def put(
        self, tenant: UUID, sha256: str, content: bytes, after: Awaitable[object] | None = None
    ) -> None:
        """Keep the content; it is durable when this returns. What is there already stays. ``after``: what
        has to have happened before it is looked for, or to be found, under its address; a store that can
        makes it durable elsewhere in the meantime. Raises what ``after`` raises."""
        ...

    def draft(self) -> AbstractAsyncContextManager[Draft]:
        """Begin content that is written piece by piece; what was not kept is gone at the end of the
        block, and what a process left that died in it is removed by :meth:`check`, a day later."""
        ...

    async def size(self, tenant: UUID, sha256: str) -> int | None:
        """How many bytes lie there; None where there are none."""
        ...

    def pieces(self, tenant: UUID, sha256: str) -> AsyncIterator[bytes]:
        """The content as it lies there, not verified, in pieces of about :data:`PIECE_BYTES`. Nothing
        where there is none."""
        ...

    async def get(self, tenant: UUID, sha256: str) -> bytes | None:
        """The content as it lies there, not verified; None where there is none."""
        ...

    async def remove(self, tenant: UUID, sha256: str) -> None:
        """Remove a blob; nothing happens where there is none."""
        ...

    async def held(self) -> list[Held]:
        """Everything that lies there."""
        ...

    async def check(self) -> None:
        """Write, read and remove a small object. Raises ConfigError where that is refused."""
        ...


def open_store(place: str | None, data_dir: Path, space: UUID) -> BlobStore:
    """The store of the setting ``AGENTFLOW_BLOBS``; a folder in the data folder where it is not set.

    ``space``: see :func:`space_of`. Raises ConfigError.
    """
    if place is not None and place.startswith(BUCKET):
        from agentflow.store.blobs_s3 import open_bucket

        return open_bucket(place, space)
    if place is not None and "://" in place:
        raise ConfigError(
            "AGENTFLOW_BLOBS must be a folder or s3://bucket/prefix; that kind of address is not known"
        )
    from agentflow.store.blobs_folder import BlobFolder

    return BlobFolder(folder_of(place, data_dir), space)


def folder_of(place: str | None, data_dir: Path) -> Path:
    """The folder of a setting that names no bucket."""
    return data_dir / "blobs" if place is None else Path(place)


async def space_of(source: asyncpg.Pool | Connection) -> UUID:
    """Which blobs are this database's. Raises StoreError, StoreUnavailable."""
    with unavailable():
        space: UUID | None = await source.fetchval(_SPACE)
    if space is None:
        raise StoreError("The database does not say which large values are its own (blob_space)")
    return space
