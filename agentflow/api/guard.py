"""Who asks: every request needs an API key, save those for the public paths and by links
to blobs. Deny by default."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from agentflow.access.model import Principal
from agentflow.api import problems
from agentflow.errors import AgentFlowError, Unauthenticated

_OPEN = (
    *("/health", "/health/ready", "/health/live", "/ready", "/live"),
    "/schemas/workflow.json",
)
PUBLIC = frozenset(
    (
        *("/", "/openapi.json", "/docs", "/redoc", *_OPEN),
        *(f"/api/v1{path}" for path in _OPEN),
    )
)
"""The only paths that answer without a key. The schema is among them because editors fetch it."""

MAX_KEY = 4096
_BLOB = re.compile(r"/api/v1/blobs/[^/]+")
"""The only path whose address may be signed: then the route asks for no key, but judges the link."""
Authenticate = Callable[[str], Awaitable[Principal]]


class VerifiedKeys:
    """Remembers for a few seconds whom a key belongs to, so that not every request asks the store.

    A revoked key works for at most ``ttl_s`` longer. Keys are kept as digests; refused ones are not
    kept.
    """

    def __init__(
        self,
        *,
        ttl_s: float = 5.0,
        limit: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ttl_s, self._limit, self._clock = ttl_s, limit, clock
        self._known: dict[bytes, tuple[float, Principal]] = {}

    async def principal(self, key: str, authenticate: Authenticate) -> Principal:
        """Whose key it is. Raises Unauthenticated, StoreUnavailable."""
        digest = hashlib.sha256(key.encode()).digest()
        known = self._known.get(digest)
        if known is not None and known[0] > self._clock():
            return known[1]
        self._known.pop(digest, None)
        principal = await authenticate(key)
        if len(self._known) >= self._limit:
            self._known.clear()
        self._known[digest] = (self._clock() + self._ttl_s, principal)
        return principal


class Guard:
    """Lets a request through to the routes when its path is public or its key is good.

    The principal is then ``request.state.principal``.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._keys = VerifiedKeys()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or scope["path"] in PUBLIC or _is_signed(scope):
            await self._app(scope, receive, send)
            return
        try:
            principal = await self._principal(scope)
        except AgentFlowError as error:
            await problems.of_error(scope, error)(scope, receive, send)
            return
        scope.setdefault("state", {})["principal"] = principal
        await self._app(scope, receive, send)

    async def _principal(self, scope: Scope) -> Principal:
        key = presented_key(Headers(scope=scope))
        if not key:
            raise Unauthenticated(
                "API key required; send it as X-API-Key or as Authorization: Bearer"
            )
        try:
            if len(key) > MAX_KEY or not key.isascii():
                raise Unauthenticated
            return await self._keys.principal(key, scope["app"].state.flow.authenticate)
        except Unauthenticated:
            raise Unauthenticated("Invalid API key") from None


def _is_signed(scope: Scope) -> bool:
    """Whether this is a link to a blob, as far as one can see."""
    return (
        _BLOB.fullmatch(scope["path"]) is not None
        and b"signature=" in scope["query_string"]
        and scope["method"] == "GET"
    )


def presented_key(headers: Headers) -> str:
    """The API key of a request, or an empty string."""
    key = headers.get("x-api-key", "").strip()
    if key:
        return key
    scheme, _, credential = headers.get("authorization", "").strip().partition(" ")
    return credential.strip() if scheme.lower() == "bearer" else ""
