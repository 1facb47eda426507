"""Check workflows, and execute them: waiting for the result, in the background, or as a stream."""

from __future__ import annotations

import asyncio
import hashlib
import re
from functools import cache
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from agentflow.api import bodies, problems, sse
from agentflow.api.asked import Asked, asked, json_answer
from agentflow.api.docs import BODY_EXECUTE, BODY_SPEC, SSE_ANSWER, answers
from agentflow.api.links import linked_answer
from agentflow.api.views import (
    Ended,
    accepted_body,
    errors_of,
    execution_url,
    metrics_of,
    result_body,
)
from agentflow.errors import NotFound, SpecInvalid, StoreUnavailable
from agentflow.flow import Begun
from agentflow.spec.check import Checked
from agentflow.spec.problems import Problem, about_node, problem
from agentflow.spec.schema import workflow_schema

Json = Any

router = APIRouter(tags=["workflows"])

WAIT_S = 60.0
MAX_WAIT_S = 3600.0
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,9})", re.IGNORECASE)
_LARGE = 64 * 1024
_WHOLE = ("E001", "E026")
"""Problems of the document as a whole: it has no nodes to look at."""


@router.post(
    "/workflows/validate",
    operation_id="validate_workflow",
    summary="Check a workflow",
    openapi_extra=BODY_SPEC,
    responses=answers(200, "The result, also for an invalid workflow", 413, 422),
)
async def validate(request: Request, strict: bool = False, node: str | None = None) -> Response:
    """Every problem of a workflow at once, each with its place and a hint. Nothing is executed.

    ``strict`` counts warnings as errors; ``node`` shows only the problems of one node and of the edges
    that leave it.
    """
    checked, document = await _checked(request)
    errors, warnings = checked.errors, checked.warnings
    if node is not None and not any(found.code in _WHOLE for found in errors):
        errors, warnings = _of_node(errors, document, node), _of_node(warnings, document, node)
    return json_answer(
        {
            "valid": not errors and not (strict and warnings),
            "errors": [found.to_json() for found in errors],
            "warnings": [found.to_json() for found in warnings],
        }
    )


@router.post(
    "/workflows/execute",
    operation_id="execute_workflow",
    summary="Execute a workflow and wait for its result",
    openapi_extra=BODY_EXECUTE,
    responses=answers(200, "The result", 202, 400, 401, 404, 409, 413, 422, 500, 503, 504),
)
async def execute(request: Request) -> Response:
    """Waits up to 60 s (or ``Prefer: wait=n`` seconds); then answers 202 and the execution goes on. So it
    does as soon as the execution waits for a person or a signal."""
    context = asked(request)
    execution_id, outcome = await _begin(request, context)
    if outcome is not None:
        return await _ended(request, context, execution_id, outcome)
    wait_s, applied = preferred_wait(request.headers.get("prefer"))
    try:
        record = await context.flow.wait(context.tenant, execution_id, wait_s, at_rest=True)
    except StoreUnavailable:
        return _accepted(execution_id, "pending")  # it is committed; only its end is unknown
    if not record.over:
        return _accepted(execution_id, record.status, applied)
    return await _ended(request, context, execution_id, record)


@router.post(
    "/workflows/execute/async",
    operation_id="execute_workflow_async",
    summary="Start a workflow",
    status_code=202,
    openapi_extra=BODY_EXECUTE,
    responses=answers(202, "Accepted and committed", 400, 401, 404, 413, 422, 503),
)
async def execute_async(request: Request) -> Response:
    """Answers as soon as the execution is committed; ``Location`` is where to look for it."""
    return _accepted((await _begin(request, asked(request))).execution_id, "pending")


@router.post(
    "/workflows/execute/stream",
    operation_id="execute_workflow_stream",
    summary="Start a workflow and stream its events",
    openapi_extra=BODY_EXECUTE,
    responses=answers(200, SSE_ANSWER, 400, 401, 404, 413, 422, 503),
)
async def execute_stream(request: Request) -> Response:
    """The events of the new execution as they happen. ``Location`` names it; a client that goes away
    does not stop it, and continues at ``/executions/{id}/events`` with ``Last-Event-ID``.
    """
    context = asked(request)
    execution_id, _ = await _begin(request, context)
    items = context.flow.follow(context.tenant, execution_id, 0)
    return sse.EventStream(
        sse.frames(items, execution_id, comment_s=context.comment_s),
        context.metrics.streams.inc,
        {"Location": execution_url(execution_id)},
    )


@router.get(
    "/schemas/workflow.json",
    operation_id="workflow_schema",
    summary="JSON Schema of a workflow",
    responses=answers(200, "JSON Schema 2020-12"),
)
async def schema(request: Request) -> Response:
    """For editors and generators. The answer has an ``ETag``: asked again with ``If-None-Match`` it is
    304 as long as the schema is the same.
    """
    body, tag = _published_schema()
    headers = {"ETag": tag, "Cache-Control": "public, max-age=3600"}
    if _names(request.headers.get("if-none-match", ""), tag):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/schema+json", headers=headers)


@cache
def _published_schema() -> tuple[bytes, str]:
    """The schema as it is sent, and its entity tag."""
    body = msgspec.json.encode(workflow_schema())
    return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def _names(header: str, tag: str) -> bool:
    """Whether ``If-None-Match`` (RFC 9110) names this entity tag; weak tags match as well."""
    listed = [each.strip().removeprefix("W/") for each in header.split(",")]
    return tag in listed or "*" in listed


def preferred_wait(prefer: str | None) -> tuple[float, bool]:
    """Seconds to wait, and whether the caller's preference (RFC 7240) was applied."""
    if not prefer:
        return WAIT_S, False
    found = _WAIT.search(prefer)
    if found is not None:
        return min(float(found[1]), MAX_WAIT_S), True
    return (0.0, True) if "respond-async" in prefer.lower() else (WAIT_S, False)


async def _checked(request: Request) -> tuple[Checked, Json]:
    """The outcome of the check, and the document that was checked."""
    try:
        body = await bodies.decoded(request)
    except bodies.TooDeep as error:
        if not error.is_object:
            raise bodies.too_deep("") from None
        message = f"The document is nested deeper than {bodies.MAX_DEPTH} levels"
        return Checked(errors=(problem("E026", message),)), None
    value = bodies.require_object(body.value)
    wrapped = "workflow" in value and "nodes" not in value and "start_node" not in value
    document = value["workflow"] if wrapped else value
    try:
        body.check_size(document)
    except SpecInvalid as error:
        return Checked(errors=error.problems), document
    text = None if wrapped else body.text
    check = asked(request).flow.check
    if body.size > _LARGE:
        return await asyncio.to_thread(check, document, text=text), document
    return check(document, text=text), document


async def _begin(request: Request, context: Asked) -> Begun:
    order = await bodies.asked_order(request)
    return await context.flow.begin(
        context.tenant,
        order.workflow,
        initial_state=order.initial_state,
        metadata=order.metadata,
        priority=order.priority,
        trace_id=request.state.trace_id,
    )


def _accepted(execution_id: str, status: str, applied: bool = False) -> Response:
    headers = {"Location": execution_url(execution_id)}
    if applied:
        headers["Preference-Applied"] = "wait"
    return json_answer(accepted_body(execution_id, status), 202, headers)


async def _ended(request: Request, context: Asked, execution_id: str, ended: Ended) -> Response:
    if ended.status == "completed":
        return await linked_answer(context, result_body(execution_id, ended))
    status, code = problems.ENDED[ended.status]
    error = ended.error or {}
    return problems.answer(
        request.scope,
        status,
        code,
        _why(ended),
        problems=errors_of(ended),
        execution_id=execution_id,
        node_id=error.get("node_id"),
        execution_status=ended.status,
        final_state=ended.final_state,
        metrics=metrics_of(ended),
    )


def _why(ended: Ended) -> str:
    error = ended.error or {}
    message = str(error.get("message") or f"The execution ended as {ended.status}")
    if error.get("node_id"):
        return f"Node {error['node_id']!r} failed with {error.get('type')}: {message}"
    return message


def _of_node(found: tuple[Problem, ...], document: Json, node_id: str) -> tuple[Problem, ...]:
    """The problems of one node. Raises NotFound."""
    problems = about_node(found, document, node_id)
    if problems is None:
        raise NotFound(f"The workflow has no node {node_id[:100]!r}")
    return problems
