"""What ``/openapi.json`` says beside the code, and its page at ``/docs``, without outside assets."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse

from agentflow.api.guard import PUBLIC

Json = Any

SSE_ANSWER = "Server-sent events (`id` is the seq of a durable event), or JSON where offered"

_MEANINGS = {
    200: "Nothing was begun",
    202: "Accepted; the execution goes on",
    400: "The workflow is invalid, or cannot be executed",
    401: "API key required, or invalid",
    404: "Not found",
    409: "The execution was cancelled, or its status does not allow this: `detail` names it",
    410: "No such position",
    413: "The body is larger than 8 MB",
    422: "The request has a wrong shape",
    500: "The execution failed: `errors` and the partial state",
    503: "Nothing was accepted; come back after `Retry-After`",
    504: "The execution passed its time limit",
}
_SPEC: Json = {
    "nodes": [{"id": "start", "type": "input"}],
    "edges": [],
    "start_node": "start",
}
_OBJECT: Json = {"type": "object"}


def _body(schema: Json, example: Json, required: bool = True) -> dict[str, Json]:
    content = {"application/json": {"schema": schema, "example": example}}
    return {"requestBody": {"required": required, "content": content}}


BODY_SPEC = _body(
    {
        "type": "object",
        "description": 'A workflow, or `{"workflow": …}`; its schema is /api/v1/schemas/workflow.json',
    },
    _SPEC,
)
BODY_EXECUTE = _body(
    {
        "type": "object",
        "required": ["workflow"],
        "additionalProperties": False,
        "properties": {
            "workflow": _OBJECT,
            "workflow_id": {"type": ["string", "null"]},
            "version": {},
            "initial_state": _OBJECT,
            "metadata": _OBJECT,
            "priority": {"type": "integer", "minimum": 1, "maximum": 5},
        },
    },
    {"workflow": _SPEC, "initial_state": {"user_input": "Hello"}},
)
BODY_CANCEL = _body(
    {"type": "object", "properties": {"reason": {"type": "string", "maxLength": 1000}}},
    {"reason": "no longer needed"},
    required=False,
)
BODY_RESUME = _body(
    {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "wait_id": {"type": "string"},
            "node_id": {"type": "string"},
            "signal": {"type": "string"},
            "data": {},
        },
        "oneOf": [{"required": [name]} for name in ("wait_id", "node_id", "signal")],
    },
    {"node_id": "approve", "data": {"approved": True}},
)
BODY_RETRY = _body(
    {"type": "object", "properties": {"from": {"const": "failed"}}}, {}, required=False
)
BODY_RELEASE = _body(
    {"type": "object", "properties": {"reason": {"type": "string", "maxLength": 1000}}},
    {"reason": "the worker image is mended"},
    required=False,
)
BODY_FORK = _body(
    {
        "type": "object",
        "required": ["from_node"],
        "additionalProperties": False,
        "properties": {
            "from_node": {"type": "string"},
            "state": _OBJECT,
            "spec": _OBJECT,
            "reuse": {"const": "recorded"},
            "preview": {"type": "boolean"},
        },
    },
    {"from_node": "write", "state": {"user_input": "Hello again"}},
)

_PROBLEM: Json = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "instance", "retryable"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "instance": {"type": "string"},
        "request_id": {"type": "string"},
        "trace_id": {"type": "string"},
        "retryable": {"type": "boolean"},
        "execution_id": {"type": "string"},
        "node_id": {"type": "string"},
        "errors": {"type": "array", "items": {"type": "object"}},
    },
}


def answers(success: int, meaning: str, *others: int) -> dict[int | str, dict[str, Json]]:
    """The ``responses`` of a route: the success and the problems it may answer with."""
    found: dict[int | str, dict[str, Json]] = {success: {"description": meaning}}
    for status in others:
        found |= problem_answer(status, _MEANINGS[status])
    return found


def problem_answer(status: int, meaning: str) -> dict[int | str, dict[str, Json]]:
    """The description of one more answer of a route; of a problem from 400 on."""
    described: dict[str, Json] = {"description": meaning}
    if status >= 400:
        described["content"] = {
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
        }
    return {status: described}


def install(app: FastAPI) -> None:
    """Complete the OpenAPI document, and serve a page that shows it."""
    made = app.openapi

    def openapi() -> dict[str, Json]:
        document = made()
        parts = document.setdefault("components", {})
        parts.setdefault("schemas", {})["Problem"] = _PROBLEM
        parts["securitySchemes"] = {
            "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            "Bearer": {"type": "http", "scheme": "bearer"},
        }
        document["security"] = [{"ApiKey": []}, {"Bearer": []}]
        for name in ("HTTPValidationError", "ValidationError"):  # not the shape we answer with
            parts["schemas"].pop(name, None)
        for path, methods in document["paths"].items():
            for operation in methods.values():
                answers = operation["responses"]
                if "HTTPValidationError" in str(answers.get("422")):
                    del answers["422"]
                if path in PUBLIC:
                    operation["security"] = []
        return document

    app.openapi = openapi  # type: ignore[method-assign]

    async def page(request: Request) -> HTMLResponse:
        policy = (
            "default-src 'none'; connect-src 'self'; script-src 'sha256-{}'; style-src 'sha256-{}'"
        )
        headers = {"Content-Security-Policy": policy.format(_hash(_SCRIPT), _hash(_STYLE))}
        return HTMLResponse(_PAGE, headers=headers)

    app.add_route("/docs", page, include_in_schema=False)
    app.add_route("/redoc", page, include_in_schema=False)


def _hash(text: str) -> str:
    import base64
    import hashlib

    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
summary { cursor: pointer; } code, pre { background: #8882; padding: .1rem .3rem; }
pre { overflow: auto; padding: .6rem; } b { display: inline-block; width: 4rem; }
"""
_SCRIPT = """
const show = (tag, text, into) => {
  const made = document.createElement(tag); made.textContent = text; into.append(made); return made;
};
fetch("openapi.json").then(answer => answer.json()).then(api => {
  const main = document.querySelector("main");
  show("p", api.info.description + " Version " + api.info.version, main);
  for (const [path, methods] of Object.entries(api.paths))
    for (const [method, operation] of Object.entries(methods)) {
      const part = show("details", "", main), head = show("summary", "", part);
      show("b", method.toUpperCase(), head); show("code", path, head);
      show("span", " " + operation.summary, head);
      show("p", operation.description || "", part);
      for (const given of operation.parameters || [])
        show("p", given.in + " parameter " + given.name, part);
      const body = operation.requestBody?.content["application/json"].example;
      if (body) show("pre", JSON.stringify(body, null, 2), part);
      for (const [status, answer] of Object.entries(operation.responses))
        show("p", status + ": " + answer.description, part);
    }
});
"""
_PAGE = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>AgentFlow API</title>'
    f"<style>{_STYLE}</style></head><body><h1>AgentFlow API</h1><main></main>"
    f"<script>{_SCRIPT}</script></body></html>"
)
