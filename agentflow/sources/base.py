"""The contract of sources, and the vocabulary of model calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from agentflow.errors import StepError

Json = Any


class Source(Protocol):
    """A connection to the world outside; opened once per worker and source, shared by attempts."""

    async def close(self) -> None:
        """Give back sockets and memory."""
        ...


class Message(msgspec.Struct, frozen=True):
    """One turn of a chat; ``content`` is text or a provider-neutral list of parts."""

    role: str
    content: Json


class ModelRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a model. None leaves a parameter to the source's configuration or default."""

    messages: tuple[Message, ...]
    model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    response_schema: dict[str, Json] | None = None
    idempotency_key: str = ""
    timeout_s: float | None = None


class ModelReply(msgspec.Struct, frozen=True, kw_only=True):
    """What a model answered. Token counts are the provider's, or estimates marked as such.

    ``cost`` in US dollars, six places; ``priced`` is false when no price is known for the model.
    """

    text: str
    model: str
    provider: str
    finish_reason: str = "stop"
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    estimated: bool = False
    cost: float = 0.0
    priced: bool = True


class BilledError(Exception):
    """Carries a step error of a call that was billed all the same, with what it used."""

    def __init__(self, error: StepError, reply: ModelReply) -> None:
        self.error = error
        self.reply = reply
        super().__init__(error.message)


class ModelSource(Source, Protocol):
    """A source of kind ``llm``."""

    async def generate(
        self, request: ModelRequest, on_text: Callable[[str], None] | None = None
    ) -> ModelReply:
        """Call the model once; ``on_text`` receives pieces of the reply as they come.

        Raises StepError; BilledError when the provider billed a call that failed.
        """
        ...
