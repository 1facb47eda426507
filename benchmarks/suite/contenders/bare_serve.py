"""Ray Serve alone, behind the proxy that the product uses: what HTTP costs without AgentFlow."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from typing import Any

from agentflow.distributed import cluster as clusters
from benchmarks.peers import serving
from benchmarks.suite.contenders import engine, rays, wire
from benchmarks.suite.contenders.settling import settled

Json = Any
APP = "benchmarks.suite.contenders.bare_app"
PAGE = "https://docs.ray.io/en/latest/serve/index.html"


@contextlib.asynccontextmanager
async def start(arguments: serving.Arguments) -> AsyncIterator[serving.Contender]:
    async with rays.started(engine.settings_of(arguments)) as cluster:
        import ray

        from agentflow.distributed import serve

        (port,) = clusters.free_ports(1)
        request = wire.post(port, "/", json.dumps({"user_input": "go"}).encode())
        served = [f"{APP}:bare"]
        await asyncio.to_thread(serve.publish, served[0], "127.0.0.1", port, cluster.log_file)
        await settled([os.getpid()], port, request)

        async def ask(asked: Json) -> Json:
            wanted = f"{APP}:{'ingress' if asked.get('inner') else 'bare'}"
            if wanted != served[0]:
                await asyncio.to_thread(serve.publish, wanted, "127.0.0.1", port, cluster.log_file)
                served[0] = wanted
            done = await wire.many(port, request, asked["requests"], asked["at_once"])
            del done["bodies"]
            return {**done, "requests": asked["requests"], "steps": 0, "persisted": None}

        facts = {
            "system": "bare_serve",
            "version": ray.__version__,
            "setting": "one replica behind HAProxy, throughput mode",
            "page": PAGE,
            "persisted_before_next_step": "nothing",
            "pids": [],
        }
        yield serving.Contender(facts, {"http": ask})


if __name__ == "__main__":
    serving.serve(start)
