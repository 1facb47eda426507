"""Server-sent events: the frames, and a stream that outlives neither its client nor its execution.

Only durable events have an ``id`` (their seq), so that ``Last-Event-ID`` always names a place in the
journal. Token deltas are sent without one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from agentflow.api.views import delta_body, event_body
from agentflow.engine.stream import StreamItem, TokenDelta
from agentflow.errors import AgentFlowError

Json = Any

COMMENT_S = 15.0
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
COMMENT = b": waiting\n\n"
_RETRY = b"retry: 1000\n\n"


def frame(execution_id: str, item: StreamItem) -> bytes:
    """One event on the wire."""
    if isinstance(item, TokenDelta):
        body, head = delta_body(execution_id, item), b""
    else:
        body, head = event_body(execution_id, item), b"id: %d\n" % item.seq
    event = str(body["type"]).encode()
    return b"%sevent: %s\ndata: %s\n\n" % (head, event, msgspec.json.encode(body))


async def frames(
    items: AsyncIterator[Sequence[StreamItem]],
    execution_id: str,
    *,
    lifecycle: bool = True,
    tokens: bool = True,
    comment_s: float = COMMENT_S,
) -> AsyncIterator[bytes]:
    """The frames of a followed execution, with a comment whenever nothing came for ``comment_s``.

    Ends with ``items``; a broken source ends the stream too, and the client comes back with
    ``Last-Event-ID``.
    """
    yield _RETRY
    waiting: asyncio.Task[Sequence[StreamItem]] | None = None
    try:
        while True:
            waiting = waiting or asyncio.ensure_future(anext(items))
            done, _ = await asyncio.wait((waiting,), timeout=comment_s)
            if not done:
                yield COMMENT
                continue
            try:
                batch = waiting.result()
            except StopAsyncIteration:
                return
            except AgentFlowError as error:
                yield b": interrupted by %s; reconnect\n\n" % error.type.encode()
                return
            waiting = None
            wanted = b"".join(
                frame(execution_id, item)
                for item in batch
                if (tokens if isinstance(item, TokenDelta) else lifecycle)
            )
            if wanted:
                yield wanted
    finally:
        if waiting is not None:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        close = getattr(items, "aclose", None)
        if close is not None:
            await close()


class EventStream(Response):
    """An answer made of frames. ``opened`` is called with +1 and -1 as streams come and go."""

    media_type = "text/event-stream"

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        opened: Callable[[int], None],
        headers: dict[str, str] | None = None,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers({**HEADERS, **(headers or {})})
        del self.headers["content-length"]
        self._chunks = chunks
        self._opened = opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._opened(1)
        sender = asyncio.ensure_future(self._send(send))
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait((sender, gone), return_when=asyncio.FIRST_COMPLETED)
            if sender.done():
                sender.result()
        finally:
            for task in (sender, gone):
                task.cancel()
            await asyncio.gather(sender, gone, return_exceptions=True)
            self._opened(-1)

    async def _send(self, send: Send) -> None:
        async with aclosing(self._chunks) as chunks:  # type: ignore[type-var]
            start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
            await send(start)
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
