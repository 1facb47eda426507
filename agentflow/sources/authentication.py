"""How requests of an HTTP service are authenticated; tokens are kept until they are about to end."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from agentflow.errors import MissingCredential, ProviderAuthError, ProviderUnavailable
from agentflow.sources.credentials import Credentials, masked

Json = Any
SPARE_S = 30.0
"""A token is replaced so many seconds before it ends, or at half its life if that is shorter."""
TOKEN_S = 300.0
"""How long a token serves of which nobody said when it ends."""
LONGEST_S = 10.0**9
"""A longer life of a token is not believed."""
JWT_ALGORITHMS = ("HS256", "HS384", "HS512", "RS256", "PS256", "ES256", "EdDSA")

_NEEDS = {
    "api_key": ("auth",),
    "bearer": ("auth",),
    "basic": ("username", "password"),
    "oauth2": ("client_id", "client_secret"),
    "jwt": ("auth",),
}
"""Kind -> the credentials it needs."""

Post = Callable[[str, dict[str, str], bytes], Awaitable[tuple[int, bytes]]]
"""Sends a POST: URL, headers, body -> status, body. Raises StepError."""


class Proof(msgspec.Struct, frozen=True):
    """What authenticates one request: its headers, and the secret texts in them."""

    headers: dict[str, str] = {}
    secrets: tuple[str, ...] = ()


class Authentication:
    """The credentials of one source, read anew for every request. One instance per connection."""

    def __init__(
        self, source_id: str, config: Mapping[str, Json], credentials: Credentials
    ) -> None:
        self.kind = str(config.get("auth") or "none")
        self._id = source_id
        self._config = config
        self._credentials = credentials
        self._token: tuple[str, tuple[str, ...], float] | None = None
        self._renewing = asyncio.Lock()

    @property
    def renewable(self) -> bool:
        """Whether a refused request may be tried once more with a new token."""
        return self.kind in ("oauth2", "jwt")

    def who(self) -> tuple[str, ...]:
        """The secrets that say who calls, and that stay when a token is renewed. Raises
        MissingCredential."""
        return tuple(self._value(name) for name in _NEEDS.get(self.kind, ()))

    async def proof(self, post: Post) -> Proof:
        """What the next request carries. Raises MissingCredential, ProviderAuthError, StepError."""
        if self.kind == "api_key":
            key = self._value("auth")
            return Proof({str(self._config.get("api_key_header") or "X-API-Key"): key}, (key,))
        if self.kind == "bearer":
            return _bearer(self._value("auth"))
        if self.kind == "basic":
            return _basic(self._value("username"), self._value("password"))
        if self.renewable:
            return await self._kept(post)
        return Proof()

    def forget(self, used: Proof) -> None:
        """The token in this proof was refused: the next request gets a new one."""
        if self._token is not None and self._token[0] in used.secrets:
            self._token = None

    async def _kept(self, post: Post) -> Proof:
        async with self._renewing:
            if self._token is None or self._token[2] <= time.monotonic():
                began = time.monotonic()
                make = self._fetch(post) if self.kind == "oauth2" else self._signed()
                token, secrets, lasts = await make
                self._token = token, secrets, began + max(lasts - SPARE_S, lasts / 2)
            token, secrets, _ = self._token
        return Proof({"Authorization": f"Bearer {token}"}, (token, *secrets))

    async def _fetch(self, post: Post) -> tuple[str, tuple[str, ...], float]:
        """A token by client credentials (RFC 6749, section 4.4): the token, secrets, seconds."""
        client, secret = self._value("client_id"), self._value("client_secret")
        url = self._config.get("token_url")
        if not url:
            raise MissingCredential(f"Source {self._id!r} with auth 'oauth2' needs a token_url")
        scopes = self._config.get("scopes") or ()
        form = {"grant_type": "client_credentials"}
        if scopes:
            form["scope"] = scopes if isinstance(scopes, str) else " ".join(scopes)
        basic = _basic(quote(client, safe=""), quote(secret, safe=""))
        headers = {
            **basic.headers,
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        status, body = await post(str(url), headers, urlencode(form).encode())
        secrets = (secret, *basic.secrets)
        where = f"The token endpoint of source {self._id!r}"
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            answer = None
        answer = answer if isinstance(answer, dict) else {}
        if status == 429 or status >= 500:
            raise ProviderUnavailable(f"{where} answered {status}")
        token = answer.get("access_token")
        if status != 200 or not isinstance(token, str) or not _is_token(token):
            said = masked(
                str(answer.get("error_description") or answer.get("error") or ""), secrets
            )
            what = f"answered {status}" if status != 200 else "gave no usable access_token"
            raise ProviderAuthError(
                f"{where} {what}; check token_url, scopes and the client's credentials. {said}"
            )
        lasts = answer.get("expires_in")
        if not isinstance(lasts, int | float) or not 0 < lasts <= LONGEST_S:
            lasts = TOKEN_S
        return token, secrets, float(lasts)

    async def _signed(self) -> tuple[str, tuple[str, ...], float]:
        """A token of our own, signed with the source's key: the token, secrets, seconds."""
        key, options = self._value("auth"), self._config.get("jwt") or {}
        lasts = float(options.get("ttl_s") or TOKEN_S)
        now = int(time.time())
        claims = {"iat": now, "exp": now + int(lasts), **(options.get("claims") or {})}
        token = await asyncio.to_thread(
            _jwt,
            self._id,
            str(options.get("algorithm") or "HS256"),
            key,
            claims,
            options.get("kid"),
        )
        return token, (key,), lasts

    def _value(self, name: str) -> str:
        variable = self._config.get(f"{name}_env")
        if not variable:
            raise MissingCredential(
                f"Source {self._id!r} with auth {self.kind!r} needs {name}_env, the name of an "
                "environment variable"
            )
        return self._credentials.value(str(variable), self._id)


def _bearer(token: str) -> Proof:
    return Proof({"Authorization": f"Bearer {token}"}, (token,))


def _basic(user: str, password: str) -> Proof:
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    return Proof({"Authorization": f"Basic {pair}"}, (password, pair))


def _is_token(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


def _jwt(source_id: str, algorithm: str, key: str, claims: dict[str, Json], kid: Json) -> str:
    """A signed token. A private key may be written in one line, with ``\\n`` for its line ends."""
    from joserfc import jwt
    from joserfc.errors import JoseError
    from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

    kinds: dict[str, Any] = {"HS": OctKey, "RS": RSAKey, "PS": RSAKey, "ES": ECKey, "Ed": OKPKey}
    header = {"alg": algorithm, "typ": "JWT", **({"kid": str(kid)} if kid else {})}
    try:
        if algorithm not in JWT_ALGORITHMS:
            raise ValueError(algorithm)
        made = kinds[algorithm[:2]].import_key(key.replace("\\n", "\n"))
        return str(jwt.encode(header, claims, made, algorithms=[algorithm]))
    except (ValueError, TypeError, JoseError):
        raise MissingCredential(
            f"The key of source {source_id!r} cannot sign with {algorithm[:20]!r}; known are "
            f"{', '.join(JWT_ALGORITHMS)}, all but HS* with a private key in PEM form"
        ) from None
