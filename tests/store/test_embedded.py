"""The embedded server: shared, supervised, crash-safe. Real processes, really killed."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import asyncpg
import pytest

import agentflow
from agentflow.errors import ConfigError, Conflict, StoreUnavailable
from agentflow.store.embedded import EmbeddedPostgres, destroy, join, make_data_dir, size_bytes
from agentflow.store.pool import unavailable
from tests.conftest import new_folder

ROOT = Path(__file__).parents[2]
HOLD = """
import sys
from pathlib import Path
from agentflow.store.embedded import join
held = join(Path(sys.argv[1]))
print(held.dsn, flush=True)
sys.stdin.read()
held.close()
"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another user to serve")


def _hold(data_dir: Path, python: str = sys.executable, **options: object) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    return subprocess.Popen(
        [python, "-c", HOLD, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd="/",
        **options,
    )


def _endpoint(data_dir: Path) -> dict:
    return json.loads((data_dir / "postgres" / "endpoint.json").read_text())


def _server_pid(data_dir: Path) -> int:
    return int((data_dir / "postgres" / "data" / "postmaster.pid").read_text().split()[0])


def _wait_gone(*pids: int, timeout_s: float = 20) -> None:
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            ready, _, _ = select.select([handle], [], [], timeout_s)
            assert ready, f"process {pid} is still there"
        finally:
            os.close(handle)


def _leave(held: EmbeddedPostgres, data_dir: Path) -> None:
    """Let go and do not wait for the supervisor's patience to end."""
    supervisor = _endpoint(data_dir)["supervisor"]
    held.close()
    os.kill(supervisor, signal.SIGTERM)
    _wait_gone(supervisor)


async def _query(dsn: str, statement: str, timeout_s: float = 20) -> object:
    """The statement's value, as soon as the server answers."""
    async with asyncio.timeout(timeout_s):
        while True:
            try:
                connection = await asyncpg.connect(dsn)
            except (OSError, asyncpg.PostgresError):
                await asyncio.sleep(0.02)
                continue
            try:
                return await connection.fetchval(statement)
            finally:
                await connection.close()


async def test_joins_share_one_server_and_the_last_one_stops_it(data_dir):
    first, second = join(data_dir), join(data_dir)
    assert first.dsn == second.dsn
    supervisor, server = _endpoint(data_dir)["supervisor"], _server_pid(data_dir)
    await _query(first.dsn, "CREATE TABLE kept (n int)")
    first.close()
    first.close()
    assert await _query(second.dsn, "SELECT count(*) FROM kept") == 0
    second.close()
    _wait_gone(server, supervisor)
    again = join(data_dir)
    assert again.dsn == first.dsn
    assert await _query(again.dsn, "SELECT count(*) FROM kept") == 0
    again.close()


async def test_every_acknowledged_commit_survives_a_killed_server(data_dir):
    held = join(data_dir)
    await _query(held.dsn, "CREATE TABLE acked (n int PRIMARY KEY)")
    acknowledged, server = 0, _server_pid(data_dir)
    connection = await asyncpg.connect(held.dsn)
    with pytest.raises(StoreUnavailable), unavailable():
        for n in range(100_000):
            await connection.execute("INSERT INTO acked VALUES ($1)", n)
            acknowledged += 1
            if acknowledged == 200:
                killing = threading.Thread(target=os.kill, args=(server, signal.SIGKILL))
                killing.start()
    killing.join()
    connection.terminate()
    present = await _query(held.dsn, "SELECT count(*) FROM acked")
    assert acknowledged >= 200
    # At most the one insert that was under way may be there without our having heard of it.
    assert acknowledged <= present <= acknowledged + 1
    held.close()


async def test_a_killed_supervisor_leaves_no_server_and_is_replaced(data_dir):
    held = join(data_dir)
    await _query(held.dsn, "CREATE TABLE kept AS SELECT 7 AS n")
    before, server = _endpoint(data_dir), _server_pid(data_dir)
    os.kill(before["supervisor"], signal.SIGKILL)
    _wait_gone(server)
    assert await _query(held.dsn, "SELECT n FROM kept") == 7
    after = _endpoint(data_dir)
    assert after["supervisor"] != before["supervisor"]
    assert after["dsn"] == before["dsn"]
    held.close()


async def test_a_killed_holder_counts_as_having_left(data_dir):
    holder = _hold(data_dir)
    assert holder.stdout.readline().startswith("postgresql://")
    supervisor, server = _endpoint(data_dir)["supervisor"], _server_pid(data_dir)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    _wait_gone(server, supervisor)


async def test_everything_killed_at_once_leaves_no_obstacle(data_dir):
    holder = _hold(data_dir)
    dsn = holder.stdout.readline().strip()
    await _query(dsn, "CREATE TABLE kept AS SELECT 7 AS n")
    server = _server_pid(data_dir)
    for pid in (holder.pid, _endpoint(data_dir)["supervisor"], server):
        os.kill(pid, signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    held = join(data_dir)
    assert held.dsn == dsn
    assert await _query(held.dsn, "SELECT n FROM kept") == 7
    held.close()


async def test_eight_processes_joining_at_once_get_one_server(data_dir):
    holders = [_hold(data_dir) for _ in range(8)]
    addresses = {holder.stdout.readline().strip() for holder in holders}
    assert len(addresses) == 1 and addresses.pop().startswith("postgresql://")
    log = (data_dir / "postgres" / "log").read_text()
    assert log.count("database system is ready") == 1
    server = _server_pid(data_dir)
    for holder in holders:
        holder.communicate(timeout=20)
        assert holder.returncode == 0
    _wait_gone(server)


async def test_a_pid_file_of_a_stranger_is_no_obstacle(data_dir):
    held = join(data_dir)
    _leave(held, data_dir)
    pid_file = data_dir / "postgres" / "data" / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{data_dir}\n0\n0\n\n127.0.0.1\n0 0\nready\n")
    shutil.chown(pid_file, pid_file.parent.stat().st_uid)
    held = join(data_dir)
    assert await _query(held.dsn, "SELECT 1") == 1
    held.close()


def _listening(port: int) -> set[str]:
    """Addresses in the kernel's spelling on which this port is listened to."""
    tables = Path("/proc/net/tcp").read_text(), Path("/proc/net/tcp6").read_text()
    rows = [line.split() for table in tables for line in table.splitlines()[1:]]
    return {row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{port:04X}")}


async def test_the_server_listens_on_loopback_alone_and_asks_for_its_password(data_dir):
    held = join(data_dir)
    port = _endpoint(data_dir)["port"]
    assert _listening(port) == {f"0100007F:{port:04X}"}
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(held.dsn.replace("agentflow:", "agentflow:x"))
    for file in (data_dir / "postgres").iterdir():
        if file.is_file():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert await _query(held.dsn, "SHOW fsync") == "on"
    assert await _query(held.dsn, "SHOW synchronous_commit") == "on"
    assert await _query(held.dsn, "SHOW server_encoding") == "UTF8"
    assert await _query(held.dsn, "SHOW unix_socket_directories") == ""
    held.close()


async def test_another_port_is_taken_when_the_last_one_is_not_free(data_dir):
    held = join(data_dir)
    before = _endpoint(data_dir)
    _leave(held, data_dir)
    with socket.create_server(("127.0.0.1", before["port"])):
        held = join(data_dir)
        assert _endpoint(data_dir)["port"] != before["port"]
        assert await _query(held.dsn, "SELECT 1") == 1
    held.close()


def test_a_folder_of_another_version_is_refused_with_the_fix(data_dir):
    held = join(data_dir)
    _leave(held, data_dir)
    (data_dir / "postgres" / "data" / "PG_VERSION").write_text("16\n")
    with pytest.raises(ConfigError, match=r"PostgreSQL 16 .*AGENTFLOW_DATA_DIR"):
        join(data_dir)


@as_root
def test_a_folder_that_others_may_not_enter_is_refused_and_left_alone():
    closed = new_folder()
    closed.chmod(0o700)
    with pytest.raises(ConfigError, match=rf"{closed}: set AGENTFLOW_DATA_DIR"):
        join(closed / "data")
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    shutil.rmtree(closed)


@as_root
def test_root_is_served_by_nobody_who_owns_the_data_alone(data_dir):
    held = join(data_dir)
    nobody = pwd.getpwnam("nobody").pw_uid
    assert Path(f"/proc/{_server_pid(data_dir)}").stat().st_uid == nobody
    owners = {path.name: path.stat().st_uid for path in (data_dir / "postgres").iterdir()}
    assert {name for name, owner in owners.items() if owner == nobody} == {"data"}
    environment = Path(f"/proc/{_server_pid(data_dir)}/environ").read_bytes()
    assert b"PYTEST" not in environment and b"HOME" not in environment
    held.close()


@as_root
def test_an_ordinary_user_is_served_by_himself():
    """With the system's Python, because the one that runs the tests may lie in root's home."""
    python = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    packages = Path(asyncpg.__file__).parents[1]
    user = pwd.getpwnam("nobody")
    identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    environment = {"PYTHONPATH": f"{Path(agentflow.__path__[0]).parent}:{packages}"}
    readable = Path(python).exists() and not subprocess.run(
        [python, "-c", "import agentflow.store.embedded"],
        env=environment, cwd="/", stderr=subprocess.DEVNULL, check=False, **identity,
    ).returncode  # fmt: skip
    if not readable:
        pytest.skip("no Python of this version that an ordinary user could run the package with")
    folder = new_folder()
    os.chown(folder, user.pw_uid, user.pw_gid)
    holder = _hold(folder / "data", python, env=environment, **identity)
    try:
        assert holder.stdout.readline().startswith("postgresql://")
        server, home = _server_pid(folder / "data"), folder / "data" / "postgres"
        assert Path(f"/proc/{server}").stat().st_uid == user.pw_uid
        assert stat.S_IMODE((folder / "data").stat().st_mode) == 0o700
        assert not list(home.glob("server-*"))
    finally:
        holder.communicate(timeout=20)
    _wait_gone(server)
    shutil.rmtree(folder)


def test_destroy_refuses_while_held_and_then_removes_all(data_dir):
    held = join(data_dir)
    with pytest.raises(Conflict):
        destroy(data_dir)
    assert size_bytes(data_dir) > 20_000_000
    supervisor, server = _endpoint(data_dir)["supervisor"], _server_pid(data_dir)
    held.close()
    destroy(data_dir)
    _wait_gone(supervisor, server)
    assert list(data_dir.iterdir()) == []
    assert size_bytes(data_dir) == 0
    destroy(data_dir)


def test_make_data_dir_leaves_existing_folders_alone(data_dir):
    data_dir.mkdir(mode=0o750)
    before = data_dir.stat().st_mode
    make_data_dir(data_dir / "a" / "b")
    assert data_dir.stat().st_mode == before
    made = stat.S_IMODE((data_dir / "a").stat().st_mode)
    assert made == (0o711 if os.geteuid() == 0 else 0o700)
    shutil.rmtree(data_dir / "a")


def test_a_data_folder_that_cannot_be_made_is_one_sentence(data_dir):
    data_dir.mkdir()
    (data_dir / "file").write_text("")
    with pytest.raises(ConfigError, match="AGENTFLOW_DATA_DIR"):
        join(data_dir / "file" / "data")
