"""What a batch of appends writes: its rows, column by column, as the statements of the journal take them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from agentflow.execution.events import (
    Blob,
    Event,
    ExecutionCompleted,
    ExecutionCreated,
    ExecutionResumed,
    ExecutionStarted,
    ModelCall,
    StepCompleted,
    StepLate,
    StepWaiting,
    encode,
    kind,
)
from agentflow.execution.journal import Append, Submission
from agentflow.store.blobs_references import LIMIT, Unencoded, holds_long_text
from agentflow.store.rows import execution_uuid, seal, tenant_uuid
from agentflow.store.sealing import Columns, Owner
from agentflow.store.waits import OPENED_COLUMNS, opened

RETENTION_DAYS = 90
"""How long an execution is kept after its end, where its workflow does not say."""
LONGEST_DAYS = 1_000_000
"""More than that no calendar of the database holds."""
LEVELS, WIDTH = 3, 64
"""How far down, and into objects of how many fields, a value is searched for a long text."""

Json = Any


def started_at(append: Append) -> float | None:
    """When the execution was set going by this append, if it was."""
    for event in append.events:
        if isinstance(event, (ExecutionStarted, ExecutionResumed)):
            return event.at
    return None


class Rows(NamedTuple):
    """What a batch writes, column by column, each column as long as the table's part has rows."""

    events: list[list[object]]
    accepted: list[list[object]]
    over: list[list[object]]
    steps: list[list[object]]
    waits: list[list[object]]

    @classmethod
    def of(cls, batch: Sequence[Append]) -> Rows:
        """The rows of a batch; every value is encoded, but for those that hold a long text."""
        accepted = [append for append in batch if append.accept]
        over = [append for append in batch if append.outcome]
        waiting = [append for append in batch if StepWaiting in map(type, append.events)]
        return cls(
            _event_columns(batch),
            _accept_columns(accepted),
            _outcome_columns(over),
            _step_columns(over),
            columns([row for append in waiting for row in opened(append)], OPENED_COLUMNS),
        )

    @property
    def large(self) -> bool:
        """Whether some value is too large for a row."""
        held: Any = (
            self.events[6],
            *self.accepted[6:8],
            *self.over[2:5],
            self.steps[7],
            self.waits[9],
        )
        return any(max(map(len, filter(None, each)), default=0) > LIMIT for each in held)

    def values(self, batch: Sequence[Append]) -> Iterator[Columns]:
        """The columns that hold values, each row with whose it is."""
        tenants = {
            execution_uuid(append.execution_id): tenant_uuid(append.tenant) for append in batch
        }
        groups = ((self.events, 0, (6,)), (self.accepted, 3, (6, 7)), (self.over, 0, (2, 3, 4)))
        for group, key, values in (*groups, (self.steps, 0, (7,)), (self.waits, 0, (9,))):
            keys: list[Any] = group[key]
            yield Columns([Owner(tenants[each], each) for each in keys], group, values)


def kept_blobs(batch: Sequence[Append]) -> Iterator[tuple[Owner, Blob]]:
    """What the completed steps refer to, each with whose it is."""
    for append in batch:
        named = [append.outcome.blobs] if append.outcome else []
        named += [event.blobs for event in append.events if isinstance(event, StepCompleted)]
        if any(named):
            owner = Owner(tenant_uuid(append.tenant), execution_uuid(append.execution_id))
            yield from ((owner, blob) for blobs in named for blob in blobs)


def columns(rows: Sequence[tuple[object, ...]], width: int) -> list[list[object]]:
    """Rows as columns, also where there are none."""
    return [[row[index] for row in rows] for index in range(width)]


def _event_columns(batch: Sequence[Append]) -> list[list[object]]:
    rows: list[tuple[object, ...]] = []
    for append in batch:
        key = execution_uuid(append.execution_id)
        for seq, event in enumerate(append.events, append.first_seq):
            rows.append((key, seq, *_event_row(event)))
    return columns(rows, 8)


def _event_row(event: Event) -> tuple[object, ...]:
    step = getattr(event, "step", None)
    attempt, generation = getattr(event, "attempt", None), getattr(event, "generation", None)
    return kind(event), step, attempt, generation, _payload(event), event.at


def _payload(event: Event) -> bytes | Unencoded:
    if type(event) is StepCompleted:
        large = _holds_long_text(event.delta) or _holds_long_text(event.result)
    elif type(event) is ExecutionCreated:
        large = _holds_long_text(event.initial_state)
    else:
        large = type(event) is ExecutionCompleted and _holds_long_text(event.output)
    return Unencoded(event) if large else encode(event)


def _value(value: Json) -> bytes | Unencoded:
    return Unencoded(value) if _holds_long_text(value) else seal(value)


def _holds_long_text(value: Json) -> bool:
    """As far as can be told without a long look: it is asked on the loop."""
    return bool(value) and holds_long_text(value, LEVELS, WIDTH)


def _accept_columns(accepted: Sequence[Append]) -> list[list[object]]:
    rows: list[tuple[object, ...]] = []
    for append in accepted:
        submission = append.accept
        assert submission is not None
        rows.append(
            (
                tenant_uuid(submission.tenant),
                submission.content_hash,
                seal(submission.spec),
                execution_uuid(submission.execution_id),
                submission.workflow_name,
                submission.priority,
                _value(submission.initial_state),
                seal(submission.metadata),
                submission.trace_id,
                append.events[0].at,
                started_at(append),
                _retention_days(submission),
            )
        )
    return columns(rows, 12)


def _retention_days(submission: Submission) -> int:
    settings = submission.spec.get("settings") or {}
    return min(int(settings.get("retention_days", RETENTION_DAYS)), LONGEST_DAYS)


def late_rows(batch: Sequence[Append]) -> list[tuple[object, ...]]:
    """What results that came after everything else have used: (execution, tokens, dollars).

    An outcome in the same batch holds what came before it.
    """
    calls: dict[str, list[ModelCall]] = {}
    for append in batch:
        if append.outcome:
            calls.pop(append.execution_id, None)
            continue
        for event in append.events:
            if isinstance(event, StepLate):
                calls.setdefault(append.execution_id, []).extend(event.calls)
    return [
        (
            execution_uuid(execution),
            sum(call.usage.total for call in made),
            sum(call.cost for call in made),
        )
        for execution, made in calls.items()
    ]


def _outcome_columns(over: Sequence[Append]) -> list[list[object]]:
    rows: list[tuple[object, ...]] = []
    for append in over:
        outcome = append.outcome
        assert outcome is not None
        rows.append(
            (
                execution_uuid(append.execution_id),
                outcome.status,
                _value(outcome.final_state),
                _value(outcome.output),
                None if outcome.error is None else seal(outcome.error),
                outcome.tokens_used,
                outcome.cost,
                outcome.execution_time,
                outcome.nodes_executed,
                outcome.ended_at,
            )
        )
    return columns(rows, 10)


def _step_columns(over: Sequence[Append]) -> list[list[object]]:
    rows: list[tuple[object, ...]] = []
    for append in over:
        key, tenant = execution_uuid(append.execution_id), tenant_uuid(append.tenant)
        for position, step in enumerate(append.outcome.steps if append.outcome else ()):
            name = str(step["step"])
            node = str(step.get("node_id", name))
            generation, status = int(step.get("generation", 0)), str(step.get("status", ""))
            rows.append((key, tenant, position, name, generation, node, status, seal(step)))
    return columns(rows, 8)
