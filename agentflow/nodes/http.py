"""``http`` nodes: one request of a service, or one for each page of its answer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from typing import Any, cast
from urllib.parse import urljoin, urlsplit

from agentflow.errors import (
    OutputSchemaMismatch,
    ProviderRejected,
    ProviderUnavailable,
    StepError,
)
from agentflow.nodes.base import OpenSource, StepContext, StepResult
from agentflow.nodes.extraction import extracted
from agentflow.nodes.http_reply import parsed
from agentflow.nodes.http_request import Prepared, prepared
from agentflow.plan.plan import PlanSource
from agentflow.sources.exchange import ApiReply, ApiRequest, HttpService, refused
from agentflow.spec.jsonschema import compile_schema

Json = Any
MOST_BYTES = 64 * 2**20
"""What the pages of one step may hold together."""
_QUICK = 32 * 2**10
"""A longer reply is read on a thread, so that other steps go on."""
_LINK = re.compile(
    r"<([^<>]*)>((?:\s*;\s*[\w*!#$&+.^`|~-]+(?:\s*=\s*(?:\"[^\"]*\"|[^\s;,\"]+))?)*)"
)
_RELATION = re.compile(r";\s*rel\s*=\s*(?:\"([^\"]*)\"|([^\s;,\"]+))", re.IGNORECASE)
_NO_SOURCE = PlanSource("", "api", "", {})


class HttpNode:
    """Sends what the templates make, reads what comes, page after page."""

    def __init__(self, open_source: OpenSource) -> None:
        """``open_source`` opens the connection of nodes that name no source."""
        self._open = open_source

    async def run(self, context: StepContext) -> StepResult:
        """``{status_code, data, headers, success, url}``, with ``pages`` and ``truncated`` where the
        node pages, and ``cached`` where every reply was kept from an earlier request. Raises StepError."""
        options = context.options
        source = await self._source(context)
        request = prepared(context)
        extra: dict[str, Json]
        if options.get("paginate"):
            reply, data, extra = await _paged(context, source, request)
        else:
            reply = await _send(context, source, request, request.url(), 0)
            data = await _beside(len(reply.body), _read, context, reply)
            extra = {"cached": True} if reply.cached else {}
        result = {
            "status_code": reply.status,
            "data": data,
            "headers": reply.headers,
            "success": 200 <= reply.status < 300,
            "url": reply.url,
            **extra,
        }
        return StepResult(result=result, delta={options["output_key"]: result})

    async def _source(self, context: StepContext) -> HttpService:
        named = context.options.get("source")
        if named:
            return cast(HttpService, await context.source(named))
        return cast(HttpService, await self._open(_NO_SOURCE, context.tenant))


async def _send(
    context: StepContext, source: HttpService, request: Prepared, url: str, index: int
) -> ApiReply:
    """One request, and that its reply is a success. ``index`` counts the step's requests."""
    options = context.options
    reply = await source.request(
        ApiRequest(
            method=request.method,
            url=url,
            headers=request.headers,
            body=request.body,
            sign=options.get("sign"),
            idempotency_key=context.key(index),
            fence=context.epoch,
            attempt=context.attempt,
            timeout_s=options.get("timeout_s"),
        )
    )
    if not _is_success(reply.status, options["success"]):
        raise refused(reply, options.get("source"))
    return reply


def _is_success(status: int, wanted: Json) -> bool:
    for item in wanted if isinstance(wanted, list | tuple) else [wanted]:
        low, _, high = str(item).partition("-")
        if int(low) <= status <= int(high or low):
            return True
    return False


async def _beside(size: int, do: Callable[..., Json], *given: Any) -> Json:
    """What ``do`` makes of a value that took so many bytes."""
    return do(*given) if size <= _QUICK else await asyncio.to_thread(do, *given)


def _read(context: StepContext, reply: ApiReply) -> Json:
    return _wanted(context, parsed(reply, context.options["parse"]))


def _wanted(context: StepContext, data: Json) -> Json:
    """What is asked for of a value, which must fit the schema. Raises StepError."""
    named = context.options["extract"]
    if named:
        data = {name: extracted(data, path) for name, path in named.items()}
    _check(context, data)
    return data


async def _paged(
    context: StepContext, source: HttpService, request: Prepared
) -> tuple[ApiReply, Json, dict[str, Json]]:
    """The last reply, what is wanted of the items of every page, and what is to be told of the pages."""
    how, parse = context.options["paginate"], context.options["parse"]
    items: list[Json] = []
    size, index, url = 0, 0, _first(request, how)
    cached = True
    seen: set[str] = set()
    while True:
        seen.add(url)
        reply = await _page(context, source, request, url, index)
        cached = cached and reply.cached
        size += len(reply.body)
        if size > MOST_BYTES:
            raise ProviderRejected(f"The pages of {reply.where} exceed {MOST_BYTES} bytes")
        data = await _beside(len(reply.body), parsed, reply, parse)
        found = await _beside(len(reply.body), _items, data, how)
        items += found
        index += 1
        following = _following(reply, data, found, request, how, index)
        if following in seen:
            raise ProviderRejected(f"The pages of {reply.where} lead back to one that was read")
        if following is None or index >= how["max_pages"]:
            wanted = await _beside(size, _wanted, context, items)
            told = {"pages": index, "truncated": following is not None}
            return reply, wanted, {**told, "cached": True} if cached else told
        url = following


async def _page(
    context: StepContext, source: HttpService, request: Prepared, url: str, index: int
) -> ApiReply:
    try:
        return await _send(context, source, request, url, index)
    except StepError as error:
        if error.uncounted and index and context.node.effects == "once":
            # Such errors say that nothing happened; but the pages before this one did.
            raise ProviderUnavailable(error.message, after=error.after) from None
        raise


def _first(request: Prepared, how: Json) -> str:
    if how["mode"] != "page":
        return request.url()
    return request.url({_param(how): str(_first_number(request, how))})


def _first_number(request: Prepared, how: Json) -> int:
    given = dict(request.query).get(_param(how), "1")
    return int(given) if given.isdecimal() else 1


def _param(how: Json) -> str:
    return str(how.get("param") or ("page" if how["mode"] == "page" else "cursor"))


def _items(data: Json, how: Json) -> list[Json]:
    """The items of a page: what the path finds, else the page's own list, else the page."""
    if how.get("items_path"):
        found = extracted(data, how["items_path"])
        return [] if found is None else found if isinstance(found, list) else [found]
    if data is None:
        return []
    return data if isinstance(data, list) else [data]


def _following(
    reply: ApiReply, data: Json, found: list[Json], request: Prepared, how: Json, index: int
) -> str | None:
    """The address of the next page, or None after the last. Raises ProviderRejected."""
    if how["mode"] == "page":
        number = _first_number(request, how) + index
        return request.url({_param(how): str(number)}) if found else None
    if how["mode"] == "cursor":
        cursor = extracted(data, how["cursor_path"]) if isinstance(data, dict | list) else None
        if cursor is None or cursor == "" or cursor is False or isinstance(cursor, dict | list):
            return None
        return request.url({_param(how): str(cursor)})
    link = next(_links(reply.headers.get("link", "")), None)
    if link is None:
        return None
    try:
        target = urljoin(reply.url, link)
        is_there = _origin(target) == _origin(reply.url)
    except ValueError:
        raise ProviderRejected(f"The next page of {reply.where} has no valid address") from None
    if not is_there:
        raise ProviderRejected(f"The next page of {reply.where} is on another host")
    return target


def _links(header: str) -> Iterator[str]:
    """The targets of a Link header (RFC 8288) whose relation is ``next``."""
    for found in _LINK.finditer(header):
        named = _RELATION.search(found[2])
        if named and "next" in (named[1] or named[2] or "").lower().split():
            yield found[1]


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme.lower(), parts.netloc.lower()


def _check(context: StepContext, data: Json) -> None:
    schema = context.options.get("response_schema")
    problems = compile_schema(schema).problems(data, limit=5) if schema is not None else []
    if problems:
        raise OutputSchemaMismatch(
            f"The reply to node {context.node.id!r} does not fit response_schema: "
            f"{'; '.join(problems)}"[:1000]
        )
