"""Calls of models: each one keyed and recorded, and replies that must fit a schema."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar

import msgspec

from agentflow.errors import StepError
from agentflow.execution.events import ModelCall, Usage
from agentflow.nodes.base import StepContext
from agentflow.sources.base import Billed, BilledError, Message, ModelReply, ModelRequest
from agentflow.sources.jsontext import read_json
from agentflow.spec.jsonschema import compile_schema
from agentflow.spec.templates import compact

Json = Any
Ask = Callable[[ModelRequest, Callable[[str], None] | None], Awaitable[ModelReply]]
"""Gives the reply to a request. Raises StepError."""
Fitting = Callable[[str], tuple[Json, list[str]]]
"""A reply's text -> what it says as data, and what about it does not fit."""


Request = TypeVar("Request", bound=msgspec.Struct, contravariant=True)
"""What a model is asked for; it takes an ``idempotency_key`` and an ``attempt``."""
Reply = TypeVar("Reply", bound=Billed, covariant=True)


class AnyModel(Protocol[Request, Reply]):
    """A source of texts or of pictures."""

    async def generate(
        self, request: Request, on_text: Callable[[str], None] | None = None
    ) -> Reply:
        """Call the model once. Raises StepError, BilledError."""
        ...


async def call(
    context: StepContext,
    source_id: str,
    source: AnyModel[Request, Reply],
    request: Request,
    index: int = 0,
    on_text: Callable[[str], None] | None = None,
) -> Reply:
    """One call, recorded whatever becomes of it. ``index`` counts the step's calls. Raises StepError."""
    keyed = msgspec.structs.replace(
        request, idempotency_key=context.key(index), attempt=context.attempt
    )
    try:
        reply = await source.generate(keyed, on_text)
    except BilledError as billed:
        context.record(_billing(source_id, billed.reply, billed.error.type))
        raise _of(source_id, billed.error) from None
    except StepError as error:
        raise _of(source_id, error) from None
    context.record(_billing(source_id, reply))
    return reply


def record_failure(
    context: StepContext, source_id: str, error_type: str, *, since: int | None = None
) -> None:
    """Keep that a call was made in vain, unless it is among those recorded ``since``, as it was
    billed."""
    billed = () if since is None else context.calls[since:]
    if not any(made.source == source_id for made in billed):
        context.record(ModelCall(source_id, "", "", error=error_type))


def _of(source_id: str, error: StepError) -> StepError:
    """The error, naming the source: connections are shared by sources of the same configuration."""
    if repr(source_id) in error.message:
        return error
    named = type(error)(f"Source {source_id!r}: {error.message}", after=error.after)
    named.uncounted = error.uncounted
    return named


async def structured(
    ask: Ask,
    request: ModelRequest,
    fitting: Fitting,
    on_text: Callable[[str], None] | None = None,
) -> tuple[ModelReply, Json, list[str]]:
    """The reply to a request with a schema, after at most one repair; the data in it; and what still
    does not fit. Raises StepError."""
    reply = await ask(request, on_text)
    data, problems = fitting(reply.text)
    if problems:
        reply = await ask(_repair(request, reply, problems), None)
        data, problems = fitting(reply.text)
    return reply, data, problems


def fit(text: str, schema: Json) -> tuple[Json, list[str]]:
    """A reply as data, and what does not fit the schema."""
    try:
        data = read_json(_unfenced(text))
    except (ValueError, RecursionError):
        return None, ["the reply is not JSON"]
    return data, compile_schema(schema).problems(data, limit=5)


def encodable(value: Json) -> Json:
    """The value with lone surrogates replaced: no provider can be sent one."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, Mapping):
        return {key: encodable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encodable(item) for item in value]
    return value


def _billing(source_id: str, reply: Billed, error: str = "") -> ModelCall:
    usage = Usage(
        input_tokens=reply.input_tokens,
        output_tokens=reply.output_tokens,
        cached_tokens=reply.cached_tokens,
        estimated=reply.estimated,
        reasoning_tokens=reply.reasoning_tokens,
    )
    return ModelCall(
        source_id, reply.provider, reply.model, usage, reply.cost, reply.request_id, error
    )


def _unfenced(text: str) -> str:
    """The text without the Markdown fence that some models put around JSON."""
    text = text.strip()
    if text.startswith("```") and text.endswith("```") and len(text) > 6:
        text = text[3:-3].partition("\n")[2] if "\n" in text else text[3:-3]
    return text


def _repair(request: ModelRequest, reply: ModelReply, problems: list[str]) -> ModelRequest:
    said = Message("assistant", reply.text)
    wish = Message(
        "user",
        "Your reply does not fit the required JSON schema: "
        + "; ".join(problems)[:2000]
        + ". Answer again with nothing but JSON that fits this schema: "
        + compact(request.response_schema),
    )
    return msgspec.structs.replace(request, messages=(*request.messages, said, wish))
