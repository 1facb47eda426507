"""Sortable ids with a kind prefix: ``exec_`` + UUIDv7 in 32 lower-case hex digits (RFC 9562)."""

from __future__ import annotations

import os
import threading
import time
import uuid
from functools import lru_cache

_lock = threading.Lock()
_last_ms = 0
_counter = 0


def new_id(kind: str) -> str:
    """A new id of this kind (``exec``, ``req``, ...), greater than every id this process made before."""
    global _last_ms, _counter
    with _lock:
        now_ms = time.time_ns() // 1_000_000
        if now_ms > _last_ms:
            _last_ms, _counter = now_ms, int.from_bytes(os.urandom(2)) & 0x7FF
        else:
            _counter += 1
            if _counter > 0xFFF:
                _last_ms, _counter = _last_ms + 1, 0
        stamp, sequence = _last_ms, _counter
    tail = int.from_bytes(os.urandom(8)) & ((1 << 62) - 1)
    value = stamp << 80 | 0x7 << 76 | sequence << 64 | 0b10 << 62 | tail
    return f"{kind}_{value:032x}"


@lru_cache(maxsize=16_384)
def to_uuid(identifier: str, kind: str) -> uuid.UUID:
    """The UUID behind an id. Raises ValueError when the id is not of this kind or malformed."""
    prefix, _, digits = identifier.partition("_")
    if prefix != kind or len(digits) != 32:
        raise ValueError(f"not an id of kind {kind}_: {identifier[:80]!r}")
    return uuid.UUID(hex=digits)


def from_uuid(value: uuid.UUID, kind: str) -> str:
    """The id of this kind for a UUID."""
    return f"{kind}_{value.hex}"
