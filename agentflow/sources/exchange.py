"""The vocabulary of HTTP calls: a request, its reply, and what a reply that is an error means."""

from __future__ import annotations

import json
from typing import Any, Protocol

import msgspec

from agentflow.errors import (
    ProviderAuthError,
    ProviderRateLimited,
    ProviderRejected,
    ProviderUnavailable,
    StepError,
)
from agentflow.sources.base import Source
from agentflow.sources.credentials import masked
from agentflow.sources.refusals import retry_after, said

Json = Any


class ApiRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request. ``url``: absolute, or what follows the source's base URL, percent-encoded.

    ``headers``: the author's own, which come before the source's. ``sign``: how it is signed, with
    names of credentials. ``fence``: the owner's epoch. ``attempt`` counts the tries of the step.
    ``timeout_s`` in seconds bounds it whole.
    """

    method: str
    url: str
    headers: dict[str, str] = {}
    body: bytes = b""
    sign: dict[str, Json] | None = None
    idempotency_key: str = ""
    fence: int = 0
    attempt: int = 1
    timeout_s: float | None = None


class ApiReply(msgspec.Struct, frozen=True, kw_only=True):
    """What came back; ``headers`` have lower-case names; ``where`` names the request in messages.
    ``redirected``: it is from another address. ``moved``: somebody else answered first, who may have
    done what was asked for. ``cached``: it was kept from an earlier request, and nobody was called."""

    status: int
    headers: dict[str, str]
    body: bytes
    url: str
    where: str
    moved: bool = False
    redirected: bool = False
    cached: bool = False


class HttpService(Source, Protocol):
    """A source of kind ``api``."""

    def kept(self, request: ApiRequest) -> ApiReply | None:
        """A reply to the same request that is still fresh, so that no call is needed. Raises StepError."""
        ...

    async def request(self, request: ApiRequest) -> ApiReply:
        """Send a request once and read the whole reply, whatever its status. Raises StepError."""
        ...


def refused(reply: ApiReply, credential: str | None) -> StepError:
    """The step error of a reply whose status is no success. ``credential``: who was refused."""
    status, where = reply.status, reply.where
    words = _words(reply)
    if status in (401, 403):
        held = f"the credentials of source {credential!r}" if credential else "a call without any"
        way_out = "check them" if credential else "name a source that has credentials"
        return ProviderAuthError(
            f"{where} refused {held} with {status}; {way_out}. {words}".strip()
        )
    after = retry_after(reply.headers)
    if status == 429 and not reply.moved:
        wish = "" if after is None else f"; it asks for a pause of {after:g} s"
        return ProviderRateLimited(f"{where} answered 429: too many requests{wish}", after=after)
    if status in (408, 429) or status >= 500:
        return ProviderUnavailable(f"{where} answered {status}. {words}".strip(), after=after)
    return ProviderRejected(f"{where} answered {status}. {words}".strip())


def _words(reply: ApiReply) -> str:
    """What the service itself said, as far as it is text; credentials are hidden in it already."""
    if "json" in reply.headers.get("content-type", ""):
        try:
            return masked(said(json.loads(reply.body)))
        except (ValueError, RecursionError):
            return ""
    text = reply.body[:1000].decode("utf-8", "replace")
    return masked(f"It said: {text}") if text.strip() and text.isprintable() else ""
