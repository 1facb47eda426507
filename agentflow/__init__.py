"""AgentFlow: JSON workflows of language models and other steps, executed durably on Ray.

The public names are those of ``__all__``; each is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

__all__ = [
    "AgentFlowError",
    "Checked",
    "ExecutionRecord",
    "Flow",
    "Plan",
    "Problem",
    "Settings",
    "SpecInvalid",
    "StepError",
    "WorkflowSpec",
    "__version__",
    "check",
    "compile_plan",
    "load",
    "open_local",
    "parse",
    "workflow_schema",
]

_HOME = {
    "AgentFlowError": "errors",
    "Checked": "spec.check",
    "ExecutionRecord": "execution.journal",
    "Flow": "flow",
    "Plan": "plan.plan",
    "Problem": "spec.problems",
    "Settings": "settings",
    "SpecInvalid": "errors",
    "StepError": "errors",
    "WorkflowSpec": "spec.models",
    "check": "spec.check",
    "compile_plan": "plan.compile",
    "load": "settings",
    "open_local": "flow",
    "parse": "spec.check",
    "workflow_schema": "spec.schema",
}


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'agentflow' has no attribute {name!r}")
    value = getattr(import_module(f"agentflow.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
