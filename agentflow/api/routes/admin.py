"""What operators ask: who does the work, and where."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from agentflow.api.asked import asked, json_answer
from agentflow.api.docs import answers

router = APIRouter(prefix="/admin", tags=["admin"])


@router.get(
    "/health/workers",
    operation_id="admin_health_workers",
    summary="Coordinators",
    responses=answers(200, "Each coordinator with its process and its open executions", 401),
)
async def workers(request: Request) -> Response:
    """``{coordinators: [{id, alive, active, pid, node}]}``, at most a second old."""
    found = await asked(request).flow.health()
    return json_answer({"coordinators": found["coordinators"]})
