"""Every error AgentFlow raises, in one tree, grouped by when it can occur.

The class name of a :class:`StepError` or an :class:`ExecutionError` is its wire ``type``.
Messages are safe to show to the caller: they never hold a credential.

    AgentFlowError
    |- ConfigError            refused at start-up
    |- SpecInvalid            the spec has problems
    |- NotSupported           valid, but this version cannot execute it
    |- NotFound, Conflict
    |- AccessError            Unauthenticated, Forbidden
    |- StoreError             StoreUnavailable, FencedOut, BlobLost
    |- StepError              a node could not do its work
    |- ExecutionError         how an execution ended, for callers that wait
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class AgentFlowError(Exception):
    """Something went wrong in AgentFlow."""

    retryable: bool = False

    def __init__(self, message: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").strip().split("\n")[0]
        super().__init__(self.message)

    @property
    def type(self) -> str:
        """The wire name of this error."""
        return type(self).__name__


class ConfigError(AgentFlowError):
    """A setting or the machine does not allow AgentFlow to start."""


class SpecInvalid(AgentFlowError):
    """Workflow validation failed."""

    def __init__(self, problems: Sequence[Any]) -> None:
        self.problems = tuple(problems)
        super().__init__("Workflow validation failed")


class NotSupported(AgentFlowError):
    """This version of AgentFlow cannot execute the feature that the workflow uses."""


class NotFound(AgentFlowError):
    """Not found."""


class Conflict(AgentFlowError):
    """The request conflicts with the current state."""


class AccessError(AgentFlowError):
    """Access was refused."""


class Unauthenticated(AccessError):
    """API key required."""


class Forbidden(AccessError):
    """The permission for this action is missing."""


class StoreError(AgentFlowError):
    """The store refused the operation."""


class StoreUnavailable(StoreError):
    """The database is away; nothing was accepted."""

    retryable = True


class FencedOut(StoreError):
    """Another coordinator owns the execution, or this one's lease has ended."""


class BlobLost(StoreError):
    """A large value is missing or damaged where it was kept."""


class StepError(AgentFlowError):
    """A node could not do its work.

    ``retryable`` says whether another attempt may help; ``after`` is the number of seconds the
    other side asked us to wait, if it did. ``uncounted`` marks errors which prove that nothing
    happened (a failed connection, a 429): they use up no attempt.
    """

    uncounted: bool = False

    def __init__(self, message: str | None = None, *, after: float | None = None) -> None:
        self.after = after
        super().__init__(message)


class ProviderRateLimited(StepError):
    """The provider answered 429: too many requests."""

    retryable = True
    uncounted = True


class ProviderUnavailable(StepError):
    """The provider answered with a server error."""

    retryable = True


class ConnectionFailed(StepError):
    """The provider could not be reached."""

    retryable = True
    uncounted = True


class CallTimeout(StepError):
    """The provider did not answer within the limit of one call."""

    retryable = True


class OutputSchemaMismatch(StepError):
    """The reply does not fit the required schema."""

    retryable = True


class WorkerLost(StepError):
    """The worker process died under the step."""

    retryable = True


class InvalidInput(StepError):
    """A required value is missing or does not meet the node's rules."""


class NoRouteTaken(StepError):
    """No route of the router matched and there is no else edge."""


class ConditionError(StepError):
    """A condition failed while it was evaluated."""


class ExpressionError(StepError):
    """An expression failed while it was evaluated."""


class IterationLimit(StepError):
    """The loop passed its bound."""


class SourceNotFound(StepError):
    """The source does not exist."""


class SourceInactive(StepError):
    """The source is switched off."""


class MissingCredential(StepError):
    """The environment variable or secret that the source names is not set."""


class ProviderAuthError(StepError):
    """The provider refused the credential."""


class ContextLengthExceeded(StepError):
    """The request is longer than the model's context window."""


class ContentFiltered(StepError):
    """The provider's content filter refused the request or the reply."""


class ProviderRejected(StepError):
    """The provider refused the request."""


class QueryRefused(StepError):
    """The statement was refused before it was executed."""


class QueryFailed(StepError):
    """The database could not execute the statement."""


class StepTimeout(StepError):
    """The step did not end within its limit."""


class UnknownOutcome(StepError):
    """A step with effects ``once`` was interrupted; whether it took effect is unknown."""


class ResourceExceeded(StepError):
    """The step needs more than the cluster has."""


class NodeFailed(StepError):
    """The node's code raised an unexpected error."""


class ExecutionError(AgentFlowError):
    """An execution did not complete."""

    def __init__(self, message: str | None = None, *, execution_id: str | None = None) -> None:
        self.execution_id = execution_id
        super().__init__(message)


class ExecutionFailed(ExecutionError):
    """The execution failed."""


class ExecutionCancelled(ExecutionError):
    """The execution was cancelled."""


class ExecutionTimedOut(ExecutionError):
    """The execution passed its time limit."""


class ExecutionLost(ExecutionError):
    """The owner of an execution without durability died."""


class EventLimit(ExecutionError):
    """The journal of an execution reached its longest permitted length."""


class Cancelled(BaseException):
    """Control flow: the attempt was cancelled. Not an Exception, so node code cannot swallow it."""


def step_error(type_name: str, message: str) -> StepError:
    """The step error of this wire name; :class:`NodeFailed` for a name that is not one."""
    for cls in _walk(StepError):
        if cls.__name__ == type_name:
            return cls(message)
    return NodeFailed(message)


def _walk(cls: type[StepError]) -> list[type[StepError]]:
    return [cls, *(found for sub in cls.__subclasses__() for found in _walk(sub))]
