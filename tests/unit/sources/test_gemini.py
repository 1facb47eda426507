"""What is Gemini's own; what all providers share is in test_same_meaning.py."""

from __future__ import annotations

from typing import Any

import pytest

from agentflow.errors import (
    ContentFiltered,
    OutputSchemaMismatch,
    ProviderAuthError,
    ProviderRateLimited,
    ProviderRejected,
)
from agentflow.sources.base import Message, ModelRequest, ModelSource, Tool
from tests.gemini_wire import GeminiWire, Refused, Said
from tests.unit.sources.sides import HELLO, failure, side_named, unheard

Json = Any
SIDE = side_named("gemini")


async def test_wrong_key_is_an_auth_error_though_the_status_is_400(
    wire: GeminiWire, source: ModelSource
) -> None:
    wire.script(Refused(400, "API key not valid.", reason="API_KEY_INVALID"))
    error = await failure(source)
    assert isinstance(error, ProviderAuthError) and "GEMINI_API_KEY" in error.message


async def test_wait_is_read_from_the_body(wire: GeminiWire, source: ModelSource) -> None:
    wire.script(Refused(429, "quota", retry_delay=36.5), Refused(429, "quota"))
    error = await failure(source)
    assert isinstance(error, ProviderRateLimited) and error.after == 36.5
    assert (await failure(source)).after is None


@pytest.mark.parametrize("heard", [None, unheard])
async def test_blocked_prompt_is_filtered(
    wire: GeminiWire, source: ModelSource, heard: Any
) -> None:
    wire.script(Said(blocked="PROHIBITED_CONTENT"))
    error = await failure(source, heard)
    assert isinstance(error, ContentFiltered) and "PROHIBITED_CONTENT" in error.message


@pytest.mark.parametrize("heard", [None, unheard])
async def test_malformed_call_is_tried_again(
    wire: GeminiWire, source: ModelSource, heard: Any
) -> None:
    wire.script(Said("", finish_reason="MALFORMED_FUNCTION_CALL"))
    error = await failure(source, heard)
    assert isinstance(error, OutputSchemaMismatch) and error.retryable


async def test_signature_of_a_call_goes_back_with_it(wire: GeminiWire, source: ModelSource) -> None:
    wire.script(Said("", tools=(("look_up", {"q": "a"}),)))
    tool = Tool("look_up", "Looks up.")
    reply = await source.generate(ModelRequest(messages=HELLO.messages, tools=(tool,)))
    turn = Message("assistant", "", tool_calls=reply.tool_calls)
    result = Message("tool", "found", tool_call_id=reply.tool_calls[0].id)
    await source.generate(ModelRequest(messages=(*HELLO.messages, turn, result), tools=(tool,)))
    asked, answered = wire.last.body["contents"][1:]
    assert asked["parts"][0]["thoughtSignature"] == "c2lnbmVk"
    assert answered["parts"][0]["functionResponse"]["name"] == "look_up"
    assert wire.faults == []


async def test_schema_and_safety_are_sent(wire: GeminiWire) -> None:
    safety = [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]
    source = await SIDE.connect(wire, safety=safety)
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    await source.generate(ModelRequest(messages=HELLO.messages, response_schema=schema, seed=4))
    body = wire.last.body
    assert body["safetySettings"] == safety and body["generationConfig"]["seed"] == 4
    assert body["generationConfig"]["responseMimeType"] == "application/json"
    assert body["generationConfig"]["responseJsonSchema"] == schema
    await source.close()
    odd = await SIDE.connect(wire, safety=[{"categories": 3}])
    assert isinstance(await failure(odd), ProviderRejected)
    await odd.close()
    assert wire.faults == []
