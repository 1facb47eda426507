"""Removes the embedded database of a data folder, or says in one sentence why it can not."""

import sys
from pathlib import Path

from agentflow.errors import AgentFlowError
from agentflow.store import embedded

try:
    embedded.destroy(Path(sys.argv[1]))
except AgentFlowError as error:
    sys.exit(f"clean: {error.message}")
