"""Large values in a bucket that speaks S3. Endpoint and credentials come from the AWS_* variables."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

from agentflow.errors import ConfigError, StoreUnavailable
from agentflow.store.blobs import BlobStore, Held

RETRIES = 2
RETRY_S = 10.0
CONNECT_S = 5.0
REQUEST_S = 60.0
"""The longest that one request may take; large blobs go in several."""


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

    async def put(self, tenant: UUID, sha256: str, content: bytes) -> None:
        """See the contract."""
        import obstore

        path = _path(tenant, sha256)
        with self._reachable():
            with contextlib.suppress(FileNotFoundError):
                found = await obstore.head_async(self._store, path)
                if found["size"] == len(content):
                    return
            await obstore.put_async(self._store, path, content)

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
        except (BaseError, OSError) as error:
            raise ConfigError(
                f"Large values cannot be kept in {self.place} ({type(error).__name__}): check that the "
                "bucket exists, its endpoint, and the credentials and region of the AWS_* variables"
            ) from None

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


def _path(tenant: UUID, sha256: str) -> str:
    return f"{tenant.hex}/{sha256[:2]}/{sha256}"
