"""The servers of the tests refuse what the providers' own would, and say only what those could."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests import anthropic_wire, chat_wire, gemini_wire, images_wire, responses_wire
from tests.fake_provider import Request
from tests.wire import Denied, Spoken, Told, Wire

Json = Any
TURN = {"role": "user", "content": "hi"}
GOOD: dict[str, tuple[Any, str, dict[str, str], Json]] = {
    "anthropic": (
        anthropic_wire.AnthropicWire,
        "/v1/messages",
        {"anthropic-version": "2026-10-21", "authorization": "Bearer x"},
        {"model": "m", "max_tokens": 5, "messages": [TURN]},
    ),
    "chat": (
        lambda: chat_wire.ChatWire("openai"),
        "/v1/chat/completions",
        {"authorization": "Bearer x"},
        {"model": "m", "messages": [TURN]},
    ),
    "azure": (
        lambda: chat_wire.ChatWire("azure"),
        "/openai/deployments/gpt%204o/chat/completions?api-version=2024-10-21",
        {"api-key": "x"},
        {"model": "m", "messages": [TURN]},
    ),
    "responses": (
        responses_wire.ResponsesWire,
        "/v1/responses",
        {"authorization": "Bearer x"},
        {"model": "m", "input": [TURN]},
    ),
    "gemini": (
        gemini_wire.GeminiWire,
        "/v1beta/models/gemini-x:generateContent",
        {"x-goog-api-key": "x"},
        {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
    ),
    "images": (
        lambda: images_wire.ImagesWire("openai"),
        "/v1/images/generations",
        {"authorization": "Bearer x"},
        {"model": "gpt-image-2", "prompt": "a fox", "size": "1024x1024"},
    ),
    "images of azure": (
        lambda: images_wire.ImagesWire("azure"),
        "/openai/deployments/painter/images/generations?api-version=2025-04-01-preview",
        {"api-key": "x"},
        {"model": "painter", "prompt": "a fox", "n": 1},
    ),
    "images of gemini": (
        lambda: images_wire.ImagesWire("gemini"),
        "/v1beta/models/gemini-x:generateContent",
        {"x-goog-api-key": "x"},
        {
            "contents": [{"role": "user", "parts": [{"text": "a fox"}]}],
            "generationConfig": {
                "responseModalities": ["IMAGE"],
                "imageConfig": {"aspectRatio": "16:9", "imageSize": "2K"},
            },
        },
    ),
}
"""Server -> a request that it takes: path, headers, body."""


@pytest.fixture(params=GOOD)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def wires() -> Iterator[dict[str, Wire]]:
    opened = {name: GOOD[name][0]().start() for name in GOOD}
    yield opened
    for wire in opened.values():
        wire.close()


def wrong(wire: Wire, name: str, path: str = "", drop: str = "", **more: Json) -> list[str]:
    """What a wire finds wrong with a good request, less this header, with these fields more."""
    _, good, headers, body = GOOD[name]
    body = {**body, **more}
    kept = {key: value for key, value in headers.items() if key != drop}
    kept["content-type"] = "application/json"
    raw = json.dumps(body).encode()
    return wire.wrong_with(Request("POST", path or good, kept, raw, body, 0.0))


def test_wires_take_what_is_right(name: str, wires: dict[str, Wire]) -> None:
    assert wrong(wires[name], name) == []


def test_wires_refuse_a_missing_header_another_route_and_an_unknown_field(
    name: str, wires: dict[str, Wire]
) -> None:
    wire, headers = wires[name], GOOD[name][2]
    for header in headers:
        assert wrong(wire, name, drop=header) != []
    assert wrong(wire, name, "/v9/somewhere") != []
    if "azure" in name:
        assert wrong(wire, name, GOOD[name][1].partition("?")[0]) != []
    assert wrong(wire, name, made_up=3) != []


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("anthropic", {"seed": 3}),
        ("anthropic", {"temperature": 0.5}),
        ("anthropic", {"max_tokens": "5"}),
        ("anthropic", {"messages": [{**TURN, "name": "x"}]}),
        ("anthropic", {"tools": [{"name": "t"}]}),
        ("chat", {"stop_sequences": ["x"]}),
        ("chat", {"tool_choice": "sometimes"}),
        ("chat", {"response_format": {"type": "json_schema"}}),
        ("responses", {"max_tokens": 5}),
        ("responses", {"text": {"format": {"type": "json_schema", "schema": {}}}}),
        ("gemini", {"generationConfig": {"maxTokens": 5}}),
        ("gemini", {"generationConfig": {"seed": "x"}}),
        ("gemini", {"temperature": 0.5}),
        ("gemini", {"contents": []}),
        ("gemini", {"safetySettings": [{"category": "HARM_CATEGORY_OF_OURS"}]}),
        ("images", {"n": "2"}),
        ("images", {"quality": "best"}),
        ("images", {"style": "vivid"}),
        ("images", {"model": "dall-e-2", "quality": "hd"}),
        ("images of gemini", {"generationConfig": {"imageConfig": {"aspect": "16:9"}}}),
        ("images of gemini", {"generationConfig": {"responseModalities": ["DANCE"]}}),
    ],
    indirect=["name"],
)
def test_wires_refuse_what_is_wrong(
    name: str, more: dict[str, Json], wires: dict[str, Wire]
) -> None:
    assert wrong(wires[name], name, **more) != []


TOOLS = (("look_up", {"q": "ü", "n": [1, {"a": None}]}), ("none", {}))
PICTURE = images_wire.png()
SAID: list[Told] = [
    *(
        kind.Said(**more)
        for kind in (anthropic_wire, chat_wire, responses_wire, gemini_wire)
        for more in (
            {},
            {"text": ""},
            {"text": "a \U0001f600  b\n"},
            {"text": "", "tools": TOOLS},
            {"text": "let me see", "tools": TOOLS, "model": "of-another-name"},
        )
    ),
    *(
        anthropic_wire.Said(stop_reason=reason)
        for reason in ("max_tokens", "stop_sequence", "tool_use", "refusal", "pause_turn")
    ),
    anthropic_wire.Said("", stop_reason="refusal", explanation="why"),
    anthropic_wire.Said("ok", (10, 5, 1000, 200, 2)),
    *(
        chat_wire.Said(finish_reason=reason)
        for reason in ("length", "tool_calls", "content_filter")
    ),
    *(responses_wire.Said(incomplete=why) for why in ("max_output_tokens", "content_filter")),
    *(
        responses_wire.Said("", failed=code)
        for code in ("server_error", "rate_limit_exceeded", "invalid_prompt", "bio_policy")
    ),
    *(
        gemini_wire.Said(finish_reason=reason)
        for reason in ("MAX_TOKENS", "SAFETY", "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL")
    ),
    gemini_wire.Said(blocked="PROHIBITED_CONTENT"),
    gemini_wire.Said("ok", (10, 5, 3, 2)),
    images_wire.Drawn(),
    images_wire.Drawn((PICTURE, PICTURE), usage=(10, 1000), revised="a red fox"),
    images_wire.Drawn(usage=(10, 1000), image_tokens=900),
    images_wire.Drawn(urls=("https://example.com/1.png",)),
    images_wire.Drawn(filtered=("violence",)),
    images_wire.GeminiDrawn(),
    images_wire.GeminiDrawn(thought=PICTURE, usage=(9, 1290, 30)),
    images_wire.GeminiDrawn(b"", finish_reason="IMAGE_SAFETY"),
    images_wire.GeminiDrawn(blocked="PROHIBITED_CONTENT"),
    images_wire.Known(),
    images_wire.Listed(),
    images_wire.Listed(()),
    images_wire.GeminiKnown(),
]
DENIED: list[Denied] = [
    *(anthropic_wire.Refused(status) for status in anthropic_wire.KINDS),
    *(chat_wire.Refused(status, "no", code) for status in (400, 500) for code in (None, "x")),
    *(gemini_wire.Refused(status) for status in gemini_wire.STATUS),
    gemini_wire.Refused(400, reason="API_KEY_INVALID"),
    gemini_wire.Refused(429, retry_delay=36.5),
]


@pytest.mark.parametrize("said", SAID, ids=lambda said: type(said).__module__)
def test_answers_and_streams_are_such_as_the_provider_gives(said: Told) -> None:
    assert said.misfits(said.whole(), streamed=False) == []
    events = said.events() if isinstance(said, Spoken) else []
    assert [fault for each in events for fault in said.misfits(each, streamed=True)] == []


@pytest.mark.parametrize("denied", DENIED, ids=lambda denied: type(denied).__module__)
def test_errors_are_such_as_the_provider_gives(denied: Denied) -> None:
    assert denied.misfits(denied.body("no")) == []


@pytest.mark.parametrize("kind", [anthropic_wire, chat_wire, responses_wire, gemini_wire])
def test_answers_that_the_provider_would_not_give_are_found(kind: Any) -> None:
    said = kind.Said("one two")
    whole, event = said.whole(), said.events()[0]
    assert said.misfits({**whole, "made_up": 1}, streamed=False) != []
    assert said.misfits({**event, "made_up": 1}, streamed=True) != []
    counts = whole["usage" if "usage" in whole else "usageMetadata"]
    for name in counts:
        assert said.misfits(whole | _with(whole, name, "many"), streamed=False) != []
    lacking = {key: value for key, value in whole.items() if key in ("id", "responseId")}
    assert kind is gemini_wire or said.misfits(lacking, streamed=False) != []


@pytest.mark.parametrize(
    "drawn", [images_wire.Drawn(), images_wire.GeminiDrawn(), images_wire.Known()]
)
def test_pictures_that_the_provider_would_not_give_are_found(drawn: Told) -> None:
    whole = drawn.whole()
    assert drawn.misfits({**whole, "made_up": 1}, streamed=False) != []
    for name in whole:
        assert drawn.misfits({**whole, name: 3.5}, streamed=False) != []


def _with(whole: Json, name: str, value: Json) -> Json:
    """The counts of an answer, one of them another."""
    group = "usage" if "usage" in whole else "usageMetadata"
    return {group: {**whole[group], name: value}}
