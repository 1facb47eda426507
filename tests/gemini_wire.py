"""A real HTTP server on loopback that plays the Gemini API.

It follows ai.google.dev/api/generate-content and ai.google.dev/gemini-api/docs/generate-content/api-errors.
Requests and answers are read with the API's published definition, the package
``google-ai-generativelanguage``, which refuses what it does not know, and answers with the SDK's own
models too.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from google.ai import generativelanguage_v1beta as published
from google.genai import types
from google.protobuf.json_format import Parse, ParseError
from google.rpc import error_details_pb2, status_pb2

from tests.fake_provider import Request
from tests.wire import Denied, Spoken, Wire, misfits_of, words

Json = Any
ROUTE = re.compile(r"/v1beta/models/[\w.-]+:(generateContent|streamGenerateContent\?alt=sse)")
STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
ERROR_DETAILS = (error_details_pb2.ErrorInfo, error_details_pb2.RetryInfo)
"""Known to the parser of errors by being imported."""


def unpublished(message: Any, value: Json) -> list[str]:
    """Why the published definition of a message does not take this value."""
    try:
        Parse(json.dumps(value), message)
    except ParseError as error:
        return [str(error)]
    return []


def misfits_with(answer: Json) -> list[str]:
    """Why the API could not have given this answer, or this piece of a stream."""
    taken = unpublished(published.GenerateContentResponse.pb()(), answer)
    return taken + misfits_of(types.GenerateContentResponse, answer)


def wrong_with(request: Request, body: Json) -> list[str]:
    """Why the API would refuse this request; ``body`` is what is judged of its body."""
    found = []
    if request.method != "POST" or not ROUTE.fullmatch(request.path):
        found.append(f"no such route: {request.method} {request.path}")
    if not request.headers.get("x-goog-api-key"):
        found.append("no x-goog-api-key")
    if not isinstance(body, dict):
        return [*found, "the body is no object"]
    if not body.get("contents"):
        found.append("contents is missing")
    return found + unpublished(published.GenerateContentRequest.pb()(), body)


@dataclass
class Said(Spoken):
    """An answer. ``usage``: input, output without thoughts, cached, thoughts. Its tool calls have a
    signature. ``blocked``: the prompt was, for this reason. ``error_after``: the status."""

    usage: tuple[int, int, int, int] = (10, 5, 0, 0)
    finish_reason: str = "STOP"
    blocked: str | None = None

    def streams(self, request: Request) -> bool:
        return "streamGenerateContent" in request.path

    def misfits(self, answer: Json, *, streamed: bool) -> list[str]:
        return misfits_with(answer)

    def error(self, what: Any) -> Json:
        return {"error": {"code": what, "message": "overloaded", "status": STATUS[what]}}

    def whole(self) -> Json:
        said: list[Json] = [{"text": self.text}] if self.text else []
        return self._piece([*said, *self._calls()], self.finish_reason)

    def events(self) -> list[Json]:
        parts = [*({"text": word} for word in words(self.text)), *self._calls()]
        pieces = [self._piece([part], None) for part in parts]
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


@dataclass
class Refused(Denied):
    """An error. ``retry_delay``: seconds, said in the body as the API does; ``reason``: an
    ErrorInfo's."""

    reason: str | None = None
    retry_delay: float | None = None

    def body(self, message: str) -> Json:
        details = []
        if self.reason:
            kind = "type.googleapis.com/google.rpc.ErrorInfo"
            details.append({"@type": kind, "reason": self.reason, "domain": "googleapis.com"})
        if self.retry_delay is not None:
            kind = "type.googleapis.com/google.rpc.RetryInfo"
            details.append({"@type": kind, "retryDelay": f"{self.retry_delay:g}s"})
        status = STATUS[self.status]
        error = {"code": self.status, "message": message, "status": status, "details": details}
        return {"error": error}

    def misfits(self, body: Json) -> list[str]:
        # The status by its name is not part of google.rpc.Status, but of its form in HTTP (AIP-193).
        plain = {name: value for name, value in body["error"].items() if name != "status"}
        return unpublished(status_pb2.Status(), plain)


class GeminiWire(Wire):
    """The server."""

    said, refused = Said, Refused

    def wrong_with(self, request: Request) -> list[str]:
        return wrong_with(request, request.body)
