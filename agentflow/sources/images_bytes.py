"""What a picture is, told from its first bytes: its media type and its size.

It follows the PNG specification (www.w3.org/TR/png-3), ITU T.81 (JPEG), the GIF89a specification and
developers.google.com/speed/webp/docs/riff_container.
"""

from __future__ import annotations

import re
import struct

_KINDS = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "image/webp"),
)
_FRAMES = frozenset(
    (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
)
"""JPEG markers after which height and width stand."""
_BARE = frozenset((0x01, *range(0xD0, 0xD9)))
"""JPEG markers without a segment."""
_MOST_SEGMENTS = 4096
"""Segments of a JPEG that are looked at; there are a few dozen before its size."""


def media_type_of(content: bytes) -> str | None:
    """``image/png``, ``image/jpeg``, ``image/gif`` or ``image/webp``; None when it is none of these."""
    return next((name for shape, name in _KINDS if shape.match(content)), None)


def size_of(content: bytes) -> tuple[int, int] | None:
    """Width and height in pixels; None where the picture is cut off before it says."""
    kind = media_type_of(content)
    try:
        if kind == "image/png" and content[12:16] == b"IHDR":
            width, height = struct.unpack_from(">II", content, 16)
            return width, height
        if kind == "image/gif":
            width, height = struct.unpack_from("<HH", content, 6)
            return width, height
        if kind == "image/jpeg":
            return _of_jpeg(content)
        if kind == "image/webp":
            return _of_webp(content)
    except (struct.error, IndexError):
        return None
    return None


def _of_jpeg(content: bytes) -> tuple[int, int] | None:
    at = 2
    for _ in range(_MOST_SEGMENTS):
        if content[at] != 0xFF:
            return None
        marker = content[at + 1]
        if marker == 0xFF:  # fill
            at += 1
        elif marker in _FRAMES:
            height, width = struct.unpack_from(">HH", content, at + 5)
            return width, height
        elif marker in _BARE:
            at += 2
        else:
            (length,) = struct.unpack_from(">H", content, at + 2)
            at += 2 + length
    return None


def _of_webp(content: bytes) -> tuple[int, int] | None:
    chunk = content[12:16]
    if chunk == b"VP8X":
        return 1 + _three(content, 24), 1 + _three(content, 27)
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", content, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _three(content: bytes, at: int) -> int:
    low, high = struct.unpack_from("<HB", content, at)
    return int(low | high << 16)
