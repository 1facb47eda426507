"""Root, health and metrics. All but the metrics are public, so they tell states and nothing else."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

import agentflow
from agentflow.api.asked import asked, json_answer
from agentflow.api.docs import answers
from agentflow.telemetry.metrics import CONTENT_TYPE, merge

Json = Any

root = APIRouter(tags=["health"])
router = APIRouter(tags=["health"])


@root.get("/", operation_id="root", summary="What this is", responses=answers(200, "The service"))
async def service(request: Request) -> Response:
    """Name, version and state."""
    found = await request.app.state.flow.health()
    return json_answer(
        {"service": "agentflow", "version": agentflow.__version__, "status": _status(found)}
    )


@router.get(
    "/health",
    operation_id="health",
    summary="Health",
    responses=answers(200, "ok or degraded, with each dependency"),
)
async def health(request: Request) -> Response:
    """Always 200 while this replica answers; never waits for a sick dependency."""
    found = await request.app.state.flow.health()
    return json_answer(
        {
            "status": _status(found),
            "version": agentflow.__version__,
            "uptime": round(time.monotonic() - request.app.state.began, 3),
            "dependencies": _dependencies(found),
        }
    )


@router.get(
    "/health/ready",
    operation_id="ready",
    summary="Readiness",
    responses=answers(200, "Ready to accept executions", 503),
)
@router.get("/ready", include_in_schema=False)
async def ready(request: Request) -> Response:
    """503 while an execution could not be accepted."""
    checks = _dependencies(await request.app.state.flow.health())
    if _well(checks):
        return json_answer({"status": "ready"})
    return json_answer({"status": "not_ready", "checks": checks}, 503, {"Retry-After": "5"})


@router.get(
    "/health/live",
    operation_id="live",
    summary="Liveness",
    responses=answers(200, "This process answers"),
)
@router.get("/live", include_in_schema=False)
async def live() -> Response:
    """Nothing is checked."""
    return json_answer({"status": "alive"})


@router.get(
    "/metrics",
    operation_id="metrics",
    summary="Prometheus metrics",
    responses=answers(200, "Prometheus text", 401),
)
async def metrics(request: Request) -> Response:
    """Those of every coordinator, labelled ``coordinator``, and of this replica (``replica``)."""
    state = request.app.state
    own = merge({state.replica: state.metrics.text()}, "replica")
    text = await asked(request).flow.metrics() + own
    return Response(text, headers={"Content-Type": CONTENT_TYPE})


def _dependencies(found: dict[str, Json]) -> dict[str, str]:
    """``queue`` is ``not_used``: no limiter outside the coordinators takes part."""
    return {
        "database": str(found.get("database", "unavailable")),
        "queue": str(found.get("queue", "not_used")),
        "ray": str(found.get("ray", "unavailable")),
    }


def _well(dependencies: dict[str, str]) -> bool:
    return all(state in ("ok", "not_used") for state in dependencies.values())


def _status(found: dict[str, Json]) -> str:
    return "ok" if _well(_dependencies(found)) else "degraded"
