"""The servers of the tests refuse what the providers' own would."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests import anthropic_wire, chat_wire, gemini_wire, responses_wire
from tests.fake_provider import Request

TURN = {"role": "user", "content": "hi"}
CLAUDE = {"model": "m", "max_tokens": 5, "messages": [TURN]}
CHAT = {"model": "m", "messages": [TURN]}
RESPONSE = {"model": "m", "input": [TURN]}
GEMINI = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
JSON = {"content-type": "application/json"}


def request(path: str, headers: dict[str, str], body: Any, **more: Any) -> Request:
    body = {**body, **more}
    return Request("POST", path, {**JSON, **headers}, json.dumps(body).encode(), body, 0.0)


def wrong(wire: str, drop: str = "", **more: Any) -> list[str]:
    """What a wire finds wrong with a good request, less this header, with these fields more."""
    headers = {
        "anthropic": {"anthropic-version": "2026-10-21"},
        "chat": {"authorization": "Bearer x"},
        "responses": {"authorization": "Bearer x"},
        "gemini": {"x-goog-api-key": "x"},
    }[wire]
    kept = {name: value for name, value in headers.items() if name != drop}
    if wire == "anthropic":
        return anthropic_wire.wrong_with(request("/v1/messages", kept, CLAUDE, **more))
    if wire == "chat":
        made = request("/v1/chat/completions", kept, CHAT, **more)
        return chat_wire.wrong_with("openai", made)
    if wire == "responses":
        return responses_wire.wrong_with(request("/v1/responses", kept, RESPONSE, **more))
    path = "/v1/models/gemini-x:generateContent"
    return gemini_wire.wrong_with(request(path, kept, GEMINI, **more))


@pytest.mark.parametrize("wire", ["anthropic", "chat", "responses", "gemini"])
def test_wires_take_what_is_right(wire: str) -> None:
    assert wrong(wire) == []


@pytest.mark.parametrize(
    ("wire", "drop", "more"),
    [
        ("anthropic", "anthropic-version", {}),
        ("anthropic", "", {"seed": 3}),
        ("anthropic", "", {"temperature": 0.5}),
        ("anthropic", "", {"max_tokens": "5"}),
        ("anthropic", "", {"messages": [{**TURN, "name": "x"}]}),
        ("anthropic", "", {"tools": [{"name": "t"}]}),
        ("chat", "authorization", {}),
        ("chat", "", {"stop_sequences": ["x"]}),
        ("chat", "", {"tool_choice": "sometimes"}),
        ("chat", "", {"response_format": {"type": "json_schema"}}),
        ("responses", "", {"max_tokens": 5}),
        ("responses", "", {"text": {"format": {"type": "json_schema", "schema": {}}}}),
        ("gemini", "x-goog-api-key", {}),
        ("gemini", "", {"generationConfig": {"maxTokens": 5}}),
        ("gemini", "", {"temperature": 0.5}),
        ("gemini", "", {"contents": []}),
    ],
)
def test_wires_refuse_what_is_wrong(wire: str, drop: str, more: dict[str, Any]) -> None:
    assert wrong(wire, drop, **more) != []
