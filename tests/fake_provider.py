"""A real HTTP server on loopback that plays a provider of the OpenAI chat completions protocol.

    with FakeProvider() as provider:
        provider.script(Text("hello"), Status(429, retry_after=2), Text("again"))
        ... call provider.base_url ...
        assert provider.calls == 3
        provider.requests[0].body, .headers, .key, .idempotency_key

Requests take replies from the script in the order they arrive; when it is empty they get
``provider.default``. A reply may also be a function from the request to a reply, which can tell
requests apart (by prompt, say). Alone, for other processes::

    python -m tests.fake_provider --port 9000 --delay 0.2 --log requests.jsonl

prints its base URL and then one JSON line per request; the log outlives it and counts real calls.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil

Json = Any


@dataclass(frozen=True)
class Request:
    """One request as it came: ``headers`` with lower-case names, ``body`` parsed (None if not JSON).
    ``peer_port``: the port at which its sender has the connection."""

    method: str
    path: str
    headers: dict[str, str]
    raw: bytes
    body: Json
    at: float
    peer_port: int = 0

    @property
    def key(self) -> str | None:
        """The credential after ``Bearer``."""
        return self.headers.get("authorization", "").partition("Bearer ")[2] or None

    @property
    def idempotency_key(self) -> str | None:
        return self.headers.get("idempotency-key")

    @property
    def prompt(self) -> str:
        """The content of the last message."""
        messages = (self.body or {}).get("messages") or [{}]
        content = messages[-1].get("content")
        return content if isinstance(content, str) else json.dumps(content)

    @property
    def streams(self) -> bool:
        return bool((self.body or {}).get("stream"))


def sender_of(request: Request) -> int:
    """The process at the other end of a request's connection, on this machine."""
    found = psutil.net_connections("tcp4")
    return next(
        each.pid
        for each in found
        if each.pid and each.laddr.port == request.peer_port and each.status == "ESTABLISHED"
    )


class Reply:
    """What the server does with a request. ``delay``: seconds before it answers; ``gate``: an event
    it waits for first (at most 60 s)."""

    delay: float = 0.0
    gate: threading.Event | None = None

    def send(self, handler: Handler, request: Request) -> None:
        raise NotImplementedError


@dataclass
class Text(Reply):
    """A normal answer, streamed piece by piece when the request asks for a stream.

    ``usage``: (input, output, cached) tokens; None leaves usage out. ``pieces``: how the text is cut
    (default: words). ``cut_after``: the connection breaks after so many pieces. ``stall_after``: it
    goes silent there, until the server closes.
    """

    text: str = "ok"
    usage: tuple[int, int, int] | None = (10, 5, 0)
    finish_reason: str = "stop"
    refusal: str | None = None
    model: str | None = None
    pieces: tuple[str, ...] | None = None
    cut_after: int | None = None
    stall_after: int | None = None
    delay: float = 0.0
    piece_delay: float = 0.0
    gate: threading.Event | None = None

    def send(self, handler: Handler, request: Request) -> None:
        if request.streams:
            self._stream(handler, request)
            return
        message = {"role": "assistant", "content": self.text, "refusal": self.refusal}
        choice = {"index": 0, "message": message, "finish_reason": self.finish_reason}
        answer = {**self._head(request, "chat.completion"), "choices": [choice]}
        if self.usage is not None:
            answer["usage"] = self._counts()
        handler.send_json(200, answer)

    def _stream(self, handler: Handler, request: Request) -> None:
        handler.begin_stream()
        head = self._head(request, "chat.completion.chunk")
        for index, piece in enumerate(self._cut()):
            if self.cut_after == index:
                handler.cut()
                return
            if self.stall_after == index:
                handler.server.closing.wait(60)
                return
            if self.piece_delay:
                time.sleep(self.piece_delay)
            delta = {"content": piece} if index else {"role": "assistant", "content": piece}
            handler.send_event({**head, "choices": [{"index": 0, "delta": delta}]})
        if self.cut_after is not None:
            handler.cut()
            return
        end = {"index": 0, "delta": {}, "finish_reason": self.finish_reason}
        if self.refusal is not None:
            end["delta"] = {"refusal": self.refusal}
        handler.send_event({**head, "choices": [end]})
        wants_usage = (request.body.get("stream_options") or {}).get("include_usage")
        if self.usage is not None and wants_usage:
            handler.send_event({**head, "choices": [], "usage": self._counts()})
        handler.send_chunk(b"data: [DONE]\n\n")
        handler.end_stream()

    def _cut(self) -> tuple[str, ...]:
        if self.pieces is not None:
            return self.pieces
        words = self.text.split(" ")
        return tuple(word + (" " if i < len(words) - 1 else "") for i, word in enumerate(words))

    def _head(self, request: Request, kind: str) -> dict[str, Json]:
        model = self.model or (request.body or {}).get("model") or "fake"
        return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": model}

    def _counts(self) -> dict[str, Json]:
        prompt, completion, cached = self.usage or (0, 0, 0)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached},
        }


@dataclass
class Status(Reply):
    """An error status, with the body of such providers; ``echo_key`` repeats the credential in it."""

    status: int
    message: str = "something went wrong"
    code: str | None = None
    retry_after: float | str | None = None
    echo_key: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    gate: threading.Event | None = None

    def send(self, handler: Handler, request: Request) -> None:
        message = f"{self.message} (key: {request.key})" if self.echo_key else self.message
        headers = dict(self.headers)
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        error = {"message": message, "type": "error", "param": None, "code": self.code}
        handler.send_json(self.status, {"error": error}, headers)


@dataclass
class Raw(Reply):
    """Any bytes as the body: garbage, nothing, JSON that is no completion, a packed bomb."""

    body: bytes = b"<html>not what you asked for</html>"
    status: int = 200
    content_type: str = "text/html"
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    gate: threading.Event | None = None

    def send(self, handler: Handler, request: Request) -> None:
        handler.send_body(self.status, self.body, self.content_type, self.headers)


@dataclass
class Hang(Reply):
    """No answer at all, until the server is closed."""

    delay: float = 0.0
    gate: threading.Event | None = None

    def send(self, handler: Handler, request: Request) -> None:
        handler.server.closing.wait(60)


@dataclass
class Cut(Reply):
    """The connection is reset before anything is answered."""

    delay: float = 0.0
    gate: threading.Event | None = None

    def send(self, handler: Handler, request: Request) -> None:
        handler.cut()


@dataclass
class Drip(Reply):
    """A body that never ends: a byte every ``every`` seconds. In the headers if ``headers``."""

    every: float = 0.01
    headers: bool = False
    size: int = 1
    delay: float = 0.0
    gate: threading.Event | None = None

    def send(self, handler: Handler, request: Request) -> None:
        write = handler.wfile.write
        write(b"HTTP/1.1 200 OK\r\n")
        if not self.headers:
            write(b"Content-Type: application/json\r\nConnection: close\r\n\r\n")
        handler.close_connection = True
        part = b"X-A: " + b"a" * self.size + b"\r\n" if self.headers else b" " * self.size
        while not handler.server.closing.wait(self.every):
            write(part)
            handler.wfile.flush()


Answer = Reply | Callable[[Request], Reply]


class FakeProvider:
    """The server. Open between ``start`` and ``close``, or as a context manager; thread-safe."""

    def __init__(
        self,
        *replies: Answer,
        default: Answer | None = None,
        port: int = 0,
        log: Path | None = None,
        on_request: Callable[[Request], None] | None = None,
    ) -> None:
        self.default: Answer = default or Text()
        self.requests: list[Request] = []
        self._replies: deque[Answer] = deque(replies)
        self._changed = threading.Condition()
        self._log = log
        self._on_request = on_request
        self._running = 0
        self.most_at_once = 0
        self._server = Server(("127.0.0.1", port), Handler)
        self._server.provider = self

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def calls(self) -> int:
        """Requests that arrived, answered or not."""
        with self._changed:
            return len(self.requests)

    @property
    def last(self) -> Request:
        return self.requests[-1]

    @property
    def idempotency_keys(self) -> Counter[str]:
        """How often each idempotency key came."""
        with self._changed:
            return Counter(request.idempotency_key or "" for request in self.requests)

    def script(self, *replies: Answer) -> FakeProvider:
        """Add replies for the next requests."""
        with self._changed:
            self._replies.extend(replies)
        return self

    def forget(self) -> None:
        """Begin anew: no requests so far, no replies to come."""
        with self._changed:
            self.requests.clear()
            self._replies.clear()

    def wait_for(self, calls: int, timeout: float = 30.0) -> bool:
        """Whether so many requests have arrived, waiting for them up to ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self.requests) >= calls, timeout)

    def start(self) -> FakeProvider:
        threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="fake-provider", daemon=True
        ).start()
        return self

    def close(self) -> None:
        self._server.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> FakeProvider:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.close()

    def took(self, request: Request) -> Reply:
        """Record a request and find its reply."""
        with self._changed:
            self.requests.append(request)
            answer = self._replies.popleft() if self._replies else self.default
            if self._log is not None:
                with self._log.open("a") as log:
                    log.write(json.dumps(_line(request)) + "\n")
            self._changed.notify_all()
        if self._on_request is not None:
            self._on_request(request)
        return answer if isinstance(answer, Reply) else answer(request)

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Counts the requests that are being answered."""
        with self._changed:
            self._running += 1
            self.most_at_once = max(self.most_at_once, self._running)
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256
    provider: FakeProvider

    def __init__(self, *args: Any) -> None:
        self.closing = threading.Event()
        super().__init__(*args)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that went away is no error of the server."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        raw = self.rfile.read(length)
        try:
            body = json.loads(raw)
        except ValueError:
            body = None
        headers = {name.lower(): value for name, value in self.headers.items()}
        peer_port = self.client_address[1]
        request = Request(self.command, self.path, headers, raw, body, time.time(), peer_port)
        provider = self.server.provider
        with provider.answering():
            reply = provider.took(request)
            if reply.gate is not None:
                reply.gate.wait(60)
            if reply.delay:
                self.server.closing.wait(reply.delay)
            reply.send(self, request)

    do_GET = do_PUT = do_DELETE = do_HEAD = do_PATCH = do_OPTIONS = do_POST  # noqa: N815

    def send_json(self, status: int, body: Json, headers: dict[str, str] | None = None) -> None:
        self.send_body(status, json.dumps(body).encode(), "application/json", headers)

    def send_body(
        self, status: int, body: bytes, content_type: str, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def begin_stream(self, headers: dict[str, str] | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()

    def send_event(self, event: Json) -> None:
        self.send_chunk(b"data: " + json.dumps(event).encode() + b"\n\n")

    def send_chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def end_stream(self) -> None:
        self.wfile.write(b"0\r\n\r\n")

    def cut(self) -> None:
        """Break the connection, with a reset rather than a farewell."""
        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on stderr."""


def _line(request: Request) -> dict[str, Json]:
    return {
        "at": request.at,
        "path": request.path,
        "key": request.idempotency_key,
        "prompt": request.prompt,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Play a provider until stopped.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--text", default=None, help="what to answer (default: the prompt)")
    parser.add_argument("--log", type=Path, default=None, help="append a JSON line per request")
    arguments = parser.parse_args()

    def answer(request: Request) -> Reply:
        text = arguments.text if arguments.text is not None else f"echo: {request.prompt}"
        return Text(text, delay=arguments.delay)

    def show(request: Request) -> None:
        print(json.dumps(_line(request)), flush=True)

    provider = FakeProvider(
        default=answer, port=arguments.port, log=arguments.log, on_request=show
    ).start()
    print(provider.base_url, flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
    provider.close()


if __name__ == "__main__":
    main()
