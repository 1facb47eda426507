"""A client of HTTP/1.1 that costs little: connections that are kept, requests that never change."""

from __future__ import annotations

import asyncio
import time
from typing import Any, NamedTuple

Json = Any


class RequestFailed(Exception):
    """An answer that is not 200; the text has its beginning."""


def post(port: int, path: str, body: bytes, *headers: str) -> bytes:
    """A request as it is sent."""
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Answer(NamedTuple):
    """The body of an answer, and whether the connection serves another request after it."""

    body: bytes
    kept: bool


async def answered(reader: asyncio.StreamReader) -> Answer:
    """The next answer. Raises RequestFailed."""
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line)
    if b"chunked" in fields.get(b"transfer-encoding", b""):
        body = await _chunks(reader)
    else:
        body = await reader.readexactly(int(fields.get(b"content-length", b"0")))
    if b" 200 " not in head[:16]:
        raise RequestFailed((head[:100] + body[:300]).decode(errors="replace"))
    return Answer(body, b"close" not in fields.get(b"connection", b""))


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int(await reader.readline(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readexactly(2)
    return body


async def many(port: int, request: bytes, count: int, at_once: int) -> Json:
    """Send it so many times over so many connections: seconds, latencies and the bodies."""
    waiting = iter(range(count))
    latencies: list[float] = []
    bodies: list[bytes] = []

    async def client() -> None:
        """A proxy that hands over to its successor ends a connection with an answer that says so (RFC 9112,
        section 9.6)."""
        while await connected():
            pass

    async def connected() -> bool:
        """One connection; whether it was the other side that ended it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            for _ in waiting:
                began = time.perf_counter()
                writer.write(request)
                answer = await answered(reader)
                latencies.append(time.perf_counter() - began)
                bodies.append(answer.body)
                if not answer.kept:
                    return True
            return False
        finally:
            writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(at_once)))
    return {
        "seconds": time.perf_counter() - began,
        "latencies_s": latencies,
        "bodies": bodies,
    }
