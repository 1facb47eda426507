"""What a caller's command makes happen."""

from __future__ import annotations

from agentflow.execution.happenings import CancelAsked, Happening, ReleaseAsked, RetryAsked
from agentflow.execution.journal import Command

CANCEL, RETRY, RELEASE = "cancel", "retry", "release"


def asked_by(command: Command, at: float) -> Happening:
    """The happening of a command that is obeyed now."""
    if command.kind == RETRY:
        return RetryAsked(at=at)
    if command.kind == RELEASE:
        return ReleaseAsked(at=at)
    return CancelAsked(at=at, reason=str(command.payload.get("reason") or ""))
