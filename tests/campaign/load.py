"""Who uses the system: submits executions over HTTP, notes each acknowledgement before going on, and
looks until each has ended."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sqlite3
import time
from pathlib import Path
from typing import Any

import httpx2

from tests.campaign.world import KEY

Json = Any

OVER = ("completed", "failed", "cancelled", "timed_out")
WEIGHTS = {
    "chain": 5, "fan": 4, "loop": 3, "relaxed": 3, "once": 3, "stubborn": 2, "slow": 4, "large": 1,
}  # fmt: skip
SHOWN = 300
"""Characters of a text that are kept."""
CANCELLED = 0.25
"""Of the slow executions."""
BACKOFF_S = 15.0
"""How long a step of the kind ``backoff`` waits to be tried again."""
SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS executions (
    id TEXT PRIMARY KEY, tag TEXT, kind TEXT, acknowledged REAL, cancel_asked REAL, released INTEGER,
    seen REAL, status TEXT, output TEXT, error TEXT, missing INTEGER);
"""


def documents(provider: str) -> dict[str, Json]:
    """The workflows by kind. Each step of a model names itself in its prompt (see ledger.py)."""
    made = {
        "chain": _chain(["a", "b", "c"]),
        "fan": _fan(),
        "loop": _loop(),
        "relaxed": {**_chain(["a", "b", "c", "d"]), "settings": {"durability": "relaxed"}},
        "once": _chain(["a", "once", "c"]),
        "stubborn": _chain(["a", "stubborn", "c"]),
        "slow": _chain(["a", "slow2", "slow4", "d"]),
        "large": _chain(["a", "large", "c"]),
        "patient": _chain(["a", "slow9", "c"]),
        "backoff": _backoff(),
        "relaxed once": {**_chain(["a", "once", "c"]), "settings": {"durability": "relaxed"}},
    }
    config = {"provider": "openai-compatible", "model": "m", "base_url": provider}
    source = {"id": "model", "kind": "llm", "config": {**config, "timeout_s": 60}}
    return {name: {**each, "name": name, "sources": [source]} for name, each in made.items()}


def _llm(node: str, past: str = "", name: str = "") -> Json:
    prompt = f"T={{user_input}} S={name or node}" + (f" P={past}" if past else "")
    retry = {"max_attempts": 6, "initial_s": 0.1, "max_s": 2}
    step = {"id": node, "type": "llm", "retry": retry}
    asked = {"source": "model", "prompt": prompt, "stream": False}
    if node.startswith("once"):
        step["effects"] = "once"
        step["retry"] = {"max_attempts": 1}
    return {**step, "metadata": {**asked, "output_key": f"said_{node}"}}


def _fields(*nodes: str) -> Json:
    return {f"said_{node}": {"type": "string", "default": "-"} for node in nodes}


def _chain(nodes: list[str]) -> Json:
    befores = ["", *(f"{{said_{node}}}" for node in nodes)]
    steps = [_llm(node, past) for node, past in zip(nodes, befores)]
    names = ["start", *nodes]
    return {
        "start_node": "start",
        "nodes": [{"id": "start", "type": "input"}, *steps],
        "edges": [{"from": one, "to": other} for one, other in itertools.pairwise(names)],
        "state": _fields(*nodes),
    }


def _backoff() -> Json:
    """A step that fails at first, and is tried again after a while that is always the same."""
    made = _chain(["a", "stubborn"])
    made["nodes"][2]["retry"] = {
        "max_attempts": 3,
        "initial_s": BACKOFF_S,
        "max_s": BACKOFF_S,
        "jitter": False,
    }
    return made


def _fan() -> Json:
    template = "{said_l}|{said_m}|{said_r}"
    options = {"strategy": "template", "template": template, "output_key": "joined"}
    return {
        "start_node": "start",
        "nodes": [
            {"id": "start", "type": "input"},
            *(_llm(node) for node in "lmr"),
            {"id": "join", "type": "aggregator", "metadata": options},
            _llm("z", "{joined}"),
        ],
        "edges": [
            {"from": "start", "to": ["l", "m", "r"]},
            *({"from": node, "to": "join"} for node in "lmr"),
            {"from": "join", "to": "z"},
        ],
        "state": {**_fields("l", "m", "r", "z"), "joined": {"type": "string", "default": "-"}},
    }


def _loop() -> Json:
    count = {"strategy": "custom", "expression": "rounds + 1", "output_key": "rounds"}
    return {
        "start_node": "start",
        "nodes": [
            {"id": "start", "type": "input"},
            {"id": "next", "type": "aggregator", "metadata": count},
            _llm("ask", "{said_ask}", "ask@{rounds}"),
        ],
        "edges": [
            {"from": "start", "to": "next"},
            {"from": "next", "to": "ask"},
            {"from": "ask", "to": "next", "condition": "rounds < 3"},
            {"from": "ask", "to": "end", "condition": "else"},
        ],
        "state": {**_fields("ask"), "rounds": {"type": "int", "default": 0}},
    }


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
        self._address = address
        self._documents = documents(provider)
        self._notes = Notes(notes)
        self._chance = random.Random(seed)
        self._stopping = asyncio.Event()
        self._number = 0
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
                return execution
            if answer is not None and answer.status_code in (400, 401, 422):
                raise RuntimeError(f"{kind}: {answer.text[:2000]}")
            await asyncio.sleep(self._chance.uniform(0.3, 1.0))

    async def follow(self, execution: str, cancel_after: float | None = None) -> None:
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
            cancelled = kind == "slow" and self._chance.random() < CANCELLED
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
