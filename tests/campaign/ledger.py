"""The world outside: a model provider in a process of its own that counts what it is asked.

Each call is in the ledger, durably, before it is answered; when it ended, and whether the answer was
written out whole, is added afterwards. Nothing here knows the engine. ``python -m`` it with the path of
the ledger; it prints its port and ends with its standard input.

A prompt is ``T=<tag> S=<step> P=<what came before>``; the answer is ``<tag>.<step>.<number of the call>``.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import random
import sqlite3
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import Any

Json = Any

SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS calls (
    id INTEGER PRIMARY KEY, key TEXT, fence TEXT, tag TEXT, step TEXT, past TEXT, pid INTEGER,
    began REAL, ended REAL, status INTEGER, complete INTEGER, answer TEXT);
"""
REFUSED, BROKEN = 12, 8
"""Percent of the steps whose first call is answered 429, or 500."""
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


class Provider:
    """Speaks as much of the chat completions protocol as the engine's client asks for."""

    def __init__(self, ledger: Ledger, seed: int) -> None:
        self._ledger = ledger
        self._chance = random.Random(seed)
        self._calls = 0
        self._seen: set[tuple[str, str]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pid = await asyncio.to_thread(process_of, writer.get_extra_info("peername")[1])
        try:
            while (asked := await read_request(reader)) is not None:
                await self._answer(pid, asked[0], asked[1], reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # whoever asked is gone; the ledger has the call
        finally:
            writer.close()

    async def _answer(
        self,
        pid: int,
        headers: dict[str, str],
        body: Json,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._calls += 1
        number, key = self._calls, headers.get("idempotency-key", "")
        parts = dict(part.partition("=")[::2] for part in body["messages"][-1]["content"].split())
        tag, step, past = parts.get("T", ""), parts.get("S", ""), parts.get("P", "")
        fence = headers.get("agentflow-fence", "")
        await self._ledger.put(
            "INSERT INTO calls (id, key, fence, tag, step, past, pid, began) VALUES (?,?,?,?,?,?,?,?)",
            number, key, fence, tag, step, past[:300], pid, time.time(),
        )  # fmt: skip
        status = self._mood(tag, step)
        answer = f"{tag}.{step}.{number}" if status == 200 else ""
        complete = False
        try:
            if status == 200:
                # A hung-up caller is noticed at once, as a provider notices it.
                gone = asyncio.ensure_future(reader.read(1))
                done, _ = await asyncio.wait({gone}, timeout=self._seconds(step))
                if done:
                    raise ConnectionResetError
                gone.cancel()
                await asyncio.wait({gone})
            writer.write(response(status, answer, "x" * LARGE_BYTES * step.startswith("large")))
            await writer.drain()
            complete = not writer.is_closing()
        finally:
            await self._ledger.put(
                "UPDATE calls SET ended = ?, status = ?, complete = ?, answer = ? WHERE id = ?",
                time.time(), status, complete, answer, number,
            )  # fmt: skip

    def _mood(self, tag: str, step: str) -> int:
        """The first call of some steps is refused, or fails; which ones, their names alone say. What is to
        happen at most once is never answered 500, which tells nobody whether it happened."""
        first, drawn = (tag, step) not in self._seen, zlib.crc32(f"{tag} {step}".encode()) % 100
        self._seen.add((tag, step))
        if step.startswith("stubborn"):
            return 500 if first else 200
        if not first or drawn >= REFUSED + BROKEN:
            return 200
        return 429 if drawn < REFUSED or step.startswith("once") else 500

    def _seconds(self, step: str) -> float:
        """How long it thinks: the step's name may say (``slow3_...``: about three seconds)."""
        if step.startswith("slow"):
            return float(step[4]) * self._chance.uniform(0.8, 1.2)
        return self._chance.uniform(0.02, 0.4)


async def read_request(reader: asyncio.StreamReader) -> tuple[dict[str, str], Json] | None:
    """Headers, in lower case, and the body; None when the caller has no more."""
    head = await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b""
    if not head:
        return None
    lines = head.decode("latin-1").split("\r\n")[1:]
    pairs = (line.partition(":")[::2] for line in lines if line)
    headers = {name.strip().lower(): value.strip() for name, value in pairs}
    return headers, json.loads(await reader.readexactly(int(headers["content-length"])))


def response(status: int, answer: str, padding: str) -> bytes:
    """A whole HTTP answer. The padding stands behind the answer, which it makes large."""
    if status == 200:
        text = f"{answer}.{padding}" if padding else answer
        choice = {"index": 0, "message": {"role": "assistant", "content": text}}
        usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
        kind = {"id": "c", "object": "chat.completion", "model": "m", "usage": usage}
        body = json.dumps({**kind, "choices": [{**choice, "finish_reason": "stop"}]}).encode()
    else:
        body = json.dumps({"error": {"message": "not now"}}).encode()
    head = (
        f"HTTP/1.1 {status} .\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    )
    wish = "Retry-After-Ms: 100\r\n" if status == 429 else ""
    return f"{head}{wish}\r\n".encode() + body


def process_of(port: int) -> int:
    """The process that holds this local port of a connection to us; 0 when nobody does any more."""
    inode = _inode(port)
    if not inode:
        return 0
    wanted = f"socket:[{inode}]"
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                held = (
                    os.readlink(f"/proc/{entry}/fd/{fd}") for fd in os.listdir(f"/proc/{entry}/fd")
                )
                if wanted in held:
                    return int(entry)
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
    provider = Provider(Ledger(path), seed)
    server = await asyncio.start_server(provider.serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
