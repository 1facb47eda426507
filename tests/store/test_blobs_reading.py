"""Blobs as a tenant reads them, and the key of links to them."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest

from agentflow.access.links import Verdict, judge, sign
from agentflow.access.model import DEFAULT_TENANT
from agentflow.errors import StoreError
from agentflow.store.blobs import open_store, space_of
from agentflow.store.blobs_reading import BlobReader
from agentflow.store.keys import ensure_bootstrap_key
from agentflow.store.pool import open_pool

SHA256 = "ab" * 32


@pytest.fixture
async def reader(pool: asyncpg.Pool, tmp_path: Path) -> BlobReader:
    return BlobReader(pool, open_store(None, tmp_path, await space_of(pool)))


async def test_signing_key_is_the_same_in_every_replica_until_the_api_key_changes(
    reader: BlobReader, dsn: str, tmp_path: Path
) -> None:
    other = await open_pool(dsn)
    replica = BlobReader(other, open_store(None, tmp_path / "other", await space_of(other)))
    with pytest.raises(StoreError, match="first API key"):
        await reader.signing_key()
    await ensure_bootstrap_key(other, "af-first-key")
    first = await reader.signing_key()
    assert first == await replica.signing_key() and len(first) == 32
    await ensure_bootstrap_key(other, "af-second-key")
    assert first != await reader.signing_key() == await replica.signing_key()
    await other.close()


def test_link_is_good_for_what_it_was_made_for_and_no_longer() -> None:
    key = b"k" * 32
    signature = sign(key, "ten_a", SHA256, 1000)
    assert judge(key, "ten_a", SHA256, 1000, signature, 999.9) is Verdict.GOOD
    assert judge(key, "ten_a", SHA256, 1000, signature, 1000.0) is Verdict.EXPIRED
    for given in (
        (b"x" * 32, "ten_a", SHA256, 1000, signature),
        (key, "ten_b", SHA256, 1000, signature),
        (key, "ten_a", "cd" * 32, 1000, signature),
        (key, "ten_a", SHA256, 1001, signature),
        (key, "ten_a", SHA256, 1000, signature.upper()),
        (key, "ten_a", SHA256, 1000, ""),
        (key, "ten_a", SHA256, 1000, "\udcff"),
    ):
        assert judge(*given, 0.0) is Verdict.FORGED


async def test_blob_that_nothing_names_is_not_found(reader: BlobReader, pool: asyncpg.Pool) -> None:
    await pool.execute(
        "INSERT INTO blobs (tenant_id, sha256, size, media_type) "
        "SELECT tenant_id, $1, 3, 'image/png' FROM tenants",
        bytes.fromhex(SHA256),
    )
    assert await reader.find(DEFAULT_TENANT, (SHA256, "00" * 32)) == {}
