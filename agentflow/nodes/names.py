"""The names that expressions of a node may use."""

from __future__ import annotations

from agentflow.nodes.base import StepContext
from agentflow.spec import reads


def declared_names(context: StepContext) -> dict[str, str]:
    """Name -> type: every state field, ``state``, ``outputs``, ``execution`` and ``error``."""
    return reads.declared_names(context.fields.values())
