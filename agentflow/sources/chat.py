"""The chat completions protocol: how a request is written in it, and how its answers are read.

It follows platform.openai.com/docs/api-reference/chat; vLLM and other servers speak it as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from agentflow.sources.answer import Answer, Counts, OnText, counted
from agentflow.sources.base import Message, ModelRequest, Tool
from agentflow.sources.parameters import Parameters
from agentflow.sources.text import well_formed
from agentflow.spec.templates import compact

Json = Any
_REASONING = re.compile(r"^(o\d|gpt-5)")


def reasons(model: str) -> bool:
    """Whether a model of OpenAI's takes no sampling parameters, by its name."""
    return bool(_REASONING.match(model))


def body(
    request: ModelRequest,
    chosen: Parameters,
    messages: Sequence[Message],
    *,
    model: str,
    newest: bool,
) -> dict[str, Json]:
    """The parameters of the SDK's call. ``newest``: OpenAI's own spelling of max_tokens."""
    fixed = reasons(chosen.model)
    written: dict[str, Json] = {
        "model": model,
        "messages": [_message(message) for message in messages],
        "max_completion_tokens" if newest else "max_tokens": chosen.max_tokens,
    }
    # Reasoning models accept no sampling parameters; the defaults must not break them.
    for name in ("temperature", "top_p"):
        if name in chosen.given or not fixed:
            written[name] = getattr(chosen, name)
    for name in ("seed", "frequency_penalty", "presence_penalty"):
        if getattr(chosen, name) is not None:
            written[name] = getattr(chosen, name)
    if chosen.stop:
        written["stop"] = list(chosen.stop)
    if request.response_schema is not None:
        schema = request.response_schema
        described = {"name": "reply", "schema": schema, "strict": is_closed(schema)}
        written["response_format"] = {"type": "json_schema", "json_schema": described}
    if request.tools:
        written["tools"] = [{"type": "function", "function": _tool(tool)} for tool in request.tools]
        written["tool_choice"] = _choice(request.tool_choice)
    return written


def _message(message: Message) -> dict[str, Json]:
    written: dict[str, Json] = {"role": message.role, "content": message.content}
    if message.tool_call_id:
        written["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        written["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": compact(call.arguments)},
            }
            for call in message.tool_calls
        ]
    return written


def _tool(tool: Tool) -> dict[str, Json]:
    parameters = tool.parameters or {"type": "object", "properties": {}}
    return {"name": tool.name, "description": tool.description, "parameters": parameters}


def _choice(choice: str) -> Json:
    if choice in ("auto", "none", "required"):
        return choice
    return {"type": "function", "function": {"name": choice}}


def is_closed(schema: Json, *, optional: bool = False) -> bool:
    """Whether a schema meets the rules of strict mode: closed objects with every field required, or
    with ``optional`` ones."""
    if isinstance(schema, list):
        return all(is_closed(item, optional=optional) for item in schema)
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object" or "properties" in schema:
        names = set(schema.get("properties") or {})
        if schema.get("additionalProperties") is not False:
            return False
        if not optional and names != set(schema.get("required") or ()):
            return False
    return all(
        is_closed(value, optional=optional)
        for key, value in schema.items()
        if key not in ("enum", "const")
    )


def read_whole(answer: Answer, came: Mapping[str, Json]) -> bool:
    """Read an answer that came in one piece; false when it holds no message."""
    _note(answer, came)
    choice = _choice_of(came)
    message = choice.get("message") if choice else None
    if choice is None or not isinstance(message, dict):
        return False
    answer.text = well_formed(str(message.get("content") or ""))
    answer.refusal = str(message.get("refusal") or "")
    _calls(answer, message, whole=True)
    answer.finished(choice.get("finish_reason") or "stop")
    return True


def read_chunk(answer: Answer, chunk: Json, on_text: OnText) -> None:
    """Read a piece of a stream."""
    if not isinstance(chunk, dict):
        return
    _note(answer, chunk)
    choice = _choice_of(chunk)
    if choice is None:
        return
    delta = choice.get("delta")
    if isinstance(delta, dict):
        answer.refusal += str(delta.get("refusal") or "")
        _calls(answer, delta, whole=False)
        answer.take(delta.get("content"), on_text)
    if choice.get("finish_reason"):
        answer.finished(choice["finish_reason"])


def _choice_of(came: Mapping[str, Json]) -> dict[str, Json] | None:
    choices = came.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    return choice if isinstance(choice, dict) else None


def _note(answer: Answer, came: Mapping[str, Json]) -> None:
    """Keep the model's name and the usage, where an answer or a chunk has them."""
    answer.named(came.get("model"))
    if isinstance(came.get("usage"), dict):
        answer.counts = counts(came["usage"], "prompt", "completion")


def _calls(answer: Answer, message: Mapping[str, Json], *, whole: bool) -> None:
    calls = message.get("tool_calls")
    for index, call in enumerate(calls if isinstance(calls, list) else ()):
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            place = index if whole else call.get("index", index)
            answer.call(place, call.get("id"), function.get("name"), function.get("arguments"))


def counts(usage: Mapping[str, Json], given: str, written: str) -> Counts | None:
    """The tokens that a usage object reports; the protocol's words for those ``given`` to the model and
    ``written`` by it."""

    def detail(group: str, name: str) -> Json:
        details = usage.get(f"{group}_tokens_details")
        return details.get(name) if isinstance(details, dict) else None

    return counted(
        usage.get(f"{given}_tokens"),
        usage.get(f"{written}_tokens"),
        detail(given, "cached_tokens"),
        detail(written, "reasoning_tokens"),
    )
