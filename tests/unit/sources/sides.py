"""The providers side by side: how each is opened, and how its server says the same things."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from agentflow.addresses import Policy
from agentflow.errors import StepError
from agentflow.sources.anthropic import open_anthropic
from agentflow.sources.base import BilledError, Message, ModelRequest, ModelSource
from agentflow.sources.credentials import Credentials
from agentflow.sources.gemini import open_gemini
from agentflow.sources.openai import open_openai
from tests import anthropic_wire, chat_wire, gemini_wire, responses_wire
from tests.fake_provider import FakeProvider, Reply
from tests.unit.sources.conftest import CANARY, LOOPBACK

Json = Any
HELLO = ModelRequest(messages=(Message("user", "hello there"),))
NAMES = {
    "anthropic": "ANTHROPIC_API_KEY",
    "azure": "AZURE_OPENAI_API_KEY",
    "gemini": "GEMINI_API_KEY",
}


@dataclass(frozen=True)
class Side:
    """One provider. ``said``: text, usage (input, output, cached, reasoning), why it ended, tools;
    ``refused``: status, message, and further what the others have no word for."""

    name: str
    provider: str
    opener: Callable[..., Awaitable[ModelSource]]
    wire: Callable[[], Any]
    config: Callable[[Any], dict[str, Json]]
    said: Callable[..., Reply]
    refused: Callable[..., Reply]

    @property
    def variable(self) -> str:
        """The environment variable of its credential."""
        return NAMES.get(self.provider, "OPENAI_API_KEY")

    async def connect(
        self, wire: FakeProvider, policy: Policy = LOOPBACK, **config: Json
    ) -> ModelSource:
        """A source of this provider that calls the wire."""
        settings = {**self.config(wire), "api_key_env": self.variable, **config}
        credentials = Credentials({self.variable: CANARY}, lambda name: True)
        return await self.opener(
            "main", self.provider, settings, policy=policy, credentials=credentials
        )


Counts = tuple[int, int, int, int]
PLAIN: Counts = (10, 5, 0, 0)


def _chat(name: str, config: Callable[[Any], dict[str, Json]]) -> Side:
    def wire() -> chat_wire.ChatWire:
        return chat_wire.ChatWire(name)

    provider = name.partition(" ")[0]

    def said(text: str = "ok", usage: Counts = PLAIN, end: str = "stop", **more: Json) -> Reply:
        return chat_wire.Said(text, usage, end, **more)

    return Side(name, provider, open_openai, wire, config, said, chat_wire.Refused)


def _responses() -> Side:
    ends = {"length": "max_output_tokens", "content_filter": "content_filter"}

    def said(text: str = "ok", usage: Counts = PLAIN, end: str = "stop", **more: Json) -> Reply:
        return responses_wire.Said(text, usage, ends.get(end), **more)

    config = _at("/v1", protocol="responses")
    wire = responses_wire.ResponsesWire
    return Side("openai responses", "openai", open_openai, wire, config, said, chat_wire.Refused)


def _anthropic() -> Side:
    ends = {
        "stop": "end_turn",
        "length": "max_tokens",
        "tool_calls": "tool_use",
        "content_filter": "refusal",
    }

    def said(text: str = "ok", usage: Counts = PLAIN, end: str = "stop", **more: Json) -> Reply:
        fresh = usage[0] - usage[2]
        counts = (fresh, usage[1], usage[2], 0, usage[3])
        return anthropic_wire.Said(text, counts, ends[end], **more)

    wire, config = anthropic_wire.AnthropicWire, _at("", "claude-haiku-4-5")
    return Side(
        "anthropic", "anthropic", open_anthropic, wire, config, said, anthropic_wire.Refused
    )


def _gemini() -> Side:
    ends = {
        "stop": "STOP",
        "length": "MAX_TOKENS",
        "tool_calls": "STOP",
        "content_filter": "SAFETY",
    }

    def said(text: str = "ok", usage: Counts = PLAIN, end: str = "stop", **more: Json) -> Reply:
        counts = (usage[0], usage[1] - usage[3], usage[2], usage[3])
        return gemini_wire.Said(text, counts, ends[end], **more)

    wire, config = gemini_wire.GeminiWire, _at("", "gemini-2.5-flash-lite")
    return Side("gemini", "gemini", open_gemini, wire, config, said, gemini_wire.Refused)


def _at(path: str, model: str = "gpt-4o", **more: Json) -> Callable[[Any], dict[str, Json]]:
    return lambda wire: {"model": model, "base_url": wire.address + path, **more}


def _azure(version: str) -> Callable[[Any], dict[str, Json]]:
    return lambda wire: {
        "model": "gpt-4o",
        "azure_endpoint": wire.address,
        "deployment": "gpt 4o",
        "api_version": version,
    }


SIDES = (
    _chat("openai", _at("/v1")),
    _chat("vllm", _at("/v1")),
    _chat("azure", _azure("2024-10-21")),
    _chat("azure v1", _azure("v1")),
    _responses(),
    _anthropic(),
    _gemini(),
)


def side_named(name: str) -> Side:
    """The side of this name."""
    return next(side for side in SIDES if side.name == name)


def unheard(text: str) -> None:
    """For calls that stream to nobody."""


async def failure(source: ModelSource, heard: Callable[[str], None] | None = unheard) -> StepError:
    """The step error of a call, billed or not; streamed, unless nobody hears it."""
    with pytest.raises((BilledError, StepError)) as caught:
        await source.generate(HELLO, heard)
    raised = caught.value
    return raised.error if isinstance(raised, BilledError) else raised
