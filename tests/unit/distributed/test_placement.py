from typing import Any

import pytest

from agentflow.distributed.placement import (
    NodeOffer,
    cpu_workers,
    io_workers,
    offers,
    pool_name,
    pool_workers,
    ray_options,
    refusal,
)
from agentflow.plan.plan import Resources

HEAD = NodeOffer("a1", "10.0.0.1", num_cpus=2, num_gpus=0, memory=4096 * 1024**2)
GPUS = NodeOffer(
    "b2", "10.0.0.2", num_cpus=8, num_gpus=2, memory=8192 * 1024**2, labels={"zone": "eu"}
)


def ray_node(node_id: str, name: str = "10.0.0.1", **more: Any) -> dict[str, Any]:
    return {
        "NodeID": node_id,
        "NodeName": name,
        "Alive": True,
        "Resources": {"CPU": 2.0, "GPU": 1.0, "memory": 1024.0},
        "Labels": {"zone": "eu"},
        **more,
    }


def test_ray_options_reserve_everything_that_is_asked_for() -> None:
    resources = Resources(
        num_cpus=0.5, num_gpus=0.25, memory_mb=512, labels=(("gpu", "h200"), ("zone", "eu"))
    )
    assert ray_options(resources) == {
        "num_cpus": 0.5,
        "num_gpus": 0.25,
        "memory": 512 * 1024**2,
        "label_selector": {"gpu": "h200", "zone": "eu"},
    }
    assert pool_name(resources) == "af/pool/cpu=0.5,gpu=0.25,memory=512MiB,gpu=h200,zone=eu"


def test_ray_options_reserve_nothing_that_is_not_asked_for() -> None:
    assert ray_options(Resources()) == {"num_cpus": 0}
    assert pool_name(Resources()) == "af/pool/any"


def test_offers_leaves_out_dead_nodes_and_tells_equal_names_apart() -> None:
    head = {"node:__internal_head__": 1.0, "CPU": 2.0, "GPU": 1.0, "memory": 1024.0}
    nodes = [
        ray_node("bbbbbbbb"),
        ray_node("aaaaaaaa", Resources=head),
        ray_node("cccccccc", "10.0.0.9"),
        ray_node("dddddddd", Alive=False),
    ]
    found = offers(nodes)
    assert [node.name for node in found] == ["10.0.0.1", "10.0.0.1-bbbbbb", "10.0.0.9-cccccc"]
    assert (found[0].num_cpus, found[0].num_gpus, found[0].memory) == (2.0, 1.0, 1024.0)
    assert found[0].labels == {"zone": "eu"}


def test_node_keeps_its_name_while_others_come_and_go() -> None:
    first, other = ray_node("aaaaaaaa"), ray_node("bbbbbbbb")
    (alone,) = offers([first])
    assert alone in offers([first, other])


def test_io_workers_are_one_per_node_and_one_in_reserve_and_hold_nothing() -> None:
    workers = io_workers([HEAD, GPUS])
    names = [worker.name for worker in workers]
    assert names == ["af/io/10.0.0.1", "af/io/10.0.0.2", "af/io-reserve"]
    assert [worker.reserve for worker in workers] == [False, False, True]
    assert workers[-1].node_id is None  # it outlives every node
    assert [worker.node_id for worker in workers[:2]] == ["a1", "b2"]
    assert all(worker.options == {"num_cpus": 0} and worker.width > 100 for worker in workers)


def test_cpu_workers_are_one_per_core_with_one_attempt_each() -> None:
    workers = cpu_workers([HEAD, GPUS])
    assert len(workers) == 10
    assert [worker.name for worker in workers[:3]] == [
        "af/cpu/10.0.0.1",
        "af/cpu/10.0.0.2",
        "af/cpu/10.0.0.1/2",
    ]
    assert all(worker.options == {"num_cpus": 1} and worker.width == 1 for worker in workers)


@pytest.mark.parametrize(
    ("resources", "count"),
    [
        (Resources(num_gpus=1), 2),
        (Resources(num_gpus=0.25), 8),
        (Resources(num_gpus=0.6), 2),
        (Resources(num_gpus=0.25, num_cpus=2), 4),
        (Resources(memory_mb=4096), 3),
        (Resources(num_cpus=3, labels=(("zone", "eu"),)), 2),
    ],
)
def test_pool_workers_are_as_many_as_the_empty_cluster_holds(
    resources: Resources, count: int
) -> None:
    workers = pool_workers([HEAD, GPUS], resources)
    assert len({worker.name for worker in workers}) == count
    assert all(worker.width == 1 for worker in workers)


def test_pool_workers_is_a_single_wide_one_when_only_labels_are_asked_for() -> None:
    (worker,) = pool_workers([HEAD, GPUS], Resources(labels=(("zone", "eu"),)))
    assert worker.name == "af/pool/zone=eu"
    assert worker.width > 100
    assert worker.options == {"num_cpus": 0, "label_selector": {"zone": "eu"}}


@pytest.mark.parametrize(
    "resources",
    [
        Resources(num_gpus=3),
        Resources(num_cpus=9),
        Resources(memory_mb=10_000),
        Resources(labels=(("zone", "us"),)),
        Resources(labels=(("zone", "!us"),)),
        Resources(num_cpus=1, num_gpus=1, labels=(("zone", "eu"), ("tier", "gold"))),
    ],
)
def test_refusal_names_what_is_asked_and_what_the_nodes_have(resources: Resources) -> None:
    said = refusal([HEAD, GPUS], resources)
    assert said is not None
    for part in pool_name(resources).removeprefix("af/pool/").split(","):
        assert part in said
    assert "node 10.0.0.1 has cpu=2, gpu=0" in said
    assert "labels zone=eu" in said


def test_refusal_is_none_when_one_node_alone_could_do_it() -> None:
    assert refusal([HEAD, GPUS], Resources(num_gpus=2, num_cpus=8)) is None
    assert refusal([HEAD], Resources()) is None
