"""Every hosted provider gives the same things the same meaning, over a real socket."""

from __future__ import annotations

import asyncio
import base64
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from agentflow.addresses import Policy
from agentflow.errors import (
    CallTimeout,
    ConnectionFailed,
    ContentFiltered,
    ContextLengthExceeded,
    InvalidInput,
    MissingCredential,
    ProviderAuthError,
    ProviderRateLimited,
    ProviderRejected,
    ProviderUnavailable,
    StepError,
)
from agentflow.sources.base import (
    BilledError,
    Message,
    ModelReply,
    ModelRequest,
    ModelSource,
    Tool,
)
from tests.fake_provider import Cut, Drip, FakeProvider, Hang, Raw
from tests.unit.sources.conftest import CANARY
from tests.unit.sources.sides import HELLO, SIDES, Side
from tests.unit.sources.sides import failure as failure_of

Open = Callable[..., Awaitable[ModelSource]]
STREAMED = [False, True]
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


# vLLM and Azure's v1 API are the code of openai at another address: test_documented, test_azure.
SIDES_OF_THEIR_OWN = [side for side in SIDES if side.name not in ("vllm", "azure v1")]


@pytest.fixture(params=SIDES_OF_THEIR_OWN, ids=lambda side: side.name, scope="module")
def side(request: pytest.FixtureRequest) -> Side:
    return request.param


@pytest.fixture(scope="module")
def server(side: Side) -> Iterator[Any]:
    with side.wire() as server:
        yield server


@pytest.fixture
def wire(server: Any) -> Iterator[Any]:
    server.forget()
    server.faults.clear()
    yield server
    assert server.faults == []


@pytest.fixture
async def connect(side: Side, wire: FakeProvider) -> AsyncIterator[Open]:
    opened = []

    async def connect(**config: Any) -> ModelSource:
        opened.append(await side.connect(wire, **config))
        return opened[-1]

    yield connect
    for source in opened:
        await source.close()


async def ask(source: ModelSource, streamed: bool = False, **request: Any) -> ModelReply:
    """A call; streamed, its pieces are checked to add up to the text."""
    given = ModelRequest(**{"messages": HELLO.messages, **request})
    pieces: list[str] = []
    reply = await source.generate(given, pieces.append if streamed else None)
    assert not streamed or "".join(pieces) == reply.text
    return reply


async def failure(source: ModelSource, streamed: bool = False, **request: Any) -> StepError:
    """The step error of a call, billed or not, checked to hold no credential."""
    with pytest.raises((StepError, BilledError)) as caught:
        await ask(source, streamed, **request)
    raised = caught.value
    assert CANARY not in f"{raised} {raised!r} {raised.__cause__!r}"
    return raised.error if isinstance(raised, BilledError) else raised


@pytest.mark.parametrize("streamed", STREAMED)
async def test_reply_has_text_counts_and_the_request_id(
    side: Side, wire: FakeProvider, connect: Open, streamed: bool
) -> None:
    wire.script(side.said("good day to you", (1_000_000, 500_000, 400_000, 100_000)))
    price = {"input_per_mtok": 2.0, "output_per_mtok": 10.0, "cached_per_mtok": 0.5}
    reply = await ask(await connect(price=price), streamed)
    assert reply.text == "good day to you" and reply.finish_reason == "stop"
    assert (reply.input_tokens, reply.output_tokens) == (1_000_000, 500_000)
    assert (reply.cached_tokens, reply.reasoning_tokens) == (400_000, 100_000)
    assert not reply.estimated and reply.request_id.startswith("req_")
    assert reply.cost == 0.6 * 2 + 0.4 * 0.5 + 0.5 * 10
    assert reply.provider == side.name.partition(" ")[0]


@pytest.mark.parametrize("streamed", STREAMED)
async def test_reply_that_was_cut_off_says_so(
    side: Side, wire: FakeProvider, connect: Open, streamed: bool
) -> None:
    wire.script(side.said("and then", end="length"))
    assert (await ask(await connect(), streamed)).finish_reason == "length"


async def test_every_parameter_is_one_the_server_knows(
    side: Side, wire: FakeProvider, connect: Open
) -> None:
    stop = None if side.name == "openai responses" else "END"
    source = await connect(stop=stop, max_tokens=50)
    chat = (
        Message("system", "be kind"),
        Message("user", [{"type": "text", "text": "hi"}]),
        Message("assistant", "yes?"),
        Message("user", "go on"),
    )
    for streamed in STREAMED:
        await ask(source, streamed, messages=chat, temperature=0.2, seed=3, presence_penalty=0.1)
    said = wire.last.raw.decode()
    assert all(text in said for text in ("be kind", "hi", "yes?", "go on", "50", "0.2"))
    assert stop is None or stop in said


@pytest.mark.parametrize("streamed", STREAMED)
async def test_tools_are_called_and_their_results_sent_back(
    side: Side, wire: FakeProvider, connect: Open, streamed: bool
) -> None:
    tool = Tool("look_up", "Looks up.", {"type": "object", "properties": {"q": {"type": "string"}}})
    wire.script(
        side.said("", end="tool_calls", tools=(("look_up", {"q": "ü"}), ("look_up", {"q": "b"})))
    )
    source = await connect()
    reply = await ask(source, streamed, tools=(tool,), tool_choice="required")
    assert [(call.name, call.arguments) for call in reply.tool_calls] == [
        ("look_up", {"q": "ü"}),
        ("look_up", {"q": "b"}),
    ]
    assert reply.finish_reason == "tool_calls"
    results = [
        Message("tool", f"found {call.arguments['q']}", tool_call_id=call.id)
        for call in reply.tool_calls
    ]
    turn = Message("assistant", reply.text, tool_calls=reply.tool_calls)
    again = await ask(
        source,
        streamed,
        messages=(*HELLO.messages, turn, *results),
        tools=(tool,),
        tool_choice="look_up",
    )
    assert again.text == "ok" and "found b" in wire.last.raw.decode()


async def test_schema_is_sent_whether_closed_or_open(wire: FakeProvider, connect: Open) -> None:
    source = await connect()
    closed = {
        "type": "object",
        "properties": {"a": {"type": "integer", "minimum": 1}},
        "required": ["a"],
        "additionalProperties": False,
    }
    for schema in (closed, {"type": "object", "properties": {"a": {"type": ["string", "null"]}}}):
        await ask(source, response_schema=schema)
        assert "properties" in wire.last.raw.decode()


async def test_picture_is_fetched_here_and_sent_as_data(wire: FakeProvider, connect: Open) -> None:
    def picture(url: str) -> Message:
        return Message("user", [{"type": "text", "text": "what is it?"},
                                {"type": "image_url", "image_url": {"url": url}}])  # fmt: skip

    source = await connect()
    with FakeProvider(Raw(PNG, content_type="image/png"), default=Raw(b"<html>")) as host:
        address = f"http://127.0.0.1:{host.port}/cat.png"
        await ask(source, messages=(picture(address),))
        sent = wire.last.raw.replace(b"-", b"+")  # one of them uses the alphabet for URLs
        assert base64.b64encode(PNG) in sent and address not in sent.decode()
        assert isinstance(await failure(source, messages=(picture(address),)), InvalidInput)
    refused = await failure(source, messages=(picture("http://169.254.169.254/latest"),))
    assert isinstance(refused, ProviderRejected) and "link-local" in refused.message


REFUSALS = [
    (401, "bad key", ProviderAuthError),
    (403, "not yours", ProviderAuthError),
    (404, "no such model", ProviderRejected),
    (400, "temperature is wrong", ProviderRejected),
    (400, "prompt is too long: 208310 tokens > 200000 maximum", ContextLengthExceeded),
    (500, "oh no", ProviderUnavailable),
]


async def test_refusals_have_exact_types(side: Side, wire: FakeProvider, connect: Open) -> None:
    source = await connect()
    for streamed in STREAMED:
        for status, message, expected in REFUSALS:
            wire.script(side.refused(status, message, echo_key=True))
            error = await failure(source, streamed)
            assert type(error) is expected
            assert wire.address in error.message
            if expected is ProviderAuthError:
                assert side.variable in error.message
    assert wire.calls == 2 * len(REFUSALS)


async def test_rate_limit_says_how_long_to_wait(
    side: Side, wire: FakeProvider, connect: Open
) -> None:
    wire.script(side.refused(429, "slow down", headers={"retry-after": "7"}, echo_key=True))
    error = await failure(await connect())
    assert isinstance(error, ProviderRateLimited) and error.after == 7


@pytest.mark.parametrize("streamed", STREAMED)
async def test_filtered_reply_is_no_reply(
    side: Side, wire: FakeProvider, connect: Open, streamed: bool
) -> None:
    wire.script(side.said("half a sen", end="content_filter"))
    with pytest.raises(BilledError) as caught:
        await ask(await connect(), streamed)
    assert isinstance(caught.value.error, ContentFiltered)
    assert caught.value.reply.output_tokens == 5


GARBAGE = [
    b"",
    b"<html>",
    b"[1]",
    b'{"a": 1}',
    b"data: {garbage\n\n",
    b'data: {"type": 5}\n\n',
    b'event: message_start\ndata: {"type": "message_start", "message": 3}\n\n',
    b"event: message_start\ndata: [1]\n\n",
    b'data: {"candidates": [3]}\n\n',
    b"[" * 100_000,
    b"data: " + b"[" * 100_000 + b"\n\n",
]


@pytest.mark.parametrize("streamed", STREAMED)
async def test_garbage_is_unavailable(wire: FakeProvider, connect: Open, streamed: bool) -> None:
    source = await connect()
    for body in GARBAGE:
        kind = "text/event-stream" if streamed else "application/json"
        wire.script(Raw(body, content_type=kind))
        assert isinstance(await failure(source, streamed), ProviderUnavailable), body


async def test_half_a_stream_is_unavailable_and_billed(
    side: Side, wire: FakeProvider, connect: Open
) -> None:
    wire.script(side.said("one two three four", cut_after=4))
    with pytest.raises(BilledError) as caught:
        await ask(await connect(), True)
    assert isinstance(caught.value.error, ProviderUnavailable)
    assert caught.value.reply.text.startswith("one two")


STREAM_ERRORS = {
    "anthropic": [
        (0, "overloaded_error", ProviderUnavailable),
        (0, "rate_limit_error", ProviderRateLimited),
        (0, "authentication_error", ProviderAuthError),
        (3, "rate_limit_error", ProviderUnavailable),
        (3, "api_error", ProviderUnavailable),
        (3, "invalid_request_error", ProviderRejected),
        (3, "something_new", ProviderUnavailable),
    ],
    "gemini": [
        (0, 503, ProviderUnavailable),
        (2, 503, ProviderUnavailable),
        (0, 429, ProviderRateLimited),
        (2, 429, ProviderUnavailable),
        (0, 400, ProviderRejected),
    ],
    "openai": [
        (0, "server_error", ProviderUnavailable),
        (3, "rate_limit_exceeded", ProviderUnavailable),
        (0, "context_length_exceeded", ContextLengthExceeded),
        (3, "content_filter", ContentFiltered),
        (3, None, ProviderUnavailable),
    ],
    "openai responses": [
        (0, "rate_limit_exceeded", ProviderRateLimited),
        (3, "rate_limit_exceeded", ProviderUnavailable),
        (0, "server_error", ProviderUnavailable),
        (3, "invalid_prompt", ProviderRejected),
        (3, "bio_policy", ContentFiltered),
    ],
}
"""Provider -> events until the error, what the error says of itself, and what it must become."""


async def test_error_inside_a_stream_has_its_type(
    side: Side, wire: FakeProvider, connect: Open
) -> None:
    source = await connect()
    for after, what, expected in STREAM_ERRORS.get(side.name, STREAM_ERRORS["openai"]):
        wire.script(side.said("one two three", error_after=(after, what)))
        assert type(await failure_of(source)) is expected, (after, what)


async def test_silence_and_slow_drips_end_as_call_timeout() -> None:
    async def silent(side: Side) -> list[StepError]:
        with side.wire() as wire:
            wire.script(Hang(), Drip(every=0.02), Hang(), Drip(every=0.02))
            source = await side.connect(wire)
            asked = [failure(source, streamed, timeout_s=1.5) for streamed in STREAMED * 2]
            errors = await asyncio.gather(*asked)
            await source.close()
            assert await asyncio.to_thread(wire.wait_for, 4)
        return errors

    for errors in await asyncio.gather(*(silent(side) for side in SIDES_OF_THEIR_OWN)):
        for error in errors:
            assert isinstance(error, CallTimeout) and "1.5 s" in error.message


async def test_stalled_streams_end_as_billed_call_timeout() -> None:
    async def stalled(side: Side) -> BilledError:
        with side.wire() as wire:
            source = await side.connect(wire)
            wire.script(side.said("one two three four", stall_after=4))
            with pytest.raises(BilledError) as caught:
                await ask(source, True, timeout_s=1.5)
            await source.close()
        return caught.value

    for billed in await asyncio.gather(*(stalled(side) for side in SIDES_OF_THEIR_OWN)):
        assert isinstance(billed.error, CallTimeout) and billed.reply.text.startswith("one two")


async def test_only_a_refused_connection_proves_that_nothing_happened(
    side: Side, wire: FakeProvider, connect: Open
) -> None:
    wire.script(Cut())
    reset = await failure(await connect())
    assert isinstance(reset, ProviderUnavailable) and not reset.uncounted
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}"
        at = {"azure_endpoint": closed} if "azure" in side.name else {"base_url": closed}
        refused = await failure(await connect(**at))
    assert isinstance(refused, ConnectionFailed) and refused.uncounted
    assert closed in refused.message


async def test_cancelled_call_leaves_the_connection_usable(
    side: Side, wire: FakeProvider, connect: Open
) -> None:
    wire.script(Hang(), side.said("fine"))
    source = await connect()
    call = asyncio.create_task(source.generate(HELLO))
    assert await asyncio.to_thread(wire.wait_for, 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (await ask(source)).text == "fine"


async def test_private_address_is_refused_without_the_operators_setting(
    side: Side, wire: FakeProvider
) -> None:
    source = await side.connect(wire, Policy())
    error = await failure(source)
    assert isinstance(error, ProviderRejected) and "AGENTFLOW_EGRESS_ALLOW" in error.message
    assert wire.calls == 0
    await source.close()


async def test_credential_is_the_sources_own_and_never_shown(
    side: Side,
    wire: FakeProvider,
    connect: Open,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.setenv(name, "sk-of-the-process-000000")
    for name in (
        "OPENAI_ORG_ID",
        "OPENAI_PROJECT_ID",
        "OPENAI_API_VERSION",
        "GOOGLE_CLOUD_PROJECT",
    ):
        monkeypatch.setenv(name, "id-of-the-process")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "x-secret: value-of-the-process")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    with caplog.at_level(logging.DEBUG):
        source = await connect()
        wire.script(side.said("a"), side.said("b"), side.refused(400, "no", echo_key=True))
        replies = [await ask(source), await ask(source, True)]
        error = await failure(source)
    assert CANARY in "".join(wire.last.headers.values())
    assert not any("of-the-process" in value for value in wire.last.headers.values())
    assert CANARY not in caplog.text and CANARY not in repr((replies, error.message))


async def test_missing_credential_names_the_variable(connect: Open) -> None:
    error = await failure(await connect(api_key_env=None, api_key_ref="secret://x"))
    assert isinstance(error, MissingCredential)
