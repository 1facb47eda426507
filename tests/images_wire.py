"""A real HTTP server on loopback that plays the images protocol of OpenAI and Azure, and Gemini's models
that make pictures.

It follows developers.openai.com/api/reference/resources/images/methods/generate,
learn.microsoft.com/azure/foundry/openai/dall-e-quickstart and ai.google.dev/gemini-api/docs/image-generation;
for what they say of their models, /resources/models, learn.microsoft.com/rest/api/azureopenai/models/list and
ai.google.dev/api/models. It also serves the pictures that it gives addresses of.
"""

from __future__ import annotations

import base64
import copy
import struct
import zlib
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from google.ai import generativelanguage_v1beta as published
from google.genai import types
from openai.types import Model
from openai.types.image_generate_params import ImageGenerateParamsNonStreaming
from openai.types.images_response import ImagesResponse
from pydantic import ValidationError

from tests import gemini_wire
from tests.chat_wire import Refused
from tests.fake_provider import Raw, Reply, Request
from tests.openai_document import unpublished_answer, unpublished_request
from tests.request_shapes import faults
from tests.wire import Told, Wire, misfits_of

Json = Any
ROUTES = {
    "openai": "/v1/images/generations",
    "compatible": "/v1/images/generations",
    "azure": "/openai/deployments/painter/images/generations",
    "azure v1": "/openai/v1/images/generations",
}
MODELS = {
    "openai": "/v1/models/gpt-image-2",
    "compatible": "/v1/models",
    "azure": "/openai/models",
    "azure v1": "/openai/v1/models",
    "gemini": "/v1beta/models/gemini-3.1-flash-image",
}
"""Where each of them says what models it has."""
PUBLISHED = "/images/generations"
UNKNOWN_TO = {
    "gpt-image": ("style", "response_format"),
    "dall-e-2": ("style", "quality"),
}
"""How the name of a model begins -> fields that it refuses."""
UNPUBLISHED = {("quality", "xhigh"), ("quality", "max")}
"""What the SDK knows of gpt-image-2.5, and version 2.3.0 of OpenAI's document, which is older, does not."""


def png(width: int = 1024, height: int = 1024, colour: int = 7) -> bytes:
    """A picture of one colour; every argument gives another one."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + crc

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes([colour]) * width) * height, 9)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", rows), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@dataclass
class Drawn(Told):
    """An answer with pictures: ``content`` of each, or ``urls``. ``usage``: input, output tokens;
    ``image_tokens``: those of the output that are of pictures, where that is said. ``revised``: the
    prompt that was drawn. ``filtered``: names of Azure's filters that stopped it."""

    content: tuple[bytes, ...] = (png(),)
    urls: tuple[str, ...] = ()
    usage: tuple[int, int] | None = None
    image_tokens: int | None = None
    revised: str | None = None
    filtered: tuple[str, ...] = ()

    id_header: ClassVar[str] = "x-request-id"

    def misfits(self, answer: Json, *, streamed: bool) -> list[str]:
        # What Azure's filters found is said by Azure alone.
        known = answer | {"data": []} if self.filtered else answer
        return misfits_of(ImagesResponse, known) + unpublished_answer(PUBLISHED, known)

    def whole(self) -> Json:
        items: list[Json] = [{"url": url} for url in self.urls]
        if not items:
            items = [{"b64_json": base64.b64encode(each).decode()} for each in self.content]
        if self.revised is not None:
            items = [{**item, "revised_prompt": self.revised} for item in items]
        if self.filtered:
            found = {name: {"filtered": True, "severity": "high"} for name in self.filtered}
            items = [{"content_filter_results": found}]
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
        return answer


@dataclass
class GeminiDrawn(Told):
    """A Gemini model's answer with one picture; none if ``content`` is empty. ``usage``: prompt tokens,
    tokens of the picture, thoughts. ``thought``: a picture that it made while it thought."""

    content: bytes = png()
    thought: bytes = b""
    usage: tuple[int, int, int] = (9, 1290, 0)
    finish_reason: str = "STOP"
    blocked: str | None = None

    def misfits(self, answer: Json, *, streamed: bool) -> list[str]:
        return gemini_wire.misfits_with(answer)

    def whole(self) -> Json:
        head: dict[str, Json] = {"modelVersion": "flash-image", "responseId": self.request_id}
        if self.blocked:
            return {**head, "promptFeedback": {"blockReason": self.blocked}}
        parts = [_part(self.thought, thought=True)] if self.thought else []
        parts += [_part(self.content)] if self.content else []
        candidate = {
            "content": {"role": "model", "parts": parts},
            "finishReason": self.finish_reason,
            "index": 0,
        }
        given, made, thoughts = self.usage
        usage = {
            "promptTokenCount": given,
            "candidatesTokenCount": made,
            "thoughtsTokenCount": thoughts,
            "totalTokenCount": given + made + thoughts,
            "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": made}],
        }
        return {**head, "candidates": [candidate], "usageMetadata": usage}


@dataclass
class Known(Told):
    """What OpenAI says of a model."""

    model: str = "gpt-image-2"

    def misfits(self, answer: Json, *, streamed: bool) -> list[str]:
        return misfits_of(Model, answer) + unpublished_answer("/models/{model}", answer)

    def whole(self) -> Json:
        return {"id": self.model, "object": "model", "created": 1, "owned_by": "system"}


@dataclass
class Listed(Told):
    """The models that a server of OpenAI's protocol has."""

    models: tuple[str, ...] = ("gpt-image-2",)

    def misfits(self, answer: Json, *, streamed: bool) -> list[str]:
        found = [fault for each in answer["data"] for fault in misfits_of(Model, each)]
        return found + unpublished_answer("/models", answer)

    def whole(self) -> Json:
        return {"object": "list", "data": [Known(model).whole() for model in self.models]}


@dataclass
class GeminiKnown(Told):
    """What the Gemini API says of a model."""

    model: str = "gemini-3.1-flash-image"

    def misfits(self, answer: Json, *, streamed: bool) -> list[str]:
        known = gemini_wire.unpublished(published.Model.pb()(), answer)
        # The SDK has another name for what can be done with a model, and maps it.
        mapped = {
            key: value for key, value in answer.items() if key != "supportedGenerationMethods"
        }
        return known + misfits_of(types.Model, mapped)

    def whole(self) -> Json:
        return {
            "name": f"models/{self.model}",
            "version": "3.1",
            "displayName": "Flash Image",
            "inputTokenLimit": 65536,
            "outputTokenLimit": 32768,
            "supportedGenerationMethods": ["generateContent", "countTokens"],
        }


def _part(content: bytes, **more: Json) -> dict[str, Json]:
    data = base64.b64encode(content).decode()
    return {"inlineData": {"mimeType": "image/png", "data": data}, **more}


class ImagesWire(Wire):
    """The server; ``kind``: whose. ``served``: path -> what is answered there to whoever fetches a picture,
    one after the other."""

    said, refused = Drawn, Refused

    def __init__(self, kind: str, *replies: Any, **options: Any) -> None:
        if kind == "gemini":
            self.said, self.refused = GeminiDrawn, gemini_wire.Refused
        super().__init__(*replies, **options)
        self.kind = kind
        self.served: dict[str, list[Reply]] = {}
        self.fetches: list[Request] = []

    def serve(self, path: str, *replies: Reply) -> str:
        """The address of a picture."""
        self.served[path] = list(replies)
        return f"{self.address}{path}"

    def took(self, request: Request) -> Reply:
        path = urlsplit(request.path).path
        if request.method != "GET" or path not in self.served:
            return super().took(request)
        self.fetches.append(request)
        replies = self.served[path]
        return replies.pop(0) if len(replies) > 1 else replies[0]

    def wrong_with(self, request: Request) -> list[str]:
        url, found = urlsplit(request.path), []
        looks = (request.method, url.path) == ("GET", MODELS[self.kind])
        if self.kind == "gemini":
            if looks:
                return [] if request.headers.get("x-goog-api-key") else ["no x-goog-api-key"]
            return _wrong_with_gemini(request)
        if not looks and (request.method, url.path) != ("POST", ROUTES[self.kind]):
            found.append(f"no such route: {request.method} {url.path}")
        versions = parse_qs(url.query).get("api-version")
        if self.kind == "azure" and versions != ["2025-04-01-preview"]:
            found.append(f"api-version: {versions}")
        credential = "api-key" if self.kind.startswith("azure") else "authorization"
        if credential not in request.headers:
            found.append(f"no header {credential}")
        if looks:
            return found
        if not isinstance(request.body, dict):
            return [*found, "the body is no object"]
        model = str(request.body.get("model"))
        for start, names in UNKNOWN_TO.items():
            if model.startswith(start):
                found += [f"{model} knows no {name}" for name in names if name in request.body]
        found += faults(ImageGenerateParamsNonStreaming, request.body)
        known = {
            name: value
            for name, value in request.body.items()
            if name != "quality" or (name, value) not in UNPUBLISHED
        }
        return found + unpublished_request(PUBLISHED, known)


def _wrong_with_gemini(request: Request) -> list[str]:
    body, found = copy.deepcopy(request.body), []
    options = body.get("generationConfig") if isinstance(body, dict) else None
    if isinstance(options, dict) and isinstance(options.get("imageConfig"), dict):
        try:
            types.ImageConfig.model_validate(options["imageConfig"])
        except ValidationError as error:
            found.append(str(error))
        # The SDK is ahead of the published definition here.
        options["imageConfig"].pop("imageSize", None)
    return found + gemini_wire.wrong_with(request, body)


def picture(content: bytes | None = None) -> Raw:
    """A picture, as a server of files answers."""
    return Raw(png() if content is None else content, content_type="application/octet-stream")
