"""The embedded model, for real: loaded once for the whole session."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from agentflow.errors import (
    CallTimeout,
    ContextLengthExceeded,
    ProviderRejected,
    ProviderUnavailable,
    SourceNotFound,
)
from agentflow.sources.base import BilledError, Message, ModelRequest
from agentflow.sources.local import LocalSource, find_model, open_local

INTENTS = ["refund", "question", "praise"]
CLASSES: dict[str, Any] = {
    "type": "object",
    "properties": {"intent": {"enum": INTENTS}},
    "required": ["intent"],
    "additionalProperties": False,
}


@pytest.fixture(scope="session")
async def model() -> LocalSource:
    return await open_local("small", {"model": "smollm2"})


def ask(text: str, **parameters: Any) -> ModelRequest:
    values = {"max_tokens": 24, "temperature": 0.0, "seed": 7} | parameters
    return ModelRequest(messages=(Message("user", text),), **values)


async def test_model_answers_with_usage_and_no_cost(model: LocalSource) -> None:
    reply = await model.generate(ask("Say hello."))
    assert reply.text.strip()
    assert reply.finish_reason in ("stop", "length")
    assert reply.input_tokens > 0 and 0 < reply.output_tokens <= 24 and not reply.estimated
    assert (reply.model, reply.provider, reply.cost) == ("smollm2", "local", 0.0)


async def test_pieces_of_a_stream_add_up_to_the_text(model: LocalSource) -> None:
    pieces: list[str] = []
    reply = await model.generate(ask("Count from one to five."), pieces.append)
    assert len(pieces) > 1 and "".join(pieces) == reply.text


async def test_schema_limits_the_answer_to_its_classes(model: LocalSource) -> None:
    texts = ("I want my money back!", "When do you open?", "You are wonderful")
    wish = "Classify as refund, question or praise: "
    replies = await asyncio.gather(
        *(
            model.generate(
                ask(wish + text, response_schema=CLASSES, max_tokens=60, temperature=0.7)
            )
            for text in texts
        )
    )
    for reply in replies:
        assert json.loads(reply.text)["intent"] in INTENTS


async def test_same_seed_gives_the_same_text(model: LocalSource) -> None:
    request = ask("Name an animal.", temperature=0.9, seed=3)
    assert (await model.generate(request)).text == (await model.generate(request)).text


async def test_more_calls_than_places_all_finish_and_the_loop_stays_free(
    model: LocalSource,
) -> None:
    calls = asyncio.gather(*(model.generate(ask(f"Say {i}.", max_tokens=8)) for i in range(6)))
    longest = 0.0
    while not calls.done():
        before = time.monotonic()
        await asyncio.wait([calls], timeout=0.02)
        longest = max(longest, time.monotonic() - before)
    assert all(reply.output_tokens for reply in await calls)
    assert longest < 0.5


async def test_cancelled_call_frees_its_place(model: LocalSource) -> None:
    begun = [asyncio.Event() for _ in range(4)]
    story = ask("Tell a very long story about the sea.", max_tokens=1500, temperature=0.8)
    calls = [
        asyncio.create_task(model.generate(story, lambda _, event=event: event.set()))
        for event in begun
    ]
    async with asyncio.timeout(60):
        await asyncio.gather(*(event.wait() for event in begun))
    for call in calls:
        call.cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    async with asyncio.timeout(20):
        assert (await model.generate(ask("Say hi.", max_tokens=4))).output_tokens


async def test_call_ends_at_its_time_limit(model: LocalSource) -> None:
    request = ask("Tell a very long story.", max_tokens=1500, temperature=0.8, timeout_s=0.7)
    with pytest.raises((BilledError, CallTimeout)) as caught:
        await model.generate(request, lambda _: None)
    error = caught.value.error if isinstance(caught.value, BilledError) else caught.value
    assert isinstance(error, CallTimeout) and "0.7 s" in error.message


async def test_too_long_prompt_is_named_so(model: LocalSource) -> None:
    with pytest.raises(ContextLengthExceeded, match="2048"):
        await model.generate(ask("word " * 3000))


async def test_unusable_request_is_rejected(model: LocalSource) -> None:
    with pytest.raises(ProviderRejected):
        await model.generate(ask("x", response_schema={"type": "nonsense"}))


def test_no_tcp_port_is_opened(model: LocalSource) -> None:
    listening = [
        connection.laddr
        for connection in psutil.Process().net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    sockets = [c.laddr for c in psutil.Process().net_connections("unix") if "model.sock" in c.laddr]
    assert listening == []
    assert not any(os.path.exists(path) for path in sockets)


async def test_loading_and_answering_print_nothing(
    model: LocalSource, capfd: pytest.CaptureFixture[str]
) -> None:
    await model.generate(ask("Say hello.", max_tokens=4))
    printed = capfd.readouterr()
    assert printed.out == "" and printed.err == ""


async def test_every_source_of_a_process_shares_the_model(model: LocalSource) -> None:
    before = psutil.Process().memory_info().rss
    other = await open_local("other", {"model": "SmolLM2-135M-Instruct"})
    assert (await other.generate(ask("Say hi.", max_tokens=2))).model == "SmolLM2-135M-Instruct"
    assert psutil.Process().memory_info().rss - before < 50 * 2**20


async def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(SourceNotFound, match="smollm2"):
        await open_local("small", {"model": "llama-405b"})


def test_a_path_in_a_spec_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound):
        find_model("small", str(tmp_path / "any.gguf"))


def test_operators_file_goes_by_its_own_name_too(tmp_path: Path) -> None:
    own = tmp_path / "tiny.gguf"
    own.write_bytes(b"")
    assert find_model("small", "tiny", str(own)) == own
    assert find_model("small", "smollm2", str(own)) == own


def test_missing_file_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound, match="AGENTFLOW_LOCAL_MODEL"):
        find_model("small", "smollm2", str(tmp_path / "gone.gguf"))


async def test_broken_file_is_unavailable(tmp_path: Path) -> None:
    own = tmp_path / "broken.gguf"
    own.write_bytes(b"not a model")
    with pytest.raises(ProviderUnavailable, match=r"broken\.gguf"):
        await open_local("small", {"model": "smollm2"}, model_path=str(own))
