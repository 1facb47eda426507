"""Serves ``serve_app:app`` on a cluster of its own until its standard input ends: ``python -m``."""

import json
import sys

from agentflow.distributed import cluster
from agentflow.settings import load


def main() -> None:
    running = cluster.start(load(), dashboard=False, num_cpus=2)
    try:
        from ray import serve

        import serve_app
        from agentflow.distributed.coordinator import coordinator_name, drain_coordinators

        port = cluster.free_ports(1)[0]
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(serve_app.app, name="agentflow")
        print(json.dumps({"port": port}), flush=True)
        sys.stdin.read()
        serve.shutdown()
        drain_coordinators([coordinator_name(index) for index in range(load().coordinators)])
    finally:
        running.shutdown()


if __name__ == "__main__":
    main()
