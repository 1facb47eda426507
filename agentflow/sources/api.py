"""HTTP services: one request at a time, authenticated and signed, through the guard of the way out."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from agentflow import egress
from agentflow.addresses import Policy
from agentflow.errors import CallTimeout, InvalidInput, MissingCredential, ProviderRejected
from agentflow.sources.authentication import Authentication, Proof
from agentflow.sources.credentials import Credentials, masked
from agentflow.sources.exchange import ApiReply, ApiRequest
from agentflow.sources.replies import Asked, Replies
from agentflow.sources.signing import aws_headers, hmac_headers
from agentflow.spec.kinds.http import header_problem

Json = Any
TIMEOUT_S = 30.0
LONGEST_CALL_S = 3600.0
LONGEST_URL = 16_384
SAFE = ("GET", "HEAD", "OPTIONS")
"""Methods that change nothing of what was kept."""
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|[/\\]{2}")
_SHORTEST_SECRET = 4


async def open_api(
    source_id: str,
    config: Mapping[str, Json],
    *,
    policy: Policy,
    credentials: Credentials,
    replies: Replies | None = None,
) -> ApiSource:
    """A connection to a service, or with an empty configuration to any. No call is made yet.

    ``replies``: where the worker keeps replies, for one tenant's connection; none are without.
    Raises ProviderRejected.
    """
    for name in ("base_url", "token_url"):
        if config.get(name):
            egress.check_url(str(config[name]))
    for name in (*(config.get("headers") or {}), config.get("api_key_header") or "X-API-Key"):
        if (problem := header_problem(str(name))) is not None:
            raise ProviderRejected(f"Source {source_id!r}: {str(name)[:100]!r} {problem}")
    return ApiSource(source_id, config, policy, credentials, replies or Replies(0))


class ApiSource:
    """One HTTP service; its sockets are shared by every request, its cookies by none."""

    def __init__(
        self,
        source_id: str,
        config: Mapping[str, Json],
        policy: Policy,
        credentials: Credentials,
        replies: Replies,
    ) -> None:
        self._shelf = replies.shelf()
        self._id = source_id
        self._config = config
        self._base_url = str(config.get("base_url") or "")
        self._credentials = credentials
        self._authentication = Authentication(source_id, config, credentials)
        trust = _blind_trust() if config.get("verify_tls") is False else None
        self._http = egress.client(policy, LONGEST_CALL_S, verify=trust)

    def kept(self, request: ApiRequest) -> ApiReply | None:
        """See the contract. Who tries again does so because of what it was told, and asks anew."""
        if request.attempt > 1:
            return None
        asked = self._asked(request, self._target(request.url))
        return None if asked is None else self._shelf.fresh(asked)

    async def request(self, request: ApiRequest) -> ApiReply:
        """Send a request once and read the whole reply, whatever its status. Raises StepError.

        A request whose token was refused with 401 is sent once more with a new token. None is sent
        where an earlier reply is still fresh.
        """
        if (kept := self.kept(request)) is not None:
            return kept
        url = self._target(request.url)
        limit = request.timeout_s or float(self._config.get("timeout_s") or TIMEOUT_S)
        where = f"{request.method} {_shown(url)}"
        try:
            async with asyncio.timeout(limit):
                proof = await self._authentication.proof(self._post)
                reply = await self._once(request, url, where, proof)
                if reply.status == 401 and self._authentication.renewable:
                    self._authentication.forget(proof)
                    proof = await self._authentication.proof(self._post)
                    reply = await self._once(request, url, where, proof)
                return reply
        except TimeoutError:
            raise CallTimeout(f"{where} did not answer within {limit:g} s") from None

    async def _once(self, request: ApiRequest, url: str, where: str, proof: Proof) -> ApiReply:
        signature, keys = self._signature(request, url)
        added = {**proof.headers, **signature}
        headers = self._plain_headers(request)
        asked = self._asked(request, url)
        headers |= self._shelf.questions(asked) if asked and request.attempt == 1 else {}
        if request.idempotency_key:
            headers.setdefault("idempotency-key", request.idempotency_key)
        headers |= {name.lower(): value for name, value in added.items()}
        if request.fence:
            headers["agentflow-fence"] = str(request.fence)
        began = time.monotonic()
        status, got, body, moved, redirected = await self._send(
            request.method, url, headers, request.body, where, tuple(added)
        )
        secrets = (*proof.secrets, *keys)
        body = _hidden(body, secrets)
        shown = {name: _hidden(value.encode(), secrets).decode() for name, value in got.items()}
        reply = ApiReply(
            status=status,
            headers=shown,
            body=body,
            url=url,
            where=where,
            moved=moved,
            redirected=redirected,
        )
        if asked is not None:
            return await self._weighed(request, asked, reply, time.monotonic() - began, proof)
        if request.method not in SAFE:
            self._shelf.changed(url, reply)
        return reply

    async def _weighed(
        self, request: ApiRequest, asked: Asked, reply: ApiReply, took_s: float, proof: Proof
    ) -> ApiReply:
        """What a reply stands for: itself, or what was kept and is still the one."""
        if reply.status != 304:
            self._shelf.take(asked, reply, took_s)
            return reply
        confirmed = self._shelf.confirmed(asked, reply, took_s)
        if confirmed is not None:
            return confirmed
        # What it confirms has gone, or somebody else spoke: ask for all of it.
        headers = {**request.headers, "Cache-Control": "no-store"}
        anew = msgspec.structs.replace(request, headers=headers)
        return await self._once(anew, asked.url, reply.where, proof)

    def _asked(self, request: ApiRequest, url: str) -> Asked | None:
        """What a request asks for, where a kept reply may do. Raises MissingCredential."""
        if request.body:  # nobody says what a body means to a GET; to some it is the question
            return None
        secrets = [*self._authentication.who(), msgspec.json.encode(request.sign).decode()]
        for name, variable in (request.sign or {}).items():
            if name.endswith("_env") and variable:
                secrets.append(self._credentials.value(str(variable), self._id or "sign"))
        return Asked.of(request.method, url, self._plain_headers(request), secrets)

    def _plain_headers(self, request: ApiRequest) -> dict[str, str]:
        """The source's and the author's headers, in lower case."""
        headers = {name.lower(): value for name, value in self._own_headers().items()}
        return headers | {name.lower(): value for name, value in request.headers.items()}

    async def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        where: str,
        credentials: Iterable[str],
    ) -> tuple[int, dict[str, str], bytes, bool, bool]:
        for name, value in headers.items():
            if not (value.isascii() and value.isprintable()):
                raise InvalidInput(
                    f"{where}: header {name!r} holds characters that no header can have"
                )
        response = None
        try:
            built = self._http.build_request(
                method,
                url,
                headers={"user-agent": "agentflow", "accept": "*/*", **headers},
                content=body or None,
                extensions={egress.CREDENTIAL_HEADERS: tuple(credentials)},
            )
            response = await self._http.send(built, stream=True)
            content = await response.aread()
            headers = _headers(response.headers.multi_items())
            moved, redirected = (
                response.extensions[name] for name in (egress.MOVED, egress.REDIRECTED)
            )
            return response.status_code, headers, content, moved, redirected
        finally:
            if response is not None:
                await response.aclose()

    async def _post(self, url: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        where = f"POST {_shown(url)}"
        status, _, content, *_ = await self._send("POST", url, headers, body, where, headers)
        return status, content

    def _own_headers(self) -> dict[str, str]:
        return {
            str(name): str(value) for name, value in (self._config.get("headers") or {}).items()
        }

    def _target(self, url: str) -> str:
        """The address to call. With a base URL it must have that one's origin. Raises StepError."""
        base = urlsplit(self._base_url)
        if _ABSOLUTE.match(url):
            if self._base_url and _origin(url) != _origin(self._base_url):
                raise ProviderRejected(
                    f"The address leads to another host than source {self._id!r}, whose credentials "
                    "would be sent there; write only what follows its base_url, or name no source"
                )
        elif not self._base_url:
            raise InvalidInput("The address is not absolute, and the node names no source")
        else:
            path, mark, query = url.partition("?")
            path = f"{base.path.rstrip('/')}/{path.lstrip('/')}" if path else base.path
            query = "&".join(part for part in (base.query, query) if part)
            mark = "?" if query else ""
            url = f"{base.scheme}://{base.netloc}{path}{mark}{query}"
        if len(url) > LONGEST_URL:
            raise InvalidInput(f"The address is longer than {LONGEST_URL} characters")
        return egress.check_url(url)

    def _signature(self, request: ApiRequest, url: str) -> tuple[dict[str, str], tuple[str, ...]]:
        """The headers of the signature, and the secrets that made it. Raises MissingCredential."""
        sign = request.sign
        if not sign:
            return {}, ()
        now = datetime.now(UTC)
        if sign["type"] == "hmac":
            secret = self._secret(sign, "secret")
            return hmac_headers(sign, secret, request.body, now), (secret,)
        key = self._secret(sign, "secret_access_key")
        token = self._secret(sign, "session_token") if sign.get("session_token_env") else None
        signed = aws_headers(
            method=request.method,
            url=url,
            body=request.body,
            region=str(sign["region"]),
            service=str(sign["service"]),
            access_key_id=self._secret(sign, "access_key_id"),
            secret_access_key=key,
            session_token=token,
            now=now,
        )
        return signed, (key, *((token,) if token else ()))

    def _secret(self, sign: Mapping[str, Json], name: str) -> str:
        variable = sign.get(f"{name}_env")
        if not variable:
            raise MissingCredential(f"sign needs {name}_env, the name of an environment variable")
        return self._credentials.value(str(variable), self._id or "sign")

    async def close(self) -> None:
        """Close every connection, and let go of what was kept."""
        self._shelf.clear()
        await self._http.aclose()


def _headers(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The headers of a reply, lower-case, repeated ones joined; no session of it is kept."""
    found: dict[str, str] = {}
    for name, value in pairs:
        name = name.lower()
        if name not in ("set-cookie", "set-cookie2"):
            found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _hidden(body: bytes, secrets: Iterable[str]) -> bytes:
    """A reply in which a service repeats our own credentials, without them."""
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:
            for form in {secret, json.dumps(secret)[1:-1], quote(secret, safe="")}:
                body = body.replace(form.encode(), b"***")
    return body


def _origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port. Raises ProviderRejected."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme.lower())
        return parts.scheme.lower(), (parts.hostname or "").lower(), port
    except ValueError:
        raise ProviderRejected("The address is not a valid URL") from None


def _shown(url: str) -> str:
    """An address as messages name it: without user info, query and fragment."""
    return masked(re.sub(r"//[^/@]*@", "//", re.split(r"[?#]", url, maxsplit=1)[0]), (), 200)


def _blind_trust() -> ssl.SSLContext:
    """For sources whose certificates nobody signed; the operator's network must vouch for them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
