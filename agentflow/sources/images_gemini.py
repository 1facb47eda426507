"""Pictures made by Google's Gemini models, behind the Gemini API.

It follows ai.google.dev/gemini-api/docs/image-generation, ai.google.dev/api/generate-content and
ai.google.dev/api/models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.genai import types

from agentflow.addresses import Policy
from agentflow.errors import ProviderRejected, ProviderUnavailable
from agentflow.sources.answer import counted
from agentflow.sources.base import Source
from agentflow.sources.credentials import Credentials, masked
from agentflow.sources.gemini import FILTERED, GEMINI_URL, GeminiSource
from agentflow.sources.images import CAPS, Making, Painting, Wish
from agentflow.spec.kinds.models import SIZE

Json = Any

API_VERSION = "v1beta"
"""The version of the API that knows ``imageConfig``."""
_SHAPES = {
    f"{width}:{height}": width / height
    for width, height in (
        *((1, 1), (2, 3), (3, 2), (3, 4), (4, 3), (4, 5), (5, 4), (9, 16), (16, 9), (21, 9)),
    )
}
_CLOSE = 0.03
"""How far a shape may be from the one that was asked for, as a part of it."""


async def open_images_gemini(
    source_id: str,
    provider: str,
    config: Mapping[str, Json],
    *,
    policy: Policy,
    credentials: Credentials,
) -> Source:
    """A connection to a model that makes pictures. No call is made and no credential is read yet.

    Raises ProviderRejected.
    """
    model = str(config.get("model") or "")
    if model.removeprefix("models/").startswith("imagen"):
        raise ProviderRejected(
            f"Source {source_id!r}: the Gemini API serves {model!r} no more; name a Gemini model that "
            "makes pictures, such as gemini-3.1-flash-image"
        )
    return GeminiImages.at(
        GEMINI_URL, source_id, provider, config, policy=policy, credentials=credentials
    )


class GeminiImages(Painting, GeminiSource):  # type: ignore[misc]
    """One model that makes pictures; its connections are shared by every call."""

    caps = CAPS

    async def _make(self, making: Making, wished: Wish, headers: dict[str, Json]) -> None:
        if wished.n > 1:
            raise ProviderRejected(
                f"{making.where} makes one picture at a time: ask for n = 1, in several nodes or steps"
            )
        config = _config(making, wished, headers)
        try:
            came = await self._client.aio.models.generate_content(
                model=wished.model, contents=wished.prompt, config=config
            )
        except self.unreadable as error:
            making.answered = True
            raise ProviderUnavailable(
                f"{making.where} answered 200 with something that is no answer"
            ) from error
        making.answered = True
        _read(making, came)

    async def _look(self, where: str, wished: Wish, headers: dict[str, Json]) -> str:
        asked = types.GetModelConfig(http_options=_http(wished, headers))
        try:
            await self._client.aio.models.get(model=wished.model, config=asked)
        except self.unreadable as error:
            raise ProviderUnavailable(
                f"{where} answered 200 with something that is no answer"
            ) from error
        return f"the provider knows the model {wished.model}; no picture was asked for"


def _http(wished: Wish, headers: dict[str, Json]) -> types.HttpOptions:
    return types.HttpOptions(
        api_version=API_VERSION, headers=headers, timeout=int(wished.timeout_s * 1000) + 1000
    )


def _config(making: Making, wished: Wish, headers: dict[str, Json]) -> types.GenerateContentConfig:
    """How the picture is to be made. Raises ProviderRejected."""
    shape = types.ImageConfig(aspect_ratio=_shape(making, wished.size))
    if wished.quality in ("hd", "high"):
        shape.image_size = "2K"
    return types.GenerateContentConfig(
        http_options=_http(wished, headers),
        response_modalities=["IMAGE"],
        image_config=shape,
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )


def _shape(making: Making, size: str) -> str:
    """The shape of a size, in the API's words. Raises ProviderRejected."""
    if not SIZE.fullmatch(size):
        raise ProviderRejected(f"{making.where} makes no pictures of size {size[:40]!r}")
    width, height = (int(edge) for edge in size.split("x"))
    wanted = width / height
    name, found = min(_SHAPES.items(), key=lambda each: abs(each[1] - wanted) / wanted)
    if abs(found - wanted) / wanted > _CLOSE:
        raise ProviderRejected(
            f"{making.where} makes no pictures of the shape {size}; it knows {', '.join(_SHAPES)}"
        )
    return name


def _read(making: Making, came: types.GenerateContentResponse) -> None:
    making.request_id = masked(came.response_id or "", limit=200)
    usage = came.usage_metadata
    if usage is not None and usage.prompt_token_count is not None:
        thoughts = usage.thoughts_token_count or 0
        output = (usage.candidates_token_count or 0) + thoughts
        making.counts = counted(usage.prompt_token_count, output)
        making.picture_tokens = sum(
            each.token_count or 0
            for each in usage.candidates_tokens_details or ()
            if each.modality == types.MediaModality.IMAGE
        )
    feedback = came.prompt_feedback
    if feedback is not None and feedback.block_reason is not None:
        making.refusals.append(feedback.block_reason_message or feedback.block_reason.value)
    candidate = came.candidates[0] if came.candidates else None
    if candidate is None:
        return
    for part in (candidate.content.parts if candidate.content else None) or ():
        if part.inline_data is not None and not part.thought:
            making.take(part.inline_data.data or b"")
    reason = candidate.finish_reason
    if reason is not None and reason.value in FILTERED:
        making.refusals.append(candidate.finish_message or reason.value)
