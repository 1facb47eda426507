"""``llm`` nodes: one answer of a language model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, cast

from agentflow.errors import InvalidInput, NotSupported, OutputSchemaMismatch
from agentflow.nodes.base import StepContext, StepResult
from agentflow.nodes.calls import call, encodable, fit, structured
from agentflow.nodes.names import declared_names
from agentflow.sources.base import Message, ModelReply, ModelRequest, ModelSource
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
        source_id = _source_of(context)
        source = cast(ModelSource, await context.source(source_id))
        request = _request(context)
        on_text = context.emit if context.options["stream"] else None
        schema = context.options.get("response_schema")
        if schema is None:
            reply = await call(context, source_id, source, request, 0, on_text)
            return _result(context, reply, reply.text, {})
        reply, data, problems = await structured(
            context, source_id, source, request, lambda text: fit(text, schema), on_text
        )
        if problems:
            cut = " (it was cut off by max_tokens)" if reply.finish_reason == "length" else ""
            raise OutputSchemaMismatch(
                f"The reply of model {reply.model!r} does not fit response_schema, also after one "
                f"repair{cut}: {'; '.join(problems)}"[:1000]
            )
        return _result(context, reply, data, {"data": data})


def _source_of(context: StepContext) -> str:
    """The source's id. Raises NotSupported for a chain."""
    named = context.options["source"]
    if isinstance(named, str):
        return named
    if len(named) != 1:
        raise NotSupported(f"Node {context.node.id!r} names a chain of sources (fallbacks)")
    return str(named[0])


def _request(context: StepContext) -> ModelRequest:
    options = context.options
    stop = options.get("stop") or ()
    sampling: dict[str, Json] = {name: options.get(name) for name in _SAMPLING}
    return ModelRequest(
        messages=_messages(context),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        response_schema=options.get("response_schema"),
        idempotency_key=context.key(),
        **sampling,
    )


def _messages(context: StepContext) -> tuple[Message, ...]:
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
    return tuple(Message(turn.role, encodable(turn.content)) for turn in chat)


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
            "estimated": any(call.usage.estimated for call in calls),
        },
        "cost": round(sum(call.cost for call in calls), 6),
        "attempts": context.attempt,
    }
    return StepResult(result=result, delta={context.options["output_key"]: written})
