"""Large values in a bucket that speaks S3. Endpoint and credentials come from the AWS_* variables."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from agentflow.errors import ConfigError, StoreUnavailable
from agentflow.store.blobs import ABANDONED_S, PIECE_BYTES, BlobStore, Draft, Held

RETRIES = 2
RETRY_S = 10.0
CONNECT_S = 5.0
REQUEST_S = 60.0
"""The longest that one request may take; large blobs go in several."""
PART_BYTES = 8 << 20
"""A part of an upload, of which S3 takes 10 000; and what a request reads of what is read in pieces."""
PARTS_AT_ONCE = 2
_DRAFTS = ".drafts/"


def open_bucket(place: str, space: UUID) -> BlobStore:
    """A BlobStore in ``s3://bucket/prefix``. Raises ConfigError."""
    bucket, _, prefix = place.removeprefix("s3://").strip("/").partition("/")
    if not bucket or not set(bucket).isdisjoint("@?#: "):
        raise ConfigError(
            "AGENTFLOW_BLOBS must be a folder or s3://bucket/prefix, without anything else"
        )
    try:
        from obstore.exceptions import BaseError
        from obstore.store import S3Store
    except ImportError:
        raise ConfigError("AGENTFLOW_BLOBS names a bucket: pip install 'agentflow[s3]'") from None
    try:
        store = S3Store(
            bucket,
            prefix="/".join(filter(None, (prefix, space.hex))),
            client_options={
                "allow_http": _endpoint().startswith("http://"),
                "connect_timeout": timedelta(seconds=CONNECT_S),
                "timeout": timedelta(seconds=REQUEST_S),
            },
            retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_S)},
        )
    except BaseError as error:
        raise ConfigError(
            f"The bucket {bucket} cannot be used ({type(error).__name__}): check the AWS_* variables"
        ) from None
    return BlobBucket(store, "s3://" + "/".join(filter(None, (bucket, prefix))))


def _endpoint() -> str:
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


class BlobBucket:
    """A BlobStore of objects ``<prefix>/<space>/<tenant>/<ab>/<sha256>``."""

    local = False

    def __init__(self, store: Any, place: str) -> None:
        self._store, self.place = store, place

    async def put(
        self, tenant: UUID, sha256: str, content: bytes, after: Awaitable[object] | None = None
    ) -> None:
        """See the contract."""
        import obstore

        if after is not None:
            await after
        path = _path(tenant, sha256)
        with self._reachable():
            with contextlib.suppress(FileNotFoundError):
                found = await obstore.head_async(self._store, path)
                if found["size"] == len(content):
                    return
            await obstore.put_async(self._store, path, content)

    @contextlib.asynccontextmanager
    async def draft(self) -> AsyncIterator[Draft]:
        """See the contract. An upload in parts, whose object is copied to its address by the server;
        an upload that breaks off is aborted."""
        draft = _BucketDraft(self)
        try:
            yield draft
        except BaseException as error:
            await draft.abort(error)
            raise
        else:
            await draft.abort(None)

    async def size(self, tenant: UUID, sha256: str) -> int | None:
        """See the contract."""
        import obstore

        with self._reachable():
            try:
                return int((await obstore.head_async(self._store, _path(tenant, sha256)))["size"])
            except FileNotFoundError:
                return None

    async def pieces(self, tenant: UUID, sha256: str) -> AsyncIterator[bytes]:
        """See the contract. Each part is a request, so that whoever reads may take the time that it
        needs."""
        import obstore

        size = await self.size(tenant, sha256) or 0
        for start in range(0, size, PART_BYTES):
            with self._reachable():
                end = min(start + PART_BYTES, size)
                path = _path(tenant, sha256)
                found = await obstore.get_range_async(self._store, path, start=start, end=end)
            part = bytes(found)
            for offset in range(0, len(part), PIECE_BYTES):
                yield part[offset : offset + PIECE_BYTES]

    async def get(self, tenant: UUID, sha256: str) -> bytes | None:
        """See the contract."""
        import obstore

        with self._reachable():
            try:
                found = await obstore.get_async(self._store, _path(tenant, sha256))
                return bytes(await found.bytes_async())
            except FileNotFoundError:
                return None

    async def remove(self, tenant: UUID, sha256: str) -> None:
        """See the contract."""
        import obstore

        with self._reachable(), contextlib.suppress(FileNotFoundError):
            await obstore.delete_async(self._store, _path(tenant, sha256))

    async def held(self) -> list[Held]:
        """See the contract."""
        import obstore

        held = []
        with self._reachable():
            async for page in obstore.list(self._store):
                for found in page:
                    tenant, *_, sha256 = found["path"].split("/")
                    if not tenant.startswith("."):
                        held.append(Held(UUID(hex=tenant), sha256, found["size"]))
        return held

    async def check(self) -> None:
        """See the contract."""
        import obstore
        from obstore.exceptions import BaseError

        trial = f".trial-{secrets.token_hex(4)}"
        try:
            await obstore.put_async(self._store, trial, b"trial")
            await obstore.delete_async(self._store, trial)
            await self._tidy()
        except (BaseError, OSError) as error:
            raise ConfigError(
                f"Large values cannot be kept in {self.place} ({type(error).__name__}): check that the "
                "bucket exists, its endpoint, and the credentials and region of the AWS_* variables"
            ) from None

    async def _tidy(self) -> None:
        """Remove drafts of processes that ended while they wrote."""
        import obstore

        before = datetime.now(UTC) - timedelta(seconds=ABANDONED_S)
        async for page in obstore.list(self._store, prefix=_DRAFTS):
            for found in page:
                if found["last_modified"] < before:
                    await obstore.delete_async(self._store, found["path"])

    @contextlib.contextmanager
    def _reachable(self) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, OSError) as error:
            raise StoreUnavailable(
                f"The bucket of large values, {self.place}, is away or refuses us "
                f"({type(error).__name__}): see to it and to the AWS_* variables"
            ) from None


class _BucketDraft:
    """An upload in parts, under a name of no blob."""

    def __init__(self, bucket: BlobBucket) -> None:
        import obstore

        self._bucket = bucket
        self._path = f"{_DRAFTS}{secrets.token_hex(16)}"
        self._upload: Any = obstore.open_writer_async(
            bucket._store, self._path, buffer_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE
        )
        self._whole = False

    async def write(self, content: bytes) -> None:
        """See the contract."""
        with self._bucket._reachable():
            await self._upload.write(content)

    async def keep(self, tenant: UUID, sha256: str, size: int) -> None:
        """See the contract."""
        import obstore

        with self._bucket._reachable():
            await self._upload.close()
            self._whole = True
            if await self._bucket.size(tenant, sha256) != size:
                path = _path(tenant, sha256)
                await obstore.copy_async(self._bucket._store, self._path, path)

    async def abort(self, error: BaseException | None) -> None:
        """Leave nothing but what was kept. What cannot be removed now is a draft for check to find."""
        import obstore
        from obstore.exceptions import BaseError

        with contextlib.suppress(BaseError, OSError):
            if self._whole:
                await obstore.delete_async(self._bucket._store, self._path)
            else:
                gone = error or RuntimeError("the upload was not kept")
                await self._upload.__aexit__(type(gone), gone, None)


def _path(tenant: UUID, sha256: str) -> str:
    return f"{tenant.hex}/{sha256[:2]}/{sha256}"
