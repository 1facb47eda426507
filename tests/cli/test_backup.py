"""``agentflow backup`` and ``restore``: real processes, real data folders."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentflow.access.model import DEFAULT_TENANT
from agentflow.execution.keys import idempotency_key
from agentflow.store import embedded, migrate
from tests.conftest import new_folder
from tests.crash.test_process_killed import chain, start
from tests.fake_provider import FakeProvider, Request, Text
from tests.store.test_upgrades import DUMPS, load_dump


@pytest.fixture
def folders() -> Iterator[tuple[Path, Path]]:
    """The data folder to back up and the one to restore into; neither is there yet."""
    base = new_folder()
    yield base / "old", base / "new"
    for name in ("old", "new"):
        embedded.destroy(base / name)
    shutil.rmtree(base)


def test_execution_goes_on_in_a_restored_folder_and_nothing_finished_is_called_again(
    cli, folders, tmp_path
):
    old, new = folders
    gate = threading.Event()

    def reply(request: Request) -> Text:
        return Text("answer", gate=gate if "step 3 " in request.prompt else None)

    with FakeProvider(default=reply) as provider:
        process = start(chain(provider.base_url, 6), old)
        execution = process.stdout.readline().strip()
        assert provider.wait_for(4)
        taken = cli("backup", str(tmp_path), "-o", "json", AGENTFLOW_DATA_DIR=str(old))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        gate.set()
        assert taken.returncode == 0, taken.stderr
        manifest = json.loads(taken.stdout)
        assert manifest["executions"] == {"running": 1}
        back = cli("restore", manifest["file"], "-o", "json", AGENTFLOW_DATA_DIR=str(new))
        assert back.returncode == 0, back.stderr
        assert json.loads(back.stdout)["tables"] == manifest["tables"]
        watch = ("executions", "watch", execution, "--local", "-o", "json")
        watched = cli(*watch, AGENTFLOW_DATA_DIR=str(new))
        assert watched.returncode == 0, watched.stderr
        assert json.loads(watched.stdout)["status"] == "success"
        for number in range(6):
            key = idempotency_key(DEFAULT_TENANT, execution, f"n{number}", 0, 0)
            assert provider.idempotency_keys[key] == (2 if number == 3 else 1), number


def test_nothing_is_replaced_unasked(cli, ask, tmp_path):
    cli("run", "--local", ask(), "-i", "user_input=a", "-q")
    done = cli("backup", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("agentflow-*Z.afbackup")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert done.stdout.startswith(f"{file}: ") and "completed executions" in done.stdout
    assert "journal: " in done.stderr and "api-key" in done.stderr
    refused = cli("backup", str(file), "-o", "json")
    assert refused.returncode == 4
    assert json.loads(refused.stdout)["errors"][0]["type"] == "Conflict"
    assert cli("backup", str(file), "--force", "-q").stderr == ""
    refused = cli("restore", str(file))
    assert refused.returncode == 4
    assert "not empty" in refused.stderr and "--force" in refused.stderr
    forced = cli("restore", str(file), "--force")
    assert forced.returncode == 0, forced.stderr


def test_folder_without_a_database_is_not_found_and_not_made(cli, tmp_path):
    done = cli("backup", str(tmp_path / "one"), AGENTFLOW_DATA_DIR=str(tmp_path / "absent"))
    assert done.returncode == 4
    assert "nothing to back up" in done.stderr
    assert not (tmp_path / "absent").exists()


def test_restore_refuses_what_is_no_backup_before_it_starts_a_database(cli, tmp_path):
    (tmp_path / "broken").write_bytes(b"PK\x03\x04 and no more")
    for name, code in (("broken", 2), ("absent", 4)):
        done = cli("restore", str(tmp_path / name), AGENTFLOW_DATA_DIR=str(tmp_path / "data"))
        assert done.returncode == code, done.stderr
    assert not (tmp_path / "data").exists()


async def test_backup_leaves_the_schema_of_an_older_database_alone(cli, empty_dsn, tmp_path):
    await load_dump(empty_dsn, DUMPS[0])
    file = str(tmp_path / "one")
    done = await asyncio.to_thread(cli, "backup", file, "-o", "json", DATABASE_URL=empty_dsn)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["schema_revision"] == DUMPS[0].stem
    assert await asyncio.to_thread(migrate.current, empty_dsn) == DUMPS[0].stem
    assert empty_dsn.split(":")[2].split("@")[0] not in done.stdout + done.stderr
