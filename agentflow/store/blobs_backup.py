"""Large values in a backup: those of a folder travel in the file, those of a bucket are only named.

In the file each is ``blobs/<tenant>/<sha256>``. What a backup takes along is put into the space of the
database that it is restored to; what it names stays where it is, in the space it was put into.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Iterator
from typing import NamedTuple
from uuid import UUID

import msgspec

from agentflow.errors import ConfigError
from agentflow.store.blobs import PIECE_BYTES, BlobStore, space_of
from agentflow.store.blobs_collection import LOCK
from agentflow.store.blobs_references import Reference
from agentflow.store.pool import Connection, unavailable

Opener = Callable[[UUID], BlobStore]
"""Opens the place of large values for a database's space."""
Say = Callable[[str], None]

_CHUNK = 1 << 18
_FOLDER = "blobs/"

_USED = """
SELECT b.tenant_id, b.sha256, b.size FROM blobs b
 WHERE EXISTS (SELECT 1 FROM blob_uses u WHERE u.tenant_id = b.tenant_id AND u.sha256 = b.sha256)
 ORDER BY b.tenant_id, b.sha256"""
_KEEP_SPACE = "UPDATE blob_space SET space = $1"
_NEXT = """
SELECT setval(pg_get_serial_sequence('blobs', 'made'), (SELECT coalesce(max(made), 0) + 1 FROM blobs),
              false)"""
_ORPHANS = """
INSERT INTO blobs (tenant_id, sha256, size, media_type)
SELECT r.tenant, r.sha256, r.size, 'application/octet-stream'
  FROM unnest($1::uuid[], $2::bytea[], $3::bigint[]) AS r(tenant, sha256, size)
  JOIN tenants t ON t.tenant_id = r.tenant
    ON CONFLICT DO NOTHING"""


class Values(msgspec.Struct, frozen=True, kw_only=True):
    """Large values of a backup. ``inside``: they are in the file, else they are at ``place`` only, in
    ``space``. ``size`` in bytes; ``missing``: those that were lost or damaged already."""

    place: str
    space: str
    inside: bool
    count: int
    size: int
    missing: tuple[str, ...] = ()


class Member(NamedTuple):
    """A large value in the file."""

    tenant: UUID
    sha256: str
    name: str


async def hold(connection: Connection) -> None:
    """Nothing is collected until this connection is closed. To be called before the snapshot is taken."""
    with unavailable():
        await connection.execute("SELECT pg_advisory_lock_shared($1)", LOCK)


async def write(
    connection: Connection, archive: zipfile.ZipFile, opener: Opener, say: Say
) -> Values | None:
    """Take the snapshot's large values along, or name their place; None where its revision has none.

    Raises ConfigError, StoreUnavailable.
    """
    if await connection.fetchval("SELECT to_regclass('blobs')") is None:
        return None
    space = await space_of(connection)
    store = opener(space)
    count, size, missing = 0, 0, []
    async for row in connection.cursor(_USED):
        reference = Reference(row["sha256"].hex(), row["size"])
        if store.local:
            if not await _is_whole(store, row["tenant_id"], reference):
                missing.append(reference.sha256)
                say(f"large value {reference.sha256} is missing or damaged: not in the backup")
                continue
            name = f"{_FOLDER}{row['tenant_id'].hex}/{reference.sha256}"
            with archive.open(name, "w", force_zip64=True) as file:
                async for piece in store.pieces(row["tenant_id"], reference.sha256):
                    file.write(piece)
        count, size = count + 1, size + reference.size
    if store.local:
        say(f"large values: {count}, {size} bytes")
    elif count:
        say(f"large values: {count} stay in {store.place}; the file holds references to them only")
    return Values(
        place=store.place,
        space=space.hex,
        inside=store.local,
        count=count,
        size=size,
        missing=tuple(missing),
    )


async def _is_whole(store: BlobStore, tenant: UUID, reference: Reference) -> bool:
    """Whether the content lies there as it was put; it is read once for it, piece by piece."""
    digest, size = hashlib.sha256(), 0
    async for piece in store.pieces(tenant, reference.sha256):
        digest.update(piece)
        size += len(piece)
    return size == reference.size and digest.hexdigest() == reference.sha256


def members(archive: zipfile.ZipFile) -> Iterator[Member]:
    """The large values in the file. Raises ValueError where a name is none of ours."""
    for name in archive.namelist():
        if name.startswith(_FOLDER):
            tenant, sha256 = name.removeprefix(_FOLDER).split("/")
            yield Member(UUID(hex=tenant), bytes.fromhex(sha256).hex(), name)


def fault(archive: zipfile.ZipFile, values: Values | None) -> str | None:
    """What is wrong with the large values in the file, or None."""
    found = 0
    try:
        for member in members(archive):
            digest = hashlib.sha256()
            with archive.open(member.name) as content:
                while chunk := content.read(_CHUNK):
                    digest.update(chunk)
            if digest.hexdigest() != member.sha256:
                return f"the checksum of the large value {member.sha256} does not hold"
            found += 1
    except ValueError:
        return "it names large values that are not ours"
    expected = values.count if values is not None and values.inside else 0
    return None if found == expected else f"it holds {found} of {expected} large values"


async def former_space(connection: Connection) -> UUID | None:
    """The space of a database that is about to be replaced."""
    if await connection.fetchval("SELECT to_regclass('blob_space')") is None:
        return None
    return await space_of(connection)


async def restore(
    connection: Connection,
    archive: zipfile.ZipFile,
    values: Values,
    former: UUID | None,
    opener: Opener,
    say: Say,
) -> None:
    """Put the large values of the file where this machine keeps them, before what names them is
    committed. Raises ConfigError where they are kept elsewhere, StoreUnavailable."""
    await connection.execute(_NEXT)
    if not values.inside:
        await connection.execute(_KEEP_SPACE, UUID(hex=values.space))
    elif former is not None:
        await connection.execute(_KEEP_SPACE, former)
    store = opener(await space_of(connection))
    if not values.inside:
        if values.count and store.place != values.place:
            raise ConfigError(
                f"The backup refers to {values.count} large values in {values.place}, and does not hold "
                "them: set AGENTFLOW_BLOBS to that place, with the AWS_* variables it needs"
            )
        return
    for member in members(archive):
        size = archive.getinfo(member.name).file_size
        async with store.draft() as draft:
            with archive.open(member.name) as content:
                while piece := content.read(PIECE_BYTES):
                    await draft.write(piece)
            await draft.keep(member.tenant, member.sha256, size)
    await _adopt(connection, store)
    say(f"large values: {values.count}")


async def _adopt(connection: Connection, store: BlobStore) -> None:
    """What lies there from before the restore gets rows too, so that it is collected."""
    held = await store.held()
    await connection.execute(
        _ORPHANS,
        [blob.tenant for blob in held],
        [bytes.fromhex(blob.sha256) for blob in held],
        [blob.size for blob in held],
    )
