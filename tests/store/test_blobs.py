"""Large values stand beside the rows: durable before they are named, verified when they are read."""

from __future__ import annotations

import asyncio
import os
import stat
import uuid
from pathlib import Path

import msgspec
import pytest

from agentflow.access.model import DEFAULT_TENANT
from agentflow.errors import BlobLost, ConfigError, StoreError, StoreUnavailable
from agentflow.execution.journal import Append, Outcome, Snapshot
from agentflow.flow import Flow, open_local
from agentflow.ids import to_uuid
from agentflow.settings import load
from agentflow.store.blobs import open_store, space_of
from agentflow.store.blobs_folder import BlobFolder
from agentflow.store.journal import PostgresJournal
from agentflow.store.sealing import Sealer
from agentflow.store.tenant import for_tenant
from tests.store.samples import accept, append, completed, started, step_completed
from tests.store.test_waits import rests, step_waiting

BIG = "large " * 200_000
ROWS = """
SELECT max(greatest(octet_length(j.payload), octet_length(e.initial_state), octet_length(e.metadata),
                    octet_length(e.final_state), octet_length(e.output), octet_length(e.error),
                    octet_length(s.details)))
  FROM executions e JOIN journal j USING (execution_id) LEFT JOIN steps s USING (execution_id)"""


class Folder(BlobFolder):
    """A folder that counts what is asked of it, and that does something else first."""

    def __init__(self, folder: Path, space: uuid.UUID) -> None:
        super().__init__(folder, space)
        self.top = folder
        self.puts, self.gets = 0, 0
        self.before_put = self.after_put = None

    async def put(self, tenant, sha256, content, after=None):
        self.puts += 1
        if self.before_put is not None:
            await self.before_put()
        await super().put(tenant, sha256, content, after)
        if self.after_put is not None:
            await self.after_put()

    async def get(self, tenant, sha256):
        self.gets += 1
        return await super().get(tenant, sha256)

    @property
    def files(self) -> list[Path]:
        found = self.top.rglob("*")
        return [path for path in found if path.is_file()]


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "blobs", uuid.uuid4())


@pytest.fixture
async def journal(pool, folder):
    opened = PostgresJournal(pool, "c/0", 30.0, Sealer(pool, folder))
    await opened.enter()
    return opened


def over(submission, seq: int, value: object) -> Append:
    step = {"step": "a", "node_id": "a", "generation": 0, "status": "completed", "result": value}
    outcome = Outcome(
        status="completed",
        final_state={"text": value},
        output=value,
        error={"type": "X", "message": "m" * 70_000},
        steps=(step,),
        ended_at=1.0,
    )
    return Append(
        execution_id=submission.execution_id,
        tenant=submission.tenant,
        first_seq=seq,
        events=(completed(value),),
        outcome=outcome,
    )


async def test_value_of_a_whole_execution_is_stored_once_and_read_everywhere(
    pool, journal, folder, new_submission
):
    one = new_submission(initial_state={"text": BIG}, metadata={"note": BIG})
    await journal.append([accept(one, started())])
    await journal.append([append(one, 3, step_completed("a", {"$blob": BIG}))])
    await journal.append([over(one, 4, BIG)])
    assert await pool.fetchval(ROWS) < 1_000
    assert await pool.fetchval("SELECT count(*) FROM blobs") == 2  # BIG, and the error's message
    assert len(folder.files) == 2 and folder.puts == 2
    assert sum(path.stat().st_size for path in folder.files) < len(BIG) + 71_000

    store = for_tenant(pool, DEFAULT_TENANT, None, Sealer(pool, folder))
    record = await store.execution(one.execution_id)
    assert record.initial_state == record.final_state == {"text": BIG}
    assert record.output == record.metadata["note"] == record.steps[0]["result"] == BIG
    assert record.error is not None and len(record.error["message"]) == 70_000
    assert folder.gets == 2
    (listed,) = (await store.executions()).executions
    assert listed.metadata == {"note": BIG}
    events = await store.events(one.execution_id)
    assert events == await journal.read(one.execution_id)
    assert events[2].event.result == {"$blob": BIG}


async def test_what_fits_a_row_goes_nowhere_else(pool, journal, folder, new_submission):
    one = new_submission(initial_state={"text": "x" * 60_000})
    await journal.append([accept(one, started(), step_completed("a", "x" * 60_000))])
    assert folder.puts == 0 and not folder.top.exists()
    assert await pool.fetchval("SELECT count(*) FROM blob_uses") == 0


async def test_content_is_durable_before_anything_names_it(pool, journal, folder, new_submission):
    one = new_submission()
    await journal.append([accept(one)])
    named = []

    async def look() -> None:
        named.append(await pool.fetchval("SELECT count(*) FROM journal WHERE seq > 1"))

    folder.before_put = look
    await journal.append([append(one, 2, started(), step_completed("a", BIG))])
    assert named == [0]


async def test_crash_between_put_and_commit_leaves_nothing_that_names_it(
    pool, journal, folder, new_submission
):
    one, put = new_submission(), asyncio.Event()
    await journal.append([accept(one)])

    async def hang() -> None:
        put.set()
        await asyncio.Event().wait()

    folder.after_put = hang
    doing = asyncio.create_task(journal.append([append(one, 2, step_completed("a", BIG))]))
    await asyncio.wait_for(put.wait(), 10)
    assert len(folder.files) == 1
    doing.cancel()
    await asyncio.wait([doing], timeout=10)
    assert [entry.seq for entry in await journal.read(one.execution_id)] == [1]
    assert await pool.fetchval("SELECT count(*) FROM blob_uses") == 0
    assert await pool.fetchval("SELECT count(*) FROM blobs") == 1  # so that the collector sees it


async def test_place_that_is_away_commits_nothing_and_is_tried_again(
    journal, tmp_path, folder, new_submission
):
    one = new_submission(initial_state={"text": BIG})
    (tmp_path / "blobs").write_text("not a folder")
    with pytest.raises(StoreUnavailable, match="away"):
        await journal.append([accept(one)])
    assert await journal.read(one.execution_id) == []
    (tmp_path / "blobs").unlink()
    await journal.append([accept(one)])
    assert (await journal.read(one.execution_id))[0].event.initial_state == {"text": BIG}


async def test_value_without_a_place_is_refused(pool, new_submission):
    journal = PostgresJournal(pool, "c/0", 30.0)
    await journal.enter()
    with pytest.raises(StoreError, match="AGENTFLOW_BLOBS"):
        await journal.append([accept(new_submission(initial_state={"text": BIG}))])


@pytest.mark.parametrize("harm", ["missing", "cut", "changed", "unreadable"])
async def test_lost_value_is_told_by_name_and_never_given(
    pool, journal, folder, new_submission, harm
):
    one, other = new_submission(initial_state={"text": BIG}), new_submission()
    await journal.append([accept(one), accept(other)])
    (file,) = folder.files
    if harm == "missing":
        file.unlink()
    elif harm == "cut":
        os.truncate(file, 1_000)
    elif harm == "changed":
        file.write_bytes(b'"X' + file.read_bytes()[2:])
    else:
        file.unlink()
        file.mkdir()
    store = for_tenant(pool, DEFAULT_TENANT, None, Sealer(pool, folder))
    for read in (store.execution, store.events, journal.read):
        with pytest.raises(BlobLost) as lost:
            await read(one.execution_id)
        assert one.execution_id in lost.value.message and file.name in lost.value.message
    assert (await store.execution(other.execution_id)).initial_state == {"user_input": "hello"}


async def test_folder_that_is_not_there_is_an_outage_and_no_loss(
    pool, journal, folder, new_submission
):
    one = new_submission(initial_state={"text": BIG})
    await journal.append([accept(one)])
    away = folder.top.rename(folder.top.with_name("unmounted"))
    with pytest.raises(StoreUnavailable):
        await journal.read(one.execution_id)
    away.rename(folder.top)
    assert len(await journal.read(one.execution_id)) == 1


async def test_rows_that_name_one_value_load_it_once(pool, journal, folder, new_submission):
    one = new_submission(initial_state={"text": BIG})
    await journal.append([accept(one, *(step_completed(name, BIG) for name in "abcdefgh"))])
    fresh = PostgresJournal(pool, "c/1", 30.0, Sealer(pool, folder))
    assert len(await fresh.read(one.execution_id)) == 9
    assert folder.gets == 1
    await fresh.read(one.execution_id)
    assert folder.gets == 1


async def test_same_content_again_is_touched_and_not_written(pool, journal, folder, new_submission):
    await journal.append([accept(new_submission(initial_state={"text": BIG}))])
    (file,) = folder.files
    written = file.stat().st_mtime_ns, file.stat().st_ino
    touched = await pool.fetchval("SELECT touched_at FROM blobs")
    other = PostgresJournal(pool, "c/1", 30.0, Sealer(pool, folder))
    await other.enter()
    await other.append([accept(new_submission(initial_state={"text": BIG}))])
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == written
    assert await pool.fetchval("SELECT touched_at FROM blobs") > touched
    assert await pool.fetchval("SELECT count(*) FROM blob_uses") == 2


async def test_content_is_kept_apart_for_each_tenant(pool, journal, folder, new_submission):
    other = uuid.uuid4()
    await pool.execute("INSERT INTO tenants (tenant_id, name) VALUES ($1, 'other')", other)
    tenants = (DEFAULT_TENANT, f"ten_{other.hex}")
    made = [new_submission(tenant=tenant, initial_state={"text": BIG}) for tenant in tenants]
    await journal.append([accept(one) for one in made])
    assert len(folder.files) == 2
    assert other.hex in {file.parent.parent.name for file in folder.files}


async def test_files_are_for_this_user_alone(journal, folder, new_submission):
    await journal.append([accept(new_submission(initial_state={"text": BIG}))])
    (file,) = folder.files
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    above = [path for path in file.parents if path.is_relative_to(folder.top)]
    assert {stat.S_IMODE(path.stat().st_mode) for path in above} == {0o700} and len(above) == 4


async def test_check_says_what_is_wrong_and_tidies_up(folder, tmp_path):
    await folder.check()
    assert folder.files == []
    (draft,) = folder.top.rglob(".drafts")
    for name, age in (("old", 100_000), ("new", 10)):
        (draft / name).write_bytes(b"begun")
        then = (draft / name).stat().st_mtime - age
        os.utime(draft / name, (then, then))
    await folder.check()
    assert [path.name for path in folder.files] == ["new"]
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="AGENTFLOW_BLOBS"):
        await open_store(str(tmp_path / "file" / "in"), tmp_path, uuid.uuid4()).check()


def test_unknown_kind_of_place_is_refused_without_its_text(tmp_path):
    with pytest.raises(ConfigError, match="s3://") as refused:
        open_store("gs://user:secret@bucket", tmp_path, uuid.uuid4())
    assert "secret" not in refused.value.message


SPEC = {"nodes": [{"id": "in", "type": "input"}], "start_node": "in"}


async def _open(dsn: str, data_dir: Path) -> Flow:
    named = {"DATABASE_URL": dsn, "AGENTFLOW_DATA_DIR": str(data_dir), "API_KEY": "k" * 40}
    return await open_local(load(named))


async def test_take_over_of_one_that_lost_a_value_stops_no_neighbour(
    pool, dsn, new_submission, tmp_path
):
    folder = Folder(tmp_path / "blobs", await space_of(pool))
    journal = PostgresJournal(pool, "c/0", 30.0, Sealer(pool, folder))
    await journal.enter()
    flow = await _open(dsn, tmp_path)
    plan = flow.plan(SPEC)
    await flow.close()
    spec = {"spec": flow.check(SPEC).normalized, "content_hash": plan.content_hash}
    broken = new_submission(**spec, initial_state={"text": BIG + "lost"})
    others = [new_submission(**spec, initial_state={"text": BIG}) for _ in range(3)]
    await journal.append([accept(broken, started())])
    (file,) = folder.files
    await journal.append([accept(one, started()) for one in others])
    await journal.release()
    file.unlink()
    flow = await _open(dsn, tmp_path)
    try:
        for one in others:
            record = await flow.wait(DEFAULT_TENANT, one.execution_id, 20)
            assert record.status == "completed" and record.final_state["text"] == BIG
        with pytest.raises(BlobLost, match=broken.execution_id):
            await flow.get(DEFAULT_TENANT, broken.execution_id)
        listed = {one.id: one.status for one in (await flow.list(DEFAULT_TENANT)).executions}
        assert listed[broken.execution_id] == "running"
    finally:
        await flow.close()


async def test_snapshot_refers_to_the_values_that_the_journal_has(
    pool, journal, folder, new_submission
):
    one = new_submission(initial_state={"text": BIG})
    await journal.append([accept(one, started(), step_completed("a", [BIG, 1]))])
    lines = [msgspec.json.encode([{"step": name, "result": BIG}] * 3) for name in "abc"]
    lines.append(msgspec.json.encode(["x" * 60_000] * 3))
    kept = Snapshot(
        execution_id=one.execution_id,
        seq=3,
        format="f",
        content=b"d" * 64 + b"\n" + b"\n".join(lines),
    )
    assert await journal.keep_snapshot(kept)
    assert await journal.snapshot(one.execution_id, "f") == kept
    assert folder.puts == 1
    size = await pool.fetchval("SELECT octet_length(state) FROM snapshots")
    assert 180_000 < size < 190_000
    (file,) = folder.files
    file.unlink()
    fresh = PostgresJournal(pool, "c/1", 30.0, Sealer(pool, folder))
    with pytest.raises(BlobLost):
        await fresh.snapshot(one.execution_id, "f")


async def test_large_question_and_large_answer_leave_the_rows_too(
    pool, journal, folder, new_submission
):
    one, other = new_submission(), new_submission()
    for each in (one, other):
        await rests(journal, each, step_waiting(prompt=BIG), step_waiting("i", prompt=BIG))
    store = for_tenant(pool, DEFAULT_TENANT, None, Sealer(pool, folder))
    assert [wait.prompt for wait in await store.waits(one.execution_id)] == [BIG, BIG]
    for number, each in enumerate((one, other)):
        await store.answer(each.execution_id, "h/0", {"text": f"{BIG}{number}"}, "somebody")
        await store.answer(each.execution_id, "i/0", {"text": "yes"}, "somebody")
    size = "SELECT (SELECT max(octet_length(asks)) FROM waits), max(octet_length(payload)) FROM commands"
    assert max(await pool.fetchrow(size)) < 1_000

    commands = await journal.commands([one.execution_id, other.execution_id])
    sent = [command.payload["data"]["text"] for command in commands]
    assert sent == [BIG + "0", "yes", BIG + "1", "yes"]
    key = to_uuid(other.execution_id, "exec")
    named = (
        "SELECT sha256 FROM blob_uses JOIN blobs USING (tenant_id, sha256) WHERE execution_id = $1"
    )
    digests = {row["sha256"].hex() for row in await pool.fetch(named, key)}
    for file in folder.files:
        if file.name in digests and file.stat().st_size > len(BIG) + 2:
            file.unlink()
    heir = PostgresJournal(pool, "c/1", 30.0, Sealer(pool, folder))
    left = await heir.commands([one.execution_id, other.execution_id])
    assert [command.payload["data"]["text"] for command in left] == [BIG + "0", "yes", "yes"]


async def test_content_has_its_name_only_after_what_is_to_come_before(folder):
    tenant, sha256 = uuid.uuid4(), "ab" * 32
    before = asyncio.get_running_loop().create_future()
    putting = asyncio.create_task(folder.put(tenant, sha256, b"content", before))
    async with asyncio.timeout(10):
        while [path.stat().st_size for path in folder.files] != [len(b"content")]:
            await asyncio.sleep(0)
    assert await folder.size(tenant, sha256) is None
    before.set_result(None)
    await putting
    assert await folder.get(tenant, sha256) == b"content"
    assert [path.name for path in folder.files] == [sha256]


async def test_content_is_put_anew_when_it_went_before_its_turn_came(folder):
    tenant, sha256 = uuid.uuid4(), "ab" * 32
    await folder.put(tenant, sha256, b"content")

    async def collected() -> None:
        await folder.remove(tenant, sha256)

    await folder.put(tenant, sha256, b"content", collected())
    assert await folder.get(tenant, sha256) == b"content"
    assert [path.name for path in folder.files] == [sha256]


async def test_content_leaves_nothing_behind_when_what_is_to_come_before_fails(folder):
    async def fails() -> None:
        raise StoreUnavailable()

    with pytest.raises(StoreUnavailable):
        await folder.put(uuid.uuid4(), "ab" * 32, b"content", fails())
    assert folder.files == []
