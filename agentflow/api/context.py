"""The frame of every request: its ids, its log line and its metrics."""

from __future__ import annotations

import re
import secrets
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentflow.ids import new_id
from agentflow.telemetry import logs
from agentflow.telemetry.metrics import RequestMetrics

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_METHODS = frozenset(("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"))


class RequestContext:
    """Outermost layer. Takes or makes ``X-Request-Id`` and ``traceparent`` and returns them.

    ``echo`` is false when the server around the application returns the caller's id by itself.
    """

    def __init__(self, app: ASGIApp, metrics: RequestMetrics, echo: bool = True) -> None:
        self._app = app
        self._metrics = metrics
        self._echo = echo
        self._log = logs.log("api")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        state = scope.setdefault("state", {})
        given = Headers(scope=scope)
        request_id, traceparent = identify(given)
        echo = self._echo or request_id != given.get("x-request-id")
        state["request_id"], state["trace_id"] = request_id, traceparent[3:35]
        status = 0

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                if echo:
                    headers["X-Request-Id"] = request_id
                headers["traceparent"] = traceparent
            await send(message)

        with logs.bound(request_id=request_id, trace_id=state["trace_id"]):
            try:
                await self._app(scope, receive, send_on)
            except ClientDisconnect:
                self._log.info("request.dropped", route=_route(scope))
            finally:
                self._finished(scope, status, time.monotonic() - began)

    def _finished(self, scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        route = _route(scope)
        self._metrics.answered(method, route, status, seconds)
        if not logs.informs():
            return
        principal = scope["state"].get("principal")
        self._log.info(
            "request",
            method=method,
            route=route,
            status=status,
            duration_s=round(seconds, 6),
            tenant=principal.tenant if principal else None,
            principal=principal.name if principal else None,
        )


def identify(headers: Headers) -> tuple[str, str]:
    """The request id and the traceparent: the caller's when well-formed, else new ones."""
    request_id = headers.get("x-request-id", "")
    if not _REQUEST_ID.fullmatch(request_id):
        request_id = new_id("req")
    traceparent = headers.get("traceparent", "")
    if not _TRACEPARENT.fullmatch(traceparent):
        traceparent = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"
    return request_id, traceparent


def _route(scope: Scope) -> str:
    """The template of the route, so that ids in paths do not become metric labels."""
    return getattr(scope.get("route"), "path", None) or "unmatched"
