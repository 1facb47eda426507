"""The only way out to the internet: address policy, pinned connections, redirects, caps.

Every URL that an author of a workflow can give is called through :func:`client`. A host name is
resolved once, every address it has must be permitted, and the connection goes to the address that
was checked, so that a name cannot change its meaning between the check and the call.
Everything that goes wrong on the way is raised as a step error.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import zlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpcore2
import httpx2

from agentflow.addresses import Policy as Policy
from agentflow.errors import CallTimeout, ConnectionFailed, ProviderRejected, ProviderUnavailable
from agentflow.lookups import Lookups
from agentflow.lookups import Resolve as Resolve
from agentflow.lookups import resolve_host as resolve_host

Response = httpx2.Response
"""A reply as it came."""
SETTING = "AGENTFLOW_EGRESS_ALLOW"
MAX_REDIRECTS = 3
CREDENTIAL_HEADERS = "credential_headers"
MOVED = "moved"
"""The extension of a response that tells whether a request which may change something was redirected
before: then no later refusal proves that nothing happened."""
REDIRECTED = "redirected"
"""The extension of a response that tells whether it is from another address than was called."""
for _library in ("httpx2", "httpcore2"):
    # Below this level they log addresses with their query, and headers with whatever is in them.
    logging.getLogger(_library).setLevel(logging.WARNING)
_REDIRECTS = (301, 302, 303, 307, 308)
_SAFE = ("GET", "HEAD", "OPTIONS")
_IN_NO_NAME = frozenset(' \t\r\n\\"<>^`{|}@/?#')
"""Where such a character stands in a host, others may read another host."""


@dataclass(frozen=True)
class Caps:
    """Limits of one exchange: bytes of the body on the wire and after decompression, bytes of the
    headers, seconds from the first byte sent to the last received, seconds to connect."""

    body: int = 32 * 2**20
    decompressed: int = 64 * 2**20
    headers: int = 64 * 2**10
    total_s: float = 120.0
    connect_s: float = 10.0


def check_url(text: str) -> str:
    """The URL as it is called. Raises ProviderRejected when a text is none that could be, whatever its
    address."""
    try:
        url = httpx2.URL(text)
    except (httpx2.InvalidURL, UnicodeError) as error:
        raise ProviderRejected(f"Not a valid URL: {error}") from None
    _check_url(url)
    return str(url)


def client(
    policy: Policy,
    timeout: float,
    *,
    caps: Caps | None = None,
    resolve: Resolve = resolve_host,
    verify: ssl.SSLContext | None = None,
) -> httpx2.AsyncClient:
    """An HTTP client that obeys the policy; ``timeout`` in seconds bounds each whole exchange.

    Its calls raise ProviderRejected (refused by the policy or a cap), ConnectionFailed, CallTimeout
    and ProviderUnavailable (broken or cut-off reply). Environment proxies are not used, cookies are
    not kept. The extension :data:`CREDENTIAL_HEADERS` of a request names further headers that do not
    follow a redirect to another origin.
    """
    caps = caps or Caps(total_s=timeout)
    transport = _Guard(policy, caps, resolve, verify)
    return httpx2.AsyncClient(
        transport=transport,
        timeout=httpx2.Timeout(timeout, connect=min(timeout, caps.connect_s)),
        trust_env=False,
        follow_redirects=False,
        headers={"Accept-Encoding": "gzip"},
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
    )


@cache
def _public_trust() -> ssl.SSLContext:
    """The certificate authorities of the public internet; loaded once, for it takes a while."""
    return httpx2.create_ssl_context(trust_env=False)


class _PinnedBackend(httpcore2.AsyncNetworkBackend):
    """Resolves a name, refuses it unless every address is permitted, connects to what was checked.

    TLS starts later, on the connection it returns, with the original name."""

    def __init__(self, policy: Policy, resolve: Resolve) -> None:
        self._policy = policy
        self._lookups = Lookups(resolve)
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._lookups.addresses(host, port)
        except TimeoutError:
            raise ConnectionFailed(f"The name {host!r} could not be resolved in time") from None
        except (OSError, UnicodeError) as error:
            raise ConnectionFailed(f"The name {host!r} could not be resolved: {error}") from None
        self._check(host, port, addresses)
        return await self._connect(host, port, addresses, timeout, socket_options)

    def _check(self, host: str, port: int, addresses: Sequence[str]) -> None:
        if not addresses:
            raise ConnectionFailed(f"The name {host!r} has no address")
        for address in addresses:
            reason = self._policy.refusal(address, port)
            if reason is not None:
                raise ProviderRejected(
                    f"Calling {host!r} was refused: it is {reason}. "
                    f"An operator can open such addresses with the setting {SETTING}"
                )

    async def _connect(
        self,
        host: str,
        port: int,
        addresses: Sequence[str],
        timeout: float | None,
        socket_options: Iterable[Any] | None,
    ) -> httpcore2.AsyncNetworkStream:
        failure: Exception | None = None
        for address in addresses:
            try:
                return await self._inner.connect_tcp(
                    address, port, timeout=timeout, socket_options=socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise ConnectionFailed(f"No connection to {host}:{port}: {_reason(failure)}") from failure

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore2.AsyncNetworkStream:
        raise ProviderRejected("Unix sockets cannot be called")

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


class _Guard(httpx2.AsyncBaseTransport):
    """Sends a request through the pinned backend, follows redirects, applies the caps."""

    def __init__(
        self, policy: Policy, caps: Caps, resolve: Resolve, verify: ssl.SSLContext | None
    ) -> None:
        self._caps = caps
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=verify or _public_trust(),
            max_connections=1000,
            max_keepalive_connections=100,
            keepalive_expiry=30.0,
            network_backend=_PinnedBackend(policy, resolve),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        deadline = asyncio.get_running_loop().time() + self._caps.total_s
        body = await request.aread()
        moved = False
        for hop in range(MAX_REDIRECTS + 1):
            _check_url(request.url)
            try:
                response = await self._send(request, deadline)
            except ConnectionFailed as error:
                if not moved:
                    raise
                # Who sent us on may have done what it was asked for.
                raise ProviderUnavailable(f"After a redirect: {error.message}") from error
            target = response.headers.get("location")
            if response.status_code not in _REDIRECTS or not target:
                response.extensions[MOVED] = moved
                response.extensions[REDIRECTED] = hop > 0
                return response
            await response.aclose()
            moved = moved or request.method not in _SAFE
            request = _redirected(request, response.status_code, target, body)
        raise ProviderRejected(
            f"{request.url.host!r} was redirected more than {MAX_REDIRECTS} times"
        )

    async def _send(self, request: httpx2.Request, deadline: float) -> httpx2.Response:
        url = request.url
        core = httpcore2.Request(
            method=request.method,
            url=httpcore2.URL(
                scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
            ),
            headers=request.headers.raw,
            content=request.stream,
            extensions=self._bounded(request.extensions),
        )
        try:
            async with asyncio.timeout_at(deadline):
                response = await self._pool.handle_async_request(core)
        except (TimeoutError, httpcore2.TimeoutException) as error:
            raise _timed_out(url.host, self._caps, error) from error
        except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
            raise _broken(url.host, error) from error
        body = _Body(response, url.host, self._caps, deadline)
        try:
            headers = body.kept_headers()
        except ProviderRejected:
            await body.aclose()
            raise
        return httpx2.Response(
            status_code=response.status,
            headers=headers,
            stream=body,
            extensions=response.extensions,
        )

    def _bounded(self, extensions: Mapping[str, Any]) -> dict[str, Any]:
        """The extensions of a request whose caller may set longer timeouts, less those for which
        waiting makes no sense."""
        timeout = dict(extensions.get("timeout") or {})
        connect = timeout.get("connect")
        timeout["connect"] = min(connect or self._caps.connect_s, self._caps.connect_s)
        return {**extensions, "timeout": timeout}

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Body(httpx2.AsyncByteStream):
    """The body of a reply, unpacked here so that a small reply cannot become a huge one."""

    def __init__(
        self, response: httpcore2.Response, host: str, caps: Caps, deadline: float
    ) -> None:
        self._response = response
        self._host = host
        self._caps = caps
        self._deadline = deadline
        self._unpack: Any = None

    def kept_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers, less those that describe the packing. Raises ProviderRejected."""
        headers = list(self._response.headers)
        if sum(len(name) + len(value) for name, value in headers) > self._caps.headers:
            raise self._too_large("headers", self._caps.headers)
        packing = b",".join(value for name, value in headers if name.lower() == b"content-encoding")
        encoding = packing.strip().lower()
        if encoding in (b"", b"identity"):
            return headers
        if encoding not in (b"gzip", b"x-gzip", b"deflate"):
            raise ProviderRejected(
                f"{self._host!r} sent a reply packed as {encoding[:40]!r}; gzip was asked for"
            )
        self._unpack = zlib.decompressobj(zlib.MAX_WBITS | (32 if b"gzip" in encoding else 0))
        return [
            (name, value)
            for name, value in headers
            if name.lower() not in (b"content-encoding", b"content-length")
        ]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        parts = aiter(self._response.stream)  # type: ignore[arg-type]
        packed = unpacked = 0
        while (part := await self._next(parts)) is not None:
            packed += len(part)
            if packed > self._caps.body:
                raise self._too_large("body", self._caps.body)
            for piece in self._pieces(part):
                unpacked += len(piece)
                if unpacked > self._caps.decompressed:
                    raise self._too_large("unpacked body", self._caps.decompressed)
                yield piece
        if self._unpack is not None and packed and not self._unpack.eof:
            raise ProviderUnavailable(f"{self._host!r} sent a packed reply that ends too early")

    async def _next(self, parts: AsyncIterator[bytes]) -> bytes | None:
        try:
            async with asyncio.timeout_at(self._deadline):
                return await anext(parts, None)
        except (TimeoutError, httpcore2.TimeoutException) as error:
            raise _timed_out(self._host, self._caps, error) from error
        except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
            raise _broken(self._host, error) from error

    def _pieces(self, part: bytes) -> Iterable[bytes]:
        if self._unpack is None:
            yield part
            return
        try:
            while part:
                yield self._unpack.decompress(part, 2**16)
                part = self._unpack.unconsumed_tail
        except zlib.error as error:
            raise ProviderUnavailable(
                f"{self._host!r} sent a reply that cannot be unpacked"
            ) from error

    def _too_large(self, what: str, limit: int) -> ProviderRejected:
        return ProviderRejected(f"The {what} of the reply of {self._host!r} exceeds {limit} bytes")

    async def aclose(self) -> None:
        await self._response.aclose()


def _check_url(url: httpx2.URL) -> None:
    if url.scheme not in ("http", "https"):
        raise ProviderRejected(f"Only http and https can be called, not {url.scheme!r}")
    if url.userinfo:
        raise ProviderRejected(f"The URL of {url.host!r} may not hold a user name or a password")
    if not url.host:
        raise ProviderRejected("The URL has no host")
    if _IN_NO_NAME & set(url.host):
        raise ProviderRejected(f"The URL has a host that cannot be: {url.host!r}")
    if url.port is not None and not 0 < url.port < 65536:
        raise ProviderRejected(f"The URL of {url.host!r} has no valid port")


def _redirected(request: httpx2.Request, status: int, target: str, body: bytes) -> httpx2.Request:
    """The request that follows a redirect. Raises ProviderRejected."""
    try:
        url = request.url.join(target)
    except httpx2.InvalidURL:
        raise ProviderRejected(f"{request.url.host!r} redirected to an invalid URL") from None
    if request.url.scheme == "https" and url.scheme != "https":
        raise ProviderRejected(f"{request.url.host!r} redirected from https to {url.scheme}")
    keeps_method = status in (307, 308) or request.method in ("GET", "HEAD")
    dropped = {"host"} if keeps_method else {"host", "content-length", "content-type"}
    if not keeps_method or not body:
        dropped.add("transfer-encoding")
    same_origin = _origin(request.url) == _origin(url)
    secret = {name.lower() for name in request.extensions.get(CREDENTIAL_HEADERS, ())}
    headers = [
        (name, value)
        for name, value in request.headers.multi_items()
        if name.lower() not in dropped
        and (same_origin or not (_is_credential(name) or name.lower() in secret))
    ]
    return httpx2.Request(
        request.method if keeps_method else "GET",
        url,
        headers=headers,
        content=body if keeps_method and body else None,
        extensions=request.extensions,
    )


def _origin(url: httpx2.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)


def _is_credential(name: str) -> bool:
    words = ("auth", "cookie", "key", "token", "secret", "organization", "project")
    return any(word in name.lower() for word in words)


def _timed_out(host: str, caps: Caps, error: BaseException) -> CallTimeout | ConnectionFailed:
    if isinstance(error, httpcore2.ConnectTimeout):
        return ConnectionFailed(f"No connection to {host!r} within {caps.connect_s:g} s")
    return CallTimeout(f"{host!r} did not answer in time")


def _broken(host: str, error: Exception) -> ConnectionFailed | ProviderUnavailable:
    if isinstance(error, httpcore2.ConnectError):
        return ConnectionFailed(f"No secure connection to {host!r}: {_reason(error)}")
    return ProviderUnavailable(f"The connection to {host!r} broke: {_reason(error)}")


def _reason(error: Exception | None) -> str:
    return str(error) or type(error).__name__
