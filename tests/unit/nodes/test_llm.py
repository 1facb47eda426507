"""Llm nodes, through a real source and a provider on a real socket."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from agentflow.errors import (
    ExpressionError,
    InvalidInput,
    OutputSchemaMismatch,
    ProviderUnavailable,
    SourceNotFound,
)
from agentflow.nodes.base import StepContext
from agentflow.nodes.llm import LlmNode
from tests.fake_provider import FakeProvider, Status, Text
from tests.unit.nodes.conftest import NewContext

SCHEMA = {
    "type": "object",
    "properties": {"intent": {"enum": ["a", "b"]}},
    "required": ["intent"],
}
Step = Callable[..., StepContext]


@pytest.fixture
def step(model_step: NewContext) -> Step:
    """Makes contexts of llm steps whose source is the provider."""
    return partial(model_step, "llm")


async def test_llm_result_has_every_part(provider: FakeProvider, step: Step) -> None:
    provider.script(Text("fine", usage=(1000, 500, 10)))
    context = step({}, {"user_input": "how are you?"}, attempt=2)
    done = await LlmNode().run(context)
    assert done.result == {
        "text": "fine",
        "model": "m1",
        "provider": "openai-compatible",
        "finish_reason": "stop",
        "usage": {
            "input_tokens": 1000,
            "output_tokens": 500,
            "cached_tokens": 10,
            "reasoning_tokens": 0,
            "estimated": False,
        },
        "cost": 0.002,
        "attempts": 2,
    }
    assert done.delta == {"text_result": "fine"}
    assert [call.source for call in context.calls] == ["main"]
    assert context.calls[0].usage.total == 1500 and context.calls[0].cost == 0.002
    assert provider.last.prompt == "how are you?"
    assert provider.last.idempotency_key == context.key(0)


async def test_llm_renders_prompt_and_system_prompt(provider: FakeProvider, step: Step) -> None:
    options = {
        "prompt": 'Sum up {outputs.a.text}: {"n": {gone}}',
        "system_prompt": "You are {name}",
    }
    view = {"outputs": {"a": {"text": "{user_input}"}}, "name": "Bo", "user_input": "secret"}
    await LlmNode().run(step(options, view))
    assert provider.last.body["messages"] == [
        {"role": "system", "content": "You are Bo"},
        {"role": "user", "content": 'Sum up {user_input}: {"n": {gone}}'},
    ]


async def test_llm_messages_mix_templates_and_expressions_once(
    provider: FakeProvider, step: Step
) -> None:
    options = {
        "system_prompt": "Be brief",
        "messages": [
            {"role": "user", "content": "{user_input} and ${size(user_input)}"},
            {"role": "assistant", "content": [{"type": "text", "text": "${user_input}"}]},
        ],
    }
    await LlmNode().run(step(options, {"user_input": "${1+1}{intent}", "intent": "x"}))
    assert provider.last.body["messages"] == [
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": "${1+1}{intent} and 14"},
        {"role": "assistant", "content": [{"type": "text", "text": "${1+1}{intent}"}]},
    ]


async def test_llm_messages_from_one_expression(provider: FakeProvider, step: Step) -> None:
    turn = {"role": "user", "content": "from state"}
    await LlmNode().run(step({"messages": "${metadata.chat}"}, {"metadata": {"chat": [turn]}}))
    assert provider.last.body["messages"] == [turn]


@pytest.mark.parametrize("chat", ["text", [], [1], [{"role": "user"}], [{"content": "x"}]])
async def test_llm_messages_of_another_shape_are_invalid(
    provider: FakeProvider, step: Step, chat: Any
) -> None:
    with pytest.raises(InvalidInput):
        await LlmNode().run(step({"messages": "${metadata.chat}"}, {"metadata": {"chat": chat}}))
    with pytest.raises(ExpressionError):
        await LlmNode().run(step({"messages": "${metadata.gone.x}"}, {"metadata": {}}))
    assert provider.calls == 0


async def test_llm_streams_pieces_unless_told_not_to(provider: FakeProvider, step: Step) -> None:
    pieces: list[str] = []
    provider.default = Text("one two")
    await LlmNode().run(step({}, {"user_input": "x"}, emit=pieces.append))
    assert pieces == ["one ", "two"]
    await LlmNode().run(step({"stream": False}, {"user_input": "x"}, emit=pieces.append))
    assert pieces == ["one ", "two"] and not provider.last.streams


async def test_llm_structured_reply_is_data(provider: FakeProvider, step: Step) -> None:
    provider.script(Text('```json\n{"intent": "a"}\n```'))
    options = {"response_schema": SCHEMA, "output_key": "intent"}
    done = await LlmNode().run(step(options, {"user_input": "x"}))
    assert done.result["data"] == {"intent": "a"} and done.delta == {"intent": {"intent": "a"}}
    assert provider.calls == 1


@pytest.mark.parametrize("bad", ["not json", '{"intent": "z"}', "{}", '{"intent": NaN}', ""])
async def test_llm_repairs_a_misfit_once(provider: FakeProvider, step: Step, bad: str) -> None:
    provider.script(Text(bad, usage=(10, 5, 0)), Text('{"intent": "b"}', usage=(20, 6, 0)))
    pieces: list[str] = []
    context = step({"response_schema": SCHEMA}, {"user_input": "x"}, emit=pieces.append)
    done = await LlmNode().run(context)
    assert done.result["data"] == {"intent": "b"}
    assert done.result["usage"]["input_tokens"] == 30 and len(context.calls) == 2
    assert [r.idempotency_key for r in provider.requests] == [context.key(0), context.key(1)]
    turns = provider.last.body["messages"]
    assert turns[1] == {"role": "assistant", "content": bad}
    assert json.dumps(SCHEMA, separators=(",", ":")) in turns[2]["content"]
    assert "".join(pieces) == bad


async def test_llm_gives_up_after_one_repair_and_keeps_the_costs(
    provider: FakeProvider, step: Step
) -> None:
    provider.default = Text("never", finish_reason="length", usage=(1000, 1000, 0))
    context = step({"response_schema": SCHEMA}, {"user_input": "x"})
    with pytest.raises(OutputSchemaMismatch, match="max_tokens"):
        await LlmNode().run(context)
    assert provider.calls == 2 and [call.cost for call in context.calls] == [0.003, 0.003]


async def test_llm_records_what_a_failed_call_cost(provider: FakeProvider, step: Step) -> None:
    provider.script(Text("one two three", cut_after=2), Status(500))
    context = step({}, {"user_input": "x"})
    for _ in range(2):
        with pytest.raises(ProviderUnavailable):
            await LlmNode().run(context)
    assert len(context.calls) == 1 and context.calls[0].usage.estimated


async def test_llm_sends_no_lone_surrogates(provider: FakeProvider, step: Step) -> None:
    await LlmNode().run(step({}, {"user_input": "a\ud800b"}))
    assert provider.last.prompt == "a?b"


async def test_llm_refuses_unknown_sources(provider: FakeProvider, step: Step) -> None:
    with pytest.raises(SourceNotFound):
        await LlmNode().run(step({"source": ["other"]}, {}))
    assert provider.calls == 0
