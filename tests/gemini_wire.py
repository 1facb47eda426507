"""A real HTTP server on loopback that plays the Gemini API.

It follows ai.google.dev/api/generate-content and ai.google.dev/gemini-api/docs/generate-content/api-errors.
A request that the API would refuse (no key, an unknown field) is refused, and named in ``wire.faults``;
like the API it takes ``camelCase`` and ``snake_case``. What it answers fits the SDK's own models.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from google.genai import types
from pydantic import BaseModel, ValidationError

from tests.fake_provider import FakeProvider, Handler, Reply, Request

Json = Any
ROUTE = re.compile(r"/v1(?:beta)?/models/[\w.-]+:(generateContent|streamGenerateContent\?alt=sse)")
PARTS: dict[str, type[BaseModel]] = {
    "contents": types.Content,
    "systemInstruction": types.Content,
    "generationConfig": types.GenerationConfig,
    "tools": types.Tool,
    "toolConfig": types.ToolConfig,
    "safetySettings": types.SafetySetting,
}
"""Field of a request -> what it, or each item of it, must be."""
STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


class GeminiWire(FakeProvider):
    """The server; replies are scripted as for FakeProvider. ``faults``: what was wrong with requests."""

    def __init__(self, *replies: Any) -> None:
        super().__init__(*replies, default=Said("ok"))
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
    found = []
    if request.method != "POST" or not ROUTE.fullmatch(request.path):
        found.append(f"no such route: {request.method} {request.path}")
    if not request.headers.get("x-goog-api-key"):
        found.append("no x-goog-api-key")
    if not isinstance(request.body, dict):
        return [*found, "the body is no object"]
    for name, value in request.body.items():
        if name not in PARTS:
            found.append(f"unknown field {name!r}")
            continue
        for item in value if isinstance(value, list) else [value]:
            try:
                PARTS[name].model_validate(item)
            except ValidationError as error:
                found.append(f"{name}: {error}")
    if not request.body.get("contents"):
        found.append("contents is missing")
    return found


def streams(request: Request) -> bool:
    """Whether this is a call for a stream."""
    return "streamGenerateContent" in request.path


@dataclass
class Said(Reply):
    """An answer. ``usage``: input, output without thoughts, cached, thoughts. ``tools``: (name,
    arguments) of the calls it makes, each with a signature. ``blocked``: the prompt was, for this
    reason. ``cut_after``, ``stall_after``: chunks of a stream until the connection breaks, or nothing
    more comes; ``error_after``: until this status comes instead."""

    text: str = "ok"
    usage: tuple[int, int, int, int] = (10, 5, 0, 0)
    finish_reason: str = "STOP"
    tools: tuple[tuple[str, dict[str, Json]], ...] = ()
    model: str | None = None
    blocked: str | None = None
    cut_after: int | None = None
    stall_after: int | None = None
    error_after: tuple[int, int] | None = None
    request_id: str = "req_8TgjaYu3Ls6AvdIPu9uV8Ao"
    delay: float = 0.0
    gate: Any = None

    def send(self, handler: Handler, request: Request) -> None:
        if streams(request):
            self._stream(handler)
            return
        words: list[Json] = [{"text": self.text}] if self.text else []
        answer = self._piece([*words, *self._calls()], self.finish_reason)
        handler.send_json(200, _fitting(answer))

    def _stream(self, handler: Handler) -> None:
        handler.begin_stream()
        for index, piece in enumerate(self._pieces()):
            if self.cut_after == index:
                handler.cut()
                return
            if self.stall_after == index:
                handler.server.closing.wait(60)
                return
            if self.error_after is not None and self.error_after[0] == index:
                status = self.error_after[1]
                body = {"code": status, "message": "overloaded", "status": STATUS[status]}
                handler.send_event({"error": body})
                handler.end_stream()
                return
            handler.send_event(_fitting(piece))
        handler.end_stream()

    def _pieces(self) -> list[Json]:
        words = self.text.split(" ") if self.text else []
        parts: list[Json] = [
            {"text": word + (" " if index < len(words) - 1 else "")}
            for index, word in enumerate(words)
        ]
        pieces = [self._piece([part], None) for part in [*parts, *self._calls()]]
        return [*pieces, self._piece([{"text": ""}], self.finish_reason)]

    def _calls(self) -> list[Json]:
        return [
            {"functionCall": {"id": f"fc_{index}", "name": name, "args": arguments},
             "thoughtSignature": "c2lnbmVk"}
            for index, (name, arguments) in enumerate(self.tools)
        ]  # fmt: skip

    def _piece(self, parts: list[Json], reason: str | None) -> dict[str, Json]:
        head: dict[str, Json] = {
            "modelVersion": self.model or "gemini-2.5-flash-lite",
            "responseId": self.request_id,
        }
        if self.blocked:
            return {**head, "promptFeedback": {"blockReason": self.blocked}}
        candidate: Json = {"content": {"role": "model", "parts": parts}, "index": 0}
        prompt, output, cached, thoughts = self.usage
        usage = {
            "promptTokenCount": prompt,
            "candidatesTokenCount": output,
            "totalTokenCount": prompt + output + thoughts,
            "cachedContentTokenCount": cached,
            "thoughtsTokenCount": thoughts,
        }
        if reason is not None:
            candidate["finishReason"] = reason
        return {**head, "candidates": [candidate], "usageMetadata": usage}


def _fitting(answer: Json) -> Json:
    """The answer, which fits the SDK's model of it, to the last field."""
    types.GenerateContentResponse.model_validate(answer, by_alias=True, by_name=False)
    return answer


@dataclass
class Refused(Reply):
    """An error, in the shape that the API gives it; ``echo_key`` repeats the credential in it.
    ``retry_delay``: seconds, said in the body as the API does; ``reason``: an ErrorInfo's."""

    status: int
    message: str = "something went wrong"
    reason: str | None = None
    retry_delay: float | None = None
    echo_key: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    gate: Any = None

    def send(self, handler: Handler, request: Request) -> None:
        key = request.headers.get("x-goog-api-key")
        message = f"{self.message} (key: {key})" if self.echo_key else self.message
        details = []
        if self.reason:
            kind = "type.googleapis.com/google.rpc.ErrorInfo"
            details.append({"@type": kind, "reason": self.reason, "domain": "googleapis.com"})
        if self.retry_delay is not None:
            kind = "type.googleapis.com/google.rpc.RetryInfo"
            details.append({"@type": kind, "retryDelay": f"{self.retry_delay:g}s"})
        error = {
            "code": self.status,
            "message": message,
            "status": STATUS[self.status],
            "details": details,
        }
        handler.send_json(self.status, {"error": error}, self.headers)
