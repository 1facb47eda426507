"""Request bodies: read with a cap, decoded strictly, and taken apart."""

from __future__ import annotations

import asyncio
import json
import math
import re
from typing import Any

import msgspec
from starlette.requests import Request

from agentflow.api import problems
from agentflow.errors import NotSupported, SpecInvalid
from agentflow.spec.problems import problem
from agentflow.spec.reading import MAX_BYTES as MAX_BYTES_OF_SPEC
from agentflow.spec.reading import MAX_NESTING, nesting

Json = Any

MAX_BYTES = 8 * 1024 * 1024
MAX_DEPTH = MAX_NESTING
"""Levels of nesting of one value in the body: the spec, or the initial state."""
DECODABLE_DEPTH = 500
"""Deeper bodies are not decoded at all."""
IDLE_S = 30.0
_SMALL = 64 * 1024

_BRACKETS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[{]|[\]}]', re.DOTALL)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
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
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(idle_s):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return b"".join(chunks)
        except TimeoutError:
            raise problems.too_slow(idle_s) from None
        size += len(chunk)
        if size > MAX_BYTES:
            raise problems.too_large(MAX_BYTES)
        chunks.append(chunk)


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
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise _not_json(f"byte {error.start} is not UTF-8 text") from None
    if depth_of(raw, DECODABLE_DEPTH) > DECODABLE_DEPTH:
        raise TooDeep(raw.lstrip()[:1] == b"{")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_integer,
        )
        if _SURROGATE.search(raw):
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise _not_json(
            f"{error.msg} at line {error.lineno}, column {error.colno}",
            line=error.lineno,
            column=error.colno,
        ) from None
    except UnicodeEncodeError:
        raise _not_json("a string holds half of a surrogate pair, which is not text") from None
    except ValueError as error:
        raise _not_json(str(error)) from None
    return Body(value, text, len(raw))


async def asked_order(request: Request) -> Order:
    """What the caller asks to execute. Raises Refusal (400, 404, 413, 422), SpecInvalid, NotSupported."""
    try:
        body = await decoded(request)
    except TooDeep:
        raise too_deep("") from None
    wanted = order(require_object(body.value))
    body.check_size(wanted.workflow)
    return wanted


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


def depth_of(raw: bytes, enough: int) -> int:
    """How deep the brackets of a JSON text nest; the count stops above ``enough``."""
    depth = deepest = 0
    for match in _BRACKETS.finditer(raw):
        first = raw[match.start()]
        if first in b"[{":
            depth += 1
            if depth > deepest:
                deepest = depth
                if deepest > enough:
                    break
        elif first in b"]}":
            depth -= 1
    return deepest


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


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:100]!r} appears twice in one object")
    return made


def _constant(name: str) -> Json:
    raise ValueError(f"{name} is not a JSON number")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:40]} is too large")
    return value


def _integer(text: str) -> int:
    if len(text) <= 18:
        return int(text)
    if len(text) > 20 or not -(2**63) <= (value := int(text)) < 2**64:
        raise ValueError(f"the whole number {text[:40]} does not fit in 64 bits")
    return value


def _name_of(value: Json) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false"}
    return "null" if value is None else names.get(type(value), "a number")


def _escaped(name: str) -> str:
    return name[:100].replace("~", "~0").replace("/", "~1")
