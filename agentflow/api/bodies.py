"""Request bodies: read with a cap, decoded strictly, and taken apart."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from starlette.requests import Request

from agentflow.api import problems
from agentflow.errors import NotSupported, SpecInvalid
from agentflow.spec.problems import problem
from agentflow.spec.reading import MAX_BYTES as MAX_BYTES_OF_SPEC
from agentflow.spec.reading import MAX_NESTING, nesting, parse

Json = Any

MAX_BYTES = 8 * 1024 * 1024
MAX_DEPTH = MAX_NESTING
"""Levels of nesting of one value in the body: the spec, or the initial state."""
DECODABLE_DEPTH = 500
"""Deeper bodies are not decoded at all."""
IDLE_S = 30.0
_SMALL = 64 * 1024

_FIELDS = ("workflow", "workflow_id", "version", "initial_state", "metadata", "priority")
_LATER = ("budget", "webhook")


class Body(msgspec.Struct, frozen=True):
    """A decoded body: its value, its text for messages with line and column, its size in bytes."""

    value: Json
    text: str
    size: int

    def check_size(self, document: Json) -> None:
        """Raises SpecInvalid (E026) when this part of the body is larger than a spec may be."""
        size = self.size
        if size > MAX_BYTES_OF_SPEC and document is not self.value:
            size = len(msgspec.json.encode(document))
        if size > MAX_BYTES_OF_SPEC:
            message = f"The document is {size:,} bytes; the limit is {MAX_BYTES_OF_SPEC:,} (5 MB)"
            raise SpecInvalid((problem("E026", message),))


class TooDeep(Exception):
    """The body nests too deeply to be decoded; ``is_object`` says what it begins like."""

    def __init__(self, is_object: bool) -> None:
        super().__init__()
        self.is_object = is_object


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A request to execute."""

    workflow: Json
    initial_state: dict[str, Json]
    metadata: dict[str, Json]
    priority: int | None


async def read(request: Request, idle_s: float = IDLE_S) -> bytes:
    """The body. Raises Refusal: 413 as soon as it is longer than the cap, 422 when it is compressed,
    408 when nothing of it comes for ``idle_s`` seconds."""
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        raise problems.malformed(
            f"The request body is compressed ({coding[:40]!r}); send it as it is, "
            "without Content-Encoding"
        )
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > MAX_BYTES:
        raise problems.too_large(MAX_BYTES)
    chunks: list[bytes] = []
    size = 0
    clock = asyncio.get_running_loop().time
    try:
        async with asyncio.timeout(idle_s) as patience:
            async for chunk in request.stream():
                size += len(chunk)
                if size > MAX_BYTES:
                    raise problems.too_large(MAX_BYTES)
                if chunk:
                    chunks.append(chunk)
                    patience.reschedule(clock() + idle_s)
    except TimeoutError:
        raise problems.too_slow(idle_s) from None
    return b"".join(chunks)


async def decoded(request: Request) -> Body:
    """The body as JSON. Raises Refusal (413, 422), TooDeep."""
    raw = await read(request)
    if len(raw) <= _SMALL:
        return decode(raw)
    return await asyncio.to_thread(decode, raw)


def decode(raw: bytes) -> Body:
    """Strict JSON: UTF-8, no duplicate keys, no NaN, no lone surrogates, bounded numbers and depth.

    Raises Refusal (422) that says what is wrong and where, TooDeep.
    """
    if not raw.strip():
        raise problems.malformed("The request body is empty; send a JSON object")
    try:
        value = parse(raw, max_bytes=len(raw), max_nesting=DECODABLE_DEPTH)
    except SpecInvalid as error:
        (found,) = error.problems
        if found.code == "E026":
            raise TooDeep(raw.lstrip()[:1] == b"{") from None
        place = {"line": found.line, "column": found.column}
        given = {name: number for name, number in place.items() if number is not None}
        where = ", ".join(f"{name} {number}" for name, number in given.items())
        reason = found.message.removeprefix("Not valid JSON: ")
        raise _not_json(f"{reason} at {where}" if where else reason, **given) from None
    return Body(value, raw.decode("utf-8-sig"), len(raw))


async def asked_order(request: Request) -> Order:
    """What the caller asks to execute. Raises Refusal (400, 404, 413, 422), SpecInvalid, NotSupported."""
    try:
        body = await decoded(request)
    except TooDeep:
        raise too_deep("") from None
    wanted = order(require_object(body.value))
    body.check_size(wanted.workflow)
    return wanted


async def an_object(request: Request) -> dict[str, Json]:
    """The body, which must be an object. Raises Refusal (413, 422)."""
    try:
        return require_object((await decoded(request)).value)
    except TooDeep:
        raise too_deep("") from None


async def optional_object(request: Request) -> dict[str, Json]:
    """As :func:`an_object`, but no body at all is an empty object."""
    raw = await read(request)
    if not raw.strip():
        return {}
    try:
        return require_object(decode(raw).value)
    except TooDeep:
        raise too_deep("") from None


def require_object(value: Json) -> dict[str, Json]:
    """The value, which must be an object. Raises Refusal (422)."""
    if not isinstance(value, dict):
        raise problems.malformed(
            f"The request body must be a JSON object, but it is {_name_of(value)}"
        )
    return value


def too_deep(path: str) -> problems.Refusal:
    """422: nested beyond the limit."""
    message = f"Nested more than {MAX_DEPTH} levels deep"
    return problems.malformed(message, [problems.at(path, message)])


def order(value: dict[str, Json]) -> Order:
    """What ``/workflows/execute`` and its like are asked to do. Raises Refusal, NotSupported."""
    if value.get("workflow") is None and value.get("workflow_id") is None:
        raise problems.invalid_input(
            'Give the spec as "workflow", and the fields it starts with as "initial_state"'
        )
    if value.get("workflow") is not None and value.get("workflow_id") is not None:
        raise problems.invalid_input('Give either "workflow" or "workflow_id", not both')
    for name in _LATER:
        if value.get(name) is not None:
            raise NotSupported(f"{name!r} is not supported by this version; leave it out")
    _refuse_unknown(value)
    _check_types(value)
    if value.get("workflow") is None:
        raise problems.not_found(
            "Workflow not found",
            'This version stores no workflows: send the spec itself as "workflow"',
        )
    return Order(
        workflow=value["workflow"],
        initial_state=value.get("initial_state") or {},
        metadata=value.get("metadata") or {},
        priority=value.get("priority"),
    )


def _refuse_unknown(value: dict[str, Json]) -> None:
    unknown = [name for name in value if name not in (*_FIELDS, *_LATER)]
    if unknown:
        known = ", ".join(_FIELDS)
        raise problems.malformed(
            f"The request has a field that is not known: {unknown[0][:100]!r}",
            [
                problems.at(
                    "/" + _escaped(name), f"This field is not known; the fields are {known}"
                )
                for name in unknown[:20]
            ],
        )


def _check_types(value: dict[str, Json]) -> None:
    found = []
    for name in ("initial_state", "metadata"):
        given = value.get(name)
        if given is not None and not isinstance(given, dict):
            found.append(problems.at(f"/{name}", f"must be an object, but is {_name_of(given)}"))
    priority = value.get("priority")
    if priority is not None and (type(priority) is not int or not 1 <= priority <= 5):
        found.append(problems.at("/priority", "must be a whole number from 1 (most urgent) to 5"))
    if found:
        detail = "; ".join(f"{entry['path'][1:]} {entry['message']}" for entry in found)
        raise problems.malformed(detail, found)
    for name in ("initial_state", "metadata"):
        if nesting(value.get(name)) > MAX_DEPTH:
            raise too_deep(f"/{name}")


def _not_json(reason: str, **place: int) -> problems.Refusal:
    return problems.malformed(
        f"The request body is not valid JSON: {reason}", [problems.at("", reason, **place)]
    )


def _name_of(value: Json) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false"}
    return "null" if value is None else names.get(type(value), "a number")


def _escaped(name: str) -> str:
    return name[:100].replace("~", "~0").replace("/", "~1")
