"""A real HTTP server on loopback that plays the images protocol of OpenAI and Azure, and Gemini's models
that make pictures.

It follows developers.openai.com/api/reference/resources/images/methods/generate,
learn.microsoft.com/azure/foundry/openai/dall-e-quickstart and ai.google.dev/gemini-api/docs/image-generation.
A request that such a server would refuse (an unknown field, another route, what the model does not take)
is refused, and named in ``wire.faults``. What it answers fits the SDK's own models. It also serves the
pictures that it gives addresses of.
"""

from __future__ import annotations

import base64
import re
import struct
import zlib
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from google.genai import types
from openai.types.image_generate_params import ImageGenerateParamsNonStreaming
from openai.types.images_response import ImagesResponse
from pydantic import ValidationError

from tests.fake_provider import FakeProvider, Handler, Raw, Reply, Request
from tests.gemini_wire import Refused as GeminiRefused
from tests.request_shapes import faults, unknown_in

Json = Any
ROUTES = {
    "openai": "/v1/images/generations",
    "compatible": "/v1/images/generations",
    "azure": "/openai/deployments/painter/images/generations",
    "azure v1": "/openai/v1/images/generations",
}
GEMINI_ROUTE = re.compile(r"/v1beta/models/[\w.-]+:generateContent")
UNKNOWN_TO = {
    "gpt-image": ("style", "response_format"),
    "dall-e-2": ("style", "quality"),
}
"""How the name of a model begins -> fields that it refuses."""


def png(width: int = 1024, height: int = 1024, colour: int = 7) -> bytes:
    """A picture of one colour; every argument gives another one."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + crc

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes([colour]) * width) * height, 9)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", rows), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


class ImagesWire(FakeProvider):
    """The server; replies are scripted as for FakeProvider. ``faults``: what was wrong with requests.
    ``served``: path -> what is answered there to whoever fetches a picture, one after the other."""

    def __init__(self, kind: str, *replies: Any) -> None:
        super().__init__(*replies, default=Drawn())
        self.kind = kind
        self.faults: list[str] = []
        self.served: dict[str, list[Reply]] = {}
        self.fetches: list[Request] = []

    @property
    def address(self) -> str:
        """Where the server is, without a path."""
        return f"http://127.0.0.1:{self.port}"

    def serve(self, path: str, *replies: Reply) -> str:
        """The address of a picture."""
        self.served[path] = list(replies)
        return f"{self.address}{path}"

    def took(self, request: Request) -> Reply:
        path = urlsplit(request.path).path
        if request.method == "GET" and path in self.served:
            self.fetches.append(request)
            replies = self.served[path]
            return replies.pop(0) if len(replies) > 1 else replies[0]
        reply = super().took(request)
        found = (
            wrong_with_gemini(request) if self.kind == "gemini" else wrong_with(self.kind, request)
        )
        self.faults += found
        if not found:
            return reply
        refused = GeminiRefused if self.kind == "gemini" else Refused
        return refused(400, "; ".join(found))


def wrong_with(kind: str, request: Request) -> list[str]:
    """Why a server of the images protocol would refuse this request."""
    url = urlsplit(request.path)
    found = []
    if (request.method, url.path) != ("POST", ROUTES[kind]):
        found.append(f"no such route: {request.method} {url.path}")
    versions = parse_qs(url.query).get("api-version")
    if kind == "azure" and versions != ["2025-04-01-preview"]:
        found.append(f"api-version: {versions}")
    credential = "api-key" if kind.startswith("azure") else "authorization"
    if credential not in request.headers:
        found.append(f"no header {credential}")
    if not isinstance(request.body, dict):
        return [*found, "the body is no object"]
    model = str(request.body.get("model"))
    for start, names in UNKNOWN_TO.items():
        if model.startswith(start):
            found += [f"{model} knows no {name}" for name in names if name in request.body]
    return found + faults(ImageGenerateParamsNonStreaming, request.body)


def wrong_with_gemini(request: Request) -> list[str]:
    """Why the Gemini API would refuse this request."""
    found = []
    if request.method != "POST" or not GEMINI_ROUTE.fullmatch(request.path):
        found.append(f"no such route: {request.method} {request.path}")
    if not request.headers.get("x-goog-api-key"):
        found.append("no x-goog-api-key")
    body = request.body if isinstance(request.body, dict) else {}
    try:
        options = dict(body.get("generationConfig") or {})
        types.ImageConfig.model_validate(options.pop("imageConfig", None))
        types.GenerationConfig.model_validate(options)
        [types.Content.model_validate(each) for each in body.get("contents") or [None]]
    except ValidationError as error:
        found.append(str(error))
    unknown = set(body) - {"contents", "generationConfig"}
    return found + [f"unknown field {name!r}" for name in sorted(unknown)]


@dataclass
class Drawn(Reply):
    """An answer with pictures: ``content`` of each, or ``urls``. ``usage``: input, output tokens;
    ``image_tokens``: those of the output that are of pictures, where that is said. ``revised``: the
    prompt that was drawn. ``filtered``: names of Azure's filters that stopped it."""

    content: tuple[bytes, ...] = (png(),)
    urls: tuple[str, ...] = ()
    usage: tuple[int, int] | None = None
    image_tokens: int | None = None
    revised: str | None = None
    filtered: tuple[str, ...] = ()
    request_id: str = "req_d0f1c2"
    delay: float = 0.0
    gate: Any = None

    def send(self, handler: Handler, request: Request) -> None:
        items: list[Json] = [{"url": url} for url in self.urls]
        if not items and not self.filtered:
            items = [{"b64_json": base64.b64encode(each).decode()} for each in self.content]
        if self.revised is not None:
            items = [{**item, "revised_prompt": self.revised} for item in items]
        answer: dict[str, Json] = {"created": 1, "data": items}
        if self.usage is not None:
            given, made = self.usage
            answer["usage"] = {
                "input_tokens": given,
                "output_tokens": made,
                "total_tokens": given + made,
                "input_tokens_details": {"text_tokens": given, "image_tokens": 0},
            }
            if self.image_tokens is not None:
                answer["usage"]["output_tokens_details"] = {
                    "image_tokens": self.image_tokens,
                    "text_tokens": made - self.image_tokens,
                }
        assert unknown_in(ImagesResponse.model_validate(answer, strict=True)) == []
        if self.filtered:
            found = {name: {"filtered": True, "severity": "high"} for name in self.filtered}
            answer["data"] = [{"content_filter_results": found}]
        handler.send_json(200, answer, {"x-request-id": self.request_id})


@dataclass
class Refused(Reply):
    """An error, in the shape that OpenAI gives it; ``echo_key`` repeats the credential in it."""

    status: int
    message: str = "something went wrong"
    code: str | None = None
    retry_after: float | None = None
    echo_key: bool = False
    delay: float = 0.0
    gate: Any = None

    def send(self, handler: Handler, request: Request) -> None:
        key = request.headers.get("api-key") or request.key
        message = f"{self.message} (key: {key})" if self.echo_key else self.message
        error = {"message": message, "type": "user_error", "param": None, "code": self.code}
        headers = {} if self.retry_after is None else {"Retry-After": f"{self.retry_after:g}"}
        handler.send_json(self.status, {"error": error}, headers)


@dataclass
class GeminiDrawn(Reply):
    """A Gemini model's answer with one picture; none if ``content`` is empty. ``usage``: prompt tokens,
    tokens of the picture, thoughts. ``thought``: a picture that it made while it thought."""

    content: bytes = png()
    thought: bytes = b""
    usage: tuple[int, int, int] = (9, 1290, 0)
    finish_reason: str = "STOP"
    blocked: str | None = None
    request_id: str = "req_gemini_1"
    delay: float = 0.0
    gate: Any = None

    def send(self, handler: Handler, request: Request) -> None:
        head: dict[str, Json] = {"modelVersion": "flash-image", "responseId": self.request_id}
        given, made, thoughts = self.usage
        usage = {
            "promptTokenCount": given,
            "candidatesTokenCount": made,
            "thoughtsTokenCount": thoughts,
            "totalTokenCount": given + made + thoughts,
            "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": made}],
        }
        if self.blocked:
            answer: Json = {**head, "promptFeedback": {"blockReason": self.blocked}}
        else:
            parts = [_part(self.thought, thought=True)] if self.thought else []
            parts += [_part(self.content)] if self.content else []
            candidate = {
                "content": {"role": "model", "parts": parts},
                "finishReason": self.finish_reason,
                "index": 0,
            }
            answer = {**head, "candidates": [candidate], "usageMetadata": usage}
        types.GenerateContentResponse.model_validate(answer, by_alias=True, by_name=False)
        handler.send_json(200, answer)


def _part(content: bytes, **more: Json) -> dict[str, Json]:
    data = base64.b64encode(content).decode()
    return {"inlineData": {"mimeType": "image/png", "data": data}, **more}


def picture(content: bytes | None = None) -> Raw:
    """A picture, as a server of files answers."""
    return Raw(png() if content is None else content, content_type="application/octet-stream")
