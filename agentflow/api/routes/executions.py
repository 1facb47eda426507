"""Look at executions, follow their events, cancel them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from agentflow.api import bodies, problems, sse
from agentflow.api.asked import asked, json_answer
from agentflow.api.docs import BODY_CANCEL, SSE_ANSWER, answers
from agentflow.api.links import linked_answer
from agentflow.api.views import accepted_body, event_body, execution_body, summary_body
from agentflow.errors import NotFound
from agentflow.execution.journal import ExecutionStatus
from agentflow.ids import to_uuid

Json = Any

router = APIRouter(tags=["executions"])

MAX_EVENTS = 1_000_000
"""No execution has more; a position beyond it never existed."""
EVENT_PAGE = 1000
"""Events in one JSON answer, at most."""
_KINDS = ("lifecycle", "tokens", "logs")


@router.get(
    "/executions",
    operation_id="list_executions",
    summary="List executions",
    responses=answers(200, "A page, newest first", 401, 422, 503),
)
async def list_executions(
    request: Request,
    status: ExecutionStatus | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    cursor: Annotated[str | None, Query(max_length=500)] = None,
    offset: Annotated[int, Query(ge=0, le=0, description="Use cursor")] = 0,
) -> Response:
    """``next_cursor`` leads to the next page and is null on the last one."""
    context = asked(request)
    page = await context.flow.list(context.tenant, status=status, limit=limit, cursor=cursor)
    return json_answer(
        {
            "executions": [summary_body(record) for record in page.executions],
            "total": page.total,
            "limit": limit,
            "offset": offset,
            "next_cursor": page.next_cursor,
        }
    )


@router.get(
    "/executions/{execution_id}",
    operation_id="get_execution",
    summary="Get an execution",
    responses=answers(200, "The execution with its steps", 401, 404, 503),
)
async def get_execution(request: Request, execution_id: str) -> Response:
    """As it stands; a running one shows the steps so far. Where it names blobs, ``blobs`` has a link to
    each that serves for an hour and needs no API key."""
    check_id(execution_id)
    context = asked(request)
    record = await context.flow.get(context.tenant, execution_id)
    return await linked_answer(context, execution_body(record))


@router.get(
    "/executions/{execution_id}/events",
    operation_id="follow_execution",
    summary="Read or follow the events of an execution",
    responses=answers(200, SSE_ANSWER, 401, 404, 410, 422, 503),
)
async def events(
    request: Request,
    execution_id: str,
    after: Annotated[str | None, Query(max_length=20)] = None,
    include: Annotated[str | None, Query(max_length=100)] = None,
) -> Response:
    """With ``Accept: text/event-stream`` the events past ``Last-Event-ID`` (or ``after``), then what
    follows, up to the terminal event; else those that exist now, as JSON, page by page: ask again with
    ``after`` = ``last_seq`` until ``complete``. ``include`` is a list of
    ``lifecycle``, ``tokens`` and ``logs``; by default all of them.
    """
    context = asked(request)
    position = _position(request.headers.get("last-event-id") or after)
    wanted = _kinds(include)
    check_id(execution_id)
    if "text/event-stream" in request.headers.get("accept", ""):
        await context.flow.events(context.tenant, execution_id, MAX_EVENTS)  # raises NotFound
        items = context.flow.follow(context.tenant, execution_id, position)
        frames = sse.frames(
            items,
            execution_id,
            lifecycle="lifecycle" in wanted,
            tokens="tokens" in wanted,
            comment_s=context.comment_s,
        )
        return sse.EventStream(frames, context.metrics.streams.inc)
    over = await context.flow.is_over(context.tenant, execution_id)
    recorded = await context.flow.events(context.tenant, execution_id, position)
    shown = recorded if "lifecycle" in wanted else []
    return json_answer(
        {
            "execution_id": execution_id,
            "events": [event_body(execution_id, item) for item in shown],
            "last_seq": recorded[-1].seq if recorded else position,
            "complete": over and len(recorded) < EVENT_PAGE,
        }
    )


@router.post(
    "/executions/{execution_id}/cancel",
    operation_id="cancel_execution",
    summary="Cancel an execution",
    status_code=202,
    openapi_extra=BODY_CANCEL,
    responses=answers(202, "It will stop; 200 when it was over already", 401, 404, 422, 503),
)
async def cancel(request: Request, execution_id: str) -> Response:
    """The answer is a promise: the request to stop is committed, whatever fails afterwards."""
    reason = await asked_reason(request)
    context = asked(request)
    check_id(execution_id)
    record = await context.flow.cancel(context.tenant, execution_id, reason)
    return json_answer(accepted_body(record.id, record.status), 200 if record.over else 202)


async def asked_reason(request: Request) -> str:
    """The ``reason`` of the body, if there is one. Raises Refusal (422)."""
    body = await bodies.optional_object(request)
    reason = body.get("reason") or ""
    if not isinstance(reason, str) or len(reason) > 1000:
        raise problems.malformed(
            "reason must be text of at most 1000 characters",
            [problems.at("/reason", "must be text of at most 1000 characters")],
        )
    return reason


def check_id(execution_id: str) -> None:
    """Raises NotFound for what no execution can be called."""
    try:
        to_uuid(execution_id, "exec")
    except ValueError:
        raise NotFound("Execution not found") from None


def _position(text: str | None) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal()):
        message = "must be the number of an event, or 0 for the beginning"
        raise problems.malformed(
            f"Last-Event-ID (or after) {message}", [problems.at("/query/after", message)]
        )
    if int(text) > MAX_EVENTS:
        raise problems.gone("The execution has no such event; read it from the beginning")
    return int(text)


def _kinds(include: str | None) -> frozenset[str]:
    if include is None:
        return frozenset(_KINDS)
    chosen = frozenset(word.strip() for word in include.split(",") if word.strip())
    unknown = chosen - set(_KINDS)
    if unknown or not chosen:
        message = f"must list some of {', '.join(_KINDS)}"
        raise problems.malformed(f"include {message}", [problems.at("/query/include", message)])
    return chosen
