"""A real HTTP server on loopback that plays OpenAI's Responses API.

It follows platform.openai.com/docs/api-reference/responses and /responses-streaming. Where there is a copy
of OpenAI's OpenAPI document, that judges beside the SDK.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

from openai.types.responses import Response, ResponseStreamEvent
from openai.types.responses.response_create_params import (
    ResponseCreateParamsNonStreaming,
    ResponseCreateParamsStreaming,
)

from tests.chat_wire import Refused
from tests.fake_provider import Request
from tests.openai_document import unpublished_answer, unpublished_request
from tests.request_shapes import faults
from tests.wire import Spoken, Wire, halves, misfits_of, words

Json = Any
PUBLISHED = "/responses"


@dataclass
class Said(Spoken):
    """An answer. ``usage``: input, output, cached, reasoning. ``incomplete``: why it is not whole;
    ``failed``: the code it failed with. ``error_after``: the code of the error."""

    usage: tuple[int, int, int, int] = (10, 5, 0, 0)
    incomplete: str | None = None
    failed: str | None = None

    id_header: ClassVar[str] = "x-request-id"

    def misfits(self, answer: Json, *, streamed: bool) -> list[str]:
        found = misfits_of(ResponseStreamEvent if streamed else Response, answer)
        return found + unpublished_answer(PUBLISHED, answer, streamed=streamed)

    def framed(self, event: Json) -> bytes:
        return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()

    def error(self, what: Any) -> Json:
        return {
            "type": "error",
            "code": what,
            "message": "failed",
            "param": None,
            "sequence_number": 99,
        }

    def whole(self) -> Json:
        return self._response(self._output())

    def _output(self) -> list[Json]:
        items: list[Json] = []
        if self.text:
            content = [
                {"type": "output_text", "text": self.text, "annotations": [], "logprobs": []}
            ]
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
            "instructions": None,
            "metadata": {},
            "temperature": 1.0,
            "top_p": 1.0,
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

    def events(self) -> list[Json]:
        begun = self._response([]) | {
            "status": "in_progress", "usage": None, "error": None, "incomplete_details": None
        }  # fmt: skip
        events: list[Json] = [{"type": "response.created", "response": begun}]
        for word in words(self.text):
            events.append({"type": "response.output_text.delta", "item_id": "msg_1",
                           "output_index": 0, "content_index": 0, "delta": word,
                           "logprobs": []})  # fmt: skip
        for index, (_, arguments) in enumerate(self.tools):
            item = self._call(index, "") | {"status": "in_progress"}
            at = {"output_index": index + (1 if self.text else 0)}
            events.append({"type": "response.output_item.added", "item": item, **at})
            for piece in halves(arguments):
                events.append({"type": "response.function_call_arguments.delta",
                               "item_id": item["id"], "delta": piece, **at})  # fmt: skip
        ended = self._response(self._output())
        events.append({"type": f"response.{ended['status']}", "response": ended})
        return [{**event, "sequence_number": index} for index, event in enumerate(events)]


class ResponsesWire(Wire):
    """The server."""

    said, refused = Said, Refused

    def wrong_with(self, request: Request) -> list[str]:
        found = []
        if (request.method, request.path) != ("POST", "/v1/responses"):
            found.append(f"no such route: {request.method} {request.path}")
        if "authorization" not in request.headers:
            found.append("no header authorization")
        if not isinstance(request.body, dict):
            return [*found, "the body is no object"]
        shape = (
            ResponseCreateParamsStreaming if request.streams else ResponseCreateParamsNonStreaming
        )
        # The names of models are a list of those known at the SDK's release, and any other text.
        found += [
            fault for fault in faults(shape, request.body) if not fault.startswith("body.model")
        ]
        return found + unpublished_request(PUBLISHED, request.body)
