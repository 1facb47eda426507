"""A second node of the tried cluster: a raylet with workers of its own, until its standard input ends.

``ray start`` would take the machine's outer address for the node; this keeps it on loopback.
"""

from __future__ import annotations

import sys

from ray._private.node import Node
from ray._private.parameter import RayParams


def main(address: str, name: str) -> None:
    params = RayParams(
        gcs_address=address,
        node_name=name,
        node_ip_address="127.0.0.1",
        num_cpus=1,
        num_gpus=0,
        object_store_memory=100_000_000,
        min_worker_port=0,
        max_worker_port=0,
        node_manager_port=0,
        include_log_monitor=False,
    )
    params.dashboard_agent_listen_port = None
    node = Node(params, head=False, shutdown_at_exit=True, spawn_reaper=True)
    print("ready", flush=True)
    sys.stdin.read()
    node.kill_all_processes(check_alive=False, allow_graceful=False)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
