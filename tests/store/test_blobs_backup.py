"""Large values of a folder travel with the backup, and are whole where they arrive."""

from __future__ import annotations

import asyncio
import uuid
import zipfile
from functools import partial

import pytest

from agentflow.access.model import DEFAULT_TENANT
from agentflow.errors import BlobLost, InvalidInput
from agentflow.store.backup import backup, restore, verify
from agentflow.store.blobs import open_store, space_of
from agentflow.store.blobs_collection import collect
from agentflow.store.journal import PostgresJournal
from agentflow.store.pool import open_pool
from agentflow.store.sealing import Sealer
from agentflow.store.tenant import for_tenant
from tests.store.samples import accept

BIG = "large " * 20_000
AGE = "UPDATE blobs SET touched_at = '2001-01-01', look_at = least(look_at, '2001-01-01')"


@pytest.fixture
def here(tmp_path):
    return partial(open_store, None, tmp_path / "here")


@pytest.fixture
def there(tmp_path):
    return partial(open_store, None, tmp_path / "there")


@pytest.fixture
async def journal(pool, here):
    opened = PostgresJournal(pool, "c/0", 30.0, Sealer(pool, here(await space_of(pool))))
    await opened.enter()
    return opened


async def _state(dsn: str, blobs, execution_id: str) -> object:
    pool = await open_pool(dsn)
    try:
        sealer = Sealer(pool, blobs(await space_of(pool)))
        store = for_tenant(pool, DEFAULT_TENANT, None, sealer)
        return (await store.execution(execution_id)).initial_state["text"]
    finally:
        await asyncio.wait_for(pool.close(), 10)


async def test_values_travel_to_another_database_and_another_folder(
    pool, dsn, empty_dsn, journal, here, there, tmp_path, new_submission
):
    made = [new_submission(initial_state={"text": BIG + name}) for name in ("one", "two", "one")]
    await journal.append([accept(one) for one in made])
    file, told = tmp_path / "file", []
    manifest = await backup(dsn, file, version="1", force=False, say=told.append, blobs=here)
    assert manifest.values is not None and manifest.values.inside
    assert manifest.values.count == 2 and manifest.values.missing == ()
    assert manifest.values.size == sum(len(BIG) + 3 + 2 for _ in range(2))
    assert verify(file) == manifest
    await restore(empty_dsn, file, force=False, say=told.append, blobs=there)
    for one in made:
        assert await _state(empty_dsn, there, one.execution_id) == one.initial_state["text"]
    other = await open_pool(empty_dsn)
    assert await space_of(other) != await space_of(pool)  # no collector harms the other one
    await other.execute(AGE)
    assert await collect(other, there(await space_of(other))) == 0
    await asyncio.wait_for(other.close(), 10)


async def test_restore_in_place_leaves_what_was_there_to_the_collector(
    pool, dsn, journal, here, tmp_path, new_submission
):
    one, late = (new_submission(initial_state={"text": BIG + name}) for name in ("one", "late"))
    await journal.append([accept(one)])
    file, quiet = tmp_path / "file", {"say": lambda line: None, "blobs": here}
    await backup(dsn, file, version="1", force=False, **quiet)
    space = await space_of(pool)
    await journal.append([accept(late)])
    await journal.release()
    await restore(dsn, file, force=True, **quiet)
    await pool.expire_connections()
    assert await space_of(pool) == space
    assert await _state(dsn, here, one.execution_id) == BIG + "one"
    await pool.execute(AGE)
    assert await collect(pool, here(space)) == 1
    assert len(await here(space).held()) == 1
    assert await _state(dsn, here, one.execution_id) == BIG + "one"


async def test_value_that_is_lost_already_does_not_stop_the_backup(
    pool, dsn, empty_dsn, journal, here, there, tmp_path, new_submission
):
    kept, lost = (new_submission(initial_state={"text": BIG + name}) for name in ("one", "lost"))
    await journal.append([accept(lost)])
    (gone,) = await here(await space_of(pool)).held()
    await journal.append([accept(kept)])
    await here(await space_of(pool)).remove(gone.tenant, gone.sha256)
    file, told = tmp_path / "file", []
    manifest = await backup(dsn, file, version="1", force=False, say=told.append, blobs=here)
    assert manifest.values is not None and manifest.values.missing == (gone.sha256,)
    assert any(gone.sha256 in line for line in told)
    await restore(empty_dsn, file, force=False, say=told.append, blobs=there)
    assert await _state(empty_dsn, there, kept.execution_id) == BIG + "one"
    with pytest.raises(BlobLost, match=gone.sha256):
        await _state(empty_dsn, there, lost.execution_id)


@pytest.mark.parametrize("harm", ["changed", "left out", "added", "misnamed"])
async def test_damaged_value_in_the_file_is_found_before_anything_is_touched(
    pool, dsn, journal, here, there, tmp_path, new_submission, harm
):
    await journal.append([accept(new_submission(initial_state={"text": BIG}))])
    file, quiet = tmp_path / "file", {"say": lambda line: None}
    await backup(dsn, file, version="1", force=False, blobs=here, **quiet)
    broken = tmp_path / "broken"
    with zipfile.ZipFile(file) as whole, zipfile.ZipFile(broken, "w") as copy:
        for name in whole.namelist():
            content = whole.read(name)
            if name.startswith("blobs/"):
                if harm == "left out":
                    continue
                content = b"[" + content[1:] if harm == "changed" else content
                name = name + "x" if harm == "misnamed" else name
            copy.writestr(name, content)
        if harm == "added":
            copy.writestr(f"blobs/{uuid.uuid4().hex}/{'ab' * 32}", b"")
    with pytest.raises(InvalidInput, match="damaged"):
        await restore(dsn, broken, force=True, blobs=there, **quiet)
    assert await pool.fetchval("SELECT count(*) FROM executions") == 1
    assert not (tmp_path / "there").exists()
