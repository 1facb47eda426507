"""Serves ``serve_app:app`` on a cluster of its own until its standard input ends: ``python -m``."""

import json
import sys

from agentflow.distributed import cluster
from agentflow.settings import load

QUICK_END = {
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    "RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S": "1",
}


def main() -> None:
    settings = load()
    running = cluster.start(settings, dashboard=False, num_cpus=2, environment=QUICK_END)
    try:
        from agentflow.distributed.coordinator import coordinator_name
        from agentflow.distributed.serve import publish, withdraw

        port = cluster.free_ports(1)[0]
        publish("serve_app:app", "127.0.0.1", port, running.log_file)
        print(json.dumps({"port": port}), flush=True)
        sys.stdin.read()
        withdraw([coordinator_name(index) for index in range(settings.coordinators)], ours=True)
    finally:
        running.shutdown()


if __name__ == "__main__":
    main()
