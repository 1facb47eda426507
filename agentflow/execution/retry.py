"""When a failed attempt is followed by another: the retry policy and its delays."""

from __future__ import annotations

from agentflow.execution.events import ErrorInfo
from agentflow.execution.state import Step
from agentflow.plan.plan import PlanNode, Retry

MAX_LOSSES = 3
"""The third loss of a step's worker or owner ends it."""

MAX_UNCOUNTED_WAIT_S = 600.0
"""Seconds a step may wait, all in all, after errors which prove that nothing happened."""


MIN_UNCOUNTED_WAIT_S = 0.1
"""The shortest of these waits, so that their number has a bound too."""


def delay(policy: Retry, tries: int, jitter: float, after: float | None) -> float:
    """Seconds until the next try: exponential back-off with full jitter (a factor in [0, 1)).

    A wait that the other side asked for overrides a shorter delay.
    """
    try:
        backoff = min(policy.max_s, policy.initial_s * policy.multiplier ** max(0, tries - 1))
    except OverflowError:
        backoff = policy.max_s
    if policy.jitter:
        backoff *= jitter
    return max(backoff, after or 0.0)


def next_delay(
    node: PlanNode, step: Step, error: ErrorInfo, jitter: float, *, called: bool = False
) -> float | None:
    """Seconds until the step is tried again, or None when it has failed for good. ``called``: a call of
    the attempt was answered before another one failed, so something has happened."""
    if error.type == "WorkerLost":
        lost_for_good = node.effects == "once" or step.losses + 1 >= MAX_LOSSES
        return None if lost_for_good else 0.0
    pause = delay(node.retry, step.attempt, jitter, error.after)
    if called and node.effects == "once":
        return None
    if error.uncounted:
        pause = max(pause, MIN_UNCOUNTED_WAIT_S)
        return pause if step.waited_s + pause <= MAX_UNCOUNTED_WAIT_S else None
    if node.effects == "once" or not error.retryable:
        return None
    return pause if step.failures + 1 < node.retry.max_attempts else None
