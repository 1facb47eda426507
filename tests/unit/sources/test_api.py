"""Http services: who calls, how that is proven, and that no credential comes back."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agentflow.addresses import Policy
from agentflow.errors import (
    CallTimeout,
    ConnectionFailed,
    MissingCredential,
    ProviderAuthError,
    ProviderRejected,
    ProviderUnavailable,
    StepError,
)
from agentflow.sources.api import ApiSource, open_api
from agentflow.sources.credentials import Credentials
from agentflow.sources.exchange import ApiRequest, refused
from agentflow.sources.signing import aws_headers
from tests.fake_provider import FakeProvider, Hang, Raw, Request, Status
from tests.mariadb import certificate
from tests.unit.sources.conftest import LOOPBACK

Json = Any
Open = Callable[..., Any]
CANARY = 'canary-4711\\"/secret'
PEM = (
    ec.generate_private_key(ec.SECP256R1())
    .private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    .decode()
    .strip()
    .replace("\n", "\\n")
)
HELD = {"KEY": CANARY, "USER": "bo", "PASSWORD": CANARY, "ID": "client", "PEM": PEM, "EMPTY": ""}
BASIC = {"auth": "basic", "username_env": "USER", "password_env": "PASSWORD"}
OAUTH = {"auth": "oauth2", "client_id_env": "ID", "client_secret_env": "KEY", "scopes": ["a", "b"]}


@pytest.fixture
async def open_service(provider: FakeProvider) -> AsyncIterator[Open]:
    opened: list[ApiSource] = []
    credentials = Credentials(HELD, lambda name: name in HELD)

    async def make(policy: Policy = LOOPBACK, **config: Json) -> ApiSource:
        base = f"http://127.0.0.1:{provider.port}"
        config = {"base_url": base, "token_url": f"{base}/token", **config}
        opened.append(await open_api("main", config, policy=policy, credentials=credentials))
        return opened[-1]

    yield make
    for source in opened:
        await source.close()


def get(**changes: Json) -> ApiRequest:
    return ApiRequest(**{"method": "GET", "url": "/x", **changes})


def echo(request: Request) -> Raw:
    """A service that repeats everything it was told, in its body and in its headers."""
    body = json.dumps({"headers": request.headers, "path": request.path}).encode()
    told = {"X-Auth": request.headers.get("authorization", "")}
    return Raw(body, 200, "application/json", told)


@pytest.mark.parametrize(
    ("config", "name", "value"),
    [
        ({}, "authorization", None),
        ({"auth": "bearer", "auth_env": "KEY"}, "authorization", f"Bearer {CANARY}"),
        ({"auth": "api_key", "auth_env": "KEY"}, "x-api-key", CANARY),
        ({"auth": "api_key", "auth_env": "KEY", "api_key_header": "Own"}, "own", CANARY),
        (BASIC, "authorization", "Basic " + base64.b64encode(f"bo:{CANARY}".encode()).decode()),
    ],
)
async def test_api_proves_who_calls_and_hides_it(
    provider: FakeProvider, open_service: Open, config: Json, name: str, value: str | None
) -> None:
    provider.default = echo
    source = await open_service(headers={"X-Team": "blue"}, **config)
    reply = await source.request(get(headers={"Authorization": "mine"} if value else {}))
    sent = provider.last.headers
    assert sent.get(name) == value and sent["x-team"] == "blue"
    assert CANARY.encode() not in reply.body and json.dumps(CANARY)[1:-1].encode() not in reply.body
    assert str(value) not in str(reply.headers) or value is None
    json.loads(reply.body)


@pytest.mark.parametrize(
    "config",
    [
        {"auth": "bearer"},
        {"auth": "bearer", "auth_env": "EMPTY"},
        {"auth": "bearer", "auth_env": "HOME"},
        {"auth": "basic", "username_env": "USER"},
        {"auth": "oauth2", "client_id_env": "ID"},
        {"auth": "jwt", "auth_env": "KEY", "jwt": {"algorithm": "RS256"}},
    ],
)
async def test_api_says_which_credential_is_missing(
    provider: FakeProvider, open_service: Open, config: Json
) -> None:
    source = await open_service(**config)
    with pytest.raises(MissingCredential) as caught:
        await source.request(get())
    assert "'main'" in caught.value.message and CANARY not in caught.value.message
    assert provider.calls == 0


def tokens(lasts: float | None = 3600) -> Callable[[Request], Raw]:
    count = 0

    def give(request: Request) -> Raw:
        nonlocal count
        if request.path != "/token":
            return echo(request)
        count += 1
        body = {"access_token": f"token-{count}", "token_type": "Bearer", "expires_in": lasts}
        return Raw(json.dumps(body).encode(), 200, "application/json")

    return give


async def test_api_fetches_one_token_for_many(provider: FakeProvider, open_service: Open) -> None:
    provider.default = tokens()
    source = await open_service(**OAUTH)
    replies = await asyncio.gather(*(source.request(get()) for _ in range(8)))
    asked = [r for r in provider.requests if r.path == "/token"]
    assert len(asked) == 1 and asked[0].raw == b"grant_type=client_credentials&scope=a+b"
    pair = base64.b64decode(asked[0].headers["authorization"].removeprefix("Basic ")).decode()
    assert pair.startswith("client:canary-4711%5C%22")
    calls = [r for r in provider.requests if r.path == "/x"]
    assert {r.headers["authorization"] for r in calls} == {"Bearer token-1"}
    assert all(b"token-1" not in reply.body for reply in replies)


async def test_api_gets_a_new_token_when_one_ends_or_is_refused(
    provider: FakeProvider, open_service: Open
) -> None:
    provider.default = tokens(0.000001)
    source = await open_service(**OAUTH)
    for _ in range(2):
        await source.request(get())
    used = [r.headers["authorization"] for r in provider.requests if r.path == "/x"]
    assert used == ["Bearer token-1", "Bearer token-2"]
    provider.default = tokens()
    source = await open_service(**OAUTH, timeout_s=20)
    provider.script(tokens(), Status(401))
    reply = await source.request(get())
    assert reply.status == 200 and provider.requests[-1].path == "/x"
    provider.script(Status(401))
    provider.script(lambda request: tokens()(request), Status(401))
    reply = await source.request(get())
    assert reply.status == 401
    assert isinstance(refused(reply, "main"), ProviderAuthError)


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (Status(400, "no"), ProviderAuthError, "answered 400"),
        (Raw(json.dumps({"error": "invalid_client", "error_description": CANARY}).encode(), 401),
         ProviderAuthError, "***"),
        (Status(503), ProviderUnavailable, "answered 503"),
        (Raw(b"<html>"), ProviderAuthError, "no usable access_token"),
        (Raw(b'{"access_token": "a b"}'), ProviderAuthError, "no usable access_token"),
        (Raw(b"", 302, headers={"Location": "http://192.168.0.1/"}), ProviderRejected, "private"),
        (Hang(), CallTimeout, "within 0.2 s"),
    ],
)  # fmt: skip
async def test_api_says_why_there_is_no_token(
    provider: FakeProvider, open_service: Open, answer: Any, error: type[StepError], words: str
) -> None:
    provider.default = answer
    source = await open_service(**OAUTH)
    with pytest.raises(error) as caught:
        await source.request(get(timeout_s=0.2 if "0.2" in words else 5.0))
    assert words in caught.value.message and CANARY not in caught.value.message


@pytest.mark.parametrize("algorithm", ["HS256", "ES256"])
async def test_api_signs_its_own_tokens(
    provider: FakeProvider, open_service: Open, algorithm: str
) -> None:
    provider.default = echo
    said = {"algorithm": algorithm, "claims": {"iss": "me"}, "kid": "k1", "ttl_s": 60}
    variable = "KEY" if algorithm == "HS256" else "PEM"
    source = await open_service(auth="jwt", auth_env=variable, jwt=said)
    await source.request(get())
    await source.request(get())
    first, second = (r.headers["authorization"].removeprefix("Bearer ") for r in provider.requests)
    head, body, signature = (base64.urlsafe_b64decode(part + "==") for part in first.split("."))
    assert first == second
    assert json.loads(head) == {"alg": algorithm, "typ": "JWT", "kid": "k1"}
    claims = json.loads(body)
    assert claims["iss"] == "me" and claims["exp"] == claims["iat"] + 60
    if algorithm == "HS256":
        text = first.rpartition(".")[0].encode()
        assert signature == hmac.new(CANARY.encode(), text, hashlib.sha256).digest()


async def test_api_signs_the_body_with_its_time(provider: FakeProvider, open_service: Open) -> None:
    provider.default = echo
    source = await open_service()
    sign = {"type": "hmac", "secret_env": "KEY", "header": "X-Sig", "timestamp_header": "X-At"}
    await source.request(get(method="POST", body=b'{"a":1}', sign=sign))
    sent = provider.last
    wanted = hmac.new(
        CANARY.encode(), sent.headers["x-at"].encode() + b"." + sent.raw, hashlib.sha256
    )
    assert sent.headers["x-sig"] == wanted.hexdigest()


@pytest.mark.parametrize(
    ("method", "query", "signature"),
    [
        ("GET", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("POST", "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ("GET", "?Param2=value2&Param1=value1",
         "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
    ],
)  # fmt: skip
def test_aws_signature_is_that_of_the_published_test_suite(
    method: str, query: str, signature: str
) -> None:
    headers = aws_headers(
        method=method,
        url=f"https://example.amazonaws.com/{query}",
        body=b"",
        region="us-east-1",
        service="service",
        access_key_id="AKIDEXAMPLE",
        secret_access_key="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        session_token=None,
        now=datetime(2015, 8, 30, 12, 36, tzinfo=UTC),
    )
    assert headers["x-amz-date"] == "20150830T123600Z"
    assert headers["authorization"].endswith(f"Signature={signature}")


async def test_api_drops_its_credentials_when_it_is_sent_elsewhere(
    provider: FakeProvider, open_service: Open
) -> None:
    provider.default = echo
    for name in ("Own-Header", "Authorization"):
        config = {"auth": "api_key", "auth_env": "KEY", "api_key_header": name}
        source = await open_service(**config)
        elsewhere = f"http://localhost:{provider.port}/y"
        provider.script(Raw(b"", 307, headers={"Location": elsewhere}))
        await source.request(get(headers={"X-Mine": "1"}))
        assert provider.last.path == "/y" and provider.last.headers["x-mine"] == "1"
        assert CANARY not in str(provider.last.headers)
        provider.script(Raw(b"", 307, headers={"Location": "/z"}))
        await source.request(get())
        assert provider.last.headers[name.lower()] == CANARY


async def test_api_does_not_claim_that_nothing_happened_after_a_redirect(
    provider: FakeProvider, open_service: Open, nobody: int
) -> None:
    source = await open_service()
    away = Raw(b"", 303, headers={"Location": f"http://127.0.0.1:{nobody}/z"})
    provider.script(away)
    with pytest.raises(ProviderUnavailable, match="After a redirect"):
        await source.request(get(method="POST"))
    provider.script(Raw(b"", 303, headers={"Location": "/z"}), Status(429))
    error = refused(await source.request(get(method="POST")), "main")
    assert isinstance(error, ProviderUnavailable) and not error.uncounted
    provider.script(away)
    with pytest.raises(ConnectionFailed):
        await source.request(get())


@pytest.fixture
def nobody() -> Iterator[int]:
    """A port where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


async def test_api_signs_the_address_that_is_called(
    provider: FakeProvider, open_service: Open
) -> None:
    keys = {"access_key_id_env": "ID", "secret_access_key_env": "PASSWORD"}
    sign = {"type": "aws_sigv4", "region": "r", "service": "s", **keys}
    base = f"http://LOCALHOST:{provider.port}/a/../b"
    source = await open_service(base_url=base)
    await source.request(get(url="c d", sign=sign))
    last = provider.last
    assert last.path == "/b/c%20d" and last.headers["host"].startswith("localhost:")
    at = datetime.strptime(last.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    again = aws_headers(
        method="GET",
        url=f"http://{last.headers['host']}{last.path}",
        body=b"",
        region="r",
        service="s",
        access_key_id="client",
        secret_access_key=CANARY,
        session_token=None,
        now=at,
    )
    assert last.headers["authorization"] == again["authorization"]


@pytest.mark.parametrize("lasts", ["1" + "0" * 400, "1e308", "true", "-1", '"3600"'])
async def test_api_takes_a_token_however_long_it_says_it_lasts(
    provider: FakeProvider, open_service: Open, lasts: str
) -> None:
    token = b'{"access_token": "t", "expires_in": ' + lasts.encode() + b"}"
    provider.default = lambda request: Raw(token if request.path == "/token" else b"{}")
    source = await open_service(**OAUTH)
    assert (await source.request(get())).status == 200


async def test_api_says_nothing_secret(
    provider: FakeProvider, open_service: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    source = await open_service(auth="bearer", auth_env="KEY")
    for status in (400, 401, 404, 429, 500):
        for reply in (
            Status(status, echo_key=True),
            lambda request, status=status: Raw(request.headers["authorization"].encode(), status),
        ):
            provider.script(reply)
            error = refused(await source.request(get(url="/x?token=" + "t" * 30)), "main")
            assert CANARY not in error.message and "tttt" not in error.message
    assert CANARY not in caplog.text and repr(CANARY)[1:-1] not in caplog.text


async def test_api_joins_addresses_below_its_base(
    provider: FakeProvider, open_service: Open
) -> None:
    provider.default = echo
    base = f"http://127.0.0.1:{provider.port}/v1/?key=1"
    source = await open_service(base_url=base)
    for url, wanted in (
        ("/a", "/v1/a?key=1"),
        ("a?b=2", "/v1/a?key=1&b=2"),
        ("", "/v1/?key=1"),
        (f"http://127.0.0.1:{provider.port}/c", "/c"),
    ):
        await source.request(get(url=url))
        assert provider.last.path == wanted


@pytest.mark.parametrize("verify", [True, False])
async def test_api_verifies_the_server_unless_it_is_told_not_to(
    provider: FakeProvider, open_service: Open, tmp_path: Path, verify: bool
) -> None:
    certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "key.pem")
    provider._server.socket = context.wrap_socket(provider._server.socket, server_side=True)
    provider.default = echo
    base = f"https://127.0.0.1:{provider.port}"
    source = await open_service(base_url=base, verify_tls=verify)
    if verify:
        with pytest.raises(ConnectionFailed, match="No secure connection"):
            await source.request(get())
    else:
        assert (await source.request(get())).status == 200


@pytest.mark.parametrize("name", ["Host", "transfer-encoding", "a b", "AgentFlow-Fence"])
async def test_api_takes_no_headers_that_are_not_an_authors(open_service: Open, name: str) -> None:
    with pytest.raises(ProviderRejected, match=name):
        await open_service(headers={name: "x"})
    with pytest.raises(ProviderRejected, match=name):
        await open_service(auth="api_key", auth_env="KEY", api_key_header=name)
