"""What a caller's request or command makes happen."""

from __future__ import annotations

from collections.abc import Iterable

from agentflow.execution.happenings import (
    Accepted,
    CancelAsked,
    Happening,
    ReleaseAsked,
    RetryAsked,
)
from agentflow.execution.journal import Command, Submission

CANCEL, RETRY, RELEASE, SIGNAL = "cancel", "retry", "release", "signal"


def accepted(submission: Submission, at: float) -> Accepted:
    """The happening of a submission that is accepted now."""
    return Accepted(
        at=at,
        tenant=submission.tenant,
        initial_state=submission.initial_state,
        metadata=submission.metadata,
        forked_from=submission.forked_from,
        reused=submission.reused,
    )


def asked_by(command: Command, at: float) -> Happening:
    """The happening of a command that is obeyed now."""
    if command.kind == RETRY:
        return RetryAsked(at=at)
    if command.kind == RELEASE:
        return ReleaseAsked(at=at)
    return CancelAsked(at=at, reason=str(command.payload.get("reason") or ""))


def by_execution(commands: Iterable[Command]) -> dict[str, list[Command]]:
    """Execution id -> its commands, in the order in which they were given."""
    found: dict[str, list[Command]] = {}
    for command in commands:
        found.setdefault(command.execution_id, []).append(command)
    return found
