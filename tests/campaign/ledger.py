"""The world outside: a model provider and an HTTP service in a process of their own that counts what it
is asked.

Each call is in the ledger, durably, before it is answered; when it ended, and whether the answer was
written out whole, is added afterwards. Nothing here knows the engine. ``python -m`` it with the path of
the ledger; it prints its port and ends with its standard input.

A prompt is ``T=<tag> S=<step> P=<what came before>``; the answer is ``<tag>.<step>.<number of the call>``.
The service is told the same in an object. What it is asked for has an effect, which it has once for each
idempotency key: a repeated request gets the answer of the first one.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import queue
import random
import sqlite3
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

Json = Any

SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS calls (
    id INTEGER PRIMARY KEY, key TEXT, fence TEXT, tag TEXT, step TEXT, past TEXT, pid INTEGER,
    began REAL, ended REAL, status INTEGER, complete INTEGER, answer TEXT);
CREATE TABLE IF NOT EXISTS effects (
    id INTEGER PRIMARY KEY, key TEXT, tag TEXT, step TEXT, said TEXT, at REAL);
"""
REFUSED, BROKEN, HUNG_UP = 12, 8, 10
"""Percent of the steps whose first call is answered 429, or 500, or not at all: the service has done what
it was asked for, and ends the connection."""
LARGE_BYTES = 90_000
"""Of an answer to a step whose name begins with ``large``: more than a journal row should hold."""


class Ledger:
    """The file. Writes are grouped by a thread; each caller goes on when its own is on the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: queue.SimpleQueue[tuple[str, tuple[Any, ...], Any]] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._write, daemon=True).start()

    async def put(self, statement: str, *values: object) -> None:
        """Returns when it is durable."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._waiting.put((statement, values, done))
        await done

    def _write(self) -> None:
        database = sqlite3.connect(self._path, isolation_level=None)
        database.executescript(SCHEMA)
        while True:
            batch = [self._waiting.get()]
            while not self._waiting.empty():
                batch.append(self._waiting.get())
            database.execute("BEGIN")
            for statement, values, _ in batch:
                database.execute(statement, values)
            database.execute("COMMIT")
            self._loop.call_soon_threadsafe(_settle, [done for _, _, done in batch])


def _settle(waiting: list[asyncio.Future[None]]) -> None:
    for done in waiting:
        if not done.done():
            done.set_result(None)


class Asked(msgspec.Struct, kw_only=True):
    """One call. ``service``: of the HTTP service, not of the model."""

    number: int
    key: str
    fence: str
    tag: str
    step: str
    past: str
    service: bool


class Outside:
    """Speaks as much of the chat completions protocol as the engine's client asks for, and of HTTP."""

    def __init__(self, ledger: Ledger, seed: int) -> None:
        self._ledger = ledger
        self._chance = random.Random(seed)
        self._calls = 0
        self._seen: set[tuple[str, str]] = set()
        self._done: dict[str, str] = {}
        self._senders: set[int] = set()
        self._counts: Counter[str] = Counter()
        self._called = asyncio.Condition()
        self._gate = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = writer.get_extra_info("peername")[1]
        # Looked for at once, since who calls may soon be gone; what it asks came before the answer to that.
        sender = asyncio.create_task(asyncio.to_thread(process_of, port, tuple(self._senders)))
        try:
            while (asked := await read_request(reader)) is not None:
                began = time.time()
                path, headers, body = asked
                if path.startswith("/control/"):
                    writer.write(await self._control(path, body))
                    await writer.drain()
                    continue
                self._senders.add(pid := await sender)
                await self._answer(pid, began, self._asked(path, headers, body), reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # whoever asked is gone; the ledger has the call
        finally:
            await sender
            writer.close()

    async def _control(self, path: str, body: Json) -> bytes:
        """For drills: hold calls, answer them, or wait until a step was called so often."""
        if path == "/control/hold":
            self._gate.clear()
        elif path == "/control/open":
            self._gate.set()
        else:
            async with self._called:
                enough = lambda: self._counts[body["step"]] >= body["count"]  # noqa: E731
                try:
                    async with asyncio.timeout(body["limit_s"]):
                        await self._called.wait_for(enough)
                except TimeoutError:
                    pass  # the answer says how many there were
        return response(200, {"count": self._counts[body.get("step", "")]})

    def _asked(self, path: str, headers: dict[str, str], body: Json) -> Asked:
        self._calls += 1
        service = not path.endswith("/chat/completions")
        if service:
            parts = {"T": body["tag"], "S": body["step"], "P": body["past"]}
        else:
            words = body["messages"][-1]["content"].split()
            parts = dict(word.partition("=")[::2] for word in words)
        return Asked(
            number=self._calls,
            key=headers.get("idempotency-key", ""),
            fence=headers.get("agentflow-fence", ""),
            tag=parts.get("T", ""),
            step=parts.get("S", ""),
            past=parts.get("P", ""),
            service=service,
        )

    async def _answer(
        self,
        pid: int,
        began: float,
        asked: Asked,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        await self._ledger.put(
            "INSERT INTO calls (id, key, fence, tag, step, past, pid, began) VALUES (?,?,?,?,?,?,?,?)",
            asked.number, asked.key, asked.fence, asked.tag, asked.step, asked.past[:300], pid,
            began,
        )  # fmt: skip
        async with self._called:
            self._counts[asked.step] += 1
            self._called.notify_all()
        status, complete, answer = self._mood(asked), False, ""
        try:
            if status in (200, 0):
                answer = await self._effect(asked)
                await self._think(asked.step, reader)
            if status == 0:
                raise ConnectionResetError
            writer.write(response(status, shown(status, answer, asked)))
            await writer.drain()
            complete = not writer.is_closing()
        finally:
            await self._ledger.put(
                "UPDATE calls SET ended = ?, status = ?, complete = ?, answer = ? WHERE id = ?",
                time.time(), status, complete, answer, asked.number,
            )  # fmt: skip

    async def _effect(self, asked: Asked) -> str:
        """Do what is asked for, unless it was done under the same key; the answer."""
        said = f"{asked.tag}.{asked.step}.{asked.number}"
        if not asked.service:
            return said
        if asked.key in self._done:
            return self._done[asked.key]
        if asked.key:
            self._done[asked.key] = said
        await self._ledger.put(
            "INSERT INTO effects (id, key, tag, step, said, at) VALUES (?,?,?,?,?,?)",
            asked.number, asked.key, asked.tag, asked.step, said, time.time(),
        )  # fmt: skip
        return said

    async def _think(self, step: str, reader: asyncio.StreamReader) -> None:
        """A hung-up caller is noticed at once, as a provider notices it."""
        gone = asyncio.ensure_future(reader.read(1))
        held = asyncio.ensure_future(self._gate.wait()) if step.startswith("held") else None
        limit = None if held is not None else self._seconds(step)
        awaited = {gone, held} - {None}
        done, _ = await asyncio.wait(awaited, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        for task in awaited - done:
            task.cancel()
        await asyncio.wait(awaited)
        if gone in done:
            raise ConnectionResetError

    def _mood(self, asked: Asked) -> int:
        """The first call of some steps is refused, or fails; which ones, their names alone say. What is to
        happen at most once is never answered 500, which tells nobody whether it happened."""
        tag, step, once = asked.tag, asked.step, asked.step.startswith("once")
        first, drawn = (tag, step) not in self._seen, zlib.crc32(f"{tag} {step}".encode()) % 100
        self._seen.add((tag, step))
        if "stubborn" in step:
            return 200 if not first else 0 if asked.service else 500
        if not first or step.startswith("held"):
            return 200
        if drawn < REFUSED:
            return 429
        if drawn < REFUSED + BROKEN:
            return 429 if once else 500
        return 0 if asked.service and drawn < REFUSED + BROKEN + HUNG_UP else 200

    def _seconds(self, step: str) -> float:
        """How long it thinks: the step's name may say (``slow3_...``: about three seconds)."""
        if step.startswith("slow"):
            return float(step[4]) * self._chance.uniform(0.8, 1.2)
        return self._chance.uniform(0.02, 0.4)


async def read_request(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], Json] | None:
    """Path, headers, with names in lower case, and the body; None when the caller has no more."""
    head = await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b""
    if not head:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":")[::2] for line in lines if line)
    headers = {name.strip().lower(): value.strip() for name, value in pairs}
    body = json.loads(await reader.readexactly(int(headers["content-length"])))
    return first.split()[1], headers, body


def shown(status: int, answer: str, asked: Asked) -> Json:
    """The body of an answer. Padding stands behind the answer of a large one."""
    if status != 200:
        return {"error": {"message": "not now"}}
    if asked.service:
        return {"said": answer}
    text = f"{answer}.{'x' * LARGE_BYTES}" if asked.step.startswith("large") else answer
    choice = {"index": 0, "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    kind = {"id": "c", "object": "chat.completion", "model": "m", "usage": usage}
    return {**kind, "choices": [{**choice, "finish_reason": "stop"}]}


def response(status: int, content: Json) -> bytes:
    """A whole HTTP answer."""
    body = json.dumps(content).encode()
    head = (
        f"HTTP/1.1 {status} .\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    )
    wish = "Retry-After-Ms: 100\r\n" if status == 429 else ""
    return f"{head}{wish}\r\n".encode() + body


def process_of(port: int, likely: Sequence[int] = ()) -> int:
    """The process that holds this local port of a connection to us, looked for among the likely ones
    first; 0 when nobody does any more."""
    inode = _inode(port)
    if not inode:
        return 0
    wanted = f"socket:[{inode}]"
    others = (int(entry) for entry in os.listdir("/proc") if entry.isdigit())
    for pid in itertools.chain(likely, others):
        try:
            held = (os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd"))
            if pid != os.getpid() and wanted in held:
                return pid
        except OSError:
            continue  # ended meanwhile
    return 0


def _inode(port: int) -> str:
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if int(words[1].rpartition(":")[2], 16) == port:
            return words[9]
    return ""


async def main(path: Path, seed: int) -> None:
    outside = Outside(Ledger(path), seed)
    server = await asyncio.start_server(outside.serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
