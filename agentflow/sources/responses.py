"""OpenAI's Responses protocol: how a request is written in it, and how its answers are read.

It follows platform.openai.com/docs/api-reference/responses. Nothing is kept at the provider. The protocol
has no stop texts, no seeds and no penalties.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentflow.errors import ContentFiltered, ProviderRateLimited, ProviderRejected
from agentflow.sources.answer import Answer, OnText
from agentflow.sources.base import Message, ModelRequest
from agentflow.sources.chat import counts, is_closed, reasons
from agentflow.sources.credentials import masked
from agentflow.sources.parameters import Parameters
from agentflow.sources.pictures import parts, picture
from agentflow.sources.refusals import refusal
from agentflow.sources.text import well_formed
from agentflow.spec.templates import compact

Json = Any
_OURS = {"max_output_tokens": "length", "content_filter": "content_filter"}
_PASSING = ("server_error", "vector_store_timeout")
_FILTERS = ("bio_policy", "misalignment_policy_violation", "image_content_policy_violation")


def body(
    request: ModelRequest, chosen: Parameters, messages: Sequence[Message], *, model: str
) -> dict[str, Json]:
    """The parameters of the SDK's call. Raises ProviderRejected, InvalidInput."""
    if chosen.stop:
        raise ProviderRejected("The Responses protocol knows no 'stop'; leave it out, or use chat")
    fixed = reasons(chosen.model)
    written: dict[str, Json] = {
        "model": model,
        "input": [item for message in messages for item in _items(message)],
        "max_output_tokens": chosen.max_tokens,
        "store": False,
    }
    for name in ("temperature", "top_p"):
        if name in chosen.given or not fixed:
            written[name] = getattr(chosen, name)
    if request.response_schema is not None:
        schema = request.response_schema
        described = {"name": "reply", "schema": schema, "strict": is_closed(schema)}
        written["text"] = {"format": {"type": "json_schema", **described}}
    if request.tools:
        empty = {"type": "object", "properties": {}}
        written["tools"] = [
            {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters or empty,
                "strict": is_closed(tool.parameters or empty),
            }
            for tool in request.tools
        ]
        choice = request.tool_choice
        named = choice not in ("auto", "none", "required")
        written["tool_choice"] = {"type": "function", "name": choice} if named else choice
    return written


def _items(message: Message) -> list[dict[str, Json]]:
    """A message, as items of the input."""
    if message.role == "tool":
        said = message.content if isinstance(message.content, str) else compact(message.content)
        call_id = message.tool_call_id
        return [{"type": "function_call_output", "call_id": call_id, "output": said}]
    content = message.content
    if not isinstance(content, str):
        content = [_part(part, message.role) for part in parts(message)]
    said_items = [{"role": message.role, "content": content}] if content else []
    return said_items + [
        {
            "type": "function_call",
            "call_id": call.id,
            "name": call.name,
            "arguments": compact(call.arguments),
        }
        for call in message.tool_calls
    ]


def _part(part: Json, role: str) -> dict[str, Json]:
    image = picture(part)
    if image is not None:
        url = f"data:{image.media_type};base64,{image.data}"
        return {"type": "input_image", "detail": "auto", "image_url": url}
    if isinstance(part, Mapping) and part.get("type") == "text":
        kind = "output_text" if role == "assistant" else "input_text"
        return {"type": kind, "text": str(part.get("text") or "")}
    return dict(part) if isinstance(part, Mapping) else {"type": str(part)[:60]}


def read_whole(answer: Answer, came: Mapping[str, Json]) -> bool:
    """Read an answer that came in one piece; false when it holds no output. Raises StepError."""
    output = came.get("output")
    if not isinstance(output, list):
        return False
    for place, item in enumerate(output):
        if not isinstance(item, dict):
            continue
        if item.get("type") == "function_call":
            answer.call(place, item.get("call_id"), item.get("name"), item.get("arguments"))
        contents = item.get("content") if item.get("type") == "message" else None
        for part in contents if isinstance(contents, list) else ():
            if isinstance(part, dict) and part.get("type") == "output_text":
                answer.text += well_formed(str(part.get("text") or ""))
            elif isinstance(part, dict) and part.get("type") == "refusal":
                answer.refusal += str(part.get("refusal") or "")
    _end(answer, came)
    return bool(answer.finish_reason)


def read_event(answer: Answer, event: Json, on_text: OnText) -> None:
    """Read an event of a stream. Raises StepError."""
    if not isinstance(event, dict):
        return
    kind, place = event.get("type"), event.get("output_index")
    if kind == "response.output_text.delta":
        answer.take(event.get("delta"), on_text)
    elif kind == "response.refusal.delta":
        answer.refusal += str(event.get("delta") or "")
    elif kind == "response.output_item.added":
        item = event.get("item")
        if isinstance(item, dict) and item.get("type") == "function_call":
            answer.call(place, item.get("call_id"), item.get("name"), "")
    elif kind == "response.function_call_arguments.delta":
        answer.call(place, None, None, event.get("delta"))
    elif kind == "error":
        raise _failed(answer, event)
    elif kind in ("response.completed", "response.incomplete", "response.failed"):
        came = event.get("response")
        if isinstance(came, dict):
            _end(answer, came)


def _end(answer: Answer, came: Mapping[str, Json]) -> None:
    """Note how an answer ended, its model and usage. Raises StepError when it failed."""
    answer.named(came.get("model"))
    if isinstance(came.get("usage"), dict):
        answer.counts = counts(came["usage"], "input", "output")
    status, error = came.get("status"), came.get("error")
    if status == "failed" or isinstance(error, dict):
        raise _failed(answer, error if isinstance(error, dict) else {})
    if status == "incomplete":
        details = came.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, dict) else None
        answer.finished(_OURS.get(str(reason), reason or "incomplete"))
    elif status == "completed":
        answer.finished("tool_calls" if answer.calls else "stop")


def _failed(answer: Answer, error: Mapping[str, Json]) -> Exception:
    """The step error of a call that failed after it had been accepted."""
    code, words = str(error.get("code") or ""), masked(str(error.get("message") or ""))
    if code in _FILTERS:
        return ContentFiltered(f"The content filter of {answer.where} stopped the reply: {words}")
    if code == "rate_limit_exceeded" and not answer.began:
        return ProviderRateLimited(f"{answer.where} is busy: too many requests. {words}")
    # What an accepted call failed with is the server's fault, unless it names what was wrong with it.
    blames = code and code not in (*_PASSING, "rate_limit_exceeded")
    status = 400 if blames else None
    return refusal(answer.where, status=status, headers={}, code=code, said=words, credential=None)
