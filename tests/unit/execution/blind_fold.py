"""Folds the recorded journals where nothing can be evaluated: every evaluator refuses to be imported."""

from __future__ import annotations

import importlib.abc
import sys
from importlib.machinery import ModuleSpec
from typing import Any

EVALUATORS = (
    "cel_expr_python",
    "agentflow.spec.expressions",
    "agentflow.spec.templates",
    "agentflow.engine",
    "agentflow.nodes",
)


class Refusing(importlib.abc.MetaPathFinder):
    """Refuses what evaluates."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name in EVALUATORS:
            raise ImportError(f"{name} must not be needed by a fold")
        return None


def main() -> None:
    sys.meta_path.insert(0, Refusing())
    from tests.unit.execution.recorded import FOLDER, read, text_of

    for path in sorted(FOLDER.glob("*.jsonl")):
        assert text_of(*read(path)) == path.with_suffix(".txt").read_text(), path.name
        print(path.stem)
    assert not set(EVALUATORS) & set(sys.modules)


if __name__ == "__main__":
    main()
