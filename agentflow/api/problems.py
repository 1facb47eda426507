"""Errors as answers: one shape (RFC 9457, ``application/problem+json``), the only place with status codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentflow import errors
from agentflow.telemetry import logs

Json = Any

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5

TITLES = {
    "INVALID_INPUT": "The request cannot be carried out as it stands",
    "VALIDATION_ERROR": "The workflow or the request has an invalid shape",
    "UNAUTHENTICATED": "Authentication is required",
    "FORBIDDEN": "The permission for this action is missing",
    "NOT_FOUND": "Not found",
    "METHOD_NOT_ALLOWED": "The method is not allowed here",
    "CONFLICT": "The request conflicts with the current state",
    "GONE": "What was asked for is no longer there",
    "PAYLOAD_TOO_LARGE": "The request body is too large",
    "WORKFLOW_EXECUTION_ERROR": "The execution failed",
    "INTERNAL_ERROR": "The server failed",
    "UNAVAILABLE": "The server cannot accept this now",
    "EXECUTION_TIMEOUT": "The execution passed its time limit",
}
"""Every problem code, with its title."""

STATUS_OF: dict[type[errors.AgentFlowError], tuple[int, str]] = {
    errors.SpecInvalid: (400, "VALIDATION_ERROR"),
    errors.NotSupported: (400, "VALIDATION_ERROR"),
    errors.InvalidInput: (400, "INVALID_INPUT"),
    errors.NotFound: (404, "NOT_FOUND"),
    errors.Conflict: (409, "CONFLICT"),
    errors.Unauthenticated: (401, "UNAUTHENTICATED"),
    errors.AccessError: (403, "FORBIDDEN"),
    errors.StoreUnavailable: (503, "UNAVAILABLE"),
    errors.FencedOut: (503, "UNAVAILABLE"),
    errors.ExecutionCancelled: (409, "CONFLICT"),
    errors.ExecutionTimedOut: (504, "EXECUTION_TIMEOUT"),
    errors.ExecutionError: (500, "WORKFLOW_EXECUTION_ERROR"),
    errors.StepError: (500, "WORKFLOW_EXECUTION_ERROR"),
    errors.AgentFlowError: (500, "INTERNAL_ERROR"),
}
"""The nearest ancestor of an error decides."""

ENDED = {
    "failed": STATUS_OF[errors.ExecutionError],
    "cancelled": STATUS_OF[errors.ExecutionCancelled],
    "timed_out": STATUS_OF[errors.ExecutionTimedOut],
}
"""Status of an execution that did not complete -> the answer to a caller who waited for it."""

_HTTP_CODES = {
    400: "INVALID_INPUT",
    401: "UNAUTHENTICATED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    409: "CONFLICT",
    410: "GONE",
    413: "PAYLOAD_TOO_LARGE",
    422: "VALIDATION_ERROR",
    503: "UNAVAILABLE",
}


class Refusal(Exception):
    """A request that is refused at the edge, before the rest of AgentFlow sees it."""

    def __init__(
        self, status: int, code: str, detail: str, problems: Sequence[Json] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.problems = status, code, detail, problems


def too_large(limit: int) -> Refusal:
    """413: the body is longer than ``limit`` bytes."""
    return Refusal(
        413,
        "PAYLOAD_TOO_LARGE",
        f"The request body is larger than {limit} bytes ({limit // 1024 // 1024} MB)",
    )


def too_slow(seconds: float) -> Refusal:
    """408: the rest of the body does not come."""
    detail = f"The request body is not whole, and nothing came for {seconds:g} s; send it again"
    return Refusal(408, "INVALID_INPUT", detail)


def malformed(detail: str, problems: Sequence[Json] | None = None) -> Refusal:
    """422: the request itself has a wrong shape."""
    return Refusal(422, "VALIDATION_ERROR", detail, problems)


def invalid_input(message: str) -> Refusal:
    """400 "Invalid input", with what to send instead."""
    return Refusal(400, "INVALID_INPUT", "Invalid input", [at("", message)])


def not_found(detail: str, message: str) -> Refusal:
    """404 with a fixed detail, and the reason."""
    return Refusal(404, "NOT_FOUND", detail, [at("", message)])


def gone(detail: str) -> Refusal:
    """410: the position asked for does not exist."""
    return Refusal(410, "GONE", detail)


def at(path: str, message: str, **more: Json) -> Json:
    """An entry of ``errors``: a JSON pointer into the request, and what is wrong there."""
    return {"path": path, "message": message, **more}


def status_of(error: errors.AgentFlowError) -> tuple[int, str]:
    """The HTTP status and the problem code of an error."""
    return next(STATUS_OF[cls] for cls in type(error).__mro__ if cls in STATUS_OF)


def answer(
    scope: Scope,
    status: int,
    code: str,
    detail: str,
    *,
    retryable: bool = False,
    problems: Sequence[Json] | None = None,
    headers: Mapping[str, str] | None = None,
    **more: Json,
) -> Response:
    """A problem as an answer; ``more`` are further members, left out when None."""
    state = scope.get("state") or {}
    body: dict[str, Json] = {
        "type": "urn:agentflow:problem:" + code.lower().replace("_", "-"),
        "title": TITLES.get(code, HTTPStatus(status).phrase),
        "status": status,
        "detail": detail,
        "code": code,
        "instance": scope.get("path", ""),
        "request_id": state.get("request_id"),
        "trace_id": state.get("trace_id"),
        "retryable": retryable,
    }
    if problems is not None:
        body["errors"] = list(problems)
    body |= {name: value for name, value in more.items() if value is not None}
    extra = dict(headers or {})
    if status == 401:
        extra["WWW-Authenticate"] = "Bearer"
    if status == 503:
        extra["Retry-After"] = str(RETRY_AFTER_S)
    return Response(msgspec.json.encode(body), status, extra, media_type=MEDIA_TYPE)


def of_error(scope: Scope, error: errors.AgentFlowError) -> Response:
    """The answer for one of AgentFlow's own errors."""
    status, code = status_of(error)
    problems = None
    if isinstance(error, errors.SpecInvalid):
        problems = [problem.to_json() for problem in error.problems]
    return answer(
        scope,
        status,
        code,
        error.message,
        retryable=error.retryable or status == 503,
        problems=problems,
        execution_id=getattr(error, "execution_id", None),
        node_id=getattr(error, "node_id", None),
    )


def unexpected(scope: Scope) -> Response:
    """The answer for an error nobody foresaw: it tells nothing but how to find it in the log."""
    detail = "An unexpected error occurred; the server's log has it under this request_id"
    return answer(scope, 500, "INTERNAL_ERROR", detail)


class LastCatch:
    """Answers errors that nobody foresaw; the log has where they were raised, never what they held."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._log = logs.log("api")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def send_on(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except ClientDisconnect:
            raise
        except Exception as error:
            self._log.error(
                "request.crashed", error_type=type(error).__name__, stack=logs.stack_of(error)
            )
            if started or scope["type"] != "http":
                raise  # the connection is cut, so that the client sees that its answer is not whole
            await unexpected(scope)(scope, receive, send)


def install(app: FastAPI) -> None:
    """Answer every foreseen error of the routes with a problem."""
    app.add_exception_handler(errors.AgentFlowError, _agentflow_error)
    app.add_exception_handler(Refusal, _refusal)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _request_invalid)


async def _agentflow_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.AgentFlowError)
    return of_error(request.scope, error)


async def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return answer(request.scope, error.status, error.code, error.detail, problems=error.problems)


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = str(error.detail)
    if error.status_code == 404:
        detail = f"There is nothing at {request.url.path}; the paths are in /openapi.json"
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        detail = f"{request.method} is not allowed at {request.url.path}; use {allowed}"
    code = _HTTP_CODES.get(error.status_code, "INTERNAL_ERROR")
    return answer(request.scope, error.status_code, code, detail, headers=error.headers)


async def _request_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = [
        at("/" + "/".join(map(str, found["loc"])), found["msg"], code=found["type"])
        for found in error.errors()
    ]
    detail = "; ".join(f"{found['path'][1:]}: {found['message']}" for found in problems)
    return answer(request.scope, 422, "VALIDATION_ERROR", detail, problems=problems)
