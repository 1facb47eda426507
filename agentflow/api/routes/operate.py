"""What an operator does with an execution: look inside, compare, let it go on, fork it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from agentflow.api import bodies, problems
from agentflow.api.asked import asked, json_answer
from agentflow.api.docs import BODY_FORK, BODY_RELEASE, BODY_RESUME, BODY_RETRY, answers
from agentflow.api.routes.executions import asked_reason, check_id
from agentflow.api.views import accepted_body, execution_url, fork_body, resumed_body
from agentflow.errors import InvalidInput
from agentflow.spec.reading import nesting

Json = Any

router = APIRouter(tags=["executions"])


@router.get(
    "/executions/{execution_id}/steps",
    operation_id="list_steps",
    summary="List the steps of an execution",
    responses=answers(200, "A page, in canonical order", 400, 401, 404, 422, 503),
)
async def list_steps(
    request: Request,
    execution_id: str,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    cursor: Annotated[str | None, Query(max_length=10)] = None,
) -> Response:
    """Each with what it saw (``inputs``: the fields that its node reads), its ``outputs``, the
    ``history`` of its attempts in all generations, and the ``usage`` it was billed for."""
    check_id(execution_id)
    context = asked(request)
    page = await context.flow.history(context.tenant).steps(execution_id, limit, cursor)
    return json_answer(
        {
            "steps": page.steps,
            "total": page.total,
            "limit": limit,
            "offset": int(cursor or 0),
            "next_cursor": page.next_cursor,
        }
    )


@router.get(
    "/executions/{execution_id}/steps/{step}",
    operation_id="get_step",
    summary="Get a step of an execution",
    responses=answers(200, "The step", 401, 404, 503),
)
async def get_step(request: Request, execution_id: str, step: str) -> Response:
    """``step`` is a step's key: the id of its node, with ``@`` and the iteration inside a loop."""
    check_id(execution_id)
    context = asked(request)
    return json_answer(await context.flow.history(context.tenant).step(execution_id, step))


@router.get(
    "/executions/{execution_id}/state",
    operation_id="get_state",
    summary="Get the state of an execution, or as a node saw it",
    responses=answers(200, "The state", 401, 404, 422, 503),
)
async def get_state(
    request: Request,
    execution_id: str,
    at_node: Annotated[str | None, Query(max_length=300)] = None,
) -> Response:
    """Without ``at_node`` the state as it stands. With it, the fields that the node reads, as it saw
    them in its newest step, or in the step that is named by its key."""
    check_id(execution_id)
    context = asked(request)
    return json_answer(await context.flow.history(context.tenant).state(execution_id, at_node))


@router.get(
    "/executions/{execution_id}/diff/{other_id}",
    operation_id="diff_executions",
    summary="Compare two executions step by step",
    responses=answers(200, "Both, and per step what differs", 401, 404, 503),
)
async def diff(request: Request, execution_id: str, other_id: str) -> Response:
    """``a`` is the first execution, ``b`` the second; a side is null where it has no such step."""
    check_id(execution_id)
    check_id(other_id)
    context = asked(request)
    return json_answer(await context.flow.history(context.tenant).diff(execution_id, other_id))


@router.post(
    "/executions/{execution_id}/resume",
    operation_id="resume_execution",
    summary="Answer what an execution waits for",
    openapi_extra=BODY_RESUME,
    responses=answers(200, "The answer is committed", 401, 404, 409, 413, 422, 503),
)
async def resume(request: Request, execution_id: str) -> Response:
    """Name the wait by ``wait_id``, by ``node_id``, or by its ``signal``; ``data`` is the answer, or the
    payload of the signal. Each wait is answered once: a second answer is 409, and so is one that comes
    after the wait has expired. A signal that comes before its wait is kept for it: ``wait_id`` is null.
    """
    body = await bodies.an_object(request)
    _check_resume(body)
    context = asked(request)
    check_id(execution_id)
    try:
        taken = await context.flow.resume(
            context.tenant,
            execution_id,
            body.get("data"),
            by=context.principal,
            wait_id=body.get("wait_id"),
            node_id=body.get("node_id"),
            signal=body.get("signal"),
        )
    except InvalidInput as error:
        raise problems.malformed(error.message, [problems.at("/data", error.message)]) from None
    return json_answer(resumed_body(taken))


_NAMES = ("wait_id", "node_id", "signal")


def _check_resume(body: dict[str, Json]) -> None:
    """Raises Refusal (422)."""
    known = ", ".join((*_NAMES, "data"))
    found = [
        problems.at(f"/{name}", f"is not known; the fields are {known}")
        for name in list(body)[:20]
        if name not in (*_NAMES, "data")
    ]
    given = [name for name in _NAMES if body.get(name) is not None]
    found += [
        problems.at(f"/{name}", "must be text that is not empty")
        for name in given
        if not isinstance(body[name], str) or not body[name] or "\x00" in body[name]
    ]
    if len(given) != 1:
        found.append(problems.at("", "must hold one of wait_id, node_id and signal, and only one"))
    if nesting(body.get("data")) > bodies.MAX_DEPTH:
        raise bodies.too_deep("/data")
    if found:
        detail = "; ".join(f"{entry['path'][1:100]} {entry['message']}".strip() for entry in found)
        raise problems.malformed(detail, found)


@router.post(
    "/executions/{execution_id}/retry",
    operation_id="retry_execution",
    summary="Let an execution go on from what failed",
    status_code=202,
    openapi_extra=BODY_RETRY,
    responses=answers(202, "The same execution goes on", 401, 404, 409, 422, 503),
)
async def retry(request: Request, execution_id: str) -> Response:
    """For one that failed, timed out or was cancelled. Finished steps keep their results and are not
    billed again; its events are numbered on, and its time limit starts anew."""
    body = await bodies.optional_object(request)
    if body.get("from", "failed") != "failed":
        message = 'must be "failed": to begin anew at another step, fork the execution'
        raise problems.malformed(f"from {message}", [problems.at("/from", message)])
    context = asked(request)
    check_id(execution_id)
    await context.flow.retry(context.tenant, execution_id)
    return json_answer(accepted_body(execution_id, "running"), 202)


@router.post(
    "/executions/{execution_id}/release",
    operation_id="release_execution",
    summary="Let a quarantined execution run again",
    status_code=202,
    openapi_extra=BODY_RELEASE,
    responses=answers(202, "It runs again", 401, 404, 409, 422, 503),
)
async def release(request: Request, execution_id: str) -> Response:
    """An execution is quarantined when its owner died three times while one of its attempts ran."""
    reason = await asked_reason(request)
    context = asked(request)
    check_id(execution_id)
    await context.flow.release(context.tenant, execution_id, reason)
    return json_answer(accepted_body(execution_id, "running"), 202)


@router.post(
    "/executions/{execution_id}/fork",
    operation_id="fork_execution",
    summary="Begin a new execution from a node of this one",
    status_code=201,
    openapi_extra=BODY_FORK,
    responses=answers(201, "The new execution", 200, 400, 401, 404, 413, 422, 503),
)
async def fork(request: Request, execution_id: str) -> Response:
    """The new execution goes on from ``from_node``. It reuses the recorded results of the steps that are
    not behind that node, and whose node and inputs are the same; these are not billed again.
    ``state``: dotted path -> value, over the fields that the execution began with; ``spec``: another
    workflow; ``preview``: answer what would be reused and paid (200), and begin nothing.
    """
    body = await bodies.an_object(request)
    _check_fork(body)
    context = asked(request)
    check_id(execution_id)
    made = await context.flow.fork(
        context.tenant,
        execution_id,
        body["from_node"],
        state=body.get("state"),
        document=body.get("spec"),
        preview=bool(body.get("preview")),
    )
    if body.get("preview"):
        return json_answer(fork_body(made, begun=False))
    headers = {"Location": execution_url(made.submission.execution_id)}
    return json_answer(fork_body(made), 201, headers)


_FORK: dict[str, tuple[type, str]] = {
    "from_node": (str, "must be the id of a node"),
    "state": (dict, "must be an object: dotted path -> value"),
    "spec": (dict, "must be an object: a workflow"),
    "reuse": (str, 'must be "recorded"'),
    "preview": (bool, "must be true or false"),
}


def _check_fork(body: dict[str, Json]) -> None:
    """Raises Refusal (422)."""
    found = [
        problems.at(f"/{name}", f"is not known; the fields are {', '.join(_FORK)}")
        for name in list(body)[:20]
        if name not in _FORK
    ]
    for name, (kind, message) in _FORK.items():
        given = body.get(name)
        if not isinstance(given, kind) and (given is not None or name == "from_node"):
            found.append(problems.at(f"/{name}", message))
    if body.get("reuse") not in (None, "recorded"):
        found.append(problems.at("/reuse", _FORK["reuse"][1]))
    if found:
        detail = "; ".join(f"{entry['path'][1:100]} {entry['message']}" for entry in found)
        raise problems.malformed(detail, found)
