"""``llm`` nodes: one answer of a language model."""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Mapping
from typing import Any

from agentflow.errors import InvalidInput, OutputSchemaMismatch
from agentflow.nodes.base import StepContext, StepResult
from agentflow.nodes.calls import encodable, fit, structured
from agentflow.nodes.chain import Chain
from agentflow.nodes.names import declared_names
from agentflow.sources.base import Message, ModelReply, ModelRequest
from agentflow.sources.images_bytes import media_type_of
from agentflow.sources.pictures import MOST_BYTES, MOST_TOGETHER
from agentflow.spec.kinds.base import named_source
from agentflow.spec.templates import (
    Embedded,
    compact,
    expressions_in,
    render,
    resolve_values,
)

Json = Any
_log = logging.getLogger(__name__)
_SAMPLING = (
    "model",
    "temperature",
    "max_tokens",
    "top_p",
    "seed",
    "frequency_penalty",
    "presence_penalty",
)


class LlmNode:
    """Renders a chat, calls the source, checks a structured reply and repairs it once."""

    async def run(self, context: StepContext) -> StepResult:
        """``{text, data?, model, provider, finish_reason, usage, cost, attempts}``.

        Raises StepError; every call that was billed is recorded first.
        """
        options = context.options
        sources = named_source(options)
        chain: Chain[ModelRequest, ModelReply] = Chain(
            context, sources, options["fallback_on"], race=options["race"]
        )
        request = await _request(context)
        on_text = context.emit if context.options["stream"] else None
        schema = context.options.get("response_schema")
        if schema is None:
            reply = await chain.ask(request, on_text)
            return _result(context, reply, reply.text, {})
        reply, data, problems = await structured(
            chain.ask, request, lambda text: fit(text, schema), on_text
        )
        if problems:
            cut = " (it was cut off by max_tokens)" if reply.finish_reason == "length" else ""
            raise OutputSchemaMismatch(
                f"The reply of model {reply.model!r} does not fit response_schema, also after one "
                f"repair{cut}: {'; '.join(problems)}"[:1000]
            )
        return _result(context, reply, data, {"data": data})


async def _request(context: StepContext) -> ModelRequest:
    options = context.options
    stop = options.get("stop") or ()
    sampling: dict[str, Json] = {name: options.get(name) for name in _SAMPLING}
    return ModelRequest(
        messages=await _messages(context),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        response_schema=options.get("response_schema"),
        idempotency_key=context.key(),
        **sampling,
    )


async def _messages(context: StepContext) -> tuple[Message, ...]:
    """The chat: the system prompt, then ``messages`` or the prompt. Raises InvalidInput."""
    options = context.options
    missing: list[str] = []
    chat = []
    if options.get("system_prompt"):
        chat.append(Message("system", render(options["system_prompt"], context.view, missing)))
    if options.get("messages") is None:
        prompt = options.get("prompt")
        text = "{user_input}" if prompt is None else prompt
        chat.append(Message("user", render(text, context.view, missing)))
    else:
        chat += _given_messages(context, missing)
    for name in missing:
        _log.warning("Node %r: the template names {%s}, which is absent", context.node.id, name)
    chat = _with_pictures(chat, await _pictures(context))
    return tuple(Message(turn.role, encodable(turn.content)) for turn in chat)


async def _pictures(context: StepContext) -> list[Json]:
    """The parts of ``images``; those of blobs are read here. Raises InvalidInput, ConnectionFailed."""
    images = context.options["images"]
    if not images:
        return []
    given = resolve_values(images, context.view, declared_names(context))
    if not isinstance(given, list):
        raise InvalidInput("images must be a list of addresses and blobs")
    room = MOST_TOGETHER
    found = []
    for image in given:
        url = _address_of(image)
        if url.startswith("blob:"):
            content = await context.read(url, min(room, MOST_BYTES))
            room -= len(content)
            kind = media_type_of(content)
            if kind is None:
                raise InvalidInput(f"{url} is no picture: PNG, JPEG, GIF and WebP are understood")
            url = f"data:{kind};base64,{base64.b64encode(content).decode()}"
        found.append({"type": "image_url", "image_url": {"url": url}})
    return found


def _address_of(image: Json) -> str:
    """The address of an image: itself, or that of a blob, or of the result of an image node. Raises
    InvalidInput."""
    if isinstance(image, Mapping):
        blob = image.get("blob", image)
        image = (blob.get("uri") if isinstance(blob, Mapping) else None) or image.get("url")
    if not isinstance(image, str) or not re.match(r"(https?|data|blob):", image, re.IGNORECASE):
        raise InvalidInput(
            "An image must be an http address, a data URL, a blob or the result of an image node"
        )
    return image


def _with_pictures(chat: list[Message], pictures: list[Json]) -> list[Message]:
    """The chat with the pictures in the last message of the user. Raises InvalidInput."""
    if not pictures:
        return chat
    place = max((index for index, turn in enumerate(chat) if turn.role == "user"), default=None)
    if place is None:
        raise InvalidInput("images need a message of the role user to go with")
    said = chat[place].content
    words = [{"type": "text", "text": said}] if isinstance(said, str) else list(said)
    return [*chat[:place], Message("user", [*words, *pictures]), *chat[place + 1 :]]


def _given_messages(context: StepContext, missing: list[str]) -> list[Message]:
    given = context.options["messages"]
    declared = declared_names(context)
    if isinstance(given, str):
        given = resolve_values(given, context.view, declared)
        return [_message(turn, turn.get("content")) for turn in _turns(given)]
    return [
        _message(turn, _content(turn.get("content"), context, declared, missing))
        for turn in _turns(given)
    ]


def _turns(given: Json) -> list[Mapping[str, Json]]:
    if not isinstance(given, list) or not all(isinstance(turn, Mapping) for turn in given):
        raise InvalidInput('messages must be a list of {"role": ..., "content": ...}')
    if not given:
        raise InvalidInput("messages is empty: a model needs at least one")
    return given


def _message(turn: Mapping[str, Json], content: Json) -> Message:
    role = turn.get("role")
    if not isinstance(role, str) or not role or not isinstance(content, str | list):
        raise InvalidInput(
            'Every message needs a "role" and a "content" that is text or a list of parts'
        )
    return Message(role, content)


def _content(
    content: Json, context: StepContext, declared: Mapping[str, str], missing: list[str]
) -> Json:
    """The content of a message, rendered. Templates and expressions are done in one go, so that what
    one inserts is never read by the other."""
    if not isinstance(content, str):
        return resolve_values(content, context.view, declared)
    parts = []
    for part in expressions_in(content):
        if isinstance(part, Embedded):
            value = resolve_values("${" + part.text + "}", context.view, declared)
            parts.append(value if isinstance(value, str) else compact(value))
        else:
            parts.append(render(part, context.view, missing))
    return "".join(parts)


def _result(
    context: StepContext, reply: ModelReply, written: Json, extra: dict[str, Json]
) -> StepResult:
    calls = tuple(context.calls)
    result = {
        "text": reply.text,
        **extra,
        "model": reply.model,
        "provider": reply.provider,
        "finish_reason": reply.finish_reason,
        "usage": {
            "input_tokens": sum(call.usage.input_tokens for call in calls),
            "output_tokens": sum(call.usage.output_tokens for call in calls),
            "cached_tokens": sum(call.usage.cached_tokens for call in calls),
            "reasoning_tokens": sum(call.usage.reasoning_tokens for call in calls),
            "estimated": any(call.usage.estimated for call in calls),
        },
        "cost": round(sum(call.cost for call in calls), 6),
        "attempts": context.attempt,
    }
    return StepResult(result=result, delta={context.options["output_key"]: written})
