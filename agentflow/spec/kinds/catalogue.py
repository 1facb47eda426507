"""Which node types there are; each one's file is loaded when it is first asked for."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from agentflow.spec.kinds.base import NodeKind

NODE_TYPES = (
    "input",
    "router",
    "llm",
    "image",
    "db",
    "http",
    "aggregator",
    "agent",
    "langgraph",
    "map",
    "subworkflow",
    "human",
    "wait",
    "plugin",
)
"""Every node type, in the order of the reference."""


@cache
def node_kind(node_type: str) -> NodeKind | None:
    """The node type of this name, or None when there is none."""
    if node_type not in NODE_TYPES:
        return None
    kind: NodeKind = import_module(f"agentflow.spec.kinds.{node_type}").KIND
    return kind
