"""Options of ``human`` nodes."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, PlainValidator, WithJsonSchema

from agentflow.spec.jsonschema import first_mismatch
from agentflow.spec.kinds.base import (
    TEMPLATE,
    Complaint,
    Json,
    NodeKind,
    Options,
    OptionsModel,
    Text,
)
from agentflow.spec.kinds.values import Name, Seconds, Word, schema_complaints

FORM: dict[str, Json] = {
    "type": "object",
    "properties": {"approved": {"type": "boolean"}, "comment": {"type": "string"}},
    "required": ["approved"],
}
"""What a person is asked when the node does not say: yes or no, and why."""


def _on_expire(value: Json) -> Json:
    if value in ("fail", "default"):
        return value
    if isinstance(value, dict) and set(value) == {"goto"} and isinstance(value["goto"], str):
        return value
    raise ValueError("expected 'fail', 'default' or {\"goto\": node}")


_GOTO = {
    "type": "object",
    "properties": {"goto": {"type": "string", "minLength": 1}},
    "required": ["goto"],
    "additionalProperties": False,
}
OnExpire = Annotated[
    Any,
    PlainValidator(_on_expire),
    WithJsonSchema({"anyOf": [{"enum": ["fail", "default"]}, _GOTO]}),
]


class HumanOptions(OptionsModel):
    """Waits for a person's answer."""

    prompt: str | None = Field(None, description="Template of what the person is told.")
    form: dict[str, Any] = Field(
        FORM, description="A JSON Schema that the answer must fit. Left out: yes or no, and why."
    )
    assignees: list[Name] = Field(
        [], description="Users and roles whom the question is for; shown with it, not enforced."
    )
    notify: list[Word] = Field([], description="Ids of webhooks that are told of the question.")
    expires_s: Seconds | None = Field(
        None, description="Seconds after which the question expires. Null: never."
    )
    on_expire: OnExpire = Field(
        "fail",
        description='What happens then: fail the step, answer with default, or {"goto": node}.',
    )
    default: Json = Field(None, description="The answer that is taken on expiry; fits the form.")
    output_key: Word | None = Field(None, description="State field that takes the answer's data.")


def _complaints(options: Options) -> tuple[Complaint, ...]:
    found = list(schema_complaints(options, "form"))
    if options["on_expire"] != "fail" and options.get("expires_s") is None:
        found.append((("on_expire",), "is never used: 'expires_s' is missing"))
    if options["on_expire"] == "default":
        if options.get("default") is None:
            found.append((("default",), "is missing: on_expire 'default' needs it"))
        elif not found and (wrong := first_mismatch(options["form"], options["default"])):
            found.append((("default",), f"does not fit the form: {wrong[:200]}"))
    return tuple(found)


def _unsupported(options: Options) -> tuple[str, ...]:
    return ("'notify'",) if options.get("notify") else ()


def _texts(options: Options) -> tuple[Text, ...]:
    return (Text(("prompt",), TEMPLATE, options["prompt"]),) if options.get("prompt") else ()


KIND = NodeKind(
    type="human",
    options=HumanOptions,
    texts=_texts,
    sources=lambda options: (),
    complaints=_complaints,
    unsupported=_unsupported,
)
