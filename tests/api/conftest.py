"""The application in process over a real Flow: embedded PostgreSQL, engine and workers of this process.

The model is the outside world: a real HTTP server that speaks the chat completions protocol.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from agentflow import flow as flows
from agentflow.api.app import build_app
from agentflow.settings import Settings

Json = Any
KEY = "af-test-key-of-the-api-tests"


class Model:
    """A chat model on a real port. The prompt says what it does: see ``_answer``."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.arrived: dict[str, asyncio.Event] = {}
        self.mended: dict[str, str] = {}
        self.url = ""

    def mend(self, name: str, prompt: str = "say") -> None:
        """From now on the prompt ``refuse NAME`` is answered as this one is."""
        self.mended[name] = prompt

    def gate(self, name: str) -> asyncio.Event:
        """Set it to let calls whose prompt is ``wait NAME`` go on."""
        return self.gates.setdefault(name, asyncio.Event())

    def waiting(self, name: str) -> asyncio.Event:
        """Set once a call waits at this gate."""
        return self.arrived.setdefault(name, asyncio.Event())

    async def answer(self, request: Request) -> Response:
        body = await request.json()
        prompt = body["messages"][-1]["content"]
        self.calls.append(prompt)
        verb, _, rest = prompt.partition(" ")
        if verb == "refuse" and rest in self.mended:
            verb, _, rest = self.mended[rest].partition(" ")
        if verb == "refuse":
            return JSONResponse({"error": {"message": "no such key"}}, 401)
        words = ["one ", "two ", "three"]
        if not body.get("stream"):
            await self._wait(verb, rest)
            return JSONResponse(_completion("".join(words)))
        return StreamingResponse(self._chunks(verb, rest, words), media_type="text/event-stream")

    async def _chunks(self, verb: str, rest: str, words: list[str]) -> AsyncIterator[bytes]:
        for place, word in enumerate(words):
            yield _chunk({"choices": [{"index": 0, "delta": {"content": word}}]})
            if place == 0:
                await self._wait(verb, rest)
        yield _chunk({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        yield _chunk({"choices": [], "usage": _USAGE})
        yield b"data: [DONE]\n\n"

    async def _wait(self, verb: str, name: str) -> None:
        if verb == "wait":
            self.waiting(name).set()
            await self.gate(name).wait()


_USAGE = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}


def _completion(text: str) -> Json:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {
        "id": "c",
        "object": "chat.completion",
        "model": "m1",
        "choices": [choice],
        "usage": _USAGE,
    }


def _chunk(more: Json) -> bytes:
    body = {"id": "c", "object": "chat.completion.chunk", "model": "m1", "created": 0, **more}
    return f"data: {json.dumps(body)}\n\n".encode()


class Server(uvicorn.Server):
    """A server that tells when it is up, and leaves the signals of the test run alone."""

    def __init__(self, app: Any) -> None:
        super().__init__(
            uvicorn.Config(
                app, port=0, log_config=None, lifespan="off", timeout_graceful_shutdown=1
            )
        )
        self.up = asyncio.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """The application on a real port of this machine; yields its address."""
    server = Server(app)
    task = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(20):
            await server.up.wait()
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


@pytest.fixture(scope="session")
def data_dir() -> Iterator[Path]:
    """A folder that the database server's own user may enter."""
    path = Path(tempfile.mkdtemp(prefix="af-api-", dir="/tmp"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def settings(data_dir: Path) -> Settings:
    return Settings(data_dir=data_dir, api_key=KEY, egress_allow=(ip_network("127.0.0.0/8"),))


@pytest.fixture(scope="session")
async def model() -> AsyncIterator[Model]:
    model = Model()
    app = Starlette(routes=[Route("/v1/chat/completions", model.answer, methods=["POST"])])
    async with serving(app) as url:
        model.url = f"{url}/v1"
        yield model


@pytest.fixture(scope="session")
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    app = build_app(
        lambda: flows.open_local(settings),
        cors_origins=("https://console.example",),
        comment_s=0.2,
    )
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture(scope="session")
async def anonymous(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://api") as client:
        yield client


@pytest.fixture(scope="session")
async def client(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=app)
    headers = {"X-API-Key": KEY}
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://api", headers=headers, timeout=30
    ) as client:
        yield client


@pytest.fixture(scope="session")
async def live(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    """As ``client``, but over a real socket: answers stream, and connections can be cut."""
    async with (
        serving(app) as url,
        httpx2.AsyncClient(base_url=url, headers={"X-API-Key": KEY}, timeout=30) as client,
    ):
        yield client


@pytest.fixture(scope="session")
def quick() -> Json:
    """A workflow without a model: input, two branches, and their join."""
    return {
        "name": "quick",
        "start_node": "start",
        "nodes": [
            {"id": "start", "type": "input"},
            {
                "id": "left",
                "type": "aggregator",
                "metadata": _template("left of {user_input}", "l"),
            },
            {"id": "right", "type": "aggregator", "metadata": _template("right", "r")},
            {"id": "join", "type": "aggregator", "metadata": _template("{l} and {r}", None)},
        ],
        "edges": [
            {"from": "start", "to": ["left", "right"]},
            {"from": "left", "to": "join"},
            {"from": "right", "to": "join"},
        ],
        "state": {"l": {"type": "string"}, "r": {"type": "string"}},
    }


def _template(text: str, output_key: str | None) -> Json:
    options = {"strategy": "template", "template": text}
    return {**options, "output_key": output_key} if output_key else options


@pytest.fixture(scope="session")
def asking(model: Model) -> Json:
    """A workflow that sends ``user_input`` to the model."""
    source = {"provider": "openai-compatible", "model": "m1", "base_url": model.url}
    return {
        "name": "asking",
        "start_node": "start",
        "nodes": [
            {"id": "start", "type": "input"},
            {
                "id": "write",
                "type": "llm",
                "retry": {"max_attempts": 1},
                "metadata": {"source": "gpt", "prompt": "{user_input}"},
            },
        ],
        "edges": [{"from": "start", "to": "write"}],
        "sources": [{"id": "gpt", "kind": "llm", "config": source}],
    }
