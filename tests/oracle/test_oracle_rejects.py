"""The comparison with LangGraph's runtime can fail: it rejects a breakage of every rule they share."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.oracle.judge import IMPORT
from tests.oracle.mutants import PACKAGE
from tests.oracle.rejection import AGREES, UNMUTATED
from tests.oracle.shared_mutants import MORE, SHARED


@pytest.mark.parametrize("mutant", MORE, ids=lambda mutant: mutant.rule)
def test_text_of_each_further_mutant_is_in_the_source(mutant):
    compile(mutant.source(), mutant.module, "exec")


def test_oracle_agrees_with_the_core_and_rejects_each_broken_rule(capsys):
    environ = {key: text for key, text in os.environ.items() if not key.startswith("COVERAGE")}
    done = subprocess.run(
        [sys.executable, "-m", "tests.oracle.rejection"],
        cwd=PACKAGE.parent,
        env=environ,
        capture_output=True,
        text=True,
        timeout=300,
    )
    found = dict(json.loads(line) for line in done.stdout.splitlines())
    assert found.pop(UNMUTATED, done.stderr) == AGREES
    with capsys.disabled():
        print()
        for number, difference in sorted(found.items()):
            print(f"{SHARED[number].rule:<62} {difference}")
    unseen = [SHARED[number].rule for number, told in found.items() if told in (AGREES, IMPORT)]
    assert unseen == []
    assert len(found) == len(SHARED), done.stderr
