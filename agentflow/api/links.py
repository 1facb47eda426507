"""Links to the blobs that an answer names, so that whoever reads it can show them."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import msgspec
from starlette.responses import Response

from agentflow.api.asked import Asked, json_answer
from agentflow.errors import StoreError
from agentflow.execution.views import timestamp
from agentflow.flow import blobs
from agentflow.telemetry import logs

Json = Any
_log = logs.log("api")


def link_body(link: blobs.Link) -> dict[str, Json]:
    """A link on the wire; ``url`` is a path of this server."""
    query = urlencode({"tenant": link.tenant, "expires": link.expires, "signature": link.signature})
    return {
        **link.blob.as_json(),
        "url": f"/api/v1/blobs/{link.blob.sha256}?{query}",
        "expires_at": timestamp(link.expires),
    }


async def linked_answer(context: Asked, body: dict[str, Json]) -> Response:
    """The body as a JSON answer; where it names blobs of the tenant, with ``blobs``: a link to each. While
    no links can be made it is without them: what it tells of an execution is as true."""
    content = msgspec.json.encode(body)
    named = blobs.named_in(content)
    found: tuple[blobs.Link, ...] = ()
    try:
        found = await blobs.links(context.flow.blobs, context.tenant, named) if named else ()
    except StoreError as error:
        _log.warning("links.not_made", reason=error.message)
    if not found:
        return Response(content, media_type="application/json")
    return json_answer({**body, "blobs": [link_body(each) for each in found]})
