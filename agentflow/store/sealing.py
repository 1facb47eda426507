"""What is too large for a row goes to the blob store before the row that names it is committed.

A writer does it in this order: touch the blob's row (from then on the collector leaves it alone), put the
content, and name it in the transaction of the rows that hold the reference. Naming locks the blob's row
and proves that it is the very one that was touched; where the collector took it in between, nothing is
committed and all of it is done again. So no committed row ever names content that is not there.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from agentflow.errors import BlobLost, StoreError, StoreUnavailable
from agentflow.execution.events import Blob, decode
from agentflow.execution.journal import Recorded
from agentflow.store.blobs import BlobStore
from agentflow.store.blobs_references import (
    LIMIT,
    MARK,
    Reference,
    Split,
    Texts,
    Unencoded,
    holds_marker,
    is_marked,
    join,
    references,
    split,
    split_lines,
)
from agentflow.store.pool import Connection, unavailable
from agentflow.store.rows import execution_id

CACHE_BYTES = 32_000_000
"""Blobs kept in memory for the next reader, each of at most a quarter of it."""
REMEMBERED = 4096
"""Blobs that this process has put: they are named again without being put again."""
AT_ONCE = 8

log = logging.getLogger(__name__)

TOUCH = """
INSERT INTO blobs AS b (tenant_id, sha256, size, media_type)
SELECT * FROM unnest($1::uuid[], $2::bytea[], $3::bigint[], $4::text[]) AS r(tenant, sha256, size, type)
 ORDER BY tenant, sha256
ON CONFLICT (tenant_id, sha256) DO UPDATE SET touched_at = clock_timestamp()
RETURNING tenant_id, sha256, made"""

NAME = """
WITH held AS MATERIALIZED (
    SELECT 1 FROM blobs b JOIN unnest($1::uuid[], $2::bytea[], $3::bigint[]) AS r(tenant, sha256, made)
        ON b.tenant_id = r.tenant AND b.sha256 = r.sha256 AND b.made = r.made
     ORDER BY b.tenant_id, b.sha256 FOR KEY SHARE OF b),
named AS (
    INSERT INTO blob_uses (execution_id, tenant_id, sha256)
    SELECT * FROM unnest($4::uuid[], $5::uuid[], $6::bytea[]) ON CONFLICT DO NOTHING)
SELECT count(*) FROM held"""

USED = "SELECT sha256 FROM blob_uses WHERE execution_id = $1"


class Owner(NamedTuple):
    """Whose a row is: keys of a tenant and an execution."""

    tenant: UUID
    execution: UUID


class Columns(NamedTuple):
    """Rows about to be written, column by column; ``sealed``: which columns hold values, encoded
    or, where they are large, as they are."""

    owners: Sequence[Owner]
    columns: list[list[Any]]
    sealed: tuple[int, ...]


class _Blob(NamedTuple):
    tenant: UUID
    reference: Reference


class Uses(NamedTuple):
    """Blobs that rows are about to name: each with its row's number, and which execution names it."""

    made: dict[_Blob, int]
    named: set[tuple[UUID, _Blob]]

    def __bool__(self) -> bool:
        return bool(self.made)

    def and_(self, other: Uses) -> Uses:
        """Both of them."""
        return Uses({**self.made, **other.made}, self.named | other.named)


NOTHING = Uses({}, set())


class Sealer:
    """Moves large values out of rows and back; one per process, safe for concurrent use.

    ``store`` None: there is no place for them, and what is too large for a row is refused.
    ``remembered``: blobs whose place is known, the newest.
    """

    def __init__(
        self, pool: asyncpg.Pool, store: BlobStore | None, remembered: int = REMEMBERED
    ) -> None:
        self._pool, self._store, self._remembered = pool, store, remembered
        self._made: OrderedDict[_Blob, int] = OrderedDict()
        self._cache: OrderedDict[_Blob, bytes] = OrderedDict()
        self._cached_bytes = 0

    async def seal(self, *groups: Columns) -> Uses:
        """Put what is too large for a row, and leave references in its place in the columns given.

        What comes back is to be named in the transaction that writes the rows. Raises StoreError above
        the longest blob, StoreUnavailable.
        """
        large = [
            (group.columns[index], row, group.owners[row])
            for group in groups
            for index in group.sealed
            for row, content in enumerate(group.columns[index])
            if content is not None and len(content) > LIMIT
        ]
        if not large:
            return NOTHING
        parts = await asyncio.to_thread(_split_all, [column[row] for column, row, _ in large])
        blobs: dict[_Blob, bytes] = {}
        named: set[tuple[UUID, _Blob]] = set()
        for (column, row, owner), part in zip(large, parts):
            column[row] = part.content
            for reference, content in part.blobs.items():
                blob = _Blob(owner.tenant, reference)
                blobs[blob] = content
                named.add((owner.execution, blob))
        return Uses(await self._keep(blobs), named)

    async def hold(self, kept: Iterable[tuple[Owner, Blob]]) -> Uses:
        """Blobs whose content a worker kept before. What comes back is to be named as that of
        :meth:`seal`. One whose content is gone (it was asked for an hour ago, or somebody removed it) is
        logged and not named; who reads it is told that it is lost. Raises StoreError, StoreUnavailable.
        """
        owners: dict[_Blob, set[Owner]] = {}
        types: dict[tuple[UUID, str], _Blob] = {}  # one row each, whatever its writers called it
        for owner, content in kept:
            one = _Blob(owner.tenant, Reference(content.sha256, content.size, content.mime_type))
            one = types.setdefault((owner.tenant, content.sha256), one)
            owners.setdefault(one, set()).add(owner)
        if not owners:
            return NOTHING
        if self._store is None:
            raise StoreError("There is no place for a large value: AGENTFLOW_BLOBS names one")
        made = {blob: self._made[blob] for blob in owners if blob in self._made}
        new = [blob for blob in owners if blob not in made]
        if new:
            touched = await self._touch(new)
            there = await self._there(new)
            made |= (found := {blob: touched[blob] for blob in there})
            self._note(found)
            for blob in set(new) - there:
                self._lost(next(iter(owners[blob])), blob.reference, "missing")
        named = {(owner.execution, blob) for blob in made for owner in owners[blob]}
        return Uses(made, named)

    async def _keep(self, blobs: dict[_Blob, bytes]) -> dict[_Blob, int]:
        """Touch and put what this process has not put before."""
        if self._store is None:
            raise StoreError("There is no place for a value this large: AGENTFLOW_BLOBS names one")
        made = {blob: self._made[blob] for blob in blobs if blob in self._made}
        new = [blob for blob in blobs if blob not in made]
        if new:
            touching = asyncio.create_task(self._touch(new))
            try:
                await self._put({blob: blobs[blob] for blob in new}, touching)
                touched = await touching
            finally:
                touching.cancel()
            made |= touched
            self._note(touched)
        return made

    def _note(self, made: dict[_Blob, int]) -> None:
        """These are in their place."""
        self._made |= made
        while len(self._made) > self._remembered:
            self._made.popitem(last=False)

    async def _there(self, blobs: Sequence[_Blob]) -> set[_Blob]:
        """Those of the blobs whose content is in its place."""
        assert self._store is not None
        store, room = self._store, asyncio.Semaphore(AT_ONCE)

        async def size(blob: _Blob) -> int | None:
            async with room:
                return await store.size(blob.tenant, blob.reference.sha256)

        sizes: list[Any] = await asyncio.gather(*map(size, blobs), return_exceptions=True)
        _raise_first(sizes)
        return {blob for blob, found in zip(blobs, sizes) if found == blob.reference.size}

    async def _touch(self, blobs: Sequence[_Blob]) -> dict[_Blob, int]:
        columns = (
            [blob.tenant for blob in blobs],
            [bytes.fromhex(blob.reference.sha256) for blob in blobs],
            [blob.reference.size for blob in blobs],
            [blob.reference.media_type for blob in blobs],
        )
        with unavailable():
            rows = await self._pool.fetch(TOUCH, *columns)
        made = {(row["tenant_id"], row["sha256"].hex()): row["made"] for row in rows}
        return {blob: made[blob.tenant, blob.reference.sha256] for blob in blobs}

    async def _put(self, blobs: dict[_Blob, bytes], touching: asyncio.Task[Any]) -> None:
        """Each is found under its address only after its row was touched; on its way it is before."""
        assert self._store is not None
        store, room = self._store, asyncio.Semaphore(AT_ONCE)

        async def put(blob: _Blob, content: bytes) -> None:
            async with room:
                after = asyncio.shield(touching)
                await store.put(blob.tenant, blob.reference.sha256, content, after)

        puts = [put(blob, content) for blob, content in blobs.items()]
        _raise_first(await asyncio.gather(*puts, return_exceptions=True))

    async def name(self, connection: Connection, uses: Uses) -> None:
        """Name the blobs, last of all in the transaction of the rows that hold the references.

        Raises StoreUnavailable where one was collected since: then all of it is to be sealed again.
        """
        if not uses:
            return
        blobs = list(uses.made)
        held = await connection.fetchval(
            NAME,
            [blob.tenant for blob in blobs],
            [bytes.fromhex(blob.reference.sha256) for blob in blobs],
            list(uses.made.values()),
            [execution for execution, _ in uses.named],
            [blob.tenant for _, blob in uses.named],
            [bytes.fromhex(blob.reference.sha256) for _, blob in uses.named],
        )
        if held < len(blobs):
            for blob in blobs:
                self._made.pop(blob, None)
            raise StoreUnavailable(
                "A large value was collected before it was named; it is put again"
            )

    async def seal_lines(self, execution: UUID, body: bytes) -> bytes:
        """Lines of JSON that go together, however long they are, with references in place of what this
        execution's rows refer to already. Nothing is put. Raises StoreUnavailable."""
        if len(body) <= LIMIT:
            return body
        with unavailable():
            rows = await self._pool.fetch(USED, execution)
        if not rows:
            return body
        used = frozenset(row["sha256"].hex() for row in rows)
        return await asyncio.to_thread(split_lines, body, used)

    async def unseal_lines(self, owner: Owner, body: bytes) -> bytes:
        """The lines that were sealed. Raises BlobLost, StoreUnavailable."""
        if not holds_marker(body):
            return body
        (plain,) = await self.unseal(owner, [MARK + body])
        return bytes(plain)

    async def unseal(self, owner: Owner, contents: Sequence[bytes | None]) -> list[Any]:
        """The plain contents. A blob that several of them name is loaded once.

        Raises BlobLost, StoreUnavailable.
        """
        wanted: set[Reference] = set()
        for content in contents:
            if content is not None and is_marked(content):
                wanted |= references(content)
        if not wanted:
            return list(contents)
        loaded: dict[Reference, bytes] = {}
        while wanted:
            found = await self._load_all(owner, wanted)
            loaded |= found
            wanted = {each for blob in found.values() for each in references(blob)} - loaded.keys()
        return [None if content is None else join(content, loaded) for content in contents]

    async def unseal_row(self, row: asyncpg.Record, names: Iterable[str]) -> Any:
        """A row with those of its columns plain; it names its tenant and its execution."""
        names = [
            name for name in names if (content := row[name]) is not None and is_marked(content)
        ]
        if not names:
            return row
        owner = Owner(row["tenant_id"], row["execution_id"])
        contents = await self.unseal(owner, [row[name] for name in names])
        return {**row, **dict(zip(names, contents))}

    async def _load_all(self, owner: Owner, wanted: set[Reference]) -> dict[Reference, bytes]:
        room = asyncio.Semaphore(AT_ONCE)

        async def load(reference: Reference) -> bytes:
            async with room:
                return await self._load(owner, reference)

        ordered = list(wanted)
        found = await asyncio.gather(*map(load, ordered), return_exceptions=True)
        _raise_first(found)
        return dict(zip(ordered, found))  # type: ignore[arg-type]

    async def _load(self, owner: Owner, reference: Reference) -> bytes:
        blob = _Blob(owner.tenant, reference)
        content = self._cache.get(blob)
        if content is not None:
            self._cache.move_to_end(blob)
            return content
        if self._store is not None:
            content = await self._store.get(owner.tenant, reference.sha256)
        if content is None or not await asyncio.to_thread(is_whole, reference, content):
            raise self._lost(owner, reference, "missing" if content is None else "damaged")
        self._remember(blob, content)
        return content

    def _remember(self, blob: _Blob, content: bytes) -> None:
        if len(content) * 4 > CACHE_BYTES or blob in self._cache:
            return
        self._cache[blob] = content
        self._cached_bytes += len(content)
        while self._cached_bytes > CACHE_BYTES:
            self._cached_bytes -= len(self._cache.popitem(last=False)[1])

    def _lost(self, owner: Owner, reference: Reference, how: str) -> BlobLost:
        name = execution_id(owner.execution)
        place = "nowhere" if self._store is None else self._store.place
        log.error(
            "blob_lost",
            extra={"execution_id": name, "sha256": reference.sha256, "how": how, "place": place},
        )
        return BlobLost(
            f"The large value sha256:{reference.sha256} ({reference.size} bytes) of execution {name} is "
            f"{how}: bring it back from a backup, then ask again"
        )


async def recorded(
    sealer: Sealer, execution: UUID, rows: Sequence[asyncpg.Record]
) -> list[Recorded]:
    """The events of journal rows of one execution. Raises BlobLost, StoreUnavailable."""
    payloads: list[Any] = [row["payload"] for row in rows]
    if rows:
        payloads = await sealer.unseal(Owner(rows[0]["tenant_id"], execution), payloads)
    return [Recorded(row["seq"], decode(payload)) for row, payload in zip(rows, payloads)]


def is_whole(reference: Reference, content: bytes) -> bool:
    """Whether this is the content that was put."""
    return (
        len(content) == reference.size and hashlib.sha256(content).hexdigest() == reference.sha256
    )


def _raise_first(results: Sequence[object]) -> None:
    """Raise what went wrong first, once all have ended."""
    for result in results:
        if isinstance(result, BaseException):
            raise result


def _split_all(contents: Sequence[bytes | Unencoded]) -> list[Split]:
    texts: Texts = {}
    return [split(content, texts) for content in contents]
