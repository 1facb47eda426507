"""Options of ``llm`` nodes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from agentflow.spec.environment import has_password
from agentflow.spec.kinds.base import (
    TEMPLATE,
    VALUES,
    Complaint,
    Json,
    NodeKind,
    Options,
    OptionsModel,
    Text,
    named_source,
)
from agentflow.spec.kinds.sampling import Penalty, Seed, Spill, Stop, Temperature, Tokens, TopP
from agentflow.spec.kinds.values import Word, is_expression, schema_complaints
from agentflow.spec.problems import near

STEP_ERRORS = (
    *("ProviderRateLimited", "ProviderUnavailable", "ConnectionFailed", "CallTimeout"),
    *("OutputSchemaMismatch", "WorkerLost", "InvalidInput", "NoRouteTaken", "ConditionError"),
    *("ExpressionError", "IterationLimit", "SourceNotFound", "SourceInactive"),
    *("MissingCredential", "ProviderAuthError", "ContextLengthExceeded", "ContentFiltered"),
    *("ProviderRejected", "QueryRefused", "QueryFailed", "BudgetExceeded", "StepTimeout"),
    *("UnknownOutcome", "PluginError", "SandboxViolation", "ResourceExceeded"),
)
"""The types of error that a step can end with."""
FALLBACK_ON = ("ProviderUnavailable", "ConnectionFailed", "ProviderRateLimited", "CallTimeout")
_ErrorType = Annotated[str, Field(json_schema_extra={"enum": list(STEP_ERRORS)})]


class LlmOptions(OptionsModel):
    """Calls a language model. Options of sampling that are left out come from the source."""

    source: Word | Annotated[list[Word], Field(min_length=1)] | None = Field(
        None,
        description="Required: id of a source of kind llm, or a chain of them, of which the first "
        "serves and the next ones on an error of fallback_on. fallbacks beside a single source is "
        "the same.",
        examples=["small", ["small", "hosted"]],
    )
    fallback_on: list[_ErrorType] = Field(
        list(FALLBACK_ON),
        description="Error types on which the chain moves on. After ProviderRateLimited it first "
        "waits, if the wait that was named is not longer than 5 s (or spill.max_wait_s).",
    )
    race: bool = Field(
        False,
        description="Whether all sources of the chain are called at once: the first answer wins, the "
        "other calls are cancelled.",
    )
    prompt: str = Field(
        "{user_input}",
        description="Template of the message to the model; prompt_template is the same.",
    )
    system_prompt: str | None = Field(
        None, description="Template of the instructions, which come first."
    )
    messages: list[dict[str, Any]] | str | None = Field(
        None,
        description="A whole chat instead of prompt: a list of {role, content}, of which text is a "
        "template, or one ${expression} that gives such a list.",
        examples=[[{"role": "user", "content": "{user_input}"}], "${chat}"],
    )
    images: list[Any] | str = Field(
        [],
        description="Pictures for the model: addresses, blobs, results of image nodes or ${expressions} "
        "of such, or one ${expression} that gives the list. Never paths of the server.",
        examples=[["https://example.com/cat.png", "${image_result}"]],
    )
    model: Word | None = Field(
        None, description="A model other than the source's; model_name is the same."
    )
    temperature: Temperature | None = Field(
        None,
        description="0 is the most predictable, 2 the least. Null: the source's, else 0.7.",
    )
    max_tokens: Tokens | None = Field(
        None, description="Longest reply, in tokens. Null: the source's, else 4096."
    )
    top_p: TopP | None = Field(
        None,
        description="Sample from this share of the likeliest tokens. Null: the source's, else 1.",
    )
    stop: Stop | None = Field(
        None, description="Texts at which the reply ends. Null: the source's, else none."
    )
    seed: Seed | None = Field(
        None,
        description="For replies that repeat, where the model can. Null: the source's, else none.",
    )
    frequency_penalty: Penalty | None = Field(
        None,
        description="Above 0: tokens become less likely the more often they were used. Null: the "
        "source's, else none.",
    )
    presence_penalty: Penalty | None = Field(
        None,
        description="Above 0: tokens become less likely once they were used. Null: the source's, "
        "else none.",
    )
    response_schema: dict[str, Any] | None = Field(
        None,
        description="A JSON Schema that the reply, read as JSON, must fit. A reply that does not is "
        "sent back once to be repaired.",
    )
    stream: bool = Field(
        True,
        description="Whether subscribers hear tokens as they come; the result is the same.",
    )
    output_key: Word = Field("text_result", description="State field that is written.")
    spill: Spill | None = Field(
        None,
        description="When calls move on to another source because of a long wait. Null: the source's.",
        examples=[{"to": "hosted", "max_wait_s": 5}],
    )


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
    found: list[Complaint] = [
        (("fallback_on", index), _not_an_error(name))
        for index, name in enumerate(options["fallback_on"])
        if name not in STEP_ERRORS
    ]
    found += schema_complaints(options, "response_schema")
    found += _message_complaints(options["messages"])
    found += _image_complaints(options["images"])
    return tuple(found)


def _not_an_error(name: str) -> str:
    hint = near(name, STEP_ERRORS)
    return f"is not a type of error: {name[:100]!r}" + (f". {hint}" if hint else "")


def _message_complaints(messages: Json) -> Iterator[Complaint]:
    if isinstance(messages, str):
        if not is_expression(messages):
            yield ("messages",), "must be a list, or one ${expression} that gives a list"
    elif messages == []:
        yield ("messages",), "is empty: a model needs at least one message"
    for index, message in enumerate(messages if isinstance(messages, list) else ()):
        role, content = message.get("role"), message.get("content")
        if not (isinstance(role, str) and role and isinstance(content, str | list)):
            sentence = 'must be {"role": text, "content": text or a list of parts}'
            yield ("messages", index), sentence


def _image_complaints(images: Json) -> Iterator[Complaint]:
    if isinstance(images, str):
        if not is_expression(images):
            yield ("images",), "must be a list, or one ${expression} that gives a list"
        return
    for index, image in enumerate(images):
        if isinstance(image, str) and has_password(image):
            yield ("images", index), "holds a password"
        elif not (isinstance(image, dict) or (isinstance(image, str) and _is_picture(image))):
            yield ("images", index), "must be an address, a blob or an ${expression}, never a path"


def _is_picture(text: str) -> bool:
    return is_expression(text) or re.match(r"(https?|blob|data):", text, re.IGNORECASE) is not None


def _sources(options: Options) -> tuple[str, ...]:
    spill = options.get("spill") or {}
    named = (*named_source(options), spill.get("to"))
    return tuple(dict.fromkeys(name for name in named if name is not None))


def _needs_source(options: Options) -> bool:
    return not options.get("source")


def _unsupported(options: Options) -> tuple[str, ...]:
    return ("'spill'",) if options.get("spill") else ()


KIND = NodeKind(
    type="llm",
    options=LlmOptions,
    effects="idempotent",
    attempts=3,
    placement="io",
    field="text_result",
    always_writes=True,
    texts=_texts,
    sources=_sources,
    needs_source=_needs_source,
    complaints=_complaints,
    unsupported=_unsupported,
)
