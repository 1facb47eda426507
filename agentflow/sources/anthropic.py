"""Models of Anthropic, behind its Messages API.

It follows platform.claude.com/docs/en/api/messages, /errors and /migration-2026-10-21. That version of
the API takes no ``temperature`` and no ``top_p``; where an author set one, the call is made in the
version before it, which does. There are no seeds and no penalties: they are left out.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import anthropic

from agentflow.addresses import Policy
from agentflow.errors import ProviderUnavailable, StepError
from agentflow.sources import pictures
from agentflow.sources.answer import Answer, Counts, OnText, counted, stated_id
from agentflow.sources.base import Message, ModelRequest
from agentflow.sources.chat import is_closed
from agentflow.sources.credentials import Credentials, masked
from agentflow.sources.model import HostedModel, read_object
from agentflow.sources.parameters import Parameters
from agentflow.sources.refusals import lost_connection, refusal, said
from agentflow.sources.text import well_formed
from agentflow.spec.templates import compact

Json = Any
_log = logging.getLogger(__name__)

ANTHROPIC_URL = "https://api.anthropic.com"
VERSION_WITH_SAMPLING = "2023-06-01"
_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_STATUS_OF = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
}
"""Type of an error that comes inside a stream -> the status it would have had before it."""


async def open_anthropic(
    source_id: str,
    provider: str,
    config: Mapping[str, Json],
    *,
    policy: Policy,
    credentials: Credentials,
) -> AnthropicSource:
    """A connection to a model. No call is made and no credential is read yet.

    Raises ProviderRejected.
    """
    return AnthropicSource.at(
        ANTHROPIC_URL, source_id, provider, config, policy=policy, credentials=credentials
    )


class AnthropicSource(HostedModel):
    """One model; its connections are shared by every call."""

    sdk_error = anthropic.APIError

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._told = False
        self._client = anthropic.AsyncAnthropic(
            api_key="unset",
            base_url=self._base_url,
            max_retries=0,
            open_telemetry=False,
            http_client=self._http,
        )
        # The SDK reads these from the environment; only what the source names may be sent.
        self._client._custom_headers = {}

    async def _whole(self, answer: Answer, call: dict[str, Json]) -> None:
        raw = await self._client.messages.with_raw_response.create(**call)
        answer.request_id = stated_id(raw.headers, "request-id")
        came = read_object(answer.where, await raw.text())
        _begin(answer, came)
        blocks = came.get("content")
        if not isinstance(blocks, list) or not came.get("stop_reason"):
            raise ProviderUnavailable(f"{answer.where} answered without a message")
        for place, block in enumerate(blocks):
            if not isinstance(block, dict):
                continue
            if block.get("type") == "text":
                answer.text += well_formed(str(block.get("text") or ""))
            elif block.get("type") == "tool_use":
                answer.call(place, block.get("id"), block.get("name"), compact(block.get("input")))
        _finish(answer, came)

    async def _stream(self, answer: Answer, call: dict[str, Json], on_text: OnText) -> None:
        events = await self._client.messages.create(**call, stream=True)
        headers = events.response.headers
        answer.request_id = stated_id(headers, "request-id")
        await self._drain(answer, events, _take, on_text, headers)

    def _headers(
        self, request: ModelRequest, chosen: Parameters
    ) -> tuple[dict[str, Json], tuple[str, ...]]:
        headers: dict[str, Json] = dict(self._config.get("headers") or {})
        if chosen.given & {"temperature", "top_p"}:
            headers["anthropic-version"] = VERSION_WITH_SAMPLING
        key = self._secret("api_key")
        if key is None:
            headers["Authorization"] = anthropic.Omit()
            return headers, ()
        # Not among the call's own headers: the SDK writes those to its debug log.
        self._client.api_key = key
        return headers, (key,)

    def _call(
        self,
        request: ModelRequest,
        chosen: Parameters,
        messages: Sequence[Message],
        headers: dict[str, Json],
    ) -> dict[str, Json]:
        self._tell(chosen)
        body = _body(request, chosen, messages)
        return body | {"extra_headers": headers, "timeout": chosen.timeout_s}

    def _tell(self, chosen: Parameters) -> None:
        """Say once what of the options these models do not know."""
        names = ("seed", "frequency_penalty", "presence_penalty")
        unknown = [name for name in names if getattr(chosen, name) is not None]
        if unknown and not self._told:
            self._told = True
            _log.warning(
                "Source %r: models of Anthropic know no %s; left out", self._id, ", ".join(unknown)
            )

    def _mapped(
        self, error: anthropic.APIError, answer: Answer, secrets: tuple[str, ...]
    ) -> StepError:
        """The step error of an error of the SDK."""
        if isinstance(error, anthropic.APIConnectionError):
            return lost_connection(answer.where, error)
        body = error.body if isinstance(error.body, Mapping) else {}
        inner = body.get("error")
        kind = str(inner.get("type") or "") if isinstance(inner, Mapping) else ""
        answered = error if isinstance(error, anthropic.APIStatusError) else None
        status = answered.status_code if answered else None
        if status == 200:
            # A limit that strikes in the middle of an answer is no proof that nothing happened.
            status = None if kind == "rate_limit_error" and answer.began else _STATUS_OF.get(kind)
        return refusal(
            answer.where,
            status=status,
            headers=answered.response.headers if answered else {},
            code=kind,
            said=masked(said(error.body), secrets),
            credential=self._config.get("api_key_env"),
        )


def _body(
    request: ModelRequest, chosen: Parameters, messages: Sequence[Message]
) -> dict[str, Json]:
    """The parameters of the SDK's call. Raises ProviderRejected, InvalidInput."""
    told = [
        pictures.words(message) for message in messages if message.role in ("system", "developer")
    ]
    body: dict[str, Json] = {
        "model": chosen.model,
        "max_tokens": chosen.max_tokens,
        "messages": [
            _message(message) for message in messages if message.role not in ("system", "developer")
        ],
    }
    if chosen.stop:
        body["stop_sequences"] = list(chosen.stop)
    sampling = {name: getattr(chosen, name) for name in ("temperature", "top_p")}
    sampling = {name: value for name, value in sampling.items() if name in chosen.given}
    if sampling:
        body["extra_body"] = sampling
    if request.response_schema is not None:
        schema = _schema(request.response_schema)
        if schema is None:
            told.append(
                "Answer with nothing but JSON that fits this schema: "
                + compact(request.response_schema)
            )
        else:
            body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    if request.tools:
        body["tools"] = [
            {
                "name": tool.name,
                "description": tool.description,
                "input_schema": {"type": "object", **tool.parameters},
            }
            for tool in request.tools
        ]
        body["tool_choice"] = _choice(request.tool_choice)
    if told:
        body["system"] = "\n\n".join(told)
    return body


def _schema(schema: Json) -> Json:
    """The schema as the API takes it, with its limits told in words; None if it cannot be."""
    if not is_closed(schema, optional=True):
        return None
    try:
        return anthropic.transform_schema(schema)
    except (ValueError, AssertionError, TypeError, AttributeError):
        return None


def _choice(choice: str) -> dict[str, Json]:
    if choice in ("auto", "none"):
        return {"type": choice}
    return {"type": "any"} if choice == "required" else {"type": "tool", "name": choice}


def _message(message: Message) -> dict[str, Json]:
    if message.role == "tool":
        result = {"type": "tool_result", "tool_use_id": message.tool_call_id}
        return {"role": "user", "content": [{**result, "content": _content(message)}]}
    if not message.tool_calls:
        return {"role": message.role, "content": _content(message)}
    text = pictures.words(message)
    blocks: list[dict[str, Json]] = [{"type": "text", "text": text}] if text else []
    blocks += [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments}
        for call in message.tool_calls
    ]
    return {"role": message.role, "content": blocks}


def _content(message: Message) -> Json:
    if isinstance(message.content, str):
        return message.content
    return [_block(part) for part in pictures.parts(message)]


def _block(part: Json) -> dict[str, Json]:
    """A part of a message, as a content block. Raises ProviderRejected."""
    image = pictures.picture(part)
    if image is not None:
        source = {"type": "base64", "media_type": image.media_type, "data": image.data}
        return {"type": "image", "source": source}
    if isinstance(part, Mapping) and part.get("type") == "text":
        return {"type": "text", "text": str(part.get("text") or "")}
    raise pictures.unsendable(part, "Anthropic")


def _begin(answer: Answer, message: Json) -> None:
    """Note the model and what was counted so far."""
    if isinstance(message, dict):
        answer.named(message.get("model"))
        if isinstance(message.get("usage"), dict):
            answer.counts = _counts(message["usage"], answer.counts) or answer.counts


def _counts(usage: Mapping[str, Json], before: Counts | None) -> Counts | None:
    """The tokens so far; later reports of a stream may leave out the input, which was counted
    ``before``. What is written to the cache and read from it comes on top of ``input_tokens``."""
    details = usage.get("output_tokens_details")
    thinking = details.get("thinking_tokens") if isinstance(details, dict) else None
    fresh, read = usage.get("input_tokens"), usage.get("cache_read_input_tokens")
    if fresh is None and before is not None:
        return counted(before.input, usage.get("output_tokens"), before.cached, thinking)
    parts = [fresh, read or 0, usage.get("cache_creation_input_tokens") or 0]
    if not all(type(part) is int for part in parts):
        return None
    return counted(sum(parts), usage.get("output_tokens"), read, thinking)


def _finish(answer: Answer, ending: Mapping[str, Json]) -> None:
    reason = ending.get("stop_reason")
    answer.finished(_REASONS.get(str(reason), reason))
    details = ending.get("stop_details")
    if isinstance(details, dict) and details.get("explanation"):
        answer.refusal = str(details["explanation"])


def _take(answer: Answer, event: Json, on_text: OnText) -> None:
    """Read an event of a stream."""
    if not isinstance(event, dict):
        return
    kind, place = event.get("type"), event.get("index")
    if kind == "message_start":
        _begin(answer, event.get("message"))
    elif kind == "content_block_start":
        block = event.get("content_block")
        if isinstance(block, dict) and block.get("type") == "tool_use":
            answer.call(place, block.get("id"), block.get("name"), "")
    elif kind == "content_block_delta":
        delta = event.get("delta")
        if isinstance(delta, dict) and delta.get("type") == "text_delta":
            answer.take(delta.get("text"), on_text)
        elif isinstance(delta, dict) and delta.get("type") == "input_json_delta":
            answer.call(place, None, None, delta.get("partial_json"))
    elif kind == "message_delta":
        delta = event.get("delta")
        if isinstance(delta, dict):
            _finish(answer, delta)
        _begin(answer, event)
