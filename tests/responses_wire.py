"""A real HTTP server on loopback that plays OpenAI's Responses API.

It follows platform.openai.com/docs/api-reference/responses and /responses-streaming. A request that the API
would refuse (an unknown field, another route) is refused, and named in ``wire.faults``. What it answers
fits the SDK's own models.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from openai.types.responses import Response, ResponseStreamEvent
from openai.types.responses.response_create_params import (
    ResponseCreateParamsNonStreaming,
    ResponseCreateParamsStreaming,
)
from pydantic import TypeAdapter

from tests.chat_wire import Refused
from tests.fake_provider import FakeProvider, Handler, Reply, Request
from tests.request_shapes import faults, unknown_in

Json = Any
_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


class ResponsesWire(FakeProvider):
    """The server; replies are scripted as for FakeProvider. ``faults``: what was wrong with requests."""

    def __init__(self, *replies: Any) -> None:
        super().__init__(*replies, default=Said("ok"))
        self.faults: list[str] = []

    @property
    def address(self) -> str:
        """Where the server is, without a path."""
        return f"http://127.0.0.1:{self.port}"

    def took(self, request: Request) -> Reply:
        reply = super().took(request)
        found = wrong_with(request)
        self.faults += found
        return Refused(400, "; ".join(found)) if found else reply


def wrong_with(request: Request) -> list[str]:
    """Why the API would refuse this request."""
    found = []
    if (request.method, request.path) != ("POST", "/v1/responses"):
        found.append(f"no such route: {request.method} {request.path}")
    if "authorization" not in request.headers:
        found.append("no header authorization")
    if not isinstance(request.body, dict):
        return [*found, "the body is no object"]
    shape = ResponseCreateParamsStreaming if request.streams else ResponseCreateParamsNonStreaming
    # The names of models are a list of those known at the SDK's release, and any other text.
    return found + [
        fault for fault in faults(shape, request.body) if not fault.startswith("body.model")
    ]


@dataclass
class Said(Reply):
    """An answer. ``usage``: input, output, cached, reasoning. ``incomplete``: why it is not whole;
    ``failed``: the code it failed with. ``tools``: (name, arguments) of the calls it makes.
    ``cut_after``, ``stall_after``: events of a stream until the connection breaks, or nothing more
    comes."""

    text: str = "ok"
    usage: tuple[int, int, int, int] = (10, 5, 0, 0)
    incomplete: str | None = None
    failed: str | None = None
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
        answer = self._response(self._output())
        assert unknown_in(Response.model_validate(answer, strict=True)) == []
        handler.send_json(200, answer, {"x-request-id": self.request_id})

    def _output(self) -> list[Json]:
        items: list[Json] = []
        if self.text:
            content = [{"type": "output_text", "text": self.text, "annotations": []}]
            items.append({"id": "msg_1", "type": "message", "role": "assistant",
                          "status": "completed", "content": content})  # fmt: skip
        return items + [self._call(index, json.dumps(self.tools[index][1]))
                        for index in range(len(self.tools))]  # fmt: skip

    def _call(self, index: int, arguments: str) -> dict[str, Json]:
        name = self.tools[index][0]
        return {"id": f"fc_{index}", "type": "function_call", "call_id": f"call_{index}",
                "name": name, "arguments": arguments, "status": "completed"}  # fmt: skip

    def _response(self, output: list[Json]) -> dict[str, Json]:
        given, written, cached, reasoning = self.usage
        status = "failed" if self.failed else "incomplete" if self.incomplete else "completed"
        return {
            "id": "resp_1",
            "object": "response",
            "created_at": 1.0,
            "status": status,
            "model": self.model or "gpt-4o-mini-2024-07-18",
            "output": output,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "incomplete_details": {"reason": self.incomplete} if self.incomplete else None,
            "error": {"code": self.failed, "message": "it failed"} if self.failed else None,
            "usage": {
                "input_tokens": given,
                "output_tokens": written,
                "total_tokens": given + written,
                "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
                "output_tokens_details": {"reasoning_tokens": reasoning},
            },
        }

    def _stream(self, handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream; charset=utf-8")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.send_header("x-request-id", self.request_id)
        handler.end_headers()
        for index, event in enumerate(self._events()):
            if self.cut_after == index:
                handler.cut()
                return
            if self.stall_after == index:
                handler.server.closing.wait(60)
                return
            event["sequence_number"] = index
            assert unknown_in(_EVENT.validate_python(event, strict=True)) == []
            data = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
            handler.send_chunk(data.encode())
        handler.end_stream()

    def _events(self) -> list[dict[str, Json]]:
        begun = self._response([]) | {
            "status": "in_progress", "usage": None, "error": None, "incomplete_details": None
        }  # fmt: skip
        events: list[dict[str, Json]] = [{"type": "response.created", "response": begun}]
        place = 0
        if self.text:
            words = self.text.split(" ")
            for index, word in enumerate(words):
                piece = word + (" " if index < len(words) - 1 else "")
                events.append({"type": "response.output_text.delta", "item_id": "msg_1",
                               "output_index": 0, "content_index": 0, "delta": piece,
                               "logprobs": []})  # fmt: skip
            place = 1
        for index, (_, arguments) in enumerate(self.tools):
            item = self._call(index, "") | {"status": "in_progress"}
            at = {"output_index": place + index}
            events.append({"type": "response.output_item.added", "item": item, **at})
            text = json.dumps(arguments)
            for piece in (text[:4], text[4:]):
                events.append({"type": "response.function_call_arguments.delta",
                               "item_id": item["id"], "delta": piece, **at})  # fmt: skip
        ended = self._response(self._output())
        return [*events, {"type": f"response.{ended['status']}", "response": ended}]
