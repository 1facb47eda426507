"""Blobs that steps write: nothing half done is ever seen, and what is named stays."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import urllib.request
import uuid
from pathlib import Path

import msgspec
import pytest

from agentflow.access.model import DEFAULT_TENANT
from agentflow.errors import StoreError, StoreUnavailable
from agentflow.execution.events import Blob, StepCompleted, decode, encode
from agentflow.ids import to_uuid
from agentflow.nodes.blobs import step_blob
from agentflow.store.backup import backup, restore
from agentflow.store.blobs import BlobStore, open_store, space_of
from agentflow.store.blobs_collection import collect
from agentflow.store.blobs_folder import BlobFolder
from agentflow.store.blobs_writing import Place, WorkerBlobs
from agentflow.store.journal import PostgresJournal
from agentflow.store.pool import open_pool
from agentflow.store.retention import erase
from agentflow.store.sealing import Owner, Sealer
from tests.store.samples import accept, append, end, started, step_completed
from tests.store.test_blobs_collection import AGE, ENDED, USED

PIECES = [b"%d" % number * 1_000_000 for number in range(10, 20)]
"""20 MB: several parts of an upload."""
SHA = hashlib.sha256(b"".join(PIECES)).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> BlobFolder:
    return BlobFolder(tmp_path / "blobs", uuid.uuid4())


@pytest.fixture(params=["folder", "bucket"])
def store(request, tmp_path, monkeypatch) -> BlobStore:
    """Each kind of place in turn."""
    if request.param == "folder":
        return request.getfixturevalue("folder")
    monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("bucket_server"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    return open_store(f"s3://values/{uuid.uuid4().hex}", tmp_path, uuid.uuid4())


def opened(pool, store: BlobStore, **limits: int) -> WorkerBlobs:
    async def nothing() -> None:
        """The pool is the test's."""

    async def place() -> Place:
        return Place(pool, store, nothing)

    return WorkerBlobs(place, **limits)


@pytest.fixture
async def journal(pool, store):
    made = PostgresJournal(pool, "c/0", 30.0, Sealer(pool, store))
    await made.enter()
    return made


async def write(blobs: WorkerBlobs, *pieces: bytes, mime_type: str = "text/plain") -> Blob:
    async with blobs.write(DEFAULT_TENANT, mime_type) as writer:
        for piece in pieces:
            await writer.write(piece)
        return await writer.keep()


def everything(store: BlobStore) -> list[str]:
    """The names of all that lies in the place, drafts and unfinished uploads too."""
    if store.local:
        return [path.name for path in Path(store.place).rglob("*") if path.is_file()]
    import obstore

    found = [each["path"] for page in obstore.list(store._store) for each in page]
    listing = urllib.request.urlopen(f"{os.environ['AWS_ENDPOINT_URL']}/values?uploads", timeout=10)
    return found + re.findall("<UploadId>.*?</UploadId>", listing.read().decode())


def age(folder: BlobFolder) -> None:
    """Its only file was touched two days ago."""
    (file,) = (path for path in Path(folder.place).rglob("*") if path.is_file())
    then = file.stat().st_mtime - 200_000
    os.utime(file, (then, then))


def done(*blobs: Blob, step: str = "a") -> StepCompleted:
    return msgspec.structs.replace(step_completed(step, {"rows": 1}), blobs=blobs)


async def test_blob_is_written_in_pieces_and_read_in_pieces(pool, store):
    tenant = to_uuid(DEFAULT_TENANT, "ten")
    blob = await write(opened(pool, store), *PIECES)
    assert blob == Blob(SHA, 20_000_000, "text/plain")
    assert blob.as_json() == {
        "uri": f"blob:sha256:{SHA}",
        "mime_type": "text/plain",
        "size": 20_000_000,
        "sha256": SHA,
    }
    assert await store.held() == [(tenant, SHA, blob.size)]
    assert await store.size(tenant, SHA) == blob.size and await store.size(tenant, "0" * 64) is None
    pieces = [piece async for piece in store.pieces(tenant, SHA)]
    assert b"".join(pieces) == b"".join(PIECES) and len(pieces) > 2
    assert [piece async for piece in store.pieces(tenant, "0" * 64)] == []
    assert len(everything(store)) == 1
    again = await write(opened(pool, store), b"".join(PIECES))
    assert again == blob and len(everything(store)) == 1
    assert await pool.fetchval("SELECT count(*) FROM blobs") == 1


async def test_blob_that_is_not_kept_leaves_nothing(pool, store):
    await write(opened(pool, store), b"another")
    before = everything(store)
    blobs, begun = opened(pool, store), asyncio.Event()

    async def begin(error: BaseException | None) -> None:
        async with blobs.write(DEFAULT_TENANT, "text/plain") as writer:
            for piece in PIECES:
                await writer.write(piece)
            if error is not None:
                raise error
            begun.set()
            await asyncio.Event().wait()

    with pytest.raises(ValueError, match="broken"):
        await begin(ValueError("broken"))
    task = asyncio.create_task(begin(None))
    await asyncio.wait_for(begun.wait(), 20)
    task.cancel()
    await asyncio.wait([task], timeout=20)
    async with blobs.write(DEFAULT_TENANT, "text/plain") as writer:
        await writer.write(b"forgotten")
    assert everything(store) == before
    assert await pool.fetchval("SELECT count(*) FROM blobs") == 1


async def test_what_a_process_left_that_died_while_it_wrote_is_no_blob(pool, folder):
    crashed = opened(pool, folder).write(DEFAULT_TENANT, "text/plain")
    writer = await crashed.__aenter__()
    await writer.write(PIECES[0])
    assert await folder.held() == [] and await pool.fetchval("SELECT count(*) FROM blobs") == 0
    await folder.check()
    assert len(everything(folder)) == 1  # it may still be under way
    age(folder)
    await folder.check()
    assert everything(folder) == []
    await crashed.__aexit__(None, None, None)


async def test_blob_is_named_with_the_step_and_goes_with_its_execution(
    pool, store, journal, new_submission
):
    blob, loose = [await write(opened(pool, store), text) for text in (b"named", b"loose")]
    one = new_submission()
    await journal.append([accept(one, started(), done(blob))])
    assert (await journal.read(one.execution_id))[2].event.blobs == (blob,)
    await pool.execute(AGE)
    assert await collect(pool, store) == 1
    assert [held.sha256 for held in await store.held()] == [blob.sha256] != [loose.sha256]
    fork = new_submission()  # it begins with the step of the other one
    await journal.append([accept(fork, started(), done(blob))])
    for submission, left in ((one, 1), (fork, 0)):
        await journal.append([end(submission, 4)])
        await pool.execute(ENDED)
        await erase(pool)
        assert await pool.fetchval(USED) == left
        await pool.execute(AGE)
        await collect(pool, store)
        assert len(await store.held()) == left


async def test_blob_that_was_collected_before_it_was_named_is_not_named(
    pool, store, journal, new_submission, caplog
):
    blob = await write(opened(pool, store), b"late")
    await pool.execute(AGE)
    assert await collect(pool, store) == 1
    one = new_submission()
    await journal.append([accept(one, started(), done(blob))])
    assert await pool.fetchval(USED) == 0 and len(await journal.read(one.execution_id)) == 3
    assert [record.message for record in caplog.records if record.message == "blob_lost"]
    again = await write(opened(pool, store), b"late")
    await journal.append([append(one, 4, done(again, step="b"))])
    assert again == blob and await pool.fetchval(USED) == 1


async def test_blob_is_named_though_its_row_was_condemned_meanwhile(pool, folder, new_submission):
    journal = PostgresJournal(pool, "c/0", 30.0, Sealer(pool, folder))
    await journal.enter()
    blob = await write(opened(pool, folder), b"condemned")
    await pool.execute("UPDATE blobs SET made = DEFAULT")
    one = new_submission()
    await journal.append([accept(one, started(), done(blob, blob))])
    assert await pool.fetchval(USED) == 1
    await pool.execute("UPDATE blobs SET made = DEFAULT")
    with pytest.raises(StoreUnavailable, match="collected before it was named"):
        await journal.append([append(one, 4, done(blob, step="b"))])
    await journal.append([append(one, 4, done(blob, step="b"))])
    assert len(await journal.read(one.execution_id)) == 4


async def test_blob_of_the_same_content_and_another_type_is_named_too(pool, folder, new_submission):
    journal = PostgresJournal(pool, "c/0", 30.0, Sealer(pool, folder))
    await journal.enter()
    blobs = [await write(opened(pool, folder), b"[]", mime_type=kind) for kind in ("a/b", "c/d")]
    one = new_submission()
    await journal.append([accept(one, started(), done(*blobs))])
    assert await pool.fetchval(USED) == 1 and len(await folder.held()) == 1


async def test_only_the_newest_blobs_that_were_named_are_remembered(pool, folder, new_submission):
    sealer = Sealer(pool, folder, remembered=2)
    owner = Owner(to_uuid(DEFAULT_TENANT, "ten"), to_uuid(new_submission().execution_id, "exec"))
    blobs = [await write(opened(pool, folder), text) for text in (b"old", b"new", b"newest")]
    assert len((await sealer.hold([(owner, blob) for blob in blobs[:1]])).named) == 1
    assert len((await sealer.hold([(owner, blob) for blob in blobs])).named) == 3
    for blob in blobs:
        await folder.remove(owner.tenant, blob.sha256)
    held = await sealer.hold([(owner, blob) for blob in blobs])
    assert {blob.reference.sha256 for blob in held.made} == {blob.sha256 for blob in blobs[1:]}


async def test_blob_needs_a_place_where_it_is_named(pool, new_submission):
    journal = PostgresJournal(pool, "c/0", 30.0)
    await journal.enter()
    with pytest.raises(StoreError, match="AGENTFLOW_BLOBS"):
        await journal.append([accept(new_submission(), started(), done(Blob("0" * 64, 1)))])


async def test_longest_blob_is_a_limit_and_an_absent_place_an_error(pool, folder, tmp_path):
    with pytest.raises(StoreError, match="at most"):
        await write(opened(pool, folder, longest=5), b"1234", b"56")
    (tmp_path / "file").write_text("")
    away = BlobFolder(tmp_path / "file", uuid.uuid4())
    with pytest.raises(StoreUnavailable, match="away"):
        await write(opened(pool, away), b"1")
    for store, said in ((folder, "at most"), (away, "away")):
        with pytest.raises(Exception, match=said) as caught:
            async with step_blob(opened(pool, store, longest=5), DEFAULT_TENANT, "a/b", []) as blob:
                await blob.write(b"123456")
        assert caught.value.retryable is (store is away)
    assert everything(folder) == []


async def test_backup_takes_written_blobs_along_in_pieces(
    pool, dsn, empty_dsn, tmp_path, new_submission
):
    store = open_store(None, tmp_path, await space_of(pool))
    journal = PostgresJournal(pool, "c/0", 30.0, Sealer(pool, store))
    await journal.enter()
    blob = await write(opened(pool, store), *PIECES)
    await journal.append([accept(new_submission(), started(), done(blob))])
    file, told = tmp_path / "one", []

    def opener(space: uuid.UUID) -> BlobStore:
        return open_store(None, tmp_path / space.hex[:4], space)

    here = open_store(None, tmp_path, await space_of(pool))
    await backup(dsn, file, version="1", force=False, say=told.append, blobs=lambda _: here)
    await restore(empty_dsn, file, force=False, say=told.append, blobs=opener)
    other = await open_pool(empty_dsn)
    restored = opener(await space_of(other))
    await other.close()
    (held,) = await restored.held()
    content = b"".join([piece async for piece in restored.pieces(held.tenant, held.sha256)])
    assert content == b"".join(PIECES)


def test_event_without_blobs_is_what_it_was():
    assert b"blobs" not in encode(step_completed("a", 1))
    assert decode(encode(done(Blob(SHA, 3, "a/b")))).blobs == (Blob(SHA, 3, "a/b"),)
