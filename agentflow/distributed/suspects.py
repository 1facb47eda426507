"""Which attempts may have killed their worker, and are therefore tried again alone. Pure.

A worker that dies takes every attempt with it that it had, and only one of them can be to blame. The
third loss ends a step, so nobody must be lost three times for another's fault.
"""

from __future__ import annotations

from collections.abc import Collection

from agentflow.engine.workers import Attempt

FEW = 16
"""Where a worker died with so many attempts or fewer, each is tried alone at once. More would wait too
long for their turns, and most workers die of something else: they are tried together once more."""
REMEMBERED = 1000
"""Steps; those whose next attempt never came are forgotten after so many others."""

Step = tuple[str, str]


class Suspects:
    """The steps of one pool that are to be tried alone."""

    def __init__(self) -> None:
        self._steps: dict[Step, None] = {}

    def lost(self, attempts: Collection[Attempt]) -> None:
        """A worker died under all of these."""
        if len(attempts) > FEW:
            return
        self._steps.update(dict.fromkeys(map(_step, attempts)))
        for step in list(self._steps)[: max(0, len(self._steps) - REMEMBERED)]:
            del self._steps[step]

    def alone(self, attempt: Attempt) -> bool:
        """Whether this attempt, which is about to be made, must not share its worker."""
        named = _step(attempt) in self._steps
        self._steps.pop(_step(attempt), None)
        return named or attempt.losses > 1


def _step(attempt: Attempt) -> Step:
    return attempt.execution_id, attempt.step
