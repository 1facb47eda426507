"""The system that is tried, in a process of its own: ``agentflow serve`` without its console.

Runs the package that its PYTHONPATH names, which may be a broken build. Prints one line of JSON when it
is ready; then answers each line of its standard input with where its coordinators and nodes are, and
ends in order with the end of it.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from agentflow.distributed import cluster
from agentflow.settings import load

QUICK_END = {
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    "RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S": "1",
}
ASK_S = 5.0


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what Ray prints is no answer
    settings = load()
    running = cluster.start(settings, dashboard=False, num_cpus=2, environment=QUICK_END)
    try:
        from agentflow.distributed.coordinator import coordinator_name
        from agentflow.distributed.serve import publish, withdraw

        names = [coordinator_name(index) for index in range(settings.coordinators)]
        port = cluster.free_ports(1)[0]
        publish("serve_app:app", "127.0.0.1", port, running.log_file)
        kept = {name: value for name, value in os.environ.items() if name.startswith("RAY_")}
        told = {"port": port, "folder": str(running.folder), "address": running.address}
        print(json.dumps({**told, "environment": kept}), file=answers)
        for _ in sys.stdin:
            print(json.dumps(whereabouts(names)), file=answers)
        withdraw(names, ours=True, log_file=running.log_file)
    finally:
        running.shutdown()


def whereabouts(names: list[str]) -> dict[str, Any]:
    """``{coordinators: [{id, pid, ...}], nodes: names of the living ones}``."""
    import ray
    from ray.exceptions import RayError

    from agentflow.distributed.pools import NAMESPACE

    found = []
    for name in names:
        try:
            actor = ray.get_actor(name, namespace=NAMESPACE)
            found.append(ray.get(actor.describe.remote(), timeout=ASK_S))
        except (RayError, ValueError):
            continue  # dead, or on its way back
    nodes = [node["NodeName"] for node in ray.nodes() if node["Alive"]]
    return {"coordinators": found, "nodes": nodes}


if __name__ == "__main__":
    main()
