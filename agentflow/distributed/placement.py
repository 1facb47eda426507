"""Where an attempt may run: a node's ``resources`` as the options of its worker pool. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from agentflow.plan.plan import Resources

Json = Any

HEAD = "node:__internal_head__"
"""The resource by which Ray marks the head node."""
MIB = 1024 * 1024
MAX_WORKERS = 32
"""Workers of one pool; more attempts than that wait their turn."""
IO_WIDTH = 1000
"""Attempts at once in a worker that reserves nothing: such attempts wait for others, not for a core."""
RESERVE = "af/io-reserve"
ALONE_WORKERS = 4
"""Workers for single attempts that a coordinator may have beside a pool whose workers are shared."""
ONE_CPU = Resources(num_cpus=1.0)


class NodeOffer(msgspec.Struct, frozen=True):
    """What one living node of the cluster has in all (not what is free now), and its labels."""

    id: str
    name: str
    num_cpus: float = 0.0
    num_gpus: float = 0.0
    memory: float = 0.0
    labels: dict[str, str] = {}


class WorkerSpec(msgspec.Struct, frozen=True):
    """One worker of a pool: its name, its Ray options, the node it is bound to, attempts at once.
    ``alone``: it is for attempts that may have killed a worker which they shared with others.
    ``reserve``: it takes what the others of its pool have no room for, all of it while they are dead."""

    name: str
    options: dict[str, Json]
    width: int
    node_id: str | None = None
    alone: bool = False
    reserve: bool = False


def offers(nodes: Sequence[Mapping[str, Json]]) -> tuple[NodeOffer, ...]:
    """The living nodes of Ray's list, each with a name that no other has, in a stable order."""
    alive = sorted((node for node in nodes if node["Alive"]), key=lambda node: str(node["NodeID"]))
    return tuple(
        NodeOffer(
            id=node["NodeID"],
            name=_node_name(node),
            num_cpus=node["Resources"].get("CPU", 0.0),
            num_gpus=node["Resources"].get("GPU", 0.0),
            memory=node["Resources"].get("memory", 0.0),
            labels=dict(node.get("Labels") or {}),
        )
        for node in alive
    )


def _node_name(node: Mapping[str, Json]) -> str:
    """Whatever other nodes there are: workers are named after it, and one that were renamed because
    another node came or left would be given up while it works."""
    name = str(node["NodeName"])
    return name if HEAD in node["Resources"] else f"{name}-{node['NodeID'][:6]}"


def ray_options(resources: Resources) -> dict[str, Json]:
    """The Ray options that reserve what one attempt needs."""
    options: dict[str, Json] = {"num_cpus": resources.num_cpus or 0}
    if resources.num_gpus:
        options["num_gpus"] = resources.num_gpus
    if resources.memory_mb:
        options["memory"] = resources.memory_mb * MIB
    if resources.labels:
        options["label_selector"] = dict(resources.labels)
    return options


def pool_name(resources: Resources) -> str:
    """A name a person understands: ``af/pool/gpu=0.25,zone=eu``."""
    parts = [f"cpu={resources.num_cpus:g}"] if resources.num_cpus else []
    parts += [f"gpu={resources.num_gpus:g}"] if resources.num_gpus else []
    parts += [f"memory={resources.memory_mb}MiB"] if resources.memory_mb else []
    parts += [f"{name}={value}" for name, value in resources.labels]
    return "af/pool/" + (",".join(parts) or "any")


def io_workers(nodes: Sequence[NodeOffer]) -> list[WorkerSpec]:
    """One worker per node, for attempts that mostly wait for the network, and one in reserve: a process
    that takes the place of a dead one needs seconds to start."""
    options = {"num_cpus": 0}
    found = [WorkerSpec(f"af/io/{node.name}", options, IO_WIDTH, node.id) for node in nodes]
    return [*found, WorkerSpec(RESERVE, options, IO_WIDTH, reserve=True)] if found else []


def cpu_workers(nodes: Sequence[NodeOffer]) -> list[WorkerSpec]:
    """One worker per core, first one on every node; each does one attempt at a time."""
    most = max((int(node.num_cpus) for node in nodes), default=0)
    found = [
        WorkerSpec(_numbered(f"af/cpu/{node.name}", index), {"num_cpus": 1}, 1, node.id)
        for index in range(most)
        for node in nodes
        if index < int(node.num_cpus)
    ]
    return found[:MAX_WORKERS]


def pool_workers(nodes: Sequence[NodeOffer], resources: Resources) -> list[WorkerSpec]:
    """The workers of a pool of its own: as many as the empty cluster could hold at once."""
    name, options = pool_name(resources), ray_options(resources)
    if not reserves(resources):
        return [WorkerSpec(name, options, IO_WIDTH)]
    count = min(MAX_WORKERS, sum(_fitting(node, resources) for node in nodes))
    return [WorkerSpec(_numbered(name, index), options, 1) for index in range(count)]


def alone_prefix(shared: WorkerSpec) -> str:
    """What the names of all workers begin with that are for single attempts of a pool."""
    pool = shared.name.rpartition("/")[0] if shared.node_id is not None else shared.name
    return f"{pool}/alone/"


def alone_workers(shared: WorkerSpec, coordinator: str) -> list[WorkerSpec]:
    """The workers in which a coordinator tries attempts alone that a shared worker was lost with."""
    prefix = alone_prefix(shared) + coordinator.removeprefix("af/")
    numbers = range(1, ALONE_WORKERS + 1)
    return [WorkerSpec(f"{prefix}/{n}", shared.options, 1, alone=True) for n in numbers]


def reserves(resources: Resources) -> bool:
    """Whether an attempt holds a share of a machine, rather than only choosing where to be."""
    return bool(resources.num_cpus or resources.num_gpus or resources.memory_mb)


def refusal(nodes: Sequence[NodeOffer], resources: Resources) -> str | None:
    """Why no node of the cluster could ever satisfy the request, or None when one could."""
    if any(_fitting(node, resources) for node in nodes):
        return None
    found = "; ".join(map(_describe_offer, nodes)) or "the cluster has no node"
    return (
        f"No node of the cluster can satisfy {_describe(resources)}: {found}. "
        "Lower the node's resources, or add a machine that has them"
    )


def _fitting(node: NodeOffer, resources: Resources) -> int:
    """How many such attempts the node holds at once when it is empty."""
    if any(node.labels.get(name) != value for name, value in resources.labels):
        return 0
    asked = (
        (resources.num_cpus or 0.0, node.num_cpus),
        (resources.num_gpus, node.num_gpus),
        ((resources.memory_mb or 0) * MIB, node.memory),
    )
    shares = [int(has / wants + 1e-9) for wants, has in asked if wants]
    if 0 < resources.num_gpus < 1:  # a share of a GPU lies on one device
        shares.append(int(node.num_gpus) * int(1 / resources.num_gpus + 1e-9))
    return min(shares, default=MAX_WORKERS)


def _describe(resources: Resources) -> str:
    return pool_name(resources).removeprefix("af/pool/").replace(",", ", ")


def _describe_offer(node: NodeOffer) -> str:
    labels = {name: value for name, value in node.labels.items() if not name.startswith("ray.io/")}
    shown = ", ".join(f"{name}={value}" for name, value in sorted(labels.items()))
    return (
        f"node {node.name} has cpu={node.num_cpus:g}, gpu={node.num_gpus:g}, "
        f"memory={int(node.memory / MIB)}MiB, {f'labels {shown}' if shown else 'no labels'}"
    )


def _numbered(name: str, index: int) -> str:
    return name if index == 0 else f"{name}/{index + 1}"
