"""Sources of pictures, called through the official SDKs over real sockets."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from agentflow.addresses import Policy
from agentflow.errors import (
    CallTimeout,
    ConnectionFailed,
    ContentFiltered,
    MissingCredential,
    ProviderAuthError,
    ProviderRateLimited,
    ProviderRejected,
    ProviderUnavailable,
    StepError,
)
from agentflow.sources.base import BilledError
from agentflow.sources.credentials import Credentials
from agentflow.sources.images import MOST_BYTES, ImageReply, ImageRequest, ImageSource
from agentflow.sources.images_bytes import size_of
from agentflow.sources.images_gemini import open_images_gemini
from tests.fake_provider import Cut, Hang, Raw, Reply, Status
from tests.images_wire import Drawn, GeminiDrawn, ImagesWire, Refused, picture, png
from tests.unit.sources.conftest import CANARY, LOOPBACK
from tests.unit.sources.painters import GEMINI, OPENAI, SIDES, Side

Json = Any


@pytest.fixture(params=SIDES, ids=lambda side: side.name)
def side(request: pytest.FixtureRequest) -> Side:
    return request.param


@pytest.fixture
def wire(request: pytest.FixtureRequest) -> Iterator[ImagesWire]:
    used = request.getfixturevalue("side") if "side" in request.fixturenames else OPENAI
    with ImagesWire(used.name) as wire:
        yield wire
    assert wire.faults == []


@pytest.fixture
def gemini() -> Iterator[ImagesWire]:
    with ImagesWire("gemini") as wire:
        yield wire
    assert wire.faults == []


async def made(source: ImageSource, **wishes: Json) -> ImageReply:
    """One call; the connection is closed after it."""
    try:
        return await source.generate(ImageRequest(**{"prompt": "a fox", **wishes}))
    finally:
        await source.close()


async def failed(source: ImageSource, **wishes: Json) -> StepError:
    """The error of a call."""
    with pytest.raises((StepError, BilledError)) as caught:
        await made(source, **wishes)
    error = caught.value
    return error.error if isinstance(error, BilledError) else error


async def test_source_makes_a_picture(side: Side, wire: ImagesWire) -> None:
    drawn = png(1792, 1024)
    wire.script(side.drawn(drawn))
    reply = await made(await side.connect(wire), size="1792x1024", idempotency_key="k1")
    [image] = reply.images
    assert (image.content, image.media_type, image.size) == (drawn, "image/png", "1792x1024")
    assert (reply.provider, reply.quality) == (side.provider, "standard")
    assert reply.request_id.startswith("req_")
    asked = wire.last.body
    if side is GEMINI:
        shape = asked["generationConfig"]["imageConfig"]
        assert shape == {"aspectRatio": "16:9"}
        assert asked["contents"][0]["parts"] == [{"text": "a fox"}]
    else:
        assert (asked["prompt"], asked["size"], asked["n"]) == ("a fox", "1792x1024", 1)
        assert wire.last.idempotency_key == "k1"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, ProviderRejected),
        (401, ProviderAuthError),
        (403, ProviderAuthError),
        (404, ProviderRejected),
        (500, ProviderUnavailable),
        (503, ProviderUnavailable),
    ],
)
async def test_refusal_is_typed_and_hides_the_credential(
    side: Side, wire: ImagesWire, status: int, kind: type[StepError]
) -> None:
    wire.script(side.refused(status, "not like this", echo_key=True))
    error = await failed(await side.connect(wire))
    assert type(error) is kind and CANARY not in error.message


async def test_too_many_requests_says_how_long_to_wait(side: Side, wire: ImagesWire) -> None:
    more: dict[str, Json] = (
        {"retry_delay": 7} if side is GEMINI else {"headers": {"Retry-After": "7"}}
    )
    wire.script(side.refused(429, "slow down", **more))
    error = await failed(await side.connect(wire))
    assert isinstance(error, ProviderRateLimited) and error.after == 7 and error.uncounted


@pytest.mark.parametrize(
    "reply",
    [
        Raw(),
        Raw(b""),
        Raw(b'{"data": "none"}', content_type="application/json"),
        Raw(b'{"data": [{}, 3]}', content_type="application/json"),
        Raw(b"[]", content_type="application/json"),
        Raw(b"[" * 100_000, content_type="application/json"),
        Raw(b"[" * 100_000, 500, content_type="application/json"),
        Cut(),
    ],
    ids=["html", "nothing", "no list", "no pictures", "no object", "deep", "deep refusal", "cut"],
)
async def test_garbage_is_a_provider_that_is_unavailable(
    side: Side, wire: ImagesWire, reply: Reply
) -> None:
    wire.script(reply)
    assert type(await failed(await side.connect(wire))) is ProviderUnavailable


async def test_silence_ends_at_the_limit(side: Side, wire: ImagesWire) -> None:
    wire.script(Hang())
    error = await failed(await side.connect(wire, timeout_s=0.3))
    assert type(error) is CallTimeout and "0.3 s" in error.message


async def test_what_is_no_picture_is_no_result(side: Side, wire: ImagesWire) -> None:
    wire.script(side.drawn(b"<svg/>"), side.drawn(png()[:12]))
    for _ in range(2):
        error = await failed(await side.connect(wire, price={"per_image": 0.5}))
        assert type(error) is ProviderUnavailable and "no picture" in error.message


async def test_picture_above_the_limit_is_refused(wire: ImagesWire) -> None:
    data = base64.b64encode(png()[:33] + bytes(MOST_BYTES))
    body = b'{"created": 1, "data": [{"b64_json": "' + data + b'"}]}'
    wire.script(Raw(body, content_type="application/json"))
    error = await failed(await OPENAI.connect(wire))
    assert type(error) is ProviderRejected and str(MOST_BYTES) in error.message


async def test_private_address_is_not_called(side: Side, wire: ImagesWire) -> None:
    error = await failed(await side.connect(wire, policy=Policy(allow=())))
    assert type(error) is ProviderRejected and wire.calls == 0


async def test_missing_credential_is_named(side: Side, wire: ImagesWire) -> None:
    source = await side.connect(wire, api_key_env="NOT_THERE")
    error = await failed(source)
    assert type(error) is MissingCredential and "NOT_THERE" in error.message


async def test_connection_that_fails_proves_that_nothing_happened(side: Side) -> None:
    with ImagesWire(side.name) as wire:
        source = await side.connect(wire)
    error = await failed(source)
    assert type(error) is ConnectionFailed and error.uncounted


async def test_price_of_the_source_is_by_picture(side: Side, wire: ImagesWire) -> None:
    wire.script(side.drawn(png()))
    reply = await made(await side.connect(wire, price={"per_image": 0.04}))
    assert (reply.cost, reply.priced) == (0.04, True)


async def test_billed_call_that_fails_says_what_it_cost(wire: ImagesWire) -> None:
    wire.script(Drawn((b"broken",)))
    source = await OPENAI.connect(wire, price={"per_image": 0.04})
    with pytest.raises(BilledError) as caught:
        await made(source)
    assert caught.value.reply.cost == 0.04


@pytest.mark.parametrize(
    "code", ["moderation_blocked", "content_policy_violation", "contentFilter"]
)
async def test_content_policy_is_told_from_other_refusals(wire: ImagesWire, code: str) -> None:
    wire.script(Refused(400, "rejected by the safety system", code))
    assert type(await failed(await OPENAI.connect(wire))) is ContentFiltered


async def test_filter_of_azure_that_stops_a_picture_is_named(wire: ImagesWire) -> None:
    wire.script(Drawn(filtered=("violence",)))
    error = await failed(await OPENAI.connect(wire))
    assert type(error) is ContentFiltered and "violence" in error.message


@pytest.mark.parametrize(
    ("model", "wishes", "expected"),
    [
        ("gpt-image-2", {}, {"quality": "medium"}),
        ("gpt-image-2", {"quality": "hd", "style": "natural"}, {"quality": "high"}),
        ("gpt-image-2.5-flare", {"quality": "max"}, {"quality": "max"}),
        (
            "dall-e-3",
            {"style": "natural"},
            {"quality": "standard", "style": "natural", "response_format": "b64_json"},
        ),
        ("dall-e-2", {"n": 2, "fetch": False}, {"response_format": "url"}),
        ("sdxl", {}, {}),
        ("sdxl", {"quality": "hd"}, {"quality": "hd"}),
    ],
)
async def test_model_is_sent_what_it_knows(
    wire: ImagesWire, model: str, wishes: dict[str, Json], expected: dict[str, Json]
) -> None:
    await made(await OPENAI.connect(wire, model=model), **wishes)
    asked = {name: value for name, value in wire.last.body.items() if name in EXTRA}
    assert asked == expected


EXTRA = ("quality", "style", "response_format")


async def test_several_pictures_come_in_order_and_cost_by_their_tokens(wire: ImagesWire) -> None:
    drawn = [png(colour=number) for number in range(3)]
    wire.script(Drawn(tuple(drawn), usage=(50, 3000), revised="a red fox"))
    source = await OPENAI.connect(wire, price={"input_per_mtok": 10, "output_per_mtok": 100})
    reply = await made(source, n=3)
    assert [image.content for image in reply.images] == drawn
    assert {image.revised_prompt for image in reply.images} == {"a red fox"}
    assert (reply.input_tokens, reply.output_tokens, reply.cost) == (50, 3000, 0.3005)


async def test_picture_with_an_address_is_fetched_through_the_guard(wire: ImagesWire) -> None:
    drawn = png(256, 256)
    wire.script(Drawn(urls=(wire.serve("/files/1", picture(drawn)),), revised="a red fox"))
    reply = await made(await OPENAI.connect(wire, model="dall-e-2"))
    [image] = reply.images
    assert (image.content, image.size, image.url) == (drawn, "256x256", "")
    assert image.revised_prompt == "a red fox"
    assert CANARY not in str(wire.fetches[0].headers)


async def test_picture_with_an_address_is_left_there_when_it_is_not_wanted(
    wire: ImagesWire,
) -> None:
    url = wire.serve("/files/1", picture())
    wire.script(Drawn(urls=(url,)))
    reply = await made(await OPENAI.connect(wire, model="dall-e-2"), fetch=False)
    assert (reply.images[0].url, reply.images[0].content, wire.fetches) == (url, None, [])


async def test_no_more_pictures_are_taken_than_were_asked_for(wire: ImagesWire) -> None:
    url = wire.serve("/files/1", picture())
    wire.script(Drawn(urls=(url,) * 50), Drawn((png(),) * 3))
    for _ in range(2):
        assert len((await made(await OPENAI.connect(wire, model="sdxl"))).images) == 1
    assert len(wire.fetches) == 1


async def test_pictures_are_given_up_where_one_cannot_be_had(wire: ImagesWire) -> None:
    there = wire.serve("/files/1", Hang())
    wire.script(Drawn(urls=(there, "http://169.254.169.254/latest/meta-data")))
    before = asyncio.all_tasks()
    source = await OPENAI.connect(wire, model="dall-e-2")
    with pytest.raises(BilledError) as caught:
        await source.generate(ImageRequest(prompt="a fox", n=2))
    assert type(caught.value.error) is ProviderRejected
    assert asyncio.all_tasks() == before
    await source.close()


@pytest.mark.parametrize("url", ["javascript:alert(1)", "file:///etc/passwd", "//x/y", ""])
async def test_address_that_nobody_could_fetch_is_no_result(wire: ImagesWire, url: str) -> None:
    wire.script(Drawn(urls=(url,)))
    error = await failed(await OPENAI.connect(wire, model="sdxl"), fetch=False)
    assert type(error) is ProviderRejected


async def test_other_steps_go_on_while_pictures_are_read(wire: ImagesWire) -> None:
    large = png()[:33] + bytes(8 * 2**20)
    item = b'{"b64_json": "' + base64.b64encode(large) + b'"}'
    body = b'{"created": 1, "data": [' + b", ".join([item] * 6) + b"]}"
    wire.script(Raw(body, content_type="application/json"))
    source = await OPENAI.connect(wire)
    drawing = asyncio.ensure_future(made(source, n=6))
    longest, last = 0.0, time.thread_time()
    while not drawing.done():
        await asyncio.sleep(0)
        now = time.thread_time()
        longest, last = max(longest, now - last), now
    assert [len(image.content or b"") for image in drawing.result().images] == [len(large)] * 6
    assert longest < 0.25


def test_jpeg_without_an_end_of_its_head_is_told_quickly() -> None:
    began = time.thread_time()
    for filling in (b"\xff", b"\xff\xd0", b"\xff\xe0\0\2"):
        assert size_of(b"\xff\xd8" + filling * (MOST_BYTES // len(filling))) is None
    assert time.thread_time() - began < 1.0


async def test_picture_that_is_its_address_is_read(wire: ImagesWire) -> None:
    data = base64.b64encode(png()).decode()
    wire.script(Drawn(urls=(f"data:image/png;base64,{data}",)))
    reply = await made(await OPENAI.connect(wire, model="sdxl"), fetch=False)
    assert reply.images[0].content == png()


async def test_picture_that_is_paid_for_is_fetched_again(wire: ImagesWire) -> None:
    url = wire.serve("/files/1", Status(503), Cut(), picture())
    wire.script(Drawn(urls=(url,)))
    reply = await made(await OPENAI.connect(wire, model="dall-e-2"))
    assert reply.images[0].content == png()
    assert (len(wire.fetches), wire.calls) == (3, 1)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Raw(), ProviderUnavailable),
        (Status(404), ProviderUnavailable),
        (Raw(png()[:33] + bytes(MOST_BYTES)), ProviderRejected),
    ],
    ids=["html", "gone", "huge"],
)
async def test_picture_that_cannot_be_fetched_is_billed(
    wire: ImagesWire, reply: Reply, kind: type[StepError]
) -> None:
    wire.script(Drawn(urls=(wire.serve("/files/1", reply),)))
    source = await OPENAI.connect(wire, model="dall-e-2", price={"per_image": 0.02})
    with pytest.raises(BilledError) as caught:
        await made(source)
    assert type(caught.value.error) is kind and not caught.value.error.uncounted
    assert caught.value.reply.cost == 0.02


async def test_address_that_may_not_be_called_is_not_fetched(wire: ImagesWire) -> None:
    wire.script(Drawn(urls=("http://169.254.169.254/latest/meta-data",)))
    error = await failed(await OPENAI.connect(wire, model="dall-e-2"))
    assert type(error) is ProviderRejected and "AGENTFLOW_EGRESS_ALLOW" in error.message


async def test_gemini_reads_the_picture_and_not_its_thoughts(gemini: ImagesWire) -> None:
    gemini.script(GeminiDrawn(png(colour=2), thought=png(colour=1), usage=(9, 1120, 30)))
    source = await GEMINI.connect(gemini)
    reply = await made(source, quality="hd", size="1024x1536")
    assert [image.content for image in reply.images] == [png(colour=2)]
    assert (reply.input_tokens, reply.output_tokens) == (9, 1150)
    shape = gemini.last.body["generationConfig"]["imageConfig"]
    assert shape == {"aspectRatio": "2:3", "imageSize": "2K"}


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (GeminiDrawn(b"", finish_reason="IMAGE_SAFETY"), "IMAGE_SAFETY"),
        (GeminiDrawn(blocked="PROHIBITED_CONTENT"), "PROHIBITED_CONTENT"),
    ],
)
async def test_gemini_says_what_its_filters_stopped(
    gemini: ImagesWire, reply: Reply, why: str
) -> None:
    gemini.script(reply)
    error = await failed(await GEMINI.connect(gemini))
    assert type(error) is ContentFiltered and why in error.message


async def test_gemini_that_draws_nothing_may_be_asked_again(gemini: ImagesWire) -> None:
    gemini.script(GeminiDrawn(b"", finish_reason="NO_IMAGE"))
    assert type(await failed(await GEMINI.connect(gemini))) is ProviderUnavailable


@pytest.mark.parametrize("wishes", [{"n": 2}, {"size": "1000x400"}, {"size": "large"}])
async def test_gemini_is_not_asked_for_what_it_cannot_make(
    gemini: ImagesWire, wishes: dict[str, Json]
) -> None:
    error = await failed(await GEMINI.connect(gemini, model="gemini-9"), **wishes)
    assert type(error) is ProviderRejected and gemini.calls == 0


async def test_gemini_serves_imagen_no_more() -> None:
    with pytest.raises(ProviderRejected, match="name a Gemini model"):
        await open_images_gemini(
            "art",
            "gemini",
            {"model": "imagen-4.0-generate-001"},
            policy=LOOPBACK,
            credentials=Credentials({}, lambda name: True),
        )


async def test_cost_is_that_of_the_table_for_the_providers_own_address() -> None:
    from agentflow.sources.prices import picture_cost

    given: dict[str, Json] = {"base_url": None, "price": None, "pictures": 1, "input_tokens": 50}
    tokens = {"output_tokens": 1000, "picture_tokens": 1000}
    assert picture_cost(provider="openai", model="gpt-image-1.5", **given, **tokens) == (
        0.03225,
        True,
    )
    flash = picture_cost(provider="gemini", model="gemini-3.1-flash-image", **given, **tokens)
    assert flash == (0.060025, True)
    assert picture_cost(provider="openai", model="dall-e-3", **given, **tokens) == (0.0, False)


@pytest.fixture
async def many(wire: ImagesWire) -> AsyncIterator[ImageSource]:
    source = await OPENAI.connect(wire)
    yield source
    await source.close()


async def test_one_connection_serves_many_calls_at_once(
    wire: ImagesWire, many: ImageSource
) -> None:
    asked = [ImageRequest(prompt=f"fox {number}") for number in range(8)]
    replies = await asyncio.gather(*map(many.generate, asked))
    assert len(replies) == 8 == wire.calls
