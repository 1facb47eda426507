"""A real HTTP server on loopback that plays Anthropic's Messages API.

It follows platform.claude.com/docs/en/api/messages, /streaming, /errors and /migration-2026-10-21.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

from anthropic.types import ErrorResponse, Message, RawMessageStreamEvent
from anthropic.types.message_create_params import (
    MessageCreateParamsNonStreaming,
    MessageCreateParamsStreaming,
)

from tests.fake_provider import Request
from tests.request_shapes import faults
from tests.wire import Denied, Spoken, Wire, halves, misfits_of, words

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
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


@dataclass
class Said(Spoken):
    """An answer. ``usage``: input, output, read from the cache, written to it, thinking.
    ``error_after``: the type of the error."""

    usage: tuple[int, int, int, int, int] = (10, 5, 0, 0, 0)
    stop_reason: str = "end_turn"
    explanation: str = ""

    id_header: ClassVar[str] = "request-id"

    def misfits(self, answer: Json, *, streamed: bool) -> list[str]:
        return misfits_of(RawMessageStreamEvent if streamed else Message, answer)

    def framed(self, event: Json) -> bytes:
        frame = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
        if event["type"] == "message_start":
            frame += 'event: ping\ndata: {"type": "ping"}\n\n'
        return frame.encode()

    def error(self, what: Any) -> Json:
        return {"type": "error", "error": {"type": what, "message": "Overloaded"}}

    def whole(self) -> Json:
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

    def events(self) -> list[Json]:
        start = self.whole()
        start |= {"content": [], "stop_reason": None, "stop_details": None, "usage": self._usage(1)}
        events: list[Json] = [{"type": "message_start", "message": start}]
        if self.text:
            pieces = [{"type": "text_delta", "text": word} for word in words(self.text)]
            events += _block(0, {"type": "text", "text": ""}, pieces)
        for index, (name, arguments) in enumerate(self.tools, 1 if self.text else 0):
            block = {"type": "tool_use", "id": f"toolu_{index}", "name": name, "input": {}}
            pieces = [
                {"type": "input_json_delta", "partial_json": piece} for piece in halves(arguments)
            ]
            events += _block(index, block, pieces)
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


def _block(index: int, block: Json, deltas: list[Json]) -> list[Json]:
    """The events of a content block."""
    pieces = [{"type": "content_block_delta", "index": index, "delta": each} for each in deltas]
    begun = {"type": "content_block_start", "index": index, "content_block": block}
    return [begun, *pieces, {"type": "content_block_stop", "index": index}]


@dataclass
class Refused(Denied):
    """An error; ``kind``: its type, where the status does not say it."""

    kind: str | None = None

    def __post_init__(self) -> None:
        self.headers = {"request-id": "req_1", **self.headers}

    def body(self, message: str) -> Json:
        error = {"type": self.kind or KINDS[self.status], "message": message}
        return {"type": "error", "error": error, "request_id": "req_1"}

    def misfits(self, body: Json) -> list[str]:
        return misfits_of(ErrorResponse, body)


class AnthropicWire(Wire):
    """The server."""

    said, refused = Said, Refused

    def wrong_with(self, request: Request) -> list[str]:
        version = request.headers.get("anthropic-version")
        found = []
        if (request.method, request.path) != ("POST", "/v1/messages"):
            found.append(f"no such route: {request.method} {request.path}")
        if version not in VERSIONS:
            found.append(f"anthropic-version: {version!r} is not a version")
        if not request.key:
            found.append("no header authorization")
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
