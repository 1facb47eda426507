"""Llm nodes with several sources: chains and races, with providers on real sockets."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from ipaddress import ip_network
from typing import Any

import pytest

from agentflow.addresses import Policy
from agentflow.errors import (
    ContentFiltered,
    InvalidInput,
    OutputSchemaMismatch,
    ProviderAuthError,
    ProviderRateLimited,
    ProviderUnavailable,
    SourceNotFound,
)
from agentflow.nodes.base import StepContext
from agentflow.nodes.llm import LlmNode
from agentflow.nodes.router import RouterNode
from agentflow.sources.base import Source
from agentflow.sources.credentials import Credentials
from agentflow.sources.openai import open_openai
from tests.fake_provider import Cut, FakeProvider, Hang, Status, Text
from tests.unit.nodes.conftest import NewContext

Step = Callable[..., StepContext]
NAMES = ("a", "b", "c")
VIEW = {"user_input": "hello"}


@pytest.fixture(scope="module")
def started() -> Iterator[dict[str, FakeProvider]]:
    started = {name: FakeProvider(default=Text(name)).start() for name in NAMES}
    yield started
    for server in started.values():
        server.close()


@pytest.fixture
def servers(started: dict[str, FakeProvider]) -> dict[str, FakeProvider]:
    for server in started.values():
        server.forget()
    return started


@pytest.fixture
async def step(servers: dict[str, FakeProvider], new_context: NewContext) -> AsyncIterator[Step]:
    """Makes contexts of llm steps with the sources a, b and c; a chain of all unless told."""
    opened: dict[str, Source] = {}
    for name, server in servers.items():
        opened[name] = await open_openai(
            name,
            "openai-compatible",
            {"model": f"m-{name}", "base_url": server.base_url, "timeout_s": 20},
            policy=Policy(allow=(ip_network("127.0.0.0/8"),)),
            credentials=Credentials({}, lambda name: False),
        )

    async def open_source(source_id: str) -> Source:
        if source_id not in opened:
            raise SourceNotFound(source_id)
        return opened[source_id]

    def make(options: dict[str, Any], kind: str = "llm", **more: Any) -> StepContext:
        given = {"source": list(NAMES), **options}
        return new_context(kind, given, VIEW, open_source=open_source, **more)

    yield make
    for source in opened.values():
        await source.close()


def made(context: StepContext) -> list[tuple[str, str]]:
    """Source and error of every call, in order."""
    return [(call.source, call.error) for call in context.calls]


async def test_chain_moves_on_in_order_and_records_every_call(
    servers: dict[str, FakeProvider], step: Step
) -> None:
    servers["a"].script(Status(503))
    servers["b"].script(Cut())
    context = step({})
    done = await LlmNode().run(context)
    assert done.result["text"] == "c" and done.result["model"] == "m-c"
    assert made(context) == [
        ("a", "ProviderUnavailable"),
        ("b", "ProviderUnavailable"),
        ("c", ""),
    ]
    keys = [servers[name].last.idempotency_key for name in NAMES]
    assert keys == [context.key(0), context.key(1), context.key(2)]
    assert [call.answered for call in context.calls] == [False, False, True]
    assert done.result["usage"]["input_tokens"] == 10


async def test_chain_asks_nobody_else_when_the_first_answers(
    servers: dict[str, FakeProvider], step: Step
) -> None:
    context = step({})
    await LlmNode().run(context)
    assert made(context) == [("a", "")] and not servers["b"].calls


async def test_chain_stops_at_an_error_that_is_none_of_fallback_on(
    servers: dict[str, FakeProvider], step: Step
) -> None:
    servers["a"].script(Status(401), Status(401))
    with pytest.raises(ProviderAuthError):
        await LlmNode().run(step({}))
    assert not servers["b"].calls
    done = await LlmNode().run(step({"fallback_on": ["ProviderAuthError"]}))
    assert done.result["text"] == "b"


async def test_chain_sits_out_a_short_wait_and_moves_on_after_a_long_one(
    servers: dict[str, FakeProvider], step: Step
) -> None:
    servers["a"].script(Status(429, retry_after=0.01), Text("after the wait"))
    context = step({})
    assert (await LlmNode().run(context)).result["text"] == "after the wait"
    assert servers["a"].idempotency_keys == {context.key(0): 2}
    for wait in (60, None):
        servers["a"].script(Status(429, retry_after=wait))
        assert (await LlmNode().run(step({}))).result["text"] == "b"


async def test_chain_that_is_busy_everywhere_waits_for_the_shortest(
    servers: dict[str, FakeProvider], step: Step
) -> None:
    for name, wait in zip(NAMES, (60, 7, 30)):
        servers[name].script(Status(429, retry_after=wait))
    with pytest.raises(ProviderRateLimited, match=r"None of 3 sources.*'a'.*'b'.*'c'") as caught:
        await LlmNode().run(step({}))
    assert caught.value.after == 7 and caught.value.uncounted


async def test_chain_is_worth_a_retry_if_one_of_its_sources_is(
    servers: dict[str, FakeProvider], step: Step
) -> None:
    servers["a"].script(Status(429, retry_after=60))
    servers["b"].script(Status(500))
    servers["c"].script(Status(401))
    with pytest.raises(ProviderUnavailable, match=r"OPENAI|credential") as caught:
        await LlmNode().run(step({}))
    assert caught.value.retryable and not caught.value.uncounted


async def test_billed_failure_of_a_chain_is_paid_and_recorded_once(
    servers: dict[str, FakeProvider], step: Step
) -> None:
    servers["a"].script(Text("one two three", cut_after=2))
    pieces: list[str] = []
    context = step({}, emit=pieces.append)
    done = await LlmNode().run(context)
    assert made(context) == [("a", "ProviderUnavailable"), ("b", "")]
    assert context.calls[0].usage.total > 0 and context.calls[0].answered
    assert done.result["usage"]["output_tokens"] > 5
    assert pieces == ["one ", "two "]  # what was heard of a cannot be taken back


async def test_repair_goes_to_the_source_that_answered(
    servers: dict[str, FakeProvider], step: Step
) -> None:
    schema = {"type": "object", "required": ["n"]}
    servers["a"].script(Status(500))
    servers["b"].script(Text("no json"), Status(500))
    servers["c"].script(Text('{"n": 1}'))
    context = step({"response_schema": schema})
    done = await LlmNode().run(context)
    assert done.result["data"] == {"n": 1}
    assert [call.source for call in context.calls] == ["a", "b", "b", "c"]
    assert servers["b"].idempotency_keys == {context.key(1): 1, context.key(4): 1}
    servers["a"].script(Text("no"), Text("no"))
    with pytest.raises(OutputSchemaMismatch):
        await LlmNode().run(step({"response_schema": schema}))


async def test_router_uses_the_chain_of_its_source(
    servers: dict[str, FakeProvider], step: Step
) -> None:
    servers["a"].script(Status(500))
    servers["b"].script(Text('{"intent": "x"}'))
    options = {"strategy": "llm", "routes": [{"intent": "x", "keywords": ["x"]}], "source": "a"}
    context = step(options, kind="router")
    context.options["source"] = ["a", "b"]
    assert (await RouterNode().run(context)).result["intent"] == "x"


async def test_race_takes_the_first_answer_and_cancels_the_others(
    servers: dict[str, FakeProvider], step: Step
) -> None:
    servers["a"].script(Hang())
    gone = threading.Event()
    servers["b"].script(Text("slow", gate=gone))
    pieces: list[str] = []
    context = step({"race": True}, emit=pieces.append)
    done = await LlmNode().run(context)
    gone.set()
    assert done.result["text"] == "c" and pieces == ["c"]
    assert made(context) == [("c", ""), ("a", "Cancelled"), ("b", "Cancelled")]
    assert done.result["usage"]["input_tokens"] == 10


async def test_race_goes_on_after_failures_and_fails_when_all_have(
    servers: dict[str, FakeProvider], step: Step
) -> None:
    gate = threading.Event()
    servers["a"].script(Status(401), Status(500))
    servers["b"].script(Text("b", gate=gate, delay=0.05), Status(500))
    servers["c"].script(Status(500), Text("", finish_reason="content_filter"))
    gate.set()
    assert (await LlmNode().run(step({"race": True}))).result["text"] == "b"
    with pytest.raises(ProviderUnavailable, match="None of 3 sources"):
        await LlmNode().run(step({"race": True}))


async def test_race_that_is_stopped_stops_every_call(
    servers: dict[str, FakeProvider], step: Step
) -> None:
    for server in servers.values():
        server.script(Hang())
    running = asyncio.create_task(LlmNode().run(step({"race": True})))
    for server in servers.values():
        assert await asyncio.to_thread(server.wait_for, 1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_last_source_of_a_chain_fails_as_it_is(
    servers: dict[str, FakeProvider], step: Step
) -> None:
    servers["a"].script(Text("", finish_reason="content_filter"))
    with pytest.raises(ContentFiltered, match="'a'"):
        await LlmNode().run(step({"source": ["a"]}))
    context = step({"source": "gone"})
    with pytest.raises(SourceNotFound):
        await LlmNode().run(context)
    assert made(context) == []


async def test_images_go_with_the_last_message_of_the_user(
    servers: dict[str, FakeProvider], step: Step
) -> None:
    picture = "data:image/png;base64,AAAA"
    await LlmNode().run(step({"images": [picture], "system_prompt": "look"}))
    assert servers["a"].last.body["messages"][1]["content"] == [
        {"type": "text", "text": "hello"},
        {"type": "image_url", "image_url": {"url": picture}},
    ]
    for images in ("${user_input}", ["${user_input}"], [{"uri": "blob:1"}]):
        with pytest.raises(InvalidInput):
            await LlmNode().run(step({"images": images}))
    only_system = {"messages": [{"role": "system", "content": "x"}], "images": [picture]}
    with pytest.raises(InvalidInput, match="role user"):
        await LlmNode().run(step(only_system))
