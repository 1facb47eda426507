"""The entry point for Ray Serve: ``serve run serve_app:app --name agentflow``.

The application is built on each replica, from the replica's own environment. The first replica
starts the coordinators that are not there yet, so this is all that a fresh machine needs.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ray import serve

from agentflow.api.app import build_app
from agentflow.engine.door import Door
from agentflow.flow import Flow, open_flow
from agentflow.settings import Settings, load
from agentflow.telemetry import logs

HEALTH_S = 5.0
DRAIN_S = 20.0
"""How long requests under way may take when a replica is told to stop; streams are resumed."""


def build() -> Any:
    """The application of one replica."""
    settings = load()
    logs.configure(settings.log_level)

    async def opened() -> Flow:
        return await open_flow(settings, await _door(settings))

    return build_app(opened, cors_origins=settings.cors_origins, echo_request_id=False)


async def _door(settings: Settings) -> Door:
    from agentflow.distributed.coordinator import RayDoor, start_coordinators

    names = await asyncio.to_thread(start_coordinators, settings.coordinators)
    return RayDoor(names)


@serve.deployment(
    name="api",
    ray_actor_options={"num_cpus": 0},
    max_ongoing_requests=1000,
    max_queued_requests=1000,
    health_check_period_s=HEALTH_S,
    health_check_timeout_s=30.0,
    graceful_shutdown_timeout_s=DRAIN_S,
)
@serve.ingress(build)
class Api:
    """A replica of the API. A database that is away does not make it unhealthy: it answers 503."""

    app: Any

    async def check_health(self) -> None:
        """Raises RuntimeError when the replica never opened."""
        if getattr(self.app.state, "flow", None) is None:
            raise RuntimeError("This replica has no connection to its coordinators")


app = Api.bind()  # type: ignore[attr-defined]
