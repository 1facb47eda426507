"""What is Anthropic's own; what all providers share is in test_same_meaning.py."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from agentflow.errors import (
    ContentFiltered,
    OutputSchemaMismatch,
    ProviderRejected,
)
from agentflow.sources.base import Message, ModelRequest, ModelSource
from tests.anthropic_wire import AnthropicWire, Said
from tests.fake_provider import Raw
from tests.unit.sources.sides import HELLO, failure, side_named, unheard

Json = Any
SIDE = side_named("anthropic")


async def test_sampling_is_asked_of_the_version_that_has_it(
    wire: AnthropicWire, source: ModelSource
) -> None:
    await source.generate(HELLO)
    assert wire.last.headers["anthropic-version"] == "2026-10-21"
    assert not {"temperature", "top_p"} & set(wire.last.body)
    await source.generate(ModelRequest(messages=HELLO.messages, temperature=0.3))
    assert wire.last.headers["anthropic-version"] == "2023-06-01"
    assert wire.last.body["temperature"] == 0.3 and "top_p" not in wire.last.body
    assert wire.faults == []


async def test_wire_refuses_what_the_api_refuses(wire: AnthropicWire, source: ModelSource) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/bmp;base64,AAAA"}}
    with pytest.raises(ProviderRejected, match="media_type"):
        await source.generate(ModelRequest(messages=(Message("user", [image]),)))
    assert wire.faults


async def test_cache_is_part_of_the_input(wire: AnthropicWire, source: ModelSource) -> None:
    wire.script(Said("ok", (10, 5, 1000, 200, 2)), Said("ok", (10, 5, 1000, 200, 2)))
    for heard in (None, unheard):
        reply = await source.generate(HELLO, heard)
        counts = (reply.input_tokens, reply.cached_tokens, reply.output_tokens)
        assert counts == (1210, 1000, 5) and reply.reasoning_tokens == 2


async def test_schema_is_put_into_words_where_the_api_takes_none(
    wire: AnthropicWire, source: ModelSource
) -> None:
    closed = {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 3}},
        "additionalProperties": False,
    }
    await source.generate(ModelRequest(messages=HELLO.messages, response_schema=closed))
    sent = wire.last.body["output_config"]["format"]["schema"]["properties"]["n"]
    assert sent["type"] == "integer" and "3" in sent["description"] and "minimum" not in sent
    for schema in ({"type": "object"}, {"enum": []}, {"type": ["string", "null"]}, {}):
        await source.generate(ModelRequest(messages=HELLO.messages, response_schema=schema))
        assert "JSON" in wire.last.body["system"] and "output_config" not in wire.last.body
    assert wire.faults == []


async def test_refusal_gives_the_reason(wire: AnthropicWire, source: ModelSource) -> None:
    wire.script(Said("", stop_reason="refusal", explanation="about weapons"))
    error = await failure(source)
    assert isinstance(error, ContentFiltered) and "about weapons" in str(error)


async def test_arguments_that_are_no_json_are_no_call(
    wire: AnthropicWire, source: ModelSource
) -> None:
    def event(body: str) -> bytes:
        kind = body.split('"')[3]
        return f"event: {kind}\ndata: {body}\n\n".encode()

    wire.script(
        Raw(
            event('{"type": "content_block_start", "index": 0, "content_block": '
                  '{"type": "tool_use", "id": "t1", "name": "look_up", "input": {}}}')
            + event('{"type": "content_block_delta", "index": 0, "delta": '
                    '{"type": "input_json_delta", "partial_json": "{\\"q"}}')
            + event('{"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, '
                    '"usage": {"output_tokens": 3}}'),
            content_type="text/event-stream",
        )
    )  # fmt: skip
    error = await failure(source)
    assert isinstance(error, OutputSchemaMismatch) and "look_up" in str(error)


async def test_options_these_models_do_not_know_are_left_out_and_said_once(
    wire: AnthropicWire, source: ModelSource, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "agentflow"):
        for _ in range(2):
            await source.generate(ModelRequest(messages=HELLO.messages, seed=3))
    assert caplog.text.count("no seed") == 1 and wire.faults == []
