"""What a worker says whose environment lacks a provider's SDK."""

from __future__ import annotations

import subprocess
import sys

WITHOUT = """
import asyncio, sys
sys.modules["anthropic"] = None
from agentflow.addresses import Policy
from agentflow.errors import SourceNotFound
from agentflow.plan.plan import PlanSource
from agentflow.sources.credentials import Credentials
from agentflow.sources.hosted import hosted_openers

openers = hosted_openers(Policy(), Credentials({}, lambda name: False))
source = PlanSource("claude", "llm", "anthropic", {"model": "m"})
try:
    asyncio.run(openers["anthropic"](source))
except SourceNotFound as error:
    print(error.message)
assert not {"openai", "google.genai"} & set(sys.modules)
"""


def test_missing_sdk_is_named_with_its_extra_and_no_other_is_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "'claude'" in done.stdout and "agentflow[anthropic]" in done.stdout
