"""What an execution was: its steps, and which features of the language it really used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from agentflow.plan.plan import Plan
from tests.oracle.workflows import RULES

Json = Any
FEATURES = (
    "skipped branches",
    "joins of unequal length",
    "loops",
    "nested loops",
    "goto",
    "continue",
    "skip",
    *(f"merge by {rule}" for rule in RULES),
)


class Happened(msgspec.Struct, frozen=True):
    """One step that is over. ``counted``: the steps whose edges released it."""

    node: str
    iterations: tuple[int, ...]
    status: str
    counted: tuple[str, ...]
    delta: dict[str, Json]
    error: str | None = None


def used(plan: Plan, steps: dict[str, Happened]) -> set[str]:
    """The features that an execution used, by what became of its steps, in canonical order."""
    found = set()
    ran = {key: step for key, step in steps.items() if step.status != "skipped"}
    if len(ran) < len(steps):
        found.add("skipped branches")
    if _unequal(ran):
        found.add("joins of unequal length")
    if any(max(step.iterations, default=1) > 1 for step in ran.values()):
        found.add("loops")
    if any(len(step.iterations) > 1 and step.iterations[-1] > 1 for step in ran.values()):
        found.add("nested loops")
    failed = [step for step in ran.values() if step.error is not None]
    found |= {plan.node(step.node).on_error for step in failed} - {"fail"}
    written = Counter(
        name for step in ran.values() for name, value in step.delta.items() if value is not None
    )
    found |= {f"merge by {rule}" for rule in RULES if written[f"f_{rule}"] > 1}
    return found


def _unequal(ran: dict[str, Happened]) -> bool:
    """Whether some step was released by branches of different length."""
    length: dict[str, int] = {}
    unequal = False
    for key, step in ran.items():
        branches = [length[other] for other in step.counted if other in length]
        length[key] = 1 + max(branches, default=0)
        unequal = unequal or len(set(branches)) > 1
    return unequal


def table(counts: Counter[str], cases: int) -> str:
    """How often each feature was used, for people."""
    rows = (f"{feature:<24} {counts[feature]:>5} of {cases}" for feature in FEATURES)
    return "\n".join(rows)


def rare(counts: Counter[str], cases: int, share: float = 0.2) -> list[str]:
    """The features that too few executions used."""
    return [feature for feature in FEATURES if counts[feature] < share * cases]


def count(sets: Iterable[Sequence[str] | set[str]]) -> Counter[str]:
    return Counter(feature for found in sets for feature in found)
