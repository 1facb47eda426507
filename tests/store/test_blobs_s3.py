"""Large values in a bucket: the S3 protocol on loopback, and what happens when its server is away."""

from __future__ import annotations

import asyncio
import logging
import uuid
from functools import partial

import pytest

from agentflow.access.model import DEFAULT_TENANT
from agentflow.errors import BlobLost, ConfigError, StoreUnavailable
from agentflow.ids import to_uuid
from agentflow.store.backup import backup, restore
from agentflow.store.blobs import open_store, space_of
from agentflow.store.blobs_collection import collect
from agentflow.store.journal import PostgresJournal
from agentflow.store.pool import open_pool
from agentflow.store.sealing import Sealer
from agentflow.store.tenant import for_tenant
from tests.store.samples import accept, end, started, step_completed

BIG = "large " * 20_000
SHA = "ab" * 32
SECRET = "very-secret-indeed"


def _environment(monkeypatch, address: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")


@pytest.fixture
def place(bucket_server, monkeypatch) -> str:
    _environment(monkeypatch, bucket_server)
    return f"s3://values/{uuid.uuid4().hex}/of a test"


async def test_bucket_keeps_gives_lists_and_removes(place, tmp_path):
    store = open_store(place, tmp_path, uuid.uuid4())
    tenant, content = uuid.uuid4(), b"x" * 12_000_000
    await store.check()
    assert await store.get(tenant, SHA) is None and await store.held() == []
    await store.put(tenant, SHA, content)
    await store.put(tenant, SHA, content)
    assert await store.get(tenant, SHA) == content
    assert await store.held() == [(tenant, SHA, len(content))]
    other = open_store(place, tmp_path, uuid.uuid4())
    assert await other.get(tenant, SHA) is None  # another database's values are apart
    await store.remove(tenant, SHA)
    await store.remove(tenant, SHA)
    assert await store.get(tenant, SHA) is None


async def test_no_request_lasts_as_long_as_a_slow_reader_of_a_large_blob(place, tmp_path, caplog):
    store = open_store(place, tmp_path, uuid.uuid4())
    tenant, content = uuid.uuid4(), b"0123456789" * 2_000_000
    await store.put(tenant, SHA, content)
    with caplog.at_level(logging.INFO, "werkzeug"):
        assert b"".join([piece async for piece in store.pieces(tenant, SHA)]) == content
    answers = [one.getMessage() for one in caplog.records if "GET" in one.getMessage()]
    assert len(answers) == 3 and all(" 206 " in answer for answer in answers)


async def test_execution_with_large_values_lives_and_goes_in_a_bucket(
    pool, place, tmp_path, new_submission
):
    store = open_store(place, tmp_path, await space_of(pool))
    journal = PostgresJournal(pool, "c/0", 30.0, Sealer(pool, store))
    await journal.enter()
    one = new_submission(initial_state={"text": BIG})
    await journal.append([accept(one, started(), step_completed("a", BIG))])
    await journal.append([end(one, 4)])
    reader = for_tenant(pool, DEFAULT_TENANT, None, Sealer(pool, store))
    assert (await reader.execution(one.execution_id)).initial_state == {"text": BIG}
    (held,) = await store.held()
    await store.remove(held.tenant, held.sha256)
    fresh = for_tenant(pool, DEFAULT_TENANT, None, Sealer(pool, store))
    with pytest.raises(BlobLost, match=held.sha256):
        await fresh.execution(one.execution_id)
    await store.put(held.tenant, held.sha256, b"[" * held.size)
    with pytest.raises(BlobLost, match="damaged"):
        await fresh.execution(one.execution_id)
    await pool.execute("DELETE FROM blob_uses")
    await pool.execute("UPDATE blobs SET touched_at = '2001-01-01', look_at = '-infinity'")
    assert await collect(pool, store) == 1 and await store.held() == []


async def test_bucket_that_is_away_is_an_outage(pool, tmp_path, monkeypatch, new_submission):
    _environment(monkeypatch, "http://127.0.0.1:9")
    store = open_store("s3://values", tmp_path, uuid.uuid4())
    journal = PostgresJournal(pool, "c/0", 30.0, Sealer(pool, store))
    await journal.enter()
    one = new_submission(initial_state={"text": BIG})
    with pytest.raises(StoreUnavailable, match="s3://values"):
        await journal.append([accept(one)])
    assert await journal.last_seq([one.execution_id]) == {one.execution_id: 0}
    with pytest.raises(ConfigError, match="AWS_"):
        await store.check()


async def test_bucket_that_does_not_exist_is_told_without_a_credential(
    bucket_server, monkeypatch, tmp_path
):
    _environment(monkeypatch, bucket_server)
    store = open_store("s3://nobody/x", tmp_path, uuid.uuid4())
    with pytest.raises(ConfigError, match="bucket exists") as refused:
        await store.check()
    with pytest.raises(StoreUnavailable) as away:
        await store.put(uuid.uuid4(), SHA, b"x")
    assert SECRET not in refused.value.message + away.value.message
    for wrong in ("s3://", "s3://key:secret@bucket/x", "s3://bucket?key=secret"):
        with pytest.raises(ConfigError) as refused:
            open_store(wrong, tmp_path, uuid.uuid4())
        assert "secret" not in refused.value.message


async def test_backup_names_the_bucket_and_holds_references_only(
    pool, dsn, empty_dsn, place, tmp_path, new_submission
):
    store = open_store(place, tmp_path, await space_of(pool))
    journal = PostgresJournal(pool, "c/0", 30.0, Sealer(pool, store))
    await journal.enter()
    one = new_submission(initial_state={"text": BIG})
    await journal.append([accept(one)])
    told: list[str] = []
    blobs, file = partial(open_store, place, tmp_path), tmp_path / "one"
    manifest = await backup(dsn, file, version="1", force=False, say=told.append, blobs=blobs)
    assert manifest.values is not None and not manifest.values.inside
    assert (manifest.values.place, manifest.values.count) == (place, 1)
    assert any(place in line for line in told) and file.stat().st_size < len(BIG)

    elsewhere = partial(open_store, None, tmp_path)
    with pytest.raises(ConfigError, match="AGENTFLOW_BLOBS"):
        await restore(empty_dsn, file, force=False, say=told.append, blobs=elsewhere)
    await restore(empty_dsn, file, force=False, say=told.append, blobs=blobs)
    other = await open_pool(empty_dsn)
    sealer = Sealer(other, open_store(place, tmp_path, await space_of(other)))
    record = await for_tenant(other, DEFAULT_TENANT, None, sealer).execution(one.execution_id)
    assert record.initial_state == {"text": BIG}
    assert await other.fetchval("SELECT execution_id FROM blob_uses") == to_uuid(
        one.execution_id, "exec"
    )
    await asyncio.wait_for(other.close(), 10)
