"""Models of Google, behind the Gemini API.

It follows ai.google.dev/api/generate-content and ai.google.dev/gemini-api/docs/generate-content/api-errors.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any

from google import genai
from google.genai import errors, types

from agentflow import egress
from agentflow.addresses import Policy
from agentflow.errors import (
    CallTimeout,
    MissingCredential,
    OutputSchemaMismatch,
    ProviderRejected,
    ProviderUnavailable,
    StepError,
)
from agentflow.sources import pictures
from agentflow.sources.answer import Answer, OnText, counted, not_a_stream
from agentflow.sources.base import Message, ModelReply, ModelRequest
from agentflow.sources.credentials import Credentials, masked
from agentflow.sources.parameters import Parameters, parameters
from agentflow.sources.refusals import refusal, said
from agentflow.sources.text import well_formed
from agentflow.spec.templates import compact

Json = Any

GEMINI_URL = "https://generativelanguage.googleapis.com"
API_VERSION = "v1"
LONGEST_CALL_S = 3600.0
_REASONS = {"STOP": "stop", "MAX_TOKENS": "length", "CONTINUATION": "length"}
_FILTERED = (
    *("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR"),
    *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"),
)
_FAILED = (
    *("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS"),
    *("MALFORMED_RESPONSE", "MISSING_THOUGHT_SIGNATURE"),
)


async def open_gemini(
    source_id: str, config: Mapping[str, Json], *, policy: Policy, credentials: Credentials
) -> GeminiSource:
    """A connection to a model. No call is made and no credential is read yet.

    Raises ProviderRejected.
    """
    base_url = str(config.get("base_url") or GEMINI_URL)
    egress.check_url(base_url)
    return GeminiSource(source_id, config, base_url, policy, credentials)


class GeminiSource:
    """One model; its connections are shared by every call."""

    def __init__(
        self,
        source_id: str,
        config: Mapping[str, Json],
        base_url: str,
        policy: Policy,
        credentials: Credentials,
    ) -> None:
        self._id = source_id
        self._config = config
        self._base_url = base_url
        self._policy = policy
        self._credentials = credentials
        self._http = egress.client(policy, LONGEST_CALL_S)
        # What is given here goes before what the SDK would read from the environment.
        self._client = genai.Client(
            vertexai=False,
            api_key="unset",
            http_options=types.HttpOptions(
                base_url=base_url, api_version=API_VERSION, httpx_async_client=self._http
            ),
        )

    async def generate(self, request: ModelRequest, on_text: OnText | None = None) -> ModelReply:
        """Call the model once; with ``on_text`` as a stream.

        Raises StepError; BilledError when the call failed after the model had begun to answer.
        """
        chosen = parameters(request, self._config)
        headers, secrets = self._headers()
        price, own = self._config.get("price"), self._base_url == GEMINI_URL
        answer = Answer("gemini", self._base_url, price, request, chosen, own_address=own)
        try:
            async with asyncio.timeout(chosen.timeout_s):
                messages = await pictures.embedded(request.messages, self._policy)
                call = {
                    "model": chosen.model,
                    "contents": _contents(messages),
                    "config": self._options(request, chosen, messages, headers),
                }
                if on_text is None:
                    return await self._whole(answer, call)
                return await self._stream(answer, call, on_text)
        except TimeoutError:
            message = f"{answer.where} did not answer within {chosen.timeout_s:g} s"
            raise answer.billed(CallTimeout(message)) from None
        except errors.APIError as error:
            raise answer.billed(self._mapped(error, answer, secrets)) from None
        except StepError as error:
            raise answer.billed(error) from None

    async def _whole(self, answer: Answer, call: dict[str, Json]) -> ModelReply:
        try:
            came = await self._client.aio.models.generate_content(**call)
        except _UNREADABLE as error:
            raise ProviderUnavailable(
                f"{answer.where} answered 200 with something that is no answer"
            ) from error
        _take(answer, came, _unheard)
        answer.end(_unheard)
        if not answer.finish_reason:
            raise ProviderUnavailable(f"{answer.where} answered without a candidate")
        return _reply(answer)

    async def _stream(self, answer: Answer, call: dict[str, Json], on_text: OnText) -> ModelReply:
        headers: Mapping[str, str] = {}
        try:
            chunks = await self._client.aio.models.generate_content_stream(**call)
            async with aclosing(chunks):  # type: ignore[type-var]
                async for chunk in chunks:
                    headers = _headers_of(chunk)
                    _take(answer, chunk, on_text)
        except _UNREADABLE as error:
            raise ProviderUnavailable(
                f"{answer.where} sent a stream that cannot be read, after {len(answer.text)} "
                "characters"
            ) from error
        if not answer.finish_reason:
            raise ProviderUnavailable(
                f"The stream of {answer.where} ended before the reply was complete, "
                f"after {len(answer.text)} characters{not_a_stream(headers) if headers else ''}"
            )
        answer.end(on_text)
        return _reply(answer)

    def _headers(self) -> tuple[dict[str, str], tuple[str, ...]]:
        """The headers of a call, and the secret values among them."""
        headers: dict[str, str] = dict(self._config.get("headers") or {})
        key_name = self._config.get("api_key_env")
        if not key_name:
            raise MissingCredential(
                f"Source {self._id!r} names no environment variable with its key (api_key_env); "
                "stored secrets (api_key_ref) cannot be read by this version"
            )
        key = self._credentials.value(key_name, self._id)
        headers["x-goog-api-key"] = key
        return headers, (key,)

    def _options(
        self,
        request: ModelRequest,
        chosen: Parameters,
        messages: Sequence[Message],
        headers: dict[str, str],
    ) -> types.GenerateContentConfig:
        """How the reply is to be made. Raises ProviderRejected."""
        told = [_plain(message) for message in messages if message.role in _TOLD]
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

    async def close(self) -> None:
        """Close every connection."""
        await self._http.aclose()


_UNREADABLE = (ValueError, TypeError, AttributeError, KeyError)
"""What the SDK raises when it cannot read what came."""
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
                    id=message.tool_call_id, name=name, response={"result": _plain(message)}
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
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    raise ProviderRejected(
        f"A message part of type {str(kind)[:60]!r} cannot be sent to Gemini: text and image_url can"
    )


def _plain(message: Message) -> str:
    if isinstance(message.content, str):
        return message.content
    return "".join(str(part.get("text") or "") for part in pictures.parts(message))


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


def _headers_of(came: types.GenerateContentResponse) -> Mapping[str, str]:
    http = came.sdk_http_response
    return (http.headers if http else None) or {}


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
    return "content_filter" if reason in _FILTERED else _REASONS.get(reason, reason)


def _reply(answer: Answer) -> ModelReply:
    """The finished reply. Raises ContentFiltered, OutputSchemaMismatch."""
    if answer.finish_reason in _FAILED:
        raise OutputSchemaMismatch(
            f"{answer.where} broke its reply off: {answer.finish_reason}. {masked(answer.refusal)}"
        )
    if answer.calls and answer.finish_reason == "stop":
        answer.finished("tool_calls")
    return answer.reply()
