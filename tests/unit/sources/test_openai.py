"""The openai source against a provider on a real socket."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from agentflow.addresses import Policy
from agentflow.errors import (
    CallTimeout,
    ConnectionFailed,
    ContentFiltered,
    ContextLengthExceeded,
    MissingCredential,
    NotSupported,
    ProviderAuthError,
    ProviderRateLimited,
    ProviderRejected,
    ProviderUnavailable,
)
from agentflow.sources.base import BilledError, Message, ModelReply, ModelRequest
from agentflow.sources.credentials import Credentials
from agentflow.sources.openai import OpenAISource, open_openai
from tests.fake_provider import Cut, FakeProvider, Hang, Raw, Status, Text
from tests.unit.sources.conftest import CANARY, LOOPBACK

Open = Callable[..., Awaitable[OpenAISource]]
HELLO = ModelRequest(messages=(Message("user", "hello there"),))


@pytest.fixture
async def connect(provider: FakeProvider, credentials: Credentials) -> AsyncIterator[Open]:
    opened = []

    async def connect(kind: str = "openai-compatible", **config: Any) -> OpenAISource:
        settings = {"model": "m1", "base_url": provider.base_url, "api_key_env": "OPENAI_API_KEY"}
        settings |= config
        source = await open_openai("main", kind, settings, policy=LOOPBACK, credentials=credentials)
        opened.append(source)
        return source

    yield connect
    for source in opened:
        await source.close()


async def failure(source: OpenAISource, error: type[Exception], **request: Any) -> Any:
    """The error of a call, checked to hold no credential."""
    with pytest.raises(error) as caught:
        await source.generate(ModelRequest(messages=HELLO.messages, **request))
    assert CANARY not in str(caught.value)
    assert CANARY not in repr(caught.value.__cause__)
    return caught.value


async def test_reply_has_text_usage_and_what_the_provider_said(
    provider: FakeProvider, connect: Open
) -> None:
    provider.script(Text("good day", usage=(12, 4, 3), model="m1-2026"))
    reply = await (await connect()).generate(HELLO)
    assert reply == ModelReply(
        text="good day",
        model="m1-2026",
        provider="openai-compatible",
        finish_reason="stop",
        input_tokens=12,
        output_tokens=4,
        cached_tokens=3,
        estimated=False,
        cost=0.0,
        priced=False,
    )


async def test_request_carries_parameters_key_and_idempotency_key(
    provider: FakeProvider, connect: Open
) -> None:
    source = await connect(temperature=0.1, max_tokens=50, stop="END", seed=4)
    await source.generate(
        ModelRequest(
            messages=(Message("system", "be kind"), Message("user", "hi")),
            max_tokens=7,
            top_p=0.5,
            idempotency_key="af-1",
        )
    )
    body = provider.last.body
    assert provider.last.path == "/v1/chat/completions"
    assert body["messages"] == [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hi"},
    ]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("m1", 0.1, 7)
    assert (body["top_p"], body["stop"], body["seed"]) == (0.5, ["END"], 4)
    assert "presence_penalty" not in body and "stream" not in body
    assert provider.last.key == CANARY
    assert provider.last.idempotency_key == "af-1"


async def test_stream_gives_pieces_that_add_up_and_usage(
    provider: FakeProvider, connect: Open
) -> None:
    provider.script(Text("one two three", usage=(9, 3, 0)))
    pieces: list[str] = []
    reply = await (await connect()).generate(HELLO, pieces.append)
    assert provider.last.body["stream_options"] == {"include_usage": True}
    assert pieces == ["one ", "two ", "three"]
    assert reply.text == "one two three"
    assert (reply.input_tokens, reply.output_tokens, reply.estimated) == (9, 3, False)


@pytest.mark.parametrize("streamed", [False, True])
async def test_usage_is_estimated_when_the_provider_reports_none(
    provider: FakeProvider, connect: Open, streamed: bool
) -> None:
    provider.script(Text("123456789", usage=None))
    reply = await (await connect()).generate(HELLO, (lambda text: None) if streamed else None)
    assert (reply.input_tokens, reply.output_tokens, reply.estimated) == (3, 3, True)


async def test_response_schema_becomes_a_json_schema_format(
    provider: FakeProvider, connect: Open
) -> None:
    closed = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    source = await connect()
    for schema, strict in ((closed, True), ({"type": "object", "properties": {"a": {}}}, False)):
        await source.generate(ModelRequest(messages=HELLO.messages, response_schema=schema))
        described = provider.last.body["response_format"]
        assert described["type"] == "json_schema"
        assert described["json_schema"]["schema"] == schema
        assert described["json_schema"]["strict"] is strict


async def test_environment_of_the_sdk_is_not_used(
    provider: FakeProvider, connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-process-000000")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-the-process")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-of-the-process")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    source = await connect(api_key_env=None)
    await source.generate(HELLO)
    assert provider.last.key is None
    assert not any("of-the-process" in value for value in provider.last.headers.values())


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_credential_is_named_but_never_shown(
    provider: FakeProvider, connect: Open, status: int
) -> None:
    provider.script(Status(status, "wrong key", echo_key=True))
    error = await failure(await connect(), ProviderAuthError)
    assert "OPENAI_API_KEY" in error.message and str(status) in error.message


async def test_unknown_model_is_rejected_with_model_and_url(
    provider: FakeProvider, connect: Open
) -> None:
    provider.script(Status(404, "no such model", echo_key=True))
    error = await failure(await connect(), ProviderRejected)
    assert "m1" in error.message and provider.base_url in error.message
    assert not error.retryable


@pytest.mark.parametrize(
    ("retry_after", "after"),
    [(2, 2.0), ("0.5", 0.5), (None, None), ("soon", None), ("inf", None), (-5, 0.0), (1e9, 3600.0)],
)
async def test_rate_limit_says_how_long_to_wait(
    provider: FakeProvider, connect: Open, retry_after: Any, after: float | None
) -> None:
    provider.script(Status(429, "slow down", retry_after=retry_after, echo_key=True))
    error = await failure(await connect(), ProviderRateLimited)
    assert error.after == after and error.uncounted and error.retryable
    assert ("pause" in error.message) == (after is not None)


async def test_rate_limit_understands_dates(provider: FakeProvider, connect: Open) -> None:
    provider.script(Status(429, retry_after="Wed, 21 Oct 2015 07:28:00 GMT"))
    assert (await failure(await connect(), ProviderRateLimited)).after == 0.0


async def test_used_up_quota_is_not_retried(provider: FakeProvider, connect: Open) -> None:
    provider.script(Status(429, "pay", code="insufficient_quota"))
    assert not (await failure(await connect(), ProviderRejected)).retryable


@pytest.mark.parametrize("status", [408, 500, 502, 503, 529])
async def test_server_error_is_unavailable_and_called_once(
    provider: FakeProvider, connect: Open, status: int
) -> None:
    provider.script(Status(status, "oh no", retry_after=7, echo_key=True))
    error = await failure(await connect(), ProviderUnavailable)
    assert error.after == 7 and error.retryable and str(status) in error.message
    assert provider.calls == 1


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (Status(400, "too long", code="context_length_exceeded"), ContextLengthExceeded),
        (Status(400, "This model's maximum context length is 8 tokens"), ContextLengthExceeded),
        (Status(400, "nope", code="content_filter"), ContentFiltered),
        (Status(400, "temperature is wrong"), ProviderRejected),
        (Status(422, "unprocessable"), ProviderRejected),
    ],
)
async def test_refusals_have_exact_types(
    provider: FakeProvider, connect: Open, status: Status, expected: type[Exception]
) -> None:
    provider.script(status)
    error = await failure(await connect(), expected)
    assert type(error) is expected and not error.retryable


async def test_rejection_repeats_the_providers_words_without_the_key(
    provider: FakeProvider, connect: Open
) -> None:
    provider.script(Status(400, "temperature is wrong", echo_key=True))
    error = await failure(await connect(), ProviderRejected)
    assert "temperature is wrong" in error.message and "***" in error.message


@pytest.mark.parametrize(
    "body", [b"", b"<html>hello</html>", b"[1]", b'{"a": 1}', b'{"choices": []}', b'{"choices": 7}']
)
@pytest.mark.parametrize("kind", ["application/json", "text/html"])
async def test_garbage_is_unavailable(
    provider: FakeProvider, connect: Open, body: bytes, kind: str
) -> None:
    provider.script(Raw(body, content_type=kind))
    error = await failure(await connect(), ProviderUnavailable)
    assert "answered" in error.message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"data: {garbage\n\n",
        b"data: 5\n\n",
        b'data: {"choices": 3}\n\n',
        b"data: [DONE]\n\n",
        b'data: {"error": {"message": "sk-canary-0123456789abcdef"}}\n\n',
    ],
)
async def test_garbage_in_a_stream_is_unavailable(
    provider: FakeProvider, connect: Open, body: bytes
) -> None:
    provider.script(Raw(body, content_type="text/event-stream"))
    with pytest.raises(ProviderUnavailable) as caught:
        await (await connect()).generate(HELLO, lambda text: None)
    assert CANARY not in str(caught.value)


async def test_cut_stream_is_unavailable_and_billed(provider: FakeProvider, connect: Open) -> None:
    provider.script(Text("one two three four", cut_after=2))
    with pytest.raises(BilledError) as caught:
        await (await connect()).generate(HELLO, lambda text: None)
    assert isinstance(caught.value.error, ProviderUnavailable)
    assert caught.value.reply.text == "one two "
    assert caught.value.reply.estimated


async def test_connection_reset_before_an_answer_is_unavailable(
    provider: FakeProvider, connect: Open
) -> None:
    provider.script(Cut())
    await failure(await connect(), ProviderUnavailable)


async def test_filtered_and_refused_replies_are_billed(
    provider: FakeProvider, connect: Open
) -> None:
    provider.script(Text("", finish_reason="content_filter"), Text("", refusal="I will not"))
    source = await connect()
    for _ in range(2):
        error = await failure(source, BilledError)
        assert isinstance(error.error, ContentFiltered) and error.reply.input_tokens == 10


async def test_silence_ends_as_call_timeout(provider: FakeProvider, connect: Open) -> None:
    provider.script(Hang())
    error = await failure(await connect(), CallTimeout, timeout_s=0.3)
    assert "0.3 s" in error.message


async def test_stalled_stream_ends_as_billed_call_timeout(
    provider: FakeProvider, connect: Open
) -> None:
    provider.script(Text("one two three", stall_after=2))
    request = ModelRequest(messages=HELLO.messages, timeout_s=0.5)
    with pytest.raises(BilledError) as caught:
        await (await connect()).generate(request, lambda text: None)
    assert isinstance(caught.value.error, CallTimeout)


async def test_cancelled_call_leaves_the_connection_usable(
    provider: FakeProvider, connect: Open
) -> None:
    provider.script(Hang(), Text("fine"))
    source = await connect()
    call = asyncio.create_task(source.generate(HELLO))
    assert await asyncio.to_thread(provider.wait_for, 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (await source.generate(HELLO)).text == "fine"


async def test_closed_port_is_a_failed_connection(connect: Open) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        source = await connect(base_url=f"http://127.0.0.1:{port}/v1")
        error = await failure(source, ConnectionFailed)
    assert error.uncounted


async def test_private_address_is_refused_without_the_operators_setting(
    provider: FakeProvider, credentials: Credentials
) -> None:
    source = await open_openai(
        "main",
        "vllm",
        {"model": "m", "base_url": provider.base_url},
        policy=Policy(),
        credentials=credentials,
    )
    error = await failure(source, ProviderRejected)
    assert "loopback" in error.message and "AGENTFLOW_EGRESS_ALLOW" in error.message
    assert not error.retryable and provider.calls == 0
    await source.close()


async def test_missing_credential_names_the_variable(connect: Open) -> None:
    error = await failure(await connect(api_key_env="OTHER_KEY"), MissingCredential)
    assert "OTHER_KEY" in error.message and "AGENTFLOW_SOURCE_ENV" in error.message


async def test_empty_credential_says_how_to_set_it(provider: FakeProvider) -> None:
    for value in ("", "  ", "bad\x00key"):
        source = await open_openai(
            "main",
            "openai",
            {"model": "m", "api_key_env": "OPENAI_API_KEY", "base_url": provider.base_url},
            policy=LOOPBACK,
            credentials=Credentials({"OPENAI_API_KEY": value}, lambda name: True),
        )
        error = await failure(source, MissingCredential)
        assert "OPENAI_API_KEY" in error.message
        await source.close()
    assert provider.calls == 0


async def test_credential_is_read_anew_for_every_call(provider: FakeProvider) -> None:
    environ = {"OPENAI_API_KEY": "first-key"}
    source = await open_openai(
        "main",
        "openai",
        {"model": "m", "api_key_env": "OPENAI_API_KEY", "base_url": provider.base_url},
        policy=LOOPBACK,
        credentials=Credentials(environ, lambda name: True),
    )
    await source.generate(HELLO)
    environ["OPENAI_API_KEY"] = "second-key"
    await source.generate(HELLO)
    await source.close()
    assert [request.key for request in provider.requests] == ["first-key", "second-key"]


async def test_model_without_base_url_cannot_be_deployed(credentials: Credentials) -> None:
    with pytest.raises(NotSupported):
        await open_openai("m", "vllm", {"model": "x"}, policy=LOOPBACK, credentials=credentials)


@pytest.mark.parametrize(
    "url",
    ["http://[::1/v1", "http://h:99999/v1", "http://0177.0.0.1/", "ftp://h/", "http://a:b@h/"],
)
async def test_unusable_base_url_is_rejected(credentials: Credentials, url: str) -> None:
    config = {"model": "x", "base_url": url}
    with pytest.raises(ProviderRejected):
        await open_openai("m", "vllm", config, policy=LOOPBACK, credentials=credentials)


async def test_price_of_the_source_makes_the_cost(provider: FakeProvider, connect: Open) -> None:
    provider.script(Text("x", usage=(1_000_000, 500_000, 400_000)))
    price = {"input_per_mtok": 2.0, "output_per_mtok": 10.0, "cached_per_mtok": 0.5}
    reply = await (await connect(price=price)).generate(HELLO)
    assert reply.cost == 0.6 * 2 + 0.4 * 0.5 + 0.5 * 10 and reply.priced


async def test_packed_reply_is_unpacked(provider: FakeProvider, connect: Open) -> None:
    message = {"role": "assistant", "content": "unpacked"}
    answer = {"model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    packed = gzip.compress(json.dumps(answer).encode())
    provider.script(
        Raw(packed, content_type="application/json", headers={"Content-Encoding": "gzip"})
    )
    assert (await (await connect()).generate(HELLO)).text == "unpacked"


def _chunks(*contents: str) -> Raw:
    """A stream of raw JSON strings, escapes and all."""
    head = '"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m1"'
    lines = [
        f'data: {{{head}, "choices": [{{"index": 0, "delta": {{"content": {content}}}}}]}}\n\n'
        for content in contents
    ]
    end = (
        f'data: {{{head}, "choices": [{{"index": 0, "delta": {{}}, "finish_reason": "stop"}}]}}\n\n'
    )
    return Raw("".join([*lines, end]).encode(), content_type="text/event-stream")


@pytest.mark.parametrize(
    ("contents", "text"),
    [
        ((r'"a\ud800b"',), "a\ufffdb"),
        ((r'"a\ud83d"', r'"\ude00b"'), "a\U0001f600b"),
        ((r'"end\ud83d"',), "end\ufffd"),
        ((r'"\udc00"', "5", "null", '""'), "\ufffd"),
    ],
)
async def test_half_surrogates_of_a_stream_are_joined_or_replaced(
    provider: FakeProvider, connect: Open, contents: tuple[str, ...], text: str
) -> None:
    provider.script(_chunks(*contents))
    pieces: list[str] = []
    reply = await (await connect()).generate(HELLO, pieces.append)
    assert reply.text == text == "".join(pieces)


async def test_half_surrogates_of_a_whole_reply_and_of_an_error_are_replaced(
    provider: FakeProvider, connect: Open
) -> None:
    whole = rb'{"model": "m\ud800", "choices": [{"message": {"content": "a\ud800b"}}]}'
    provider.script(Raw(whole, content_type="application/json"))
    reply = await (await connect()).generate(HELLO)
    assert (reply.text, reply.model) == ("a\ufffdb", "m\ufffd")
    provider.script(Raw(rb'{"error": {"message": "bad \udfff"}}', 400, "application/json"))
    assert "bad \ufffd" in (await failure(await connect(), ProviderRejected)).message


async def test_answer_that_is_no_stream_is_named(provider: FakeProvider, connect: Open) -> None:
    provider.script(Raw(b"<html>", content_type="text/html; charset=utf-8"))
    with pytest.raises(ProviderUnavailable, match=r"text/html came, .*base_url"):
        await (await connect()).generate(HELLO, lambda _: None)
