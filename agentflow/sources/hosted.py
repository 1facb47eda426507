"""The hosted language models: provider -> how a connection is opened. Each provider's own SDK is
imported when the first of its sources is opened."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from agentflow.addresses import Policy
from agentflow.errors import SourceNotFound
from agentflow.sources.base import Source
from agentflow.sources.connections import Opener, SourceSpec
from agentflow.sources.credentials import Credentials


def hosted_openers(policy: Policy, credentials: Credentials) -> Mapping[str, Opener]:
    """Their openers raise SourceNotFound, naming the extra to install, where an SDK is missing."""
    given: dict[str, Any] = {"policy": policy, "credentials": credentials}

    async def chat(source: SourceSpec) -> Source:
        module = await _imported(source, "openai")
        opened: Source = await module.open_openai(
            source.id, source.provider, source.config, **given
        )
        return opened

    async def anthropic(source: SourceSpec) -> Source:
        module = await _imported(source, "anthropic")
        opened: Source = await module.open_anthropic(source.id, source.config, **given)
        return opened

    async def gemini(source: SourceSpec) -> Source:
        module = await _imported(source, "gemini")
        opened: Source = await module.open_gemini(source.id, source.config, **given)
        return opened

    return {
        "openai": chat,
        "openai-compatible": chat,
        "azure": chat,
        "vllm": chat,
        "anthropic": anthropic,
        "gemini": gemini,
    }


async def _imported(source: SourceSpec, name: str) -> Any:
    """A provider's module, which is also the name of its extra. It is imported beside the event loop:
    an SDK takes seconds, in which other steps go on. Raises SourceNotFound."""
    try:
        return await asyncio.to_thread(import_module, f"agentflow.sources.{name}")
    except ModuleNotFoundError as error:
        raise SourceNotFound(
            f"Source {source.id!r} needs the package {error.name}, which is not installed where "
            f"the workers run: pip install 'agentflow[{name}]'"
        ) from None
