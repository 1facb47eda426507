"""The providers side by side: how each is opened, and how its server says the same things."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from agentflow.addresses import Policy
from agentflow.sources.anthropic import open_anthropic
from agentflow.sources.base import ModelSource
from agentflow.sources.credentials import Credentials
from agentflow.sources.gemini import open_gemini
from agentflow.sources.openai import open_openai
from tests import anthropic_wire, chat_wire, gemini_wire, responses_wire
from tests.fake_provider import FakeProvider, Reply
from tests.unit.sources.conftest import CANARY, LOOPBACK

Json = Any
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
    wire: Callable[[], Any]
    config: Callable[[Any], dict[str, Json]]
    open: Callable[[dict[str, Json], Policy, Credentials], Awaitable[ModelSource]]
    said: Callable[..., Reply]
    refused: Callable[..., Reply]

    @property
    def variable(self) -> str:
        """The environment variable of its credential."""
        return NAMES.get(self.name.partition(" ")[0], "OPENAI_API_KEY")

    async def connect(
        self, wire: FakeProvider, policy: Policy = LOOPBACK, **config: Json
    ) -> ModelSource:
        """A source of this provider that calls the wire."""
        settings = {**self.config(wire), "api_key_env": self.variable, **config}
        credentials = Credentials({self.variable: CANARY}, lambda name: True)
        return await self.open(settings, policy, credentials)


def _chat(name: str, provider: str, config: Callable[[Any], dict[str, Json]]) -> Side:
    async def connect(
        settings: dict[str, Json], policy: Policy, credentials: Credentials
    ) -> ModelSource:
        return await open_openai("main", provider, settings, policy=policy, credentials=credentials)

    def said(
        text: str = "ok",
        usage: tuple[int, int, int, int] = (10, 5, 0, 0),
        end: str = "stop",
        **more: Json,
    ) -> Reply:
        return chat_wire.Said(text, usage, end, **more)

    def refused(status: int, message: str = "no", code: Json = None, **more: Json) -> Reply:
        return chat_wire.Refused(status, message, code, **more)

    return Side(name, lambda: chat_wire.ChatWire(name), config, connect, said, refused)


def _responses() -> Side:
    async def connect(
        settings: dict[str, Json], policy: Policy, credentials: Credentials
    ) -> ModelSource:
        return await open_openai("main", "openai", settings, policy=policy, credentials=credentials)

    ends = {"length": "max_output_tokens", "content_filter": "content_filter"}

    def said(
        text: str = "ok",
        usage: tuple[int, int, int, int] = (10, 5, 0, 0),
        end: str = "stop",
        **more: Json,
    ) -> Reply:
        return responses_wire.Said(text, usage, ends.get(end), **more)

    def refused(status: int, message: str = "no", code: Json = None, **more: Json) -> Reply:
        return chat_wire.Refused(status, message, code, **more)

    config = _at("/v1", protocol="responses")
    return Side("openai responses", responses_wire.ResponsesWire, config, connect, said, refused)


def _anthropic() -> Side:
    async def connect(
        settings: dict[str, Json], policy: Policy, credentials: Credentials
    ) -> ModelSource:
        return await open_anthropic("main", settings, policy=policy, credentials=credentials)

    ends = {
        "stop": "end_turn",
        "length": "max_tokens",
        "tool_calls": "tool_use",
        "content_filter": "refusal",
    }

    def said(
        text: str = "ok",
        usage: tuple[int, int, int, int] = (10, 5, 0, 0),
        end: str = "stop",
        **more: Json,
    ) -> Reply:
        fresh = usage[0] - usage[2]
        counts = (fresh, usage[1], usage[2], 0, usage[3])
        return anthropic_wire.Said(text, counts, ends[end], **more)

    def refused(status: int, message: str = "no", code: Json = None, **more: Json) -> Reply:
        return anthropic_wire.Refused(status, message, **more)

    def config(wire: Any) -> dict[str, Json]:
        return {"model": "claude-haiku-4-5", "base_url": wire.address}

    return Side("anthropic", anthropic_wire.AnthropicWire, config, connect, said, refused)


def _gemini() -> Side:
    async def connect(
        settings: dict[str, Json], policy: Policy, credentials: Credentials
    ) -> ModelSource:
        return await open_gemini("main", settings, policy=policy, credentials=credentials)

    ends = {
        "stop": "STOP",
        "length": "MAX_TOKENS",
        "tool_calls": "STOP",
        "content_filter": "SAFETY",
    }

    def said(
        text: str = "ok",
        usage: tuple[int, int, int, int] = (10, 5, 0, 0),
        end: str = "stop",
        **more: Json,
    ) -> Reply:
        counts = (usage[0], usage[1] - usage[3], usage[2], usage[3])
        return gemini_wire.Said(text, counts, ends[end], **more)

    def refused(status: int, message: str = "no", code: Json = None, **more: Json) -> Reply:
        return gemini_wire.Refused(status, message, **more)

    def config(wire: Any) -> dict[str, Json]:
        return {"model": "gemini-2.5-flash-lite", "base_url": wire.address}

    return Side("gemini", gemini_wire.GeminiWire, config, connect, said, refused)


def _at(path: str, **more: Json) -> Callable[[Any], dict[str, Json]]:
    return lambda wire: {"model": "gpt-4o", "base_url": wire.address + path, **more}


def _azure(version: str) -> Callable[[Any], dict[str, Json]]:
    return lambda wire: {
        "model": "gpt-4o",
        "azure_endpoint": wire.address,
        "deployment": "gpt 4o",
        "api_version": version,
    }


SIDES = (
    _chat("openai", "openai", _at("/v1")),
    _chat("vllm", "vllm", _at("/v1")),
    _chat("azure", "azure", _azure("2024-10-21")),
    _chat("azure v1", "azure", _azure("v1")),
    _responses(),
    _anthropic(),
    _gemini(),
)
