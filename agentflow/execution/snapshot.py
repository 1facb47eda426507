"""A fold as bytes, and back: a shortcut for whoever goes on from a long journal.

Kept is what the events say. Notes of ``decide`` and of the views are left out: whoever goes on makes them
anew. The content is a digest of the rest, by which a damaged one is found out; one line about the
execution; and lines about its steps, some on each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice
from operator import attrgetter
from typing import Any

import msgspec

from agentflow.errors import StoreError
from agentflow.execution.events import Cached, ErrorInfo, ModelCall, Worker
from agentflow.execution.keys import map_key_of
from agentflow.execution.state import ExecutionState, Items, Step
from agentflow.plan.plan import Plan

Json = Any

PIECE = 250
"""Steps on one line: what is encoded, or decoded, without a pause."""
NOTES = frozenset(
    {"touched", "released", "evaluating", "ready", "known", "plan", "execution_id", "fields"}
)
"""What of a state is not kept: it is made anew, or comes from the plan."""
_DIGEST = 2 * hashlib.sha256().digest_size


class StepLine(msgspec.Struct, frozen=True, array_like=True):
    """A step. ``past`` in hexadecimal; ``error_from`` by its key."""

    key: str
    node: int
    status: str
    generation: int
    attempt: int
    failures: int
    losses: int
    waited_s: float
    due_at: float | None
    started_at: float
    ended_at: float | None
    result: Json
    delta: dict[str, Json]
    calls: list[ModelCall]
    error: ErrorInfo | None
    met: bool
    worker: Worker | None
    cached: Cached | None
    iterations: tuple[int, ...]
    index: int | None
    ordinal: int
    past: str
    error_from: str | None


class ItemsLine(msgspec.Struct, frozen=True, array_like=True):
    """The items of a map step; their steps are among the steps."""

    count: int
    open: int
    stopped: bool


class StateLine(msgspec.Struct, frozen=True):
    """An execution. ``steps``: how many there are; ``edges`` as numbers, ``carried`` in hexadecimal,
    ``kept`` and ``sent_back`` by key."""

    status: str
    seq: int
    initial_state: dict[str, Json]
    metadata: dict[str, Json]
    created_at: float
    started_at: float | None
    clock_at: float
    ended_at: float | None
    error: ErrorInfo | None
    error_node: str | None
    output: Json
    steps: int
    kept: dict[int, list[str]]
    items: dict[str, ItemsLine]
    unfinished: int
    parked: int
    edges: list[int]
    unresolved: list[int]
    taken_in: list[int]
    arrived: dict[int, list[int]]
    iterations: list[int]
    open_parts: list[int]
    carried: list[str]
    sent_back: list[str | None]


_APART = frozenset({"steps", "kept", "items", "edges", "carried", "sent_back"})
_ALIKE = tuple(name for name in StateLine.__struct_fields__ if name not in _APART)
_of_step = attrgetter(*StepLine.__struct_fields__[:-2])
_encode = msgspec.json.Encoder().encode
_decode_state = msgspec.json.Decoder(StateLine).decode
_decode_steps = msgspec.json.Decoder(list[StepLine]).decode


def encoded(state: ExecutionState) -> Iterator[bytes]:
    """The lines of a state, which must not change meanwhile."""
    kept = {name: getattr(state, name) for name in _ALIKE}
    items = {k: ItemsLine(of.count, of.open, of.stopped) for k, of in state.items.items()}
    yield _encode(
        StateLine(
            **kept,
            steps=len(state.steps),
            kept={node: [step.key for step in steps] for node, steps in state.kept.items()},
            items=items,
            edges=list(state.edges),
            carried=[f"{past:x}" for past in state.carried],
            sent_back=[None if step is None else step.key for step in state.sent_back],
        )
    )
    steps = iter(state.steps.values())
    while piece := list(islice(steps, PIECE)):
        yield _encode([_line(step) for step in piece])


def sealed(lines: list[bytes]) -> bytes:
    """The content that these lines make up."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(b"\n")
        digest.update(line)
    return b"\n".join([digest.hexdigest().encode(), *lines])


def opened(content: bytes) -> list[memoryview]:
    """The lines of a content. Raises StoreError where it is damaged."""
    whole = memoryview(content)
    begins = _DIGEST
    if hashlib.sha256(whole[begins:]).hexdigest().encode() != content[:begins]:
        raise StoreError("A snapshot is damaged")
    lines: list[memoryview] = []
    while begins < len(content):
        ends = content.find(b"\n", begins + 1)
        ends = len(content) if ends < 0 else ends
        lines.append(whole[begins + 1 : ends])
        begins = ends
    return lines


def decoded(
    plan: Plan, execution_id: str, lines: Sequence[bytes | memoryview]
) -> Iterator[ExecutionState]:
    """The state after each line, so that a caller can pause; the last one is whole.

    Raises StoreError where they tell of something else.
    """
    try:
        yield from _decoded(plan, execution_id, lines)
    except (msgspec.DecodeError, ValueError, LookupError) as error:
        raise StoreError(f"A snapshot cannot be read: {error}") from error


def _decoded(
    plan: Plan, execution_id: str, lines: Sequence[bytes | memoryview]
) -> Iterator[ExecutionState]:
    head = _decode_state(lines[0])
    state = ExecutionState(plan, execution_id)
    told = (len(head.edges), len(head.taken_in), len(head.carried))
    if told != (len(plan.edges), len(plan.nodes), len(plan.loops)):
        raise ValueError("it is of another plan")
    for name in _ALIKE:
        setattr(state, name, getattr(head, name))
    state.edges = bytearray(head.edges)
    state.carried = [int(past, 16) for past in head.carried]
    for key, of in head.items.items():
        state.items[key] = items = Items(of.count, {})
        items.open, items.stopped = of.open, of.stopped
    yield state
    failed: list[tuple[Step, str]] = []
    for line in lines[1:]:
        for row in _decode_steps(line):
            step = _step(state, row)
            if row.error_from is not None:
                failed.append((step, row.error_from))
        yield state
    if len(state.steps) != head.steps:
        raise ValueError(f"it has {len(state.steps)} steps of {head.steps}")
    for step, key in failed:
        step.error_from = state.steps[key]
    state.kept = {node: [state.steps[key] for key in keys] for node, keys in head.kept.items()}
    state.sent_back = [None if key is None else state.steps[key] for key in head.sent_back]


def _line(step: Step) -> tuple[Any, ...]:
    behind = step.error_from
    return (*_of_step(step), f"{step.past:x}", None if behind is None else behind.key)


def _step(state: ExecutionState, row: StepLine) -> Step:
    """The step of a line, put where it belongs."""
    step = Step(row.key, row.node, row.started_at)
    step.status, step.generation, step.attempt = row.status, row.generation, row.attempt
    step.failures, step.losses, step.waited_s = row.failures, row.losses, row.waited_s
    step.due_at, step.ended_at = row.due_at, row.ended_at
    step.result, step.delta, step.calls = row.result, row.delta, row.calls
    step.error, step.met, step.worker = row.error, row.met, row.worker
    step.cached = row.cached
    step.iterations, step.index, step.ordinal = row.iterations, row.index, row.ordinal
    step.past = int(row.past, 16)
    state.steps[step.key] = step
    if step.index is None:
        state.visits.setdefault(step.node, []).append(step)
    else:
        state.items[map_key_of(step.key)].steps[step.index] = step
    return step
