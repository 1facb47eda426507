"""A real HTTP server on loopback that plays the chat completions of OpenAI, Azure and vLLM.

It follows platform.openai.com/docs/api-reference/chat, learn.microsoft.com/azure/ai-foundry/openai/reference
and docs.vllm.ai/en/latest/serving/openai_compatible_server. Where there is a copy of OpenAI's OpenAPI
document, that judges beside the SDK.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat.completion_create_params import (
    CompletionCreateParamsNonStreaming,
    CompletionCreateParamsStreaming,
)
from openai.types.shared import ErrorObject

from tests.fake_provider import Request
from tests.openai_document import unpublished_answer, unpublished_error, unpublished_request
from tests.request_shapes import faults
from tests.wire import Denied, Spoken, Wire, halves, misfits_of, words

Json = Any
ROUTES = {
    "openai": "/v1/chat/completions",
    "vllm": "/v1/chat/completions",
    "azure": "/openai/deployments/gpt%204o/chat/completions",
    "azure v1": "/openai/v1/chat/completions",
}
PUBLISHED = "/chat/completions"


@dataclass
class Said(Spoken):
    """An answer. ``usage``: input, output, cached, reasoning. ``error_after``: the code of the error."""

    usage: tuple[int, int, int, int] = (10, 5, 0, 0)
    finish_reason: str = "stop"

    id_header: ClassVar[str] = "x-request-id"
    end: ClassVar[bytes] = b"data: [DONE]\n\n"

    def misfits(self, answer: Json, *, streamed: bool) -> list[str]:
        found = misfits_of(ChatCompletionChunk if streamed else ChatCompletion, answer)
        return found + unpublished_answer(PUBLISHED, answer, streamed=streamed)

    def error(self, what: Any) -> Json:
        return {"error": {"message": "failed", "type": "error", "param": None, "code": what}}

    def whole(self) -> Json:
        message: Json = {"role": "assistant", "content": self.text or None, "refusal": None}
        if self.tools:
            message["tool_calls"] = [self._call(index) for index in range(len(self.tools))]
        choice = {
            "index": 0,
            "message": message,
            "finish_reason": self.finish_reason,
            "logprobs": None,
        }
        return {**self._head("chat.completion"), "choices": [choice], "usage": self._counts()}

    def _call(self, index: int) -> dict[str, Json]:
        name, arguments = self.tools[index]
        function = {"name": name, "arguments": json.dumps(arguments)}
        return {"id": f"call_{index}", "type": "function", "function": function}

    def events(self) -> list[Json]:
        head = self._head("chat.completion.chunk")
        deltas: list[Json] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": word} for word in words(self.text)]
        for index, (_, arguments) in enumerate(self.tools):
            call = self._call(index)
            first = {**call, "index": index, "function": {**call["function"], "arguments": ""}}
            deltas.append({"tool_calls": [first]})
            for piece in halves(arguments):
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
class Refused(Denied):
    """An error with its ``code``."""

    code: str | None = None

    def body(self, message: str) -> Json:
        return {"error": {"message": message, "type": "error", "param": None, "code": self.code}}

    def misfits(self, body: Json) -> list[str]:
        return misfits_of(ErrorObject, body["error"]) + unpublished_error(body)


class ChatWire(Wire):
    """The server; ``kind``: whose."""

    said, refused = Said, Refused

    def __init__(self, kind: str, *replies: Any, **options: Any) -> None:
        super().__init__(*replies, **options)
        self.kind = kind

    def wrong_with(self, request: Request) -> list[str]:
        url = urlsplit(request.path)
        found = []
        if (request.method, url.path) != ("POST", ROUTES[self.kind]):
            found.append(f"no such route: {request.method} {url.path}")
        versions = parse_qs(url.query).get("api-version")
        if self.kind == "azure" and versions != ["2024-10-21"]:
            found.append(f"api-version: {versions}")
        credential = "api-key" if self.kind.startswith("azure") else "authorization"
        if credential not in request.headers:
            found.append(f"no header {credential}")
        if not isinstance(request.body, dict):
            return [*found, "the body is no object"]
        shape = (
            CompletionCreateParamsStreaming
            if request.streams
            else CompletionCreateParamsNonStreaming
        )
        # The names of models are a list of those known at the SDK's release, and any other text.
        found += [
            fault for fault in faults(shape, request.body) if not fault.startswith("body.model")
        ]
        return found + unpublished_request(PUBLISHED, request.body)
