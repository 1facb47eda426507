"""What can happen to an execution: one tagged union; the tags are the wire's event types.

An event is stored whole, as JSON, in the journal row's payload; ``kind``, ``step``, ``attempt`` and
``generation`` are also columns. Events record the choices that were made (edges taken, results), so
folding them never evaluates an expression, a template or node code.
Times (``at``) are seconds since the Unix epoch, UTC, read by the engine.
"""

from __future__ import annotations

from typing import Any

import msgspec

from agentflow.errors import StoreError

Json = Any


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens of one model call; ``output_tokens`` include the reasoning ones. ``estimated`` when the
    provider reported none."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    estimated: bool = False
    reasoning_tokens: int = 0

    @property
    def total(self) -> int:
        return self.input_tokens + self.output_tokens


class ModelCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """One call of a model: what it used and cost (US dollars, six places), and the provider's name of
    it. ``error``: the type of error it ended with, or Cancelled; of a chain also the calls that were
    never answered are kept, without a provider and a model."""

    source: str
    provider: str
    model: str
    usage: Usage = Usage()
    cost: float = 0.0
    request_id: str = ""
    error: str = ""

    @property
    def answered(self) -> bool:
        """Whether the provider did something for it."""
        return not self.error or self.usage.total > 0


class Worker(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where an attempt ran: process id, cluster node, pool name; ``seconds`` is its duration there."""

    pid: int
    node: str = ""
    pool: str = ""
    seconds: float = 0.0


class Blob(msgspec.Struct, frozen=True, omit_defaults=True):
    """Content that lies in the blob store: SHA-256 (hexadecimal), size (bytes) and media type."""

    sha256: str
    size: int
    mime_type: str = "application/octet-stream"

    @property
    def uri(self) -> str:
        """Its address, the same wherever it lies."""
        return f"blob:sha256:{self.sha256}"

    def as_json(self) -> dict[str, Json]:
        """As a step's result shows it: ``{uri, mime_type, size, sha256}``."""
        return {
            "uri": self.uri,
            "mime_type": self.mime_type,
            "size": self.size,
            "sha256": self.sha256,
        }


class Cached(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a result came from that was not worked for: the execution that did it, when it was kept
    (seconds since the epoch), and the ``tokens`` and ``cost`` (US dollars) that it took then."""

    execution_id: str
    at: float
    tokens: int = 0
    cost: float = 0.0


class ErrorInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """A step error as data. ``after``: seconds the other side asked us to wait."""

    type: str
    message: str
    retryable: bool = False
    uncounted: bool = False
    after: float | None = None


class _Base(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    at: float


class _StepBase(_Base, frozen=True, kw_only=True, omit_defaults=True):
    step: str
    attempt: int = 1
    generation: int = 0


class ExecutionCreated(_Base, frozen=True, kw_only=True, tag="execution.created"):
    """Accepted: the caller has the id only after this is committed. ``forked_from``: the execution whose
    steps it begins with."""

    execution_id: str
    tenant: str
    content_hash: str
    initial_state: dict[str, Json]
    metadata: dict[str, Json] = {}
    forked_from: str = ""


class ExecutionStarted(_Base, frozen=True, kw_only=True, tag="execution.started"):
    """The first step was released."""


class ExecutionWaiting(_Base, frozen=True, kw_only=True, tag="execution.waiting"):
    """Every open step waits for a person, a time or a signal."""


class ExecutionResumed(_Base, frozen=True, kw_only=True, tag="execution.resumed"):
    """The execution goes on after it waited, or by an operator's retry or release."""

    reason: str = ""


class ExecutionCompleted(_Base, frozen=True, kw_only=True, tag="execution.completed"):
    """Every step is over and none failed the execution; ``output`` is the published result."""

    output: Json = None


class ExecutionFailed(_Base, frozen=True, kw_only=True, tag="execution.failed"):
    """A step failed the execution; its partial state is kept. ``node_id`` names the node at fault."""

    error: ErrorInfo
    node_id: str | None = None


class ExecutionCancelled(_Base, frozen=True, kw_only=True, tag="execution.cancelled"):
    """Cancelled by a caller."""

    reason: str = ""


class ExecutionTimedOut(_Base, frozen=True, kw_only=True, tag="execution.timed_out"):
    """The execution passed ``settings.timeout_s``; ``limit_s`` is that limit."""

    limit_s: float


class StepStarted(_StepBase, frozen=True, kw_only=True, tag="step.started"):
    """An attempt leaves for a worker. ``counted``: indices of the incoming edges that released it, where
    the join is not ``all``: that one counts every edge. ``items``: how many a map step has.

    Steps that run inside the coordinator are recorded by their terminal event alone.
    """

    counted: tuple[int, ...] = ()
    items: int | None = None


class StepWaiting(_StepBase, frozen=True, kw_only=True, tag="step.waiting"):
    """The step waits for a person, a time or a signal, on no worker, at most until ``until``.
    ``wait_id`` names the wait; ``kind`` is human, timer or signal. ``signal``: the name of the signal;
    ``prompt``, ``form`` (a JSON Schema) and ``assignees``: what a person is asked, and who. ``counted``
    as in step.started."""

    wait_id: str
    kind: str = "timer"
    until: float | None = None
    signal: str = ""
    prompt: str = ""
    form: Json = None
    assignees: tuple[str, ...] = ()
    counted: tuple[int, ...] = ()


class StepRetrying(_StepBase, frozen=True, kw_only=True, tag="step.retrying"):
    """The attempt ended without a result; another one starts at ``at`` + ``delay_s``."""

    error: ErrorInfo
    delay_s: float = 0.0
    calls: tuple[ModelCall, ...] = ()


class StepCompleted(_StepBase, frozen=True, kw_only=True, tag="step.completed"):
    """The step has a result. ``taken``: indices of the outgoing edges chosen; the others are skipped.

    ``started_at`` and ``counted`` (as in step.started) are set for steps that run inside the
    coordinator, which have no step.started. ``stop``: this item of a map step met its ``until``.
    ``reused_from``: the execution that did the step, where a fork took it over; nothing is billed again.
    ``blobs``: content that the result refers to; it stays for as long as the execution.
    ``cached``: the result is an earlier one of the same content; nobody was called for it.
    """

    result: Json = None
    delta: dict[str, Json] = {}
    taken: tuple[int, ...] = ()
    calls: tuple[ModelCall, ...] = ()
    worker: Worker | None = None
    started_at: float | None = None
    counted: tuple[int, ...] = ()
    stop: bool = False
    reused_from: str = ""
    blobs: tuple[Blob, ...] = ()
    cached: Cached | None = None


class StepFailed(_StepBase, frozen=True, kw_only=True, tag="step.failed"):
    """The step failed for good. ``policy`` (fail, continue, skip, goto) is what was applied; for an item
    of a map step: fail, collect, skip. ``counted`` as in step.completed."""

    error: ErrorInfo
    policy: str = "fail"
    taken: tuple[int, ...] = ()
    calls: tuple[ModelCall, ...] = ()
    worker: Worker | None = None
    counted: tuple[int, ...] = ()


class StepSkipped(_StepBase, frozen=True, kw_only=True, tag="step.skipped"):
    """Too few incoming edges were taken, or a race was decided; its outgoing edges are skipped."""


class StepCancelled(_StepBase, frozen=True, kw_only=True, tag="step.cancelled"):
    """The step was open when the execution ended early; or it lost a race: ``race`` is then the key of
    the step that no longer needs it, and its outgoing edges are skipped."""

    race: str = ""


class StepTimedOut(_StepBase, frozen=True, kw_only=True, tag="step.timed_out"):
    """The step passed the node's ``timeout_s``. ``policy`` as in step.failed."""

    limit_s: float
    policy: str = "fail"
    taken: tuple[int, ...] = ()


class StepLate(_StepBase, frozen=True, kw_only=True, tag="step.late"):
    """A result that came after the step's terminal event: its usage counts, its value is never used."""

    calls: tuple[ModelCall, ...] = ()


Event = (
    ExecutionCreated
    | ExecutionStarted
    | ExecutionWaiting
    | ExecutionResumed
    | ExecutionCompleted
    | ExecutionFailed
    | ExecutionCancelled
    | ExecutionTimedOut
    | StepStarted
    | StepRetrying
    | StepWaiting
    | StepCompleted
    | StepFailed
    | StepSkipped
    | StepCancelled
    | StepTimedOut
    | StepLate
)

TERMINAL_EXECUTION = (ExecutionCompleted, ExecutionFailed, ExecutionCancelled, ExecutionTimedOut)
TERMINAL_STEP = (StepCompleted, StepFailed, StepSkipped, StepCancelled, StepTimedOut)

_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
_encoder = msgspec.json.Encoder()


def kind(event: Event) -> str:
    """The event's type on the wire and in the journal."""
    return str(event.__struct_config__.tag)


def encode(event: Event) -> bytes:
    """The journal payload."""
    return _encoder.encode(event)


def decode(payload: bytes) -> Event:
    """The event of a journal payload. Raises StoreError when it is not one this version knows."""
    try:
        return _decoder.decode(payload)
    except msgspec.DecodeError as error:
        raise StoreError(f"The journal holds an event this version cannot read: {error}") from error
