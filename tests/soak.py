"""How long the random tests go on: briefly in `make test`, at length in `make soak`."""

import os

LONGER = 50


def cases(count: int) -> int:
    """``count`` cases, and so many times more in a soak."""
    return count * LONGER if os.environ.get("AGENTFLOW_SOAK") else count
