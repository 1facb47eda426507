"""Who uses the system: submits executions over HTTP, notes each acknowledgement before going on, and
looks until each has ended."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import time
from pathlib import Path
from typing import Any

import httpx2

from tests.campaign.workflows import WAITS, documents
from tests.campaign.world import KEY

Json = Any

OVER = ("completed", "failed", "cancelled", "timed_out")
WEIGHTS = {
    "chain": 5, "fan": 4, "loop": 3, "relaxed": 3, "once": 3, "stubborn": 2, "slow": 4, "large": 1,
    "http": 4, "once http": 2, "db": 9, "once db": 2, "human": 3, "signals": 3, "timer": 2,
}  # fmt: skip
SHOWN = 300
"""Characters of a text that are kept."""
CANCELLED = {"slow": 0.25, "human": 0.1}
"""Share of the executions of a kind that are cancelled."""
AGAIN = 0.3
"""Share of the answers after which another one is given, which must be refused."""
SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS executions (
    id TEXT PRIMARY KEY, tag TEXT, kind TEXT, acknowledged REAL, cancel_asked REAL, released INTEGER,
    seen REAL, status TEXT, output TEXT, error TEXT, missing INTEGER);
CREATE TABLE IF NOT EXISTS answers (
    token TEXT PRIMARY KEY, execution TEXT, wait TEXT, asked REAL, told REAL, status INTEGER);
"""


def _shown(output: Json) -> str:
    """What the steps of models said, of an output that is the whole state."""
    said = {name: text for name, text in (output or {}).items() if name.startswith("said_")}
    return json.dumps({name: str(text)[:SHOWN] for name, text in said.items()})


class Notes:
    """What the client knows, on its own disk before it goes on."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.executescript(SCHEMA)

    def acknowledged(self, execution: str, tag: str, kind: str) -> None:
        self._database.execute(
            "INSERT INTO executions (id, tag, kind, acknowledged, released, missing)"
            " VALUES (?, ?, ?, ?, 0, 0)",
            (execution, tag, kind, time.time()),
        )

    def note(self, execution: str, **values: object) -> None:
        names = ", ".join(f"{name} = ?" for name in values)
        self._database.execute(
            f"UPDATE executions SET {names} WHERE id = ?", (*values.values(), execution)
        )

    def answering(self, execution: str, wait: str, token: str) -> None:
        self._database.execute(
            "INSERT INTO answers (token, execution, wait, asked) VALUES (?, ?, ?, ?)",
            (token, execution, wait, time.time()),
        )

    def answered(self, token: str, status: int) -> None:
        """What became of an answer, as far as the client was told."""
        self._database.execute(
            "UPDATE answers SET told = ?, status = ? WHERE token = ?", (time.time(), status, token)
        )

    def count(self, what: str) -> int:
        return int(
            self._database.execute(f"SELECT count(*) FROM executions WHERE {what}").fetchone()[0]
        )

    def close(self) -> None:
        self._database.close()


class Client:
    """So many users at once, each with one execution after the other."""

    def __init__(self, address: Any, provider: str, notes: Path, seed: int, users: int) -> None:
        self.open_requests = 0
        self.busy = asyncio.Event()
        """Set once an execution has ended: workers are there, and what comes now meets work."""
        self._address = address
        self._documents = documents(provider)
        self._notes = Notes(notes)
        self._chance = random.Random(seed)
        self._stopping = asyncio.Event()
        self._number = 0
        self._tokens = 0
        self._kinds: dict[str, str] = {}
        limits = httpx2.Limits(max_connections=64 + users, max_keepalive_connections=32)
        self._http = httpx2.AsyncClient(headers={"X-API-Key": KEY}, timeout=20, limits=limits)
        self._users = [asyncio.create_task(self._use()) for _ in range(users)]

    @property
    def acknowledged(self) -> int:
        return self._notes.count("1")

    @property
    def unsettled(self) -> int:
        """Acknowledged executions whose end has not been seen."""
        return self._notes.count("seen IS NULL")

    async def settle(self, limit_s: float) -> None:
        """Submit nothing more, and wait until every execution has ended, at most so long."""
        self._stopping.set()
        if self._users:
            _, late = await asyncio.wait(self._users, timeout=limit_s)
            for user in late:
                user.cancel()
            for user in self._users:
                if not user.cancelled() and user.done() and user.exception() is not None:
                    raise RuntimeError("A user of the campaign failed") from user.exception()
            await asyncio.gather(*self._users, return_exceptions=True)
        await self._http.aclose()
        self._notes.close()

    async def execute(self, kind: str) -> str:
        """Submit one until it is acknowledged; its id."""
        while True:
            self._number += 1
            tag = f"n{self._number}"
            body = {"workflow": self._documents[kind], "initial_state": {"user_input": tag}}
            answer = await self._ask("POST", "/api/v1/workflows/execute/async", body)
            if answer is not None and answer.status_code == 202:
                execution = str(answer.json()["execution_id"])
                self._notes.acknowledged(execution, tag, kind)
                self._kinds[execution] = kind
                return execution
            if answer is not None and answer.status_code in (400, 401, 422):
                raise RuntimeError(f"{kind}: {answer.text[:2000]}")
            await asyncio.sleep(self._chance.uniform(0.3, 1.0))

    async def follow(self, execution: str, cancel_after: float | None = None) -> None:
        """Look until it has ended, and answer what it waits for; ask it to stop after so many seconds."""
        answering = asyncio.create_task(self._answer_all(execution))
        try:
            await self.watch(execution, cancel_after)
        finally:
            answering.cancel()
            await asyncio.wait({answering})
        if not answering.cancelled():
            answering.result()

    async def _answer_all(self, execution: str) -> None:
        """As often as its workflow waits; an answer that was given is sometimes followed by another."""
        for wait, steps in WAITS.get(self._kinds[execution], {}).items():
            for _ in steps:
                await asyncio.sleep(self._chance.uniform(0.0, 4.0))
                while await self.answer(execution, wait) != 200:
                    await asyncio.sleep(self._chance.uniform(0.3, 1.0))
            if self._chance.random() < AGAIN:
                await self.answer(execution, wait)

    async def answer(self, execution: str, wait: str) -> int:
        """Answer a node, or send a signal, with a word that was never used before; the status, 0 when
        nothing was heard of it."""
        self._tokens += 1
        token = f"t{self._tokens}"
        named = {"signal": wait} if self._kinds[execution] == "signals" else {"node_id": wait}
        self._notes.answering(execution, wait, token)
        path = f"/api/v1/executions/{execution}/resume"
        answer = await self._ask("POST", path, {**named, "data": {"token": token}})
        if answer is None:
            return 0
        self._notes.answered(token, answer.status_code)
        if answer.status_code in (400, 401, 422):
            raise RuntimeError(f"{wait}: {answer.text[:2000]}")
        return answer.status_code

    async def watch(self, execution: str, cancel_after: float | None = None) -> None:
        """Look until it has ended; ask it to stop after so many seconds."""
        pause, began, released = 0.3, time.monotonic(), 0
        while True:
            await asyncio.sleep(pause)
            pause = min(2.0, pause * 1.3)
            if cancel_after is not None and time.monotonic() - began > cancel_after:
                self._notes.note(execution, cancel_asked=time.time())
                answer = await self._ask("POST", f"/api/v1/executions/{execution}/cancel", {})
                if answer is not None and answer.status_code in (200, 202):
                    cancel_after = None
            found = await self._ask("GET", f"/api/v1/executions/{execution}")
            if found is None:
                continue
            if found.status_code == 404:
                self._notes.note(execution, missing=1)
            if found.status_code != 200:
                continue
            record = found.json()
            if record["status"] == "quarantined":
                released += 1
                await self._ask("POST", f"/api/v1/executions/{execution}/release", {})
                self._notes.note(execution, released=released)
            if record["status"] in OVER:
                self.busy.set()
                self._notes.note(
                    execution,
                    seen=time.time(),
                    status=record["status"],
                    output=_shown(record.get("output")),
                    error=json.dumps(record.get("error")),
                )
                return

    async def _use(self) -> None:
        while not self._stopping.is_set():
            kind = self._chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
            cancelled = self._chance.random() < CANCELLED.get(kind, 0.0)
            execution = await self.execute(kind)
            await self.follow(execution, self._chance.uniform(0.2, 5.0) if cancelled else None)

    async def _ask(self, method: str, path: str, body: Json = None) -> httpx2.Response | None:
        """The answer, or None when there was none or the system says that it cannot."""
        self.open_requests += 1
        try:
            answer = await self._http.request(method, f"{self._address()}{path}", json=body)
        except (httpx2.HTTPError, OSError):
            return None
        finally:
            self.open_requests -= 1
        return None if answer.status_code in (500, 502, 503, 504) else answer
