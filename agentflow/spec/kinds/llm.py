"""Options of ``llm`` nodes."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from agentflow.spec.kinds.base import (
    TEMPLATE,
    VALUES,
    Complaint,
    NodeKind,
    Options,
    OptionsModel,
    Text,
)
from agentflow.spec.kinds.sampling import Penalty, Temperature, Tokens, TopP

FALLBACK_ON = ("ProviderUnavailable", "ConnectionFailed", "ProviderRateLimited", "CallTimeout")


class LlmOptions(OptionsModel):
    """Calls a language model. Sampling options left out come from the source, then from the model."""

    source: str | Annotated[list[str], Field(min_length=1)] | None = None
    fallback_on: list[str] = list(FALLBACK_ON)
    race: bool = False
    prompt: str = "{user_input}"
    system_prompt: str | None = None
    messages: list[dict[str, Any]] | str | None = None
    images: list[Any] | str = []
    model: str | None = None
    temperature: Temperature | None = None
    max_tokens: Tokens | None = None
    top_p: TopP | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    response_schema: dict[str, Any] | None = None
    stream: bool = True
    output_key: Annotated[str, Field(min_length=1)] = "text_result"
    spill: dict[str, Any] | None = None


def _texts(options: Options) -> tuple[Text, ...]:
    texts = []
    if options.get("messages") is None:
        texts.append(Text(("prompt",), TEMPLATE, options["prompt"]))
    elif isinstance(options["messages"], str):
        texts.append(Text(("messages",), VALUES, options["messages"]))
    else:
        texts += _message_texts(options["messages"])
    if options.get("system_prompt"):
        texts.append(Text(("system_prompt",), TEMPLATE, options["system_prompt"]))
    if options.get("images"):
        texts.append(Text(("images",), VALUES, options["images"]))
    return tuple(texts)


def _message_texts(messages: list[dict[str, Any]]) -> list[Text]:
    texts = []
    for index, message in enumerate(messages):
        content = message.get("content")
        at = ("messages", index, "content")
        if isinstance(content, str):
            texts.append(Text(at, TEMPLATE, content))
        texts.append(Text(at, VALUES, content))
    return texts


def _complaints(options: Options) -> tuple[Complaint, ...]:
    from agentflow.spec.jsonschema import SchemaInvalid, compile_schema

    found: list[Complaint] = []
    if options.get("response_schema") is not None:
        try:
            compile_schema(options["response_schema"])
        except SchemaInvalid as error:
            found.append((("response_schema",), str(error)))
    messages = options.get("messages")
    if isinstance(messages, list):
        for index, message in enumerate(messages):
            if not isinstance(message.get("role"), str) or "content" not in message:
                found.append((("messages", index), 'must be {"role": text, "content": text}'))
    elif isinstance(messages, str) and not messages.strip().startswith("${"):
        found.append((("messages",), "must be a list, or one ${expression} that gives a list"))
    return tuple(found)


def _needs_source(options: Options) -> bool:
    return not options.get("source")


def _unsupported(options: Options) -> tuple[str, ...]:
    found = []
    if isinstance(options.get("source"), list) and len(options["source"]) > 1:
        found.append("a chain of sources (fallbacks)")
    if options.get("race"):
        found.append("'race'")
    if options.get("spill"):
        found.append("'spill'")
    if options.get("images"):
        found.append("'images'")
    return tuple(found)


KIND = NodeKind(
    type="llm",
    options=LlmOptions,
    effects="idempotent",
    attempts=3,
    placement="io",
    field="text_result",
    always_writes=True,
    texts=_texts,
    needs_source=_needs_source,
    complaints=_complaints,
    unsupported=_unsupported,
)
