"""Blobs: what steps kept beside the journal, such as pictures. With an API key, or by a link that ends."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse

from agentflow.access.links import DEFAULT_S, LONGEST_S, Verdict
from agentflow.api import problems
from agentflow.api.asked import asked, json_answer
from agentflow.api.docs import answers, problem_answer
from agentflow.api.links import link_body
from agentflow.errors import NotFound, Unauthenticated
from agentflow.flow import blobs

Json = Any

router = APIRouter(tags=["blobs"])

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHOWN = ("image/png", "image/jpeg", "image/gif", "image/webp")
"""What a browser shows; everything else it is told to save."""
_ENDINGS = {"image/jpeg": "jpg", "application/x-ndjson": "jsonl", "text/csv": "csv"}
_POLICY = "default-src 'none'; sandbox"


@router.get(
    "/blobs/{sha256}",
    operation_id="get_blob",
    summary="Read a blob",
    openapi_extra={"security": [{"ApiKey": []}, {"Bearer": []}, {}]},
    responses={
        **answers(200, "The content", 401, 404, 422, 503),
        200: {
            "description": "The content",
            "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}},
        },
        **problem_answer(403, "The link is not one of ours"),
        **problem_answer(410, "The link has expired"),
        **problem_answer(500, "The content is missing or damaged: bring it back from a backup"),
    },
)
async def get_blob(
    request: Request,
    sha256: str,
    tenant: Annotated[str | None, Query(max_length=64)] = None,
    expires: Annotated[int | None, Query(ge=0, le=2**53)] = None,
    signature: Annotated[str | None, Query(max_length=128)] = None,
) -> Response:
    """With an API key a blob of one's own tenant; or, without a key, by the whole address that a link
    gives. The content is compared with its SHA-256 before its last byte leaves."""
    flow = request.app.state.flow
    if signature is not None:
        owner = await _signed(request, sha256, tenant, expires, signature)
    elif not hasattr(request.state, "principal"):
        raise Unauthenticated("API key required, or the whole address that a link gives")
    else:
        owner = asked(request).tenant
    found = await blobs.content(flow.blobs, owner, _checked(sha256))
    first = await anext(found.pieces, b"")
    kind = found.blob.mime_type
    ending = _ENDINGS.get(kind, kind.partition("/")[2].partition(";")[0])
    ending = ending if ending.isalnum() else "bin"
    shown = "inline" if kind in _SHOWN else "attachment"
    # Whoever asks again with a key may be somebody else; and a copy lasts no longer than its link.
    rest_s = 0 if signature is None or expires is None else int(expires - time.time())
    age = f"private, max-age={min(rest_s, 60)}" if rest_s > 0 else "no-store"
    return StreamingResponse(
        _all(first, found.pieces),
        media_type=None,
        headers={
            "Content-Type": kind,
            "Content-Length": str(found.blob.size),
            "Content-Disposition": f'{shown}; filename="{sha256[:16]}.{ending}"',
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": _POLICY,
            "Cross-Origin-Resource-Policy": "cross-origin",
            "Cache-Control": age,
            "ETag": f'"{sha256}"',
        },
    )


@router.get(
    "/blobs/{sha256}/link",
    operation_id="link_blob",
    summary="Get a link to a blob that needs no API key",
    responses=answers(200, "The link, and when it ends", 401, 404, 422, 503),
)
async def link_blob(
    request: Request,
    sha256: str,
    expires_s: Annotated[int, Query(ge=1, le=LONGEST_S)] = DEFAULT_S,
) -> Response:
    """``url`` is a path of this server. Whoever has it can read this one blob until ``expires_at``. A new
    first API key (``API_KEY``) ends every link."""
    context = asked(request)
    made = await blobs.link(context.flow.blobs, context.tenant, _checked(sha256), expires_s)
    return json_answer(link_body(made))


async def _signed(
    request: Request, sha256: str, tenant: str | None, expires: int | None, signature: str
) -> str:
    """The tenant that a link is for. Raises Refusal."""
    verdict = Verdict.FORGED
    if tenant is not None and expires is not None:
        reader = request.app.state.flow.blobs
        verdict = await blobs.verdict(reader, tenant, sha256, expires, signature)
    if tenant is None or verdict is Verdict.FORGED:
        raise problems.Refusal(
            403,
            "FORBIDDEN",
            "This link is not whole, or no longer one of ours: take the whole address, or get a new one",
        )
    if verdict is Verdict.EXPIRED:
        raise problems.Refusal(
            410, "GONE", f"This link has expired; ask for a new one at /api/v1/blobs/{sha256}/link"
        )
    return tenant


def _checked(sha256: str) -> str:
    if not _SHA256.fullmatch(sha256):
        raise NotFound("Blob not found")
    return sha256


async def _all(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece
