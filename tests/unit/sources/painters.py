"""The providers of pictures side by side: how each is opened, and how its server says the same things."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agentflow.addresses import Policy
from agentflow.sources.credentials import Credentials
from agentflow.sources.images import ImageSource
from agentflow.sources.images_gemini import open_images_gemini
from agentflow.sources.images_openai import open_images_openai
from tests.fake_provider import Reply
from tests.gemini_wire import Refused as GeminiRefused
from tests.images_wire import Drawn, GeminiDrawn, ImagesWire, Refused
from tests.unit.sources.conftest import CANARY, LOOPBACK

Json = Any


@dataclass(frozen=True)
class Side:
    """One provider. ``drawn``: its answer with one picture; ``refused``: status and message."""

    name: str
    provider: str
    config: Callable[[ImagesWire], dict[str, Json]]
    drawn: Callable[[bytes], Reply]
    refused: Callable[..., Reply]

    async def connect(
        self, wire: ImagesWire, policy: Policy = LOOPBACK, **config: Json
    ) -> ImageSource:
        """A source of this provider that calls the wire."""
        settings = {"api_key_env": "KEY", **self.config(wire), **config}
        opened = open_images_gemini if self.provider == "gemini" else open_images_openai
        credentials = Credentials({"KEY": CANARY}, lambda name: True)
        given: Any = {"policy": policy, "credentials": credentials}
        source: Any = await opened("art", self.provider, settings, **given)
        return source


def _at(path: str, model: str) -> Callable[[ImagesWire], dict[str, Json]]:
    return lambda wire: {"model": model, "base_url": wire.address + path}


def _azure(version: str) -> Callable[[ImagesWire], dict[str, Json]]:
    return lambda wire: {
        "model": "gpt-image-1.5",
        "azure_endpoint": wire.address,
        "deployment": "painter",
        "api_version": version,
    }


def _drawn(content: bytes) -> Reply:
    return Drawn((content,))


SIDES = (
    Side("openai", "openai", _at("/v1", "gpt-image-2"), _drawn, Refused),
    Side("compatible", "openai-compatible", _at("/v1", "sdxl"), _drawn, Refused),
    Side("azure", "azure", _azure("2025-04-01-preview"), _drawn, Refused),
    Side("azure v1", "azure", _azure("v1"), _drawn, Refused),
    Side(
        "gemini",
        "gemini",
        _at("", "gemini-3.1-flash-image"),
        GeminiDrawn,
        GeminiRefused,
    ),
)
OPENAI = SIDES[0]
GEMINI = SIDES[-1]
