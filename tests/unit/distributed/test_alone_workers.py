"""The workers that are there for attempts which share none."""

from __future__ import annotations

from agentflow.distributed.placement import WorkerSpec, alone_prefix, alone_workers


def test_workers_for_single_attempts_are_named_after_their_pool_and_coordinator():
    io = WorkerSpec("af/io/10.0.0.1", {"num_cpus": 0}, 1000, "node")
    found = alone_workers(io, "af/coordinator/0")
    assert found[0] == WorkerSpec(
        "af/io/alone/coordinator/0/1", {"num_cpus": 0}, 1, None, alone=True
    )
    assert len({spec.name for spec in found}) == len(found) == 4
    assert all(spec.name.startswith(alone_prefix(io)) for spec in found)
    zoned = WorkerSpec("af/pool/zone=eu", {"label_selector": {"zone": "eu"}}, 1000)
    assert alone_workers(zoned, "c")[0].name == "af/pool/zone=eu/alone/c/1"
