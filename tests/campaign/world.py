"""Everything a campaign needs, each in processes of its own: databases, proxies, provider, the system."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from agentflow.distributed import sweep
from tests.campaign import builds, target
from tests.campaign.database import Database

Json = Any

ROOT = Path(__file__).resolve().parents[2]
KEY = "af-campaign-key-of-the-fault-campaign"
LEASE_S, HEARTBEAT_S = 4.0, 1.0
START_S = 180.0
SECOND = "second"
ON_RAY, ALONE = "tests.campaign.system", "tests.campaign.alone"
"""The system as it is deployed; and all of it in one process."""
AUDIT = """
CREATE TABLE IF NOT EXISTS campaign_owners (
    n bigint GENERATED ALWAYS AS IDENTITY, execution_id uuid, owner text, epoch bigint);
CREATE INDEX IF NOT EXISTS campaign_owners_by_execution ON campaign_owners (execution_id);
CREATE OR REPLACE FUNCTION campaign_note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO campaign_owners (execution_id, owner, epoch)
    VALUES (NEW.execution_id, NEW.owner, NEW.owner_epoch);
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER campaign_accepted AFTER INSERT ON executions
    FOR EACH ROW EXECUTE FUNCTION campaign_note();
CREATE OR REPLACE TRIGGER campaign_moved AFTER UPDATE ON executions FOR EACH ROW
    WHEN (OLD.owner IS DISTINCT FROM NEW.owner OR OLD.owner_epoch IS DISTINCT FROM NEW.owner_epoch)
    EXECUTE FUNCTION campaign_note();
"""
"""Who owned an execution when, written down by the database itself."""


class World:
    """One campaign's world. Everything is on loopback, below one folder, and ended by :meth:`close`."""

    def __init__(
        self,
        build: builds.Build = builds.REAL,
        seed: int = 0,
        nodes: int = 2,
        system: str = ON_RAY,
    ) -> None:
        self.build, self.seed, self.nodes, self.system = build, seed, nodes, system
        self.folder = Path(tempfile.mkdtemp(prefix="af-camp-", dir="/tmp"))
        self.folder.chmod(0o711)
        self.ledger = self.folder / "ledger.db"
        self.url = self.provider = ""
        self.database = Database(self.folder / "pg")
        self.target = Database(self.folder / "tg")
        """The one that workflows write to."""
        self.coordinators: dict[int, str] = {}
        """Process id -> id in the database, as last told by the system."""
        self.restarts = 0
        self._system: subprocess.Popen[str] | None = None
        self._ledger: subprocess.Popen[str] | None = None
        self._second: subprocess.Popen[bytes] | None = None
        self._told: dict[str, Json] = {}
        self._asking = asyncio.Lock()

    async def open(self) -> None:
        builds.place(self.build, self.folder / "build")
        await asyncio.gather(self.database.open(), self.target.open())
        await target.prepare(self.target)
        await asyncio.to_thread(self._start_ledger)
        await self.whole()
        await self.database.execute(AUDIT)

    async def close(self) -> None:
        """End everything in order, then whatever is left of it."""
        self.heal()
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._end_second)
            await asyncio.to_thread(self._end_system, 40.0)
        await asyncio.to_thread(self._sweep)
        if self._ledger is not None:
            self._ledger.communicate(timeout=20)
        for database in (self.database, self.target):
            await database.close()
            await database.remove()

    async def whole(self) -> None:
        """The networks are whole again, and the system is up; Ray itself gives a busy machine 30 s."""
        self.heal()
        for left in (4, 3, 2, 1, 0):
            if self._system is not None and self._system.poll() is None:
                return
            try:
                await self.start_system()
            except RuntimeError:
                if not left:
                    raise
                await asyncio.to_thread(self._end_system, 0.0)

    def heal(self) -> None:
        """The networks are whole again."""
        self.database.proxy.heal()
        self.target.proxy.heal()

    def remove(self) -> None:
        """The folder with ledger, client's notes and logs."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start_ledger(self) -> None:
        self._ledger = subprocess.Popen(
            [sys.executable, "-m", "tests.campaign.ledger", str(self.ledger), str(self.seed)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._ledger.stdout is not None
        self.provider = f"http://127.0.0.1:{int(self._ledger.stdout.readline())}/v1"

    async def start_system(self) -> None:
        """Start Ray, coordinators, pools and API; again after the whole of it was killed."""
        await asyncio.to_thread(self._start_system)
        if self.nodes > 1:
            await self.start_second()
        await self.look()

    def _start_system(self) -> None:
        log = (self.folder / "system.log").open("a")
        self._system = subprocess.Popen(
            [sys.executable, "-m", self.system],
            cwd=self.folder / "build", env=self._environment(), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
        )  # fmt: skip
        assert self._system.stdout is not None
        line = self._system.stdout.readline()
        if not line:
            said = (self.folder / "system.log").read_text()[-3000:]
            raise RuntimeError(f"The system does not start: {said}")
        self.restarts += 1
        self._told = json.loads(line)
        self.url = f"http://127.0.0.1:{self._told['port']}"

    def _environment(self) -> dict[str, str]:
        kept = ("PATH", "LANG", "TMPDIR")
        return {
            **{name: os.environ[name] for name in kept if name in os.environ},
            "HOME": str(self.folder),
            "PYTHONPATH": f"{self.folder / 'build'}:{ROOT}",
            "DATABASE_URL": self.database.through,
            target.VARIABLE: self.target.through,
            "AGENTFLOW_SOURCE_ENV": target.VARIABLE,
            "API_KEY": KEY,
            "AGENTFLOW_DATA_DIR": str(self.folder / "data"),
            "AGENTFLOW_LEASE_S": str(LEASE_S),
            "AGENTFLOW_HEARTBEAT_S": str(HEARTBEAT_S),
            "AGENTFLOW_EGRESS_ALLOW": "127.0.0.0/8",
            "LOG_LEVEL": "INFO",
            "OMP_NUM_THREADS": "1",
        }

    async def start_second(self) -> None:
        """A second node of the cluster: a raylet of its own, with workers of its own."""
        await asyncio.to_thread(self._start_second)
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if SECOND in (await self.look()).get("nodes", ()):
                return
            if self._second is not None and self._second.poll() is not None:
                await asyncio.to_thread(self._start_second)  # Ray gives a busy machine 30 s
            await asyncio.sleep(0.3)
        said = (self.folder / "second.log").read_text()[-3000:]
        raise TimeoutError(f"The second node does not come up: {said}")

    def _start_second(self) -> None:
        command = [sys.executable, "-m", "tests.campaign.second", self._told["address"], SECOND]
        with (self.folder / "second.log").open("a") as log:
            self._second = subprocess.Popen(
                command, env={**self._environment(), **self._told["environment"]},
                stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=self.folder / "build",
                start_new_session=True,
            )  # fmt: skip

    async def look(self) -> dict[str, Json]:
        """Ask the system where its coordinators are; {} when it does not say so."""
        async with self._asking:
            try:
                found = await asyncio.wait_for(asyncio.to_thread(self._ask), 40)
            except (OSError, ValueError, TimeoutError):
                return {}
        self.coordinators = {each["pid"]: each["id"] for each in found["coordinators"]}
        return dict(found)

    def _ask(self) -> dict[str, Json]:
        assert self._system is not None and self._system.stdin and self._system.stdout
        self._system.stdin.write("\n")
        self._system.stdin.flush()
        return dict(json.loads(self._system.stdout.readline()))

    def members(self, *kinds: str) -> list[psutil.Process]:
        """Living processes of the cluster whose title begins with one of these."""
        found = []
        for process in psutil.process_iter():
            try:
                title = process.cmdline()[:1]
                ours = title and title[0].startswith(kinds) and self._is_ours(process)
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue  # ended meanwhile
        return found

    def _is_ours(self, process: psutil.Process) -> bool:
        folder = str(self._told.get("folder", "/nowhere"))
        return any(file.path.startswith(f"{folder}/") for file in process.open_files())

    def raylets(self) -> dict[str, psutil.Process]:
        """``{"head": ..., "second": ...}``, those that live."""
        found = {}
        folder = str(self._told.get("folder", "/nowhere"))
        for process in psutil.process_iter():
            try:
                words = process.cmdline()
            except psutil.Error:
                continue
            if words and words[0].endswith("/raylet") and any(folder in word for word in words):
                second = any(word.rpartition("=")[2] == SECOND for word in words)
                found[SECOND if second else "head"] = process
        return found

    async def restart_second(self) -> None:
        """After its death: what is left of the second node is ended, then it starts anew."""
        await asyncio.to_thread(self._end_second)
        await self.start_second()

    async def restart_system(self) -> None:
        """After a death of the whole system: what is left of it is swept up, then it starts anew."""
        await asyncio.to_thread(self._end_second)
        await asyncio.to_thread(self._end_system, 0.0)
        await asyncio.to_thread(self._sweep)
        await self.start_system()

    def _end_second(self) -> None:
        if self._second is not None and self._second.poll() is None:
            try:
                self._second.communicate(timeout=15)
            except subprocess.TimeoutExpired:
                self._second.kill()
                self._second.wait(5)

    def _end_system(self, patience_s: float) -> None:
        system, self._system = self._system, None
        if system is None:
            return
        with contextlib.suppress(OSError):
            assert system.stdin is not None
            system.stdin.close()
        try:
            system.wait(patience_s)
        except subprocess.TimeoutExpired:
            system.kill()
            system.wait(5)

    def _sweep(self) -> None:
        folder = Path(str(self._told.get("folder", "")))
        if folder.name.startswith(sweep.PREFIX) and folder.exists():
            for process in sweep.members(folder):
                with contextlib.suppress(psutil.Error):
                    process.send_signal(signal.SIGCONT)
            sweep.sweep(folder, 0.0)
