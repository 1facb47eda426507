"""What the engine tells the state machine. Time and chance arrive in these, never from outside.

A happening is not an event: ``decide`` turns it into the events that are journaled. ``taken`` holds
edge indices that the engine chose by evaluating conditions; the machine never evaluates.
"""

from __future__ import annotations

from typing import Any

import msgspec

from agentflow.execution.events import Blob, Cached, ErrorInfo, Event, ModelCall, Worker

Json = Any


class _Happening(msgspec.Struct, frozen=True, kw_only=True):
    at: float


class Accepted(_Happening, frozen=True, kw_only=True):
    """A caller's request to execute. ``reused``: completions and skips with which a fork begins, in
    order; ``forked_from``: the execution they are from."""

    tenant: str
    initial_state: dict[str, Json]
    metadata: dict[str, Json] = {}
    forked_from: str = ""
    reused: tuple[Event, ...] = ()


class Finished(_Happening, frozen=True, kw_only=True):
    """An attempt has a result. ``inline`` when it ran inside the coordinator. ``stop``: this item of a
    map step met the ``until`` of the node. ``cached`` as in step.completed."""

    step: str
    attempt: int = 1
    generation: int = 0
    result: Json = None
    delta: dict[str, Json] = {}
    taken: tuple[int, ...] = ()
    calls: tuple[ModelCall, ...] = ()
    worker: Worker | None = None
    inline: bool = False
    stop: bool = False
    blobs: tuple[Blob, ...] = ()
    cached: Cached | None = None


class Broke(_Happening, frozen=True, kw_only=True):
    """An attempt ended without a result. ``jitter`` in [0, 1) spreads the next try; ``taken`` are the
    edges to take when the node continues after errors."""

    step: str
    attempt: int = 1
    generation: int = 0
    error: ErrorInfo
    jitter: float = 0.0
    taken: tuple[int, ...] = ()
    calls: tuple[ModelCall, ...] = ()
    worker: Worker | None = None
    inline: bool = False


class Due(_Happening, frozen=True, kw_only=True):
    """The back-off of a step has passed, or the time until which it waits has come."""

    step: str
    attempt: int
    generation: int = 0


class Expanded(_Happening, frozen=True, kw_only=True):
    """The list of a map step was evaluated: it has this many items."""

    step: str
    items: int


class Parked(_Happening, frozen=True, kw_only=True):
    """A step waits for a person, a time or a signal, at most until ``until``. The rest as in
    step.waiting."""

    step: str
    attempt: int = 1
    generation: int = 0
    wait_id: str
    kind: str = "timer"
    until: float | None = None
    signal: str = ""
    prompt: str = ""
    form: Json = None
    assignees: tuple[str, ...] = ()


class RetryAsked(_Happening, frozen=True, kw_only=True):
    """An operator asked to go on from where the execution failed, timed out or was cancelled."""


class ReleaseAsked(_Happening, frozen=True, kw_only=True):
    """An operator let the execution out of quarantine; its new owner has taken it over."""


class StepLimit(_Happening, frozen=True, kw_only=True):
    """A step has been open for its node's ``timeout_s``."""

    step: str
    generation: int = 0
    taken: tuple[int, ...] = ()


class ExecutionLimit(_Happening, frozen=True, kw_only=True):
    """The execution has run for ``settings.timeout_s``."""


class CancelAsked(_Happening, frozen=True, kw_only=True):
    """A caller asked to cancel."""

    reason: str = ""


class TakenOver(_Happening, frozen=True, kw_only=True):
    """A new owner has folded the journal. ``adopted``: steps whose attempt it found running, or ended
    with its report kept; attempts of the others are lost. ``taken``: step -> edges to take when the
    loss ends it and its node continues after errors. ``released``: an operator let the execution out
    of quarantine."""

    taken: dict[str, tuple[int, ...]] = {}
    adopted: frozenset[str] = frozenset()


class Concluded(_Happening, frozen=True, kw_only=True):
    """Every step is over and the published output was evaluated, or failed to be. With an error also:
    the journal cannot hold what the execution did next, and it fails where its journal ends."""

    output: Json = None
    error: ErrorInfo | None = None


Happening = (
    Accepted
    | Finished
    | Broke
    | Due
    | Expanded
    | Parked
    | RetryAsked
    | ReleaseAsked
    | StepLimit
    | ExecutionLimit
    | CancelAsked
    | TakenOver
    | Concluded
)
