"""A model provider for measurements, in a process of its own: ``python -m benchmarks.provider``.

It speaks chat completions over HTTP/1.1, whole and streamed, and costs little enough that thousands of
calls at once measure their callers. The model ``wait-S`` answers S seconds after the request came, and a
streamed answer of ``wait-S-P`` comes in pieces P seconds apart; its first piece is the moment, in
nanoseconds of the machine's monotonic clock, at which it was sent. Prints its base URL and serves until its
standard input ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

Json = Any
PIECES = 8
USAGE = {"prompt_tokens": 10, "completion_tokens": PIECES, "total_tokens": 10 + PIECES}


class Connection(asyncio.Protocol):
    """One caller; its requests come one after the other."""

    def __init__(self) -> None:
        self._buffer = b""
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, _, rest = self._buffer.partition(b"\r\n\r\n")
        lower = head.lower()
        at = lower.find(b"content-length:")
        if at < 0:
            return
        length = int(lower[at + 15 :].split(b"\r\n", 1)[0])
        if len(rest) >= length:
            self._buffer = rest[length:]
            self._asked(json.loads(rest[:length]))

    def _asked(self, body: Json) -> None:
        model = str(body["model"])
        _, wait_s, pause_s = (*model.split("-"), "0")[:3]
        later = asyncio.get_running_loop().call_later
        if body.get("stream"):
            later(float(wait_s), self._stream, model, float(pause_s))
        else:
            later(float(wait_s), self._whole, model)

    def _whole(self, model: str) -> None:
        message = {"role": "assistant", "content": "ok " * PIECES, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        answer = _head(model, "chat.completion") | {"choices": [choice], "usage": USAGE}
        body = json.dumps(answer).encode()
        self._transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
            % (len(body), body)
        )

    def _stream(self, model: str, pause_s: float) -> None:
        self._transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        head = _head(model, "chat.completion.chunk")
        self._event(_chunk(head, {"role": "assistant", "content": ""}))
        self._pieces(head, 0, pause_s)

    def _pieces(self, head: Json, index: int, pause_s: float) -> None:
        """Send a piece and those after it: the next one after a pause, or all at once."""
        while index < PIECES:
            text = f"{time.monotonic_ns()} " if index == 0 else "ok "
            self._event(_chunk(head, {"content": text}))
            index += 1
            if pause_s and index < PIECES:
                asyncio.get_running_loop().call_later(pause_s, self._pieces, head, index, pause_s)
                return
        self._event(_chunk(head, {}, "stop"))
        self._event(head | {"choices": [], "usage": USAGE})
        done = b"data: [DONE]\n\n"
        self._transport.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(done), done))

    def _event(self, event: Json) -> None:
        data = b"data: " + json.dumps(event).encode() + b"\n\n"
        self._transport.write(b"%x\r\n%s\r\n" % (len(data), data))


def _head(model: str, kind: str) -> Json:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": model}


def _chunk(head: Json, delta: Json, reason: str | None = None) -> Json:
    return head | {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=4096)
    port = server.sockets[0].getsockname()[1]
    print(f"http://127.0.0.1:{port}/v1", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(serve())
