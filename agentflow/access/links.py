"""Links to a blob that need no API key and serve for a while: signed with HMAC-SHA256 (RFC 2104) over the
tenant, the blob and the moment at which they end.

The key of the signatures is derived from what every API process of an installation reads in its database:
the digest of the first API key, and the random name of its blobs. So it is the same in every replica and
after a restart; who knows the API key alone cannot sign, and a new API key ends every link.
"""

from __future__ import annotations

import hashlib
import hmac
from enum import Enum

LONGEST_S = 7 * 86_400
DEFAULT_S = 3600
_PURPOSE = b"agentflow blob link"


class Verdict(Enum):
    """What a link is worth."""

    GOOD = "good"
    EXPIRED = "expired"
    FORGED = "forged"


def signing_key(key_digest: bytes, space: bytes) -> bytes:
    """The key of an installation's links."""
    return hmac.new(key_digest, _PURPOSE + b"\0" + space, hashlib.sha256).digest()


def sign(key: bytes, tenant: str, sha256: str, expires: int) -> str:
    """The signature, hexadecimal. ``expires``: seconds since the Unix epoch."""
    said = "\0".join((tenant, sha256, str(expires)))
    return hmac.new(key, _PURPOSE + said.encode(), hashlib.sha256).hexdigest()


def judge(
    key: bytes, tenant: str, sha256: str, expires: int, signature: str, now: float
) -> Verdict:
    """What a link is worth now; a forged one is not told whether it would have expired."""
    wanted = sign(key, tenant, sha256, expires)
    if not hmac.compare_digest(wanted.encode(), signature.encode("utf-8", "replace")):
        return Verdict.FORGED
    return Verdict.GOOD if now < expires else Verdict.EXPIRED
