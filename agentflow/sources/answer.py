"""What came back of one call so far, whatever protocol it came in, and what it is worth."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from agentflow.errors import ContentFiltered, OutputSchemaMismatch, StepError
from agentflow.sources import prices
from agentflow.sources.base import BilledError, ModelReply, ModelRequest, ToolCall
from agentflow.sources.credentials import masked
from agentflow.sources.jsontext import read_json
from agentflow.sources.parameters import Parameters, estimated_input, estimated_tokens
from agentflow.sources.text import Pieces, well_formed

Json = Any
OnText = Callable[[str], None]


class Counts(NamedTuple):
    """Tokens as a provider counted them: ``input`` includes ``cached``, ``output`` ``reasoning``."""

    input: int
    output: int
    cached: int = 0
    reasoning: int = 0


class Answer:
    """One call's answer, whole or as it streams in; the sources fill it."""

    def __init__(
        self,
        provider: str,
        base_url: str,
        price: Mapping[str, Json] | None,
        request: ModelRequest,
        chosen: Parameters,
        *,
        own_address: bool,
    ) -> None:
        """``own_address``: whether ``base_url`` is where the provider itself serves, at its prices."""
        self.provider = provider
        self.where = f"Model {chosen.model!r} at {shown(base_url)}"
        self.chosen = chosen
        self.text = ""
        self.refusal = ""
        self.finish_reason = ""
        self.model = ""
        self.request_id = ""
        self.counts: Counts | None = None
        self._priced_at = None if own_address else base_url
        self._price = price
        self._request = request
        self._pieces = Pieces()
        self._calls: dict[Json, list[str]] = {}

    @property
    def calls(self) -> int:
        """How many tool calls have begun so far."""
        return len(self._calls)

    @property
    def began(self) -> bool:
        """Whether the model had answered anything, or its tokens were counted."""
        return bool(self.text or self._calls or self.counts)

    def take(self, piece: Json, on_text: OnText) -> None:
        """Add a piece of streamed text, and pass it on."""
        self._add(self._pieces.take(piece), on_text)

    def end(self, on_text: OnText) -> None:
        """The streamed text is over: what was held back of it is added."""
        self._add(self._pieces.rest(), on_text)

    def _add(self, piece: str, on_text: OnText) -> None:
        if piece:
            self.text += piece
            on_text(piece)

    def named(self, model: Json) -> None:
        """The provider says which model answered."""
        if isinstance(model, str) and model:
            self.model = well_formed(model)

    def finished(self, reason: Json) -> None:
        """The provider says why the reply ends; the protocol's word is already made ours."""
        if reason:
            self.finish_reason = well_formed(str(reason))

    def call(
        self, place: Json, call_id: Json, name: Json, arguments: Json, signature: Json = None
    ) -> None:
        """Add a tool call, or a piece of one: pieces with the same ``place`` belong together."""
        parts = self._calls.setdefault(place, ["", "", "", ""])
        for index, piece in enumerate((call_id, name, arguments, signature)):
            parts[index] += well_formed(piece) if isinstance(piece, str) else ""

    def reply(self) -> ModelReply:
        """The finished reply. Raises ContentFiltered, OutputSchemaMismatch."""
        if self.finish_reason == "content_filter":
            why = f": {masked(self.refusal)}" if self.refusal else ""
            raise ContentFiltered(
                f"The content filter of {self.where} stopped the reply{why}; change the prompt"
            )
        if self.refusal and not self.text:
            raise ContentFiltered(f"{self.where} refused: {masked(self.refusal)}")
        return self._reply(self._tool_calls())

    def so_far(self) -> ModelReply:
        """What came back, with its usage and cost; estimated where the provider did not say."""
        return self._reply(())

    def billed(self, error: StepError) -> StepError | BilledError:
        """The error, naming model and address; as a billed one if the model had answered something
        before it."""
        if self.where not in error.message:
            error = type(error)(f"{self.where}: {error.message}", after=error.after)
        return BilledError(error, self.so_far()) if self.began else error

    def _tool_calls(self) -> tuple[ToolCall, ...]:
        found = []
        for place, (call_id, name, arguments, signature) in self._calls.items():
            try:
                given = read_json(arguments or "{}")
            except (ValueError, RecursionError):
                given = None
            if not isinstance(given, dict):
                raise OutputSchemaMismatch(
                    f"{self.where} called the tool {name[:100]!r} with arguments that are no JSON "
                    "object"
                )
            found.append(ToolCall(call_id or f"call_{place}", name, given, signature))
        return tuple(found)

    def _reply(self, tool_calls: tuple[ToolCall, ...]) -> ModelReply:
        counts, estimated = self.counts, self.counts is None
        if counts is None:
            written = self.text + "".join(parts[2] for parts in self._calls.values())
            counts = Counts(estimated_input(self._request.messages), estimated_tokens(written))
        model = self.model or self.chosen.model
        cost, priced = prices.cost(
            provider=self.provider,
            model=model,
            base_url=self._priced_at,
            price=self._price,
            input_tokens=counts.input,
            output_tokens=counts.output,
            cached_tokens=counts.cached,
        )
        return ModelReply(
            text=self.text,
            model=model,
            provider=self.provider,
            finish_reason=self.finish_reason or "error",
            input_tokens=counts.input,
            output_tokens=counts.output,
            cached_tokens=counts.cached,
            reasoning_tokens=counts.reasoning,
            estimated=estimated,
            cost=cost,
            priced=priced,
            tool_calls=tool_calls,
            request_id=self.request_id,
        )


def counted(*numbers: Json) -> Counts | None:
    """The counts that a provider reported; None if they are not counts. Missing ones are 0, but the
    first two must be there."""
    if numbers[0] is None or numbers[1] is None:
        return None
    given = [0 if number is None else number for number in numbers]
    if not all(type(number) is int and number >= 0 for number in given):
        return None
    return Counts(*given)


def shown(base_url: str) -> str:
    """A base URL without user info and query, as error messages name it."""
    return re.sub(r"//[^/@]*@", "//", base_url.partition("?")[0]).rstrip("/")


def stated_id(headers: Mapping[str, str], *names: str) -> str:
    """The provider's id of a request, from the first of these headers that is there."""
    found = next((headers[name] for name in names if headers.get(name)), "")
    return masked(found, limit=200) if found else ""


def not_a_stream(headers: Mapping[str, str]) -> str:
    """What came instead of a stream, as the end of an error message."""
    kind = headers.get("content-type", "").partition(";")[0].strip()
    if kind == "text/event-stream":
        return ""
    came = masked(kind, (), 60) or "an answer without a content type"
    return f": {came} came, not an event stream; check the source's base_url"
