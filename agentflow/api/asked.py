"""What a route works with: the Flow of this replica, and who asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from agentflow.flow import Flow
from agentflow.telemetry.metrics import RequestMetrics


class Asked(NamedTuple):
    """A request in context. ``tenant`` owns every row that it may see; ``principal`` is who asks."""

    flow: Flow
    tenant: str
    principal: str
    metrics: RequestMetrics
    comment_s: float


def asked(request: Request) -> Asked:
    """The context of a request that has passed the guard."""
    state, principal = request.app.state, request.state.principal
    return Asked(
        flow=state.flow,
        tenant=principal.tenant,
        principal=principal.name,
        metrics=state.metrics,
        comment_s=state.comment_s,
    )


def json_answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Plain data as a JSON answer."""
    return Response(
        msgspec.json.encode(body), status, dict(headers or {}), media_type="application/json"
    )
