"""Blobs of a tenant, and links to them, for the API and the command line."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import msgspec

from agentflow.access.links import DEFAULT_S, Verdict, judge, sign
from agentflow.errors import NotFound

if TYPE_CHECKING:
    from agentflow.execution.events import Blob
    from agentflow.store.blobs_reading import BlobReader, Content

Json = Any

URI = re.compile(r"blob:sha256:([0-9a-f]{64})")
"""The address of a blob, as results show it."""
MOST = 100
"""Blobs of one answer that links are made to."""


class Link(msgspec.Struct, frozen=True):
    """A blob, and the query that lets anybody read it until ``expires`` (seconds since the epoch)."""

    blob: Blob
    tenant: str
    expires: int
    signature: str


async def link(reader: BlobReader, tenant: str, sha256: str, expires_s: float = DEFAULT_S) -> Link:
    """A link to one of the tenant's blobs. Raises NotFound, StoreUnavailable."""
    found = await links(reader, tenant, (sha256,), expires_s)
    if not found:
        raise NotFound("Blob not found")
    return found[0]


async def links(
    reader: BlobReader, tenant: str, sha256s: tuple[str, ...], expires_s: float = DEFAULT_S
) -> tuple[Link, ...]:
    """Links to those of these blobs that the tenant has, in this order. Raises StoreUnavailable."""
    found = await reader.find(tenant, sha256s)
    if not found:
        return ()
    key, expires = await reader.signing_key(), int(time.time() + expires_s)
    return tuple(
        Link(found[sha256], tenant, expires, sign(key, tenant, sha256, expires))
        for sha256 in sha256s
        if sha256 in found
    )


async def verdict(
    reader: BlobReader, tenant: str, sha256: str, expires: int, signature: str
) -> Verdict:
    """What a link is worth. Raises StoreUnavailable."""
    return judge(await reader.signing_key(), tenant, sha256, expires, signature, time.time())


async def content(reader: BlobReader, tenant: str, sha256: str) -> Content:
    """One of the tenant's blobs, to be read. Raises NotFound, BlobLost, StoreUnavailable."""
    return await reader.open(tenant, sha256)


def named_in(encoded: bytes) -> tuple[str, ...]:
    """The SHA-256 of every blob whose address stands in this JSON, each once, in order; the first of
    them."""
    if b"blob:sha256:" not in encoded:
        return ()
    found = dict.fromkeys(each.decode() for each in _IN_JSON.findall(encoded))
    return tuple(found)[:MOST]


_IN_JSON = re.compile(rb'"blob:sha256:([0-9a-f]{64})"')
