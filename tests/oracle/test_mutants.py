"""The tests of the core reject each of many deliberate breakages: one for every rule."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.oracle.judge import ACCEPTED, IMPORT
from tests.oracle.mutants import MUTANTS, PACKAGE

UNMUTATED = -1


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.rule)
def test_text_of_each_mutant_is_in_the_source(mutant):
    compile(mutant.source(), mutant.module, "exec")


def test_core_is_accepted_and_each_mutant_is_rejected():
    environ = {key: text for key, text in os.environ.items() if not key.startswith("COVERAGE")}
    done = subprocess.run(
        [sys.executable, "-m", "tests.oracle.judge"],
        cwd=PACKAGE.parent,
        env=environ,
        capture_output=True,
        text=True,
        timeout=300,
    )
    found = dict(json.loads(line) for line in done.stdout.splitlines())
    assert found.pop(UNMUTATED, done.stderr) == ACCEPTED
    print()
    for number, test in sorted(found.items()):
        print(f"{MUTANTS[number].rule:<62} {test}")
    assert [
        MUTANTS[number].rule for number, test in found.items() if test in (ACCEPTED, IMPORT)
    ] == []
    assert len(found) == len(MUTANTS), done.stderr
