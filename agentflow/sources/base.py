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


class Tool(msgspec.Struct, frozen=True):
    """Something a model may ask for; ``parameters`` is the JSON Schema of its arguments."""

    name: str
    description: str = ""
    parameters: dict[str, Json] = {}


class ToolCall(msgspec.Struct, frozen=True):
    """A model asks for a tool. ``id`` ties the result to the call; ``signature`` is what some
    providers want back with it."""

    id: str
    name: str
    arguments: dict[str, Json] = {}
    signature: str = ""


class Message(msgspec.Struct, frozen=True):
    """One turn of a chat. ``content`` is text, or a list of parts: ``{"type": "text", "text": ...}``
    and ``{"type": "image_url", "image_url": {"url": ...}}``, where the address may be a data URL.

    A turn of role ``assistant`` may carry the ``tool_calls`` it made; one of role ``tool`` holds the
    result of the call ``tool_call_id`` names.
    """

    role: str
    content: Json
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


class ModelRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a model. None leaves a parameter to the source's configuration or default.

    ``tool_choice`` is ``auto``, ``none``, ``required`` (some tool) or the name of a tool. ``attempt``
    counts the tries of the step that calls.
    """

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
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    idempotency_key: str = ""
    attempt: int = 1
    timeout_s: float | None = None


class ModelReply(msgspec.Struct, frozen=True, kw_only=True):
    """What a model answered. Token counts are the provider's, or estimates marked as such.

    ``finish_reason`` is ``stop``, ``length``, ``tool_calls``, ``content_filter``, ``error`` (the call
    broke off) or the provider's own word. ``input_tokens`` include the cached ones, ``output_tokens``
    the reasoning ones. ``request_id`` is the provider's name of the call, if it gave one. ``cost`` in
    US dollars, six places; ``priced`` is false when no price is known for the model.
    """

    text: str
    model: str
    provider: str
    finish_reason: str = "stop"
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False
    cost: float = 0.0
    priced: bool = True
    tool_calls: tuple[ToolCall, ...] = ()
    request_id: str = ""


class Billed(Protocol):
    """What a reply of any kind of model says of its cost; see :class:`ModelReply`."""

    @property
    def model(self) -> str: ...

    @property
    def provider(self) -> str: ...

    @property
    def input_tokens(self) -> int: ...

    @property
    def output_tokens(self) -> int: ...

    @property
    def cached_tokens(self) -> int: ...

    @property
    def reasoning_tokens(self) -> int: ...

    @property
    def estimated(self) -> bool: ...

    @property
    def cost(self) -> float: ...

    @property
    def request_id(self) -> str: ...


class BilledError(Exception):
    """Carries a step error of a call that was billed all the same, with what it used."""

    def __init__(self, error: StepError, reply: Billed) -> None:
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
