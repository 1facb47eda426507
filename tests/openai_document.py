"""OpenAI's published OpenAPI document, as a judge of what the servers that play OpenAI take and say.

It is not part of this repository: ``OPENAI_OPENAPI=openapi.json pytest tests/unit/sources`` names a copy
of https://github.com/openai/openai-openapi, and then every request, answer, event and error of those
servers, whatever the test, is held against it too; a field that it does not know is a fault. Without a
copy the SDK is the only judge.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs

Json = Any
VARIABLE = "OPENAI_OPENAPI"
ERROR = "ErrorResponse"
_AT = "#/components/schemas/"
_ALTERNATIVES = ("anyOf", "oneOf")
_KEPT = (
    *("type", "enum", "const", "required", "pattern", "minLength", "maxLength"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties"),
)
"""Words of a schema that mean in the document what they mean everywhere."""
_ALSO_NULL = {("Response", "usage")}
"""Schema, property: null in the document's own examples, and for the SDK, though its schema forgets it."""


class Document:
    """An OpenAPI document; ``path`` is that of its copy, in JSON."""

    def __init__(self, path: Path) -> None:
        self._read = json.loads(path.read_text())
        self._judges: dict[str, jsonschema_rs.Draft202012Validator] = {}

    @property
    def version(self) -> str:
        """The version that it gives itself."""
        return str(self._read["info"]["version"])

    def posted(self, path: str) -> str:
        """The schema of what is posted to a path."""
        return _schema(self._call(path)["requestBody"], "application/json")

    def answered(self, path: str, *, streamed: bool = False) -> str:
        """The schema of what comes back: of a whole answer, or of each event of a stream."""
        media = "text/event-stream" if streamed else "application/json"
        return _schema(self._call(path)["responses"]["200"], media)

    def _call(self, path: str) -> Json:
        """What may be done at a path: it is posted to, else it is read."""
        calls = self._read["paths"][path]
        return calls["post"] if "post" in calls else calls["get"]

    def faults(self, schema: str, value: Json, what: str) -> list[str]:
        """What of a value this schema does not take, as sentences."""
        judge = self._judges.get(schema)
        if judge is None:
            judge = self._judges[schema] = self._judge(schema)
        return [
            f"{what}: {'.'.join(map(str, error.instance_path))}: {error.message[:300]} (OpenAPI)"
            for error in judge.iter_errors(value)
        ]

    def _judge(self, name: str) -> jsonschema_rs.Draft202012Validator:
        schemas: dict[str, Json] = {}
        self._gather(name, schemas)
        whole = {**_whole({"$ref": _AT + name}), "components": {"schemas": schemas}}
        return jsonschema_rs.Draft202012Validator(whole)

    def _gather(self, name: str, schemas: dict[str, Json]) -> None:
        """Put a schema there, with all that it refers to."""
        if name in schemas:
            return
        schemas[name] = _part(self._read["components"]["schemas"][name], name)
        for other in _named_in(schemas[name]):
            self._gather(other, schemas)


def published() -> Document | None:
    """The document that the environment names."""
    path = os.environ.get(VARIABLE)
    return _opened(path) if path else None


def unpublished_request(path: str, body: Json) -> list[str]:
    """What of a request to a path the document does not take; nothing without a document."""
    document = published()
    return document.faults(document.posted(path), body, "body") if document else []


def unpublished_answer(path: str, answer: Json, *, streamed: bool = False) -> list[str]:
    """What of an answer, or an event, the document does not take; nothing without a document."""
    document = published()
    if document is None:
        return []
    return document.faults(document.answered(path, streamed=streamed), answer, "answer")


def unpublished_error(body: Json) -> list[str]:
    """What of an error's body the document does not take; nothing without a document."""
    document = published()
    return document.faults(ERROR, body, "error") if document else []


@cache
def _opened(path: str) -> Document:
    return Document(Path(path))


def _schema(told: Json, media: str) -> str:
    return str(told["content"][media]["schema"]["$ref"]).removeprefix(_AT)


def _named_in(schema: Json) -> set[str]:
    """The schemas that a schema refers to."""
    if isinstance(schema, list):
        return {name for each in schema for name in _named_in(each)}
    if not isinstance(schema, dict):
        return set()
    own = schema.get("$ref")
    names = {own.removeprefix(_AT)} if isinstance(own, str) else set()
    return names | {name for each in schema.values() for name in _named_in(each)}


def _whole(schema: Json, name: str = "") -> Json:
    """The schema of a whole value: an object has no fields but those of some part of the schema."""
    part = _part(schema, name)
    return {**part, "unevaluatedProperties": False} if isinstance(part, dict) and part else part


def _part(schema: Json, name: str) -> Json:
    """A schema in plain JSON Schema, to which another one may add fields."""
    if not isinstance(schema, dict) or "$recursiveRef" in schema:
        return schema if isinstance(schema, bool) else {}
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}
    part = {word: schema[word] for word in _KEPT if word in schema}
    if "properties" in schema:
        part["properties"] = {
            key: {"anyOf": [_whole(value), {"type": "null"}]}
            if (name, key) in _ALSO_NULL
            else _whole(value)
            for key, value in schema["properties"].items()
        }
    for word in ("additionalProperties", "items", "not"):
        if word in schema:
            part[word] = _whole(schema[word])
    if "allOf" in schema:
        part["allOf"] = [_part(each, name) for each in schema["allOf"]]
    for word in _ALTERNATIVES:
        if word in schema:
            # Not all of the document's alternatives exclude each other where it says so.
            part["anyOf"] = [_part(each, name) for each in schema[word]]
    if schema.get("type") == "object" and not (
        {"properties", "additionalProperties", "allOf", *_ALTERNATIVES} & set(schema)
    ):
        part["additionalProperties"] = True
    # As in OpenAPI 3.0: the enumerations beside it do not name null.
    return {"anyOf": [part, {"type": "null"}]} if schema.get("nullable") else part
