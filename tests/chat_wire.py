"""A real HTTP server on loopback that plays the chat completions of OpenAI, Azure and vLLM.

It follows platform.openai.com/docs/api-reference/chat, learn.microsoft.com/azure/ai-foundry/openai/reference
and docs.vllm.ai/en/latest/serving/openai_compatible_server. A request that such a server would refuse (an
unknown field, another route, no ``api-version`` on Azure) is refused, and named in ``wire.faults``. What
it answers fits the SDK's own models.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat.completion_create_params import (
    CompletionCreateParamsNonStreaming,
    CompletionCreateParamsStreaming,
)

from tests.fake_provider import FakeProvider, Handler, Reply, Request
from tests.request_shapes import faults, unknown_in

Json = Any
ROUTES = {
    "openai": "/v1/chat/completions",
    "vllm": "/v1/chat/completions",
    "azure": "/openai/deployments/gpt%204o/chat/completions",
    "azure v1": "/openai/v1/chat/completions",
}


class ChatWire(FakeProvider):
    """The server; replies are scripted as for FakeProvider. ``faults``: what was wrong with requests."""

    def __init__(self, kind: str, *replies: Any) -> None:
        super().__init__(*replies, default=Said("ok"))
        self.kind = kind
        self.faults: list[str] = []

    @property
    def address(self) -> str:
        """Where the server is, without a path."""
        return f"http://127.0.0.1:{self.port}"

    def took(self, request: Request) -> Reply:
        reply = super().took(request)
        found = wrong_with(self.kind, request)
        self.faults += found
        return Refused(400, "; ".join(found)) if found else reply


def wrong_with(kind: str, request: Request) -> list[str]:
    """Why such a server would refuse this request."""
    url = urlsplit(request.path)
    found = []
    if (request.method, url.path) != ("POST", ROUTES[kind]):
        found.append(f"no such route: {request.method} {url.path}")
    versions = parse_qs(url.query).get("api-version")
    if kind == "azure" and versions != ["2024-10-21"]:
        found.append(f"api-version: {versions}")
    credential = "api-key" if kind.startswith("azure") else "authorization"
    if credential not in request.headers:
        found.append(f"no header {credential}")
    if not isinstance(request.body, dict):
        return [*found, "the body is no object"]
    shape = (
        CompletionCreateParamsStreaming if request.streams else CompletionCreateParamsNonStreaming
    )
    # The names of models are a list of those known at the SDK's release, and any other text.
    return found + [
        fault for fault in faults(shape, request.body) if not fault.startswith("body.model")
    ]


@dataclass
class Said(Reply):
    """An answer. ``usage``: input, output, cached, reasoning. ``tools``: (name, arguments) of the calls
    it makes. ``cut_after``, ``stall_after``: chunks of a stream until the connection breaks, or nothing
    more comes."""

    text: str = "ok"
    usage: tuple[int, int, int, int] = (10, 5, 0, 0)
    finish_reason: str = "stop"
    tools: tuple[tuple[str, dict[str, Json]], ...] = ()
    model: str | None = None
    cut_after: int | None = None
    stall_after: int | None = None
    request_id: str = "req_4fd21b1a3e5f4f1e"
    delay: float = 0.0
    gate: Any = None

    def send(self, handler: Handler, request: Request) -> None:
        if request.streams:
            self._stream(handler)
            return
        message: Json = {"role": "assistant", "content": self.text or None, "refusal": None}
        if self.tools:
            message["tool_calls"] = [self._call(index) for index in range(len(self.tools))]
        choice = {
            "index": 0,
            "message": message,
            "finish_reason": self.finish_reason,
            "logprobs": None,
        }
        answer = {
            **self._head("chat.completion"),
            "choices": [choice],
            "usage": self._counts(),
        }
        assert unknown_in(ChatCompletion.model_validate(answer, strict=True)) == []
        handler.send_json(200, answer, {"x-request-id": self.request_id})

    def _call(self, index: int) -> dict[str, Json]:
        name, arguments = self.tools[index]
        function = {"name": name, "arguments": json.dumps(arguments)}
        return {"id": f"call_{index}", "type": "function", "function": function}

    def _stream(self, handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream; charset=utf-8")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.send_header("x-request-id", self.request_id)
        handler.end_headers()
        for index, chunk in enumerate(self._chunks()):
            if self.cut_after == index:
                handler.cut()
                return
            if self.stall_after == index:
                handler.server.closing.wait(60)
                return
            assert unknown_in(ChatCompletionChunk.model_validate(chunk, strict=True)) == []
            handler.send_event(chunk)
        handler.send_chunk(b"data: [DONE]\n\n")
        handler.end_stream()

    def _chunks(self) -> list[Json]:
        head = self._head("chat.completion.chunk")
        words = self.text.split(" ")
        deltas: list[Json] = [{"role": "assistant", "content": ""}]
        for index, word in enumerate(words):
            deltas.append({"content": word + (" " if index < len(words) - 1 else "")})
        for index in range(len(self.tools)):
            call = self._call(index)
            text = call["function"]["arguments"]
            first = {**call, "index": index, "function": {**call["function"], "arguments": ""}}
            deltas.append({"tool_calls": [first]})
            for piece in (text[:4], text[4:]):
                function = {"arguments": piece}
                deltas.append({"tool_calls": [{"index": index, "function": function}]})
        chunks = [
            {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
            for delta in deltas
        ]
        end = {"index": 0, "delta": {}, "finish_reason": self.finish_reason}
        chunks.append({**head, "choices": [end]})
        return [*chunks, {**head, "choices": [], "usage": self._counts()}]

    def _head(self, kind: str) -> dict[str, Json]:
        model = self.model or "gpt-4o-mini-2024-07-18"
        return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": model}

    def _counts(self) -> dict[str, Json]:
        prompt, completion, cached, reasoning = self.usage
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached},
            "completion_tokens_details": {"reasoning_tokens": reasoning},
        }


@dataclass
class Refused(Reply):
    """An error, in the shape that such servers give it; ``echo_key`` repeats the credential in it."""

    status: int
    message: str = "something went wrong"
    code: str | int | None = None
    echo_key: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    gate: Any = None

    def send(self, handler: Handler, request: Request) -> None:
        key = request.key or request.headers.get("api-key")
        message = f"{self.message} (key: {key})" if self.echo_key else self.message
        error = {"message": message, "type": "error", "param": None, "code": self.code}
        handler.send_json(self.status, {"error": error}, self.headers)
