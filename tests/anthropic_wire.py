"""A real HTTP server on loopback that plays Anthropic's Messages API.

It follows platform.claude.com/docs/en/api/messages, /streaming, /errors and /migration-2026-10-21.
A request that the API would refuse (a missing header, an unknown field, ``temperature`` in a version
that has none) is refused, and named in ``wire.faults``. What it answers fits the SDK's own models.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from anthropic.types import Message, RawMessageStreamEvent
from anthropic.types.message_create_params import (
    MessageCreateParamsNonStreaming,
    MessageCreateParamsStreaming,
)
from pydantic import TypeAdapter

from tests.fake_provider import FakeProvider, Handler, Reply, Request
from tests.request_shapes import faults, unknown_in

Json = Any
VERSIONS = ("2023-06-01", "2026-10-21")
NO_PARAMETERS = {"user_profile_id", "workspace_id"}
"""Of the SDK's fields, those that travel as headers."""
KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


class AnthropicWire(FakeProvider):
    """The server; replies are scripted as for FakeProvider. ``faults``: what was wrong with requests."""

    def __init__(self, *replies: Any, **options: Any) -> None:
        super().__init__(*replies, default=options.pop("default", Said("ok")), **options)
        self.faults: list[str] = []

    @property
    def address(self) -> str:
        """What a source names as base_url."""
        return f"http://127.0.0.1:{self.port}"

    def took(self, request: Request) -> Reply:
        reply = super().took(request)
        found = wrong_with(request)
        self.faults += found
        return Refused(400, "; ".join(found)) if found else reply


def wrong_with(request: Request) -> list[str]:
    """Why the API would refuse this request."""
    version = request.headers.get("anthropic-version")
    found = []
    if (request.method, request.path) != ("POST", "/v1/messages"):
        found.append(f"no such route: {request.method} {request.path}")
    if version not in VERSIONS:
        found.append(f"anthropic-version: {version!r} is not a version")
    if "application/json" not in request.headers.get("content-type", ""):
        found.append("content-type: expected application/json")
    if not isinstance(request.body, dict):
        return [*found, "the body is no object"]
    body = dict(request.body)
    sampling = {name: body.pop(name) for name in ("temperature", "top_p") if name in body}
    if sampling and version != "2023-06-01":
        found.append(f"{', '.join(sampling)}: not a parameter of {version}")
    shape = MessageCreateParamsStreaming if request.streams else MessageCreateParamsNonStreaming
    # The names of models are a list of those known at the SDK's release, and any other text.
    found += [fault for fault in faults(shape, body) if not fault.startswith("body.model")]
    found += [f"body: unknown field {name!r}" for name in NO_PARAMETERS & set(body)]
    schema = ((body.get("output_config") or {}).get("format") or {}).get("schema")
    return [*found, *_open_objects(schema)]


def _open_objects(schema: Json) -> list[str]:
    """Structured outputs take closed objects alone, and no limits on numbers."""
    if isinstance(schema, list):
        return [fault for item in schema for fault in _open_objects(item)]
    if not isinstance(schema, dict):
        return []
    found = [
        f"schema: {name} is not supported" for name in ("minimum", "maxLength") if name in schema
    ]
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        found.append("schema: additionalProperties must be false")
    return found + [fault for item in schema.values() for fault in _open_objects(item)]


@dataclass
class Said(Reply):
    """An answer. ``usage``: input, output, read from the cache, written to it, thinking. ``tools``:
    (name, arguments) of the calls it makes. ``cut_after``, ``stall_after``: pieces of a stream until
    the connection breaks, or nothing more comes; ``error_after``: until this error comes instead."""

    text: str = "ok"
    usage: tuple[int, int, int, int, int] = (10, 5, 0, 0, 0)
    stop_reason: str = "end_turn"
    explanation: str = ""
    tools: tuple[tuple[str, dict[str, Json]], ...] = ()
    model: str | None = None
    cut_after: int | None = None
    stall_after: int | None = None
    error_after: tuple[int, str] | None = None
    request_id: str = "req_011CSHoEeqs5C35K2UUqR7Fy"
    delay: float = 0.0
    gate: Any = None

    def send(self, handler: Handler, request: Request) -> None:
        if request.streams:
            self._stream(handler)
            return
        answer = self._message(request)
        assert unknown_in(Message.model_validate(answer, strict=True)) == []
        handler.send_json(200, answer, {"request-id": self.request_id})

    def _message(self, request: Request) -> dict[str, Json]:
        content: list[Json] = [{"type": "text", "text": self.text}] if self.text else []
        content += [
            {"type": "tool_use", "id": f"toolu_{index}", "name": name, "input": arguments}
            for index, (name, arguments) in enumerate(self.tools)
        ]
        return {
            "id": "msg_013Zva2CMHLNnXjNJJKqJ2EF",
            "type": "message",
            "role": "assistant",
            "model": self.model or "claude-haiku-4-5",
            "content": content,
            "stop_reason": self.stop_reason,
            "stop_sequence": None,
            "stop_details": self._details(),
            "usage": self._usage(self.usage[1]),
        }

    def _details(self) -> Json:
        if not self.explanation:
            return None
        return {"type": "refusal", "category": None, "explanation": self.explanation}

    def _usage(self, output: int) -> dict[str, Json]:
        return {
            "input_tokens": self.usage[0],
            "output_tokens": output,
            "cache_read_input_tokens": self.usage[2],
            "cache_creation_input_tokens": self.usage[3],
            "output_tokens_details": {"thinking_tokens": self.usage[4]},
            "service_tier": "standard",
        }

    def _stream(self, handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream; charset=utf-8")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.send_header("request-id", self.request_id)
        handler.end_headers()
        for index, event in enumerate(self._events()):
            if self.cut_after == index:
                handler.cut()
                return
            if self.stall_after == index:
                handler.server.closing.wait(60)
                return
            if self.error_after is not None and self.error_after[0] == index:
                kind = self.error_after[1]
                _send(handler, {"type": "error", "error": {"type": kind, "message": "Overloaded"}})
                handler.end_stream()
                return
            assert unknown_in(_EVENT.validate_python(event, strict=True)) == []
            _send(handler, event)
            if index == 0:
                _send(handler, {"type": "ping"})
        handler.end_stream()

    def _events(self) -> list[Json]:
        start = self._message(Request("", "", {}, b"", None, 0.0))
        start |= {"content": [], "stop_reason": None, "stop_details": None, "usage": self._usage(1)}
        events: list[Json] = [{"type": "message_start", "message": start}]
        place = 0
        if self.text:
            block: Json = {"type": "text", "text": ""}
            events.append({"type": "content_block_start", "index": 0, "content_block": block})
            words = self.text.split(" ")
            for index, word in enumerate(words):
                piece = word + (" " if index < len(words) - 1 else "")
                events.append(_delta(0, {"type": "text_delta", "text": piece}))
            events.append({"type": "content_block_stop", "index": 0})
            place = 1
        for index, (name, arguments) in enumerate(self.tools, place):
            block = {"type": "tool_use", "id": f"toolu_{index}", "name": name, "input": {}}
            events.append({"type": "content_block_start", "index": index, "content_block": block})
            text = json.dumps(arguments)
            for piece in (text[:4], text[4:]):
                events.append(_delta(index, {"type": "input_json_delta", "partial_json": piece}))
            events.append({"type": "content_block_stop", "index": index})
        end = {
            "stop_reason": self.stop_reason,
            "stop_sequence": None,
            "stop_details": self._details(),
        }
        usage = {
            "output_tokens": self.usage[1],
            "output_tokens_details": {"thinking_tokens": self.usage[4]},
        }
        events.append({"type": "message_delta", "delta": end, "usage": usage})
        return [*events, {"type": "message_stop"}]


def _delta(index: int, delta: Json) -> Json:
    return {"type": "content_block_delta", "index": index, "delta": delta}


def _send(handler: Handler, event: Json) -> None:
    data = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
    handler.send_chunk(data.encode())


@dataclass
class Refused(Reply):
    """An error, in the shape that the API gives it; ``echo_key`` repeats the credential in it."""

    status: int
    message: str = "something went wrong"
    kind: str | None = None
    echo_key: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    gate: Any = None

    def send(self, handler: Handler, request: Request) -> None:
        message = f"{self.message} (key: {request.key})" if self.echo_key else self.message
        error = {"type": self.kind or KINDS[self.status], "message": message}
        body = {"type": "error", "error": error, "request_id": "req_1"}
        handler.send_json(self.status, body, {"request-id": "req_1", **self.headers})
