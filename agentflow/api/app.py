"""The application: routes, guard and problems around one Flow. Built by a factory, once per replica."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

import agentflow
from agentflow.api import docs, problems, sse
from agentflow.api.context import RequestContext
from agentflow.api.guard import Guard
from agentflow.api.routes import admin, blobs, executions, health, operate, workflows
from agentflow.flow import Flow
from agentflow.telemetry.metrics import RequestMetrics

PREFIX = "/api/v1"
_RETURNED = ("X-Request-Id", "traceparent", "Location", "Retry-After", "Preference-Applied")


def build_app(
    open_flow: Callable[[], Awaitable[Flow]],
    *,
    cors_origins: Sequence[str] = (),
    comment_s: float = sse.COMMENT_S,
    echo_request_id: bool = True,
) -> FastAPI:
    """The API over the Flow that ``open_flow`` opens when the application starts.

    ``cors_origins`` may hold ``*``; then browsers send no credentials. ``comment_s``: seconds after
    which a silent event stream sends a comment. ``echo_request_id``: false behind a server that
    returns ``X-Request-Id`` itself.
    """
    metrics = RequestMetrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        flow = await open_flow()
        app.state.flow = flow
        try:
            yield
        finally:
            del app.state.flow
            await flow.close()

    app = FastAPI(
        title="AgentFlow",
        version=agentflow.__version__,
        description="Durable workflows of language model, database and HTTP steps.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        middleware=_layers(metrics, cors_origins, echo_request_id),
    )
    app.state.metrics = metrics
    app.state.comment_s = comment_s
    app.state.began = time.monotonic()
    app.state.replica = f"{socket.gethostname()}/{os.getpid()}"
    # Routers are tried in this order, so the first are those that are asked most.
    for router in (workflows.router, executions.router, operate.router, health.router):
        app.include_router(router, prefix=PREFIX)
        app.include_router(router, include_in_schema=False)
    app.include_router(health.root)
    app.include_router(admin.router, prefix=PREFIX)
    app.include_router(blobs.router, prefix=PREFIX)
    problems.install(app)
    docs.install(app)
    return app


def _layers(metrics: RequestMetrics, origins: Sequence[str], echo: bool) -> list[Middleware]:
    """Outermost first."""
    layers = [Middleware(RequestContext, metrics=metrics, echo=echo)]
    if origins:
        cors = Middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_credentials="*" not in origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=list(_RETURNED),
        )
        layers.append(cors)
    return [*layers, Middleware(problems.LastCatch), Middleware(Guard)]
