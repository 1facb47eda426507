"""A node that is lost: its attempts are told to be lost, and others are done on what is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from agentflow.distributed.cluster import Cluster
from agentflow.engine.workers import Done, Failed
from tests.cluster.conftest import Gate, Inbox, attempt

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not os.environ.get("AGENTFLOW_SOAK"), reason="a node takes long to start"),
]

SECOND = "second"
LOST_S = 12.0
"""The longest that the loss of a node whose raylet was killed may go unnoticed."""


@pytest.fixture
def second(cluster: Cluster) -> Iterator[psutil.Process]:
    """The raylet of a second node."""
    node = subprocess.Popen(
        [sys.executable, "-m", "tests.campaign.second", cluster.address, SECOND],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert node.stdout is not None and node.stdout.readline() == b"ready\n"
    below = psutil.Process(node.pid).children(recursive=True)
    yield next(each for each in below if each.name() == "raylet")
    node.communicate(timeout=30)


async def test_attempts_of_a_lost_node_are_told_and_done_elsewhere_within_seconds(
    second: psutil.Process, workers: Any, inbox: Inbox, gate: Gate
) -> None:
    await both_nodes(workers, inbox)
    sent = [attempt("gate", f"n{i}", port=gate.port) for i in range(2)]
    workers.dispatch(sent)
    await gate.arrival("n0", "n1")
    os.kill(second.pid, signal.SIGKILL)
    killed = time.monotonic()
    lost = await inbox.any_end(sent)
    assert isinstance(lost, Failed) and lost.error.type == "WorkerLost"
    assert lost.worker.pool == f"af/io/{SECOND}"
    assert time.monotonic() - killed < LOST_S
    again = attempt("echo")
    workers.dispatch([again])
    assert isinstance(await inbox.end(again, 2.0), Done)


async def both_nodes(workers: Any, inbox: Inbox) -> None:
    """The worker of a node is there a little after the node."""
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        pair = [attempt("echo"), attempt("echo")]
        workers.dispatch(pair)
        ends = [await inbox.end(each) for each in pair]
        if any(end.worker.pool == f"af/io/{SECOND}" for end in ends):
            return
    raise TimeoutError("The second node has no worker")
