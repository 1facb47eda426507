"""Plans by content hash: compiled once, shared by every execution of the same version."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from agentflow.plan.compile import compile_plan
from agentflow.plan.plan import Plan

Json = Any


class Plans:
    """A bounded cache; the least recently used plan goes first. Loss is harmless."""

    def __init__(self, size: int = 1000) -> None:
        self._size = size
        self._plans: OrderedDict[str, Plan] = OrderedDict()

    def of(self, content_hash: str, spec: dict[str, Json]) -> Plan:
        """The plan of a normalised spec. Raises SpecInvalid."""
        plan = self._plans.get(content_hash)
        if plan is None:
            plan = self._plans[content_hash] = compile_plan(spec)
            if len(self._plans) > self._size:
                self._plans.popitem(last=False)
        else:
            self._plans.move_to_end(content_hash)
        return plan
