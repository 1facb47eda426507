"""Specs and the plans and problems they give, compared with files that a person has read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agentflow.plan.compile import compile_plan
from agentflow.spec.check import check_text
from tests.unit.plan.text import plan_text, problems_text

GOLDEN = Path(__file__).parents[2] / "golden"
SPECS = sorted(GOLDEN.glob("*.json"))


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_spec_gives_its_golden_plan_and_problems(path: Path) -> None:
    checked = check_text(path.read_bytes())
    _compare(path.with_suffix(".problems.txt"), problems_text(checked))
    if checked.normalized is not None:
        _compare(path.with_suffix(".plan.txt"), plan_text(compile_plan(checked.normalized)))


def _compare(path: Path, text: str) -> None:
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert path.read_text() == text
