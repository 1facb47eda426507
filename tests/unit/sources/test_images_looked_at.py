"""Sources of pictures, asked for their models in place of a picture, which would cost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from agentflow.errors import (
    CallTimeout,
    ConnectionFailed,
    ProviderAuthError,
    ProviderRejected,
    ProviderUnavailable,
    StepError,
)
from agentflow.sources.images import ImageSource
from tests.fake_provider import Hang, Raw, Reply
from tests.images_wire import MODELS, GeminiKnown, ImagesWire, Known, Listed, Refused
from tests.unit.sources.conftest import CANARY
from tests.unit.sources.painters import GEMINI, OPENAI, SIDES, Side

SAID: dict[str, tuple[Reply, str]] = {
    "openai": (Known(), "knows the model gpt-image-2"),
    "compatible": (Listed(("other", "sdxl")), "listed 2 models, with sdxl"),
    "azure": (Listed(), "listed 1 models; the deployment painter was not called"),
    "azure v1": (Listed(), "listed 1 models; the deployment painter was not called"),
    "gemini": (GeminiKnown(), "knows the model gemini-3.1-flash-image"),
}
"""Provider -> what it answers, and what is told of that."""


@pytest.fixture(params=SIDES, ids=lambda side: side.name)
def side(request: pytest.FixtureRequest) -> Side:
    return request.param


@pytest.fixture
def wire(side: Side) -> Iterator[ImagesWire]:
    with ImagesWire(side.name) as wire:
        yield wire
    assert wire.faults == []


async def looked(source: ImageSource, timeout_s: float = 20.0) -> str:
    """What is told of a source; the connection is closed after it."""
    try:
        return await source.look(timeout_s)
    finally:
        await source.close()


async def failed(source: ImageSource, timeout_s: float = 20.0) -> StepError:
    with pytest.raises(StepError) as caught:
        await looked(source, timeout_s)
    assert CANARY not in caught.value.message
    return caught.value


async def test_source_of_pictures_says_what_was_asked(
    side: Side, wire: ImagesWire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-somebody")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-of-somebody")
    answer, told = SAID[side.name]
    wire.script(answer)
    assert told in await looked(await side.connect(wire))
    assert [(each.method, each.path.partition("?")[0]) for each in wire.requests] == [
        ("GET", MODELS[side.name])
    ]
    assert "of-somebody" not in str(wire.last.headers)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, ProviderAuthError), (403, ProviderAuthError), (500, ProviderUnavailable)],
)
async def test_source_of_pictures_that_refuses_is_told_apart(
    side: Side, wire: ImagesWire, status: int, kind: type[StepError]
) -> None:
    wire.script(side.refused(status, "no", echo_key=True))
    assert type(await failed(await side.connect(wire))) is kind


@pytest.mark.parametrize("reply", [Raw(), Raw(b"[]", content_type="application/json")])
async def test_what_is_no_answer_is_none(side: Side, wire: ImagesWire, reply: Reply) -> None:
    wire.script(reply)
    assert type(await failed(await side.connect(wire))) is ProviderUnavailable


@pytest.mark.parametrize("side", [OPENAI, GEMINI], ids=lambda side: side.name, indirect=True)
async def test_model_that_does_not_exist_is_found(side: Side, wire: ImagesWire) -> None:
    wire.script(side.refused(404, "no such model"))
    error = await failed(await side.connect(wire))
    assert type(error) is ProviderRejected and "check the source's model" in error.message


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (Listed(("other",)), "listed 1 models, without sdxl"),
        (Refused(404), "lists no models: sdxl was not looked for"),
        (Raw(b'{"data": null}', content_type="application/json"), "listed 0 models"),
    ],
)
async def test_server_of_the_protocol_need_not_list_its_models(reply: Reply, told: str) -> None:
    [compatible] = [each for each in SIDES if each.name == "compatible"]
    with ImagesWire("compatible", reply) as server:
        assert told in await looked(await compatible.connect(server))
        assert server.faults == []


async def test_silence_ends_as_call_timeout(side: Side, wire: ImagesWire) -> None:
    wire.script(Hang())
    error = await failed(await side.connect(wire), 1.0)
    assert isinstance(error, CallTimeout) and "1 s" in error.message
    assert await asyncio.to_thread(wire.wait_for, 1)


async def test_source_of_pictures_that_is_away_is_told(side: Side) -> None:
    with ImagesWire(side.name) as server:
        source = await side.connect(server)
    assert type(await failed(source)) is ConnectionFailed
