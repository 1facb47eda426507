"""The composition root: opens every part from Settings, closes it; the only chooser of adapters.

A :class:`Flow` is what the API, the command line and notebooks use. ``open_coordinator`` and
``open_performer`` are called by dotted name inside the actors of ``distributed``; adapters are imported
where they are opened, so that a process loads only what it uses.
"""

from agentflow.flow.flow import Begun, Flow
from agentflow.flow.opening import (
    bootstrap_key,
    open_connections,
    open_coordinator,
    open_flow,
    open_local,
    open_nodes,
    open_performer,
)

__all__ = [
    "Begun",
    "Flow",
    "bootstrap_key",
    "open_connections",
    "open_coordinator",
    "open_flow",
    "open_local",
    "open_nodes",
    "open_performer",
]
