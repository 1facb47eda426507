"""Models of Google, behind the Gemini API.

It follows ai.google.dev/api/generate-content and ai.google.dev/gemini-api/docs/generate-content/api-errors.
Calls are made in version ``v1beta``: in the published definition of ``v1`` a request has no system
instruction, no tools and no structured reply.
"""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

from google import genai
from google.genai import errors, types

from agentflow.addresses import Policy
from agentflow.errors import (
    MissingCredential,
    OutputSchemaMismatch,
    ProviderRejected,
    ProviderUnavailable,
    StepError,
)
from agentflow.sources import pictures
from agentflow.sources.answer import Answer, OnText, counted
from agentflow.sources.base import Message, ModelReply, ModelRequest
from agentflow.sources.credentials import Credentials, masked
from agentflow.sources.model import HostedModel
from agentflow.sources.parameters import Parameters
from agentflow.sources.refusals import refusal, said
from agentflow.sources.text import well_formed
from agentflow.spec.templates import compact

Json = Any

GEMINI_URL = "https://generativelanguage.googleapis.com"
API_VERSION = "v1beta"
_REASONS = {"STOP": "stop", "MAX_TOKENS": "length", "CONTINUATION": "length"}
FILTERED = (
    *("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR"),
    *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"),
)
"""Why a reply ends that a content filter stopped."""
_FAILED = (
    *("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS"),
    *("MALFORMED_RESPONSE", "MISSING_THOUGHT_SIGNATURE"),
)


async def open_gemini(
    source_id: str,
    provider: str,
    config: Mapping[str, Json],
    *,
    policy: Policy,
    credentials: Credentials,
) -> GeminiSource:
    """A connection to a model. No call is made and no credential is read yet.

    Raises ProviderRejected.
    """
    return GeminiSource.at(
        GEMINI_URL, source_id, provider, config, policy=policy, credentials=credentials
    )


class GeminiSource(HostedModel):
    """One model; its connections are shared by every call."""

    sdk_error = errors.APIError
    unreadable = (ValueError, TypeError, AttributeError, KeyError, RecursionError)

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        # What is given here goes before what the SDK would read from the environment.
        self._client = genai.Client(
            vertexai=False,
            api_key="unset",
            http_options=types.HttpOptions(
                base_url=self._base_url, api_version=API_VERSION, httpx_async_client=self._http
            ),
        )

    async def _whole(self, answer: Answer, call: dict[str, Json]) -> None:
        try:
            came = await self._client.aio.models.generate_content(**call)
        except self.unreadable as error:
            raise ProviderUnavailable(
                f"{answer.where} answered 200 with something that is no answer"
            ) from error
        _take(answer, came, _unheard)
        answer.end(_unheard)
        if not answer.finish_reason:
            raise ProviderUnavailable(f"{answer.where} answered without a candidate")

    async def _stream(self, answer: Answer, call: dict[str, Json], on_text: OnText) -> None:
        headers: dict[str, str] = {}

        def read(answer: Answer, chunk: types.GenerateContentResponse, on_text: OnText) -> None:
            http = chunk.sdk_http_response
            headers.update((http.headers if http else None) or {})
            _take(answer, chunk, on_text)

        await self._drain(answer, self._opened(call), read, on_text, headers)

    @asynccontextmanager
    async def _opened(
        self, call: dict[str, Json]
    ) -> AsyncIterator[AsyncIterator[types.GenerateContentResponse]]:
        """The chunks of a stream, given up as soon as nobody reads on."""
        chunks: Any = await self._client.aio.models.generate_content_stream(**call)
        async with aclosing(chunks):
            yield chunks

    def _headers(
        self, request: ModelRequest, chosen: Parameters
    ) -> tuple[dict[str, Json], tuple[str, ...]]:
        key = self._secret("api_key")
        if key is None:
            raise MissingCredential(
                f"Source {self._id!r} names no environment variable with its key (api_key_env)"
            )
        return {**(self._config.get("headers") or {}), "x-goog-api-key": key}, (key,)

    def _call(
        self,
        request: ModelRequest,
        chosen: Parameters,
        messages: Sequence[Message],
        headers: dict[str, Json],
    ) -> dict[str, Json]:
        return {
            "model": chosen.model,
            "contents": _contents(messages),
            "config": self._options(request, chosen, messages, headers),
        }

    def _reply(self, answer: Answer) -> ModelReply:
        if answer.finish_reason in _FAILED:
            raise OutputSchemaMismatch(
                f"{answer.where} broke its reply off: {answer.finish_reason}. "
                f"{masked(answer.refusal)}"
            )
        if answer.calls and answer.finish_reason == "stop":
            answer.finished("tool_calls")
        return answer.reply()

    def _options(
        self,
        request: ModelRequest,
        chosen: Parameters,
        messages: Sequence[Message],
        headers: dict[str, str],
    ) -> types.GenerateContentConfig:
        """How the reply is to be made. Raises ProviderRejected."""
        told = [pictures.words(message) for message in messages if message.role in _TOLD]
        options: dict[str, Json] = {
            "http_options": {"headers": headers, "timeout": int(chosen.timeout_s * 1000) + 1000},
            "max_output_tokens": chosen.max_tokens,
            "temperature": chosen.temperature,
            "top_p": chosen.top_p,
            "seed": chosen.seed,
            "frequency_penalty": chosen.frequency_penalty,
            "presence_penalty": chosen.presence_penalty,
            "stop_sequences": list(chosen.stop) or None,
            "system_instruction": "\n\n".join(told) or None,
            "safety_settings": self._config.get("safety"),
            # One call is one call: what the SDK would do by itself is ours to do.
            "automatic_continuation": False,
            "automatic_function_calling": {"disable": True},
        }
        if request.response_schema is not None:
            options["response_mime_type"] = "application/json"
            options["response_json_schema"] = request.response_schema
        if request.tools:
            options["tools"] = [{"function_declarations": [_tool(each) for each in request.tools]}]
            options["tool_config"] = {"function_calling_config": _choice(request.tool_choice)}
        try:
            return types.GenerateContentConfig.model_validate(options)
        except ValueError as error:
            raise ProviderRejected(
                f"Source {self._id!r} has options that the Gemini API does not know: "
                f"{masked(str(error), limit=200)}"
            ) from None

    def _mapped(
        self, error: errors.APIError, answer: Answer, secrets: tuple[str, ...]
    ) -> StepError:
        """The step error of an error of the SDK."""
        status: int | None = error.code if isinstance(error.code, int) else None
        words = masked(said(error.details), secrets)
        reasons = [detail.get("reason") for detail in _details(error)]
        if status == 400 and ("API_KEY_INVALID" in reasons or "API key not valid" in words):
            status = 401
        if status == 429 and answer.began:
            # A limit that strikes in the middle of an answer is no proof that nothing happened.
            status = None
        return refusal(
            answer.where,
            status=status,
            headers={**_waits(error), **dict(getattr(error.response, "headers", None) or {})},
            code=str(error.status or ""),
            said=words,
            credential=self._config.get("api_key_env"),
        )


_TOLD = ("system", "developer")


def _details(error: errors.APIError) -> list[dict[str, Json]]:
    """What an error says for machines."""
    body = error.details if isinstance(error.details, dict) else {}
    inner = body.get("error")
    details = inner.get("details") if isinstance(inner, dict) else None
    return [each for each in details if isinstance(each, dict)] if isinstance(details, list) else []


def _waits(error: errors.APIError) -> dict[str, str]:
    """The wait that an error asks for in its body, as the header that others send."""
    for detail in _details(error):
        wait = re.fullmatch(r"(\d+(?:\.\d+)?)s", str(detail.get("retryDelay") or ""))
        if wait:
            return {"retry-after": wait[1]}
    return {}


def _contents(messages: Sequence[Message]) -> list[types.ContentUnionDict]:
    """The chat. Raises ProviderRejected, InvalidInput."""
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    return [
        types.Content(
            role="model" if message.role == "assistant" else "user",
            parts=_parts(message, names),
        )
        for message in messages
        if message.role not in _TOLD
    ]


def _parts(message: Message, names: Mapping[str, str]) -> list[types.Part]:
    if message.role == "tool":
        name = names.get(message.tool_call_id, message.tool_call_id)
        return [
            types.Part(
                function_response=types.FunctionResponse(
                    id=message.tool_call_id, name=name, response={"result": pictures.words(message)}
                )
            )
        ]
    if isinstance(message.content, str):
        parts = [types.Part(text=message.content)] if message.content else []
    else:
        parts = [_part(each) for each in pictures.parts(message)]
    for call in message.tool_calls:
        asked = types.FunctionCall(id=call.id, name=call.name, args=call.arguments)
        signature = base64.b64decode(call.signature) if call.signature else None
        parts.append(types.Part(function_call=asked, thought_signature=signature))
    return parts


def _part(part: Json) -> types.Part:
    image = pictures.picture(part)
    if image is not None:
        data = base64.b64decode(image.data)
        return types.Part(inline_data=types.Blob(mime_type=image.media_type, data=data))
    if isinstance(part, Mapping) and part.get("type") == "text":
        return types.Part(text=str(part.get("text") or ""))
    raise pictures.unsendable(part, "Gemini")


def _tool(tool: Any) -> dict[str, Json]:
    return {
        "name": tool.name,
        "description": tool.description,
        "parameters_json_schema": {"type": "object", **tool.parameters},
    }


def _choice(choice: str) -> dict[str, Json]:
    modes = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
    if choice in modes:
        return {"mode": modes[choice]}
    return {"mode": "ANY", "allowed_function_names": [choice]}


def _unheard(text: str) -> None:
    """Where the pieces of a reply go that nobody listens to."""


def _take(answer: Answer, came: types.GenerateContentResponse, on_text: OnText) -> None:
    """Read an answer, or a piece of a stream."""
    answer.named(came.model_version)
    answer.request_id = answer.request_id or masked(came.response_id or "", limit=200)
    usage = came.usage_metadata
    if usage is not None and usage.prompt_token_count is not None:
        thoughts = usage.thoughts_token_count or 0
        answer.counts = counted(
            usage.prompt_token_count + (usage.tool_use_prompt_token_count or 0),
            (usage.candidates_token_count or 0) + thoughts,
            usage.cached_content_token_count,
            thoughts,
        )
    feedback = came.prompt_feedback
    if feedback is not None and feedback.block_reason is not None:
        answer.finished("content_filter")
        answer.refusal = str(feedback.block_reason_message or feedback.block_reason.value)
        return
    candidate = came.candidates[0] if came.candidates else None
    if candidate is None:
        return
    for part in (candidate.content.parts if candidate.content else None) or ():
        if part.function_call is not None:
            asked, signed = part.function_call, part.thought_signature
            signature = base64.b64encode(signed).decode() if signed else ""
            arguments = compact(asked.args or {})
            answer.call(answer.calls, asked.id, asked.name, arguments, signature)
        elif part.text and not part.thought:
            answer.take(part.text, on_text)
    if candidate.finish_reason is not None:
        answer.finished(_reason(candidate.finish_reason.value))
        if answer.finish_reason in ("content_filter", *_FAILED):
            answer.refusal = well_formed(candidate.finish_message or "")


def _reason(reason: str) -> str:
    return "content_filter" if reason in FILTERED else _REASONS.get(reason, reason)
