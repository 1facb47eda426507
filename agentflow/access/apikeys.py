"""API keys: ``af_<id>_<secret>``. Only a hash is ever stored; the id finds it.

A key that an operator chose himself may have any form; its public id is then derived from its hash.
The hash needs no slowness: a generated secret has 256 random bits.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_FORM = re.compile(r"af_([0-9A-Za-z]{12})_([0-9A-Za-z]{43})", re.ASCII)


def new_key() -> str:
    """A new key with 256 random bits, in digits and letters alone."""
    return f"af_{_word(12)}_{_word(43)}"


def public_id(key: str) -> str:
    """The part that may be stored and shown: it finds the key's row and proves nothing."""
    form = _FORM.fullmatch(key)
    return form[1] if form else "own-" + _digest(b"agentflow api key id", key).hex()[:16]


def key_hash(key: str) -> bytes:
    """What is stored in place of the key."""
    return _digest(b"agentflow api key", key)


def matches(presented: str, stored_hash: bytes) -> bool:
    """Whether this is the key of the hash, in a time that does not depend on where they differ."""
    return hmac.compare_digest(key_hash(presented), stored_hash)


def _digest(purpose: bytes, key: str) -> bytes:
    return hmac.new(purpose, key.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()


def _word(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
