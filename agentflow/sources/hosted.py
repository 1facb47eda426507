"""The hosted models, of texts and of pictures: provider -> how a connection is opened. Each provider's
own SDK is imported when the first of its sources is opened."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from typing import Any

from agentflow.addresses import Policy
from agentflow.errors import SourceNotFound
from agentflow.sources.base import Source
from agentflow.sources.connections import Opener, SourceSpec
from agentflow.sources.credentials import Credentials

Opened = Callable[..., Awaitable[Source]]

_OPENED_BY = {
    "openai": "openai",
    "openai-compatible": "openai",
    "azure": "openai",
    "vllm": "openai",
    "anthropic": "anthropic",
    "gemini": "gemini",
    "image/openai": "images_openai",
    "image/openai-compatible": "images_openai",
    "image/azure": "images_openai",
    "image/gemini": "images_gemini",
}
"""Provider -> the module that speaks its protocol, with the function ``open_<module>``; for sources of
pictures it is ``image/provider``."""


def hosted_openers(policy: Policy, credentials: Credentials) -> Mapping[str, Opener]:
    """Their openers raise SourceNotFound, naming the extra to install, where an SDK is missing."""

    async def opened(source: SourceSpec) -> Source:
        provider = f"image/{source.provider}" if source.kind == "image" else source.provider
        name = _OPENED_BY[provider]
        module = await _imported(source, name)
        open_model: Opened = getattr(module, f"open_{name}")
        return await open_model(
            source.id, source.provider, source.config, policy=policy, credentials=credentials
        )

    return dict.fromkeys(_OPENED_BY, opened)


async def _imported(source: SourceSpec, name: str) -> Any:
    """A provider's module, whose last word is also the name of its extra. It is imported beside the event
    loop: an SDK takes seconds, in which other steps go on. Raises SourceNotFound."""
    try:
        return await asyncio.to_thread(import_module, f"agentflow.sources.{name}")
    except ModuleNotFoundError as error:
        raise SourceNotFound(
            f"Source {source.id!r} needs the package {error.name}, which is not installed where "
            f"the workers run: pip install 'agentflow[{name.removeprefix('images_')}]'"
        ) from None
