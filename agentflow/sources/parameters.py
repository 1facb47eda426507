"""How a model request and its source's configuration become the parameters of one call."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from agentflow.sources.base import Message, ModelRequest

Json = Any

TEMPERATURE = 0.7
MAX_TOKENS = 4096
TOP_P = 1.0
TIMEOUT_S = 120.0


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of one call: the node's, else the source's, else the defaults.

    ``given`` names those that an author set; ``timeout_s`` in seconds bounds the whole call.
    """

    model: str
    temperature: float
    max_tokens: int
    top_p: float
    stop: tuple[str, ...]
    seed: int | None
    frequency_penalty: float | None
    presence_penalty: float | None
    timeout_s: float
    given: frozenset[str]


def parameters(request: ModelRequest, config: Mapping[str, Json]) -> Parameters:
    """The parameters of a call of this source."""

    def choose(name: str, default: Json = None) -> Json:
        own = getattr(request, name)
        if own is not None and own != ():
            return own
        value = config.get(name)
        return default if value is None else value

    stop = choose("stop", ())
    names = ("temperature", "max_tokens", "top_p")
    return Parameters(
        model=str(choose("model", "")),
        temperature=float(choose("temperature", TEMPERATURE)),
        max_tokens=int(choose("max_tokens", MAX_TOKENS)),
        top_p=float(choose("top_p", TOP_P)),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        seed=choose("seed"),
        frequency_penalty=choose("frequency_penalty"),
        presence_penalty=choose("presence_penalty"),
        timeout_s=float(choose("timeout_s", TIMEOUT_S)),
        given=frozenset(name for name in names if choose(name) is not None),
    )


def estimated_tokens(text: str) -> int:
    """Tokens of a text when nobody counted them: characters / 4, rounded up."""
    return math.ceil(len(text) / 4)


def estimated_input(messages: tuple[Message, ...]) -> int:
    """Estimated tokens of a chat's text."""
    return sum(estimated_tokens(_text(message.content)) for message in messages)


def _text(content: Json) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list | tuple) else ()
    return "".join(str(part.get("text") or "") for part in parts if isinstance(part, Mapping))
