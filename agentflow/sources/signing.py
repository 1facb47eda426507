"""Signatures of requests: HMAC over time and body, and AWS Signature Version 4."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

Json = Any
UNRESERVED = "-._~"


def hmac_headers(
    sign: Mapping[str, Json], secret: str, body: bytes, now: datetime
) -> dict[str, str]:
    """Seconds since 1970 and the hexadecimal HMAC-SHA256 of ``<seconds>.<body>``, as two headers."""
    stamp = str(int(now.timestamp()))
    digest = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256)
    return {
        str(sign.get("timestamp_header") or "X-Timestamp"): stamp,
        str(sign.get("header") or "X-Signature"): digest.hexdigest(),
    }


def aws_headers(
    *,
    method: str,
    url: str,
    body: bytes,
    region: str,
    service: str,
    access_key_id: str,
    secret_access_key: str,
    session_token: str | None,
    now: datetime,
) -> dict[str, str]:
    """The headers by which AWS knows who sends a request (Signature Version 4).

    Follows https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    """
    at = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    digest = hashlib.sha256(body).hexdigest()
    parts = urlsplit(url)
    signed = {"host": parts.netloc.rpartition("@")[2], "x-amz-date": at}
    if service == "s3":
        signed["x-amz-content-sha256"] = digest
    if session_token:
        signed["x-amz-security-token"] = session_token
    names = ";".join(sorted(signed))
    canonical = "\n".join(
        (
            method,
            _canonical_path(parts.path, service),
            _canonical_query(parts.query),
            *(f"{name}:{signed[name]}" for name in sorted(signed)),
            "",
            names,
            digest,
        )
    )
    scope = f"{at[:8]}/{region}/{service}/aws4_request"
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{secret_access_key}".encode()
    for part in (at[:8], region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    text = f"AWS4-HMAC-SHA256\n{at}\n{scope}\n{hashed}"
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    credential = f"{access_key_id}/{scope}"
    del signed["host"]
    return {
        **signed,
        "authorization": f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, "
        f"Signature={signature}",
    }


def _canonical_path(path: str, service: str) -> str:
    """The path as it is sent, encoded once more; S3 wants it as it is."""
    path = path or "/"
    return path if service == "s3" else quote(path, safe="/" + UNRESERVED)


def _canonical_query(query: str) -> str:
    pairs = parse_qsl(query, keep_blank_values=True)
    encoded = sorted((quote(k, safe=UNRESERVED), quote(v, safe=UNRESERVED)) for k, v in pairs)
    return "&".join(f"{name}={value}" for name, value in encoded)
