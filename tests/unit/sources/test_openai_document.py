"""The judge that holds the servers of the tests against OpenAI's OpenAPI document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import chat_wire, images_wire, openai_document, responses_wire
from tests.openai_document import Document

Json = Any
SMALL: Json = {
    "info": {"version": "9.9"},
    "components": {
        "schemas": {
            "Head": {
                "type": "object",
                "properties": {"id": {"type": "string"}},
                "required": ["id"],
            },
            "Asked": {
                "type": "object",
                "properties": {
                    "turns": {"type": "array", "items": {"$ref": "#/components/schemas/Turn"}},
                    "free": {"type": "object"},
                    "notes": {"type": "object", "additionalProperties": {"type": "string"}},
                    "reason": {"type": "string", "enum": ["stop"], "nullable": True},
                },
                "required": ["turns"],
            },
            "Turn": {
                "oneOf": [
                    {"type": "string"},
                    {
                        "allOf": [
                            {"$ref": "#/components/schemas/Head"},
                            {"type": "object", "properties": {"text": {"type": "string"}}},
                        ]
                    },
                ]
            },
        }
    },
    "paths": {
        "/ask": {
            "post": {
                "requestBody": {
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/Asked"}}
                    }
                }
            }
        }
    },
}


REQUIRED = {
    chat_wire.PUBLISHED: ("id", "choices", "created", "model", "object"),
    responses_wire.PUBLISHED: ("id", "output", "tools", "metadata"),
    images_wire.PUBLISHED: ("created",),
}
"""Path -> some of what every answer from there must have."""


@pytest.fixture
def small(tmp_path: Path) -> Document:
    (tmp_path / "openapi.json").write_text(json.dumps(SMALL))
    return Document(tmp_path / "openapi.json")


@pytest.fixture
def document() -> Document:
    found = openai_document.published()
    if found is None:
        pytest.skip(f"{openai_document.VARIABLE} names no copy of OpenAI's OpenAPI document")
    return found


def test_document_takes_what_its_schemas_describe(small: Document) -> None:
    assert small.version == "9.9" and small.posted("/ask") == "Asked"
    for asked in (
        {"turns": ["hi", {"id": "1"}, {"id": "1", "text": "hi"}], "reason": None},
        {"turns": [], "free": {"any": 1}, "notes": {"a": "b"}, "reason": "stop"},
    ):
        assert small.faults("Asked", asked, "body") == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"made_up": 1},
        {"turns": [{"id": "1", "made_up": 1}]},
        {"turns": [{"text": "no id"}]},
        {"turns": [3]},
        {"notes": {"a": 1}},
        {"reason": "other"},
    ],
)
def test_document_finds_unknown_fields_and_wrong_values(small: Document, wrong: Json) -> None:
    assert small.faults("Asked", {"turns": [], **wrong}, "body") != []


def test_document_finds_what_openai_would_not_take_or_say(document: Document) -> None:
    turn = {"role": "user", "content": "hi"}
    chat, responses, images = (kind.PUBLISHED for kind in (chat_wire, responses_wire, images_wire))
    asked: list[tuple[str, Json]] = [
        (chat, {"model": "m", "messages": [turn]}),
        (responses, {"model": "m", "input": [turn]}),
        (images, {"model": "m", "prompt": "a fox"}),
    ]
    for path, body in asked:
        assert openai_document.unpublished_request(path, body) == []
        assert openai_document.unpublished_request(path, body | {"made_up": 1}) != []
    inside: list[tuple[str, Json]] = [
        (chat, {"model": "m", "messages": [turn | {"made_up": 1}]}),
        (responses, {"model": "m", "input": [turn | {"made_up": 1}]}),
        (images, {"model": "m", "prompt": "a fox", "n": 11}),
    ]
    for path, body in inside:
        assert openai_document.unpublished_request(path, body) != []
    for path, answer in (
        (chat, chat_wire.Said().whole()),
        (responses, responses_wire.Said().whole()),
        (images, images_wire.Drawn().whole()),
    ):
        assert openai_document.unpublished_answer(path, answer) == []
        for name in REQUIRED[path]:
            lacking = {key: value for key, value in answer.items() if key != name}
            assert openai_document.unpublished_answer(path, lacking) != [], name
    assert openai_document.unpublished_error({"error": {"message": "no"}}) != []
