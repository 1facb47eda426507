"""Text from outside, made text that can be stored and sent: half surrogate pairs are replaced."""

from __future__ import annotations

import codecs
from typing import Any

Json = Any
_UTF16 = "utf-16-le"


def well_formed(text: str) -> str:
    """The text with pairs of surrogates joined and lone ones replaced."""
    if text.isascii():
        return text
    return text.encode(_UTF16, "surrogatepass").decode(_UTF16, "replace")


class Pieces:
    """Joins the pieces of a streamed reply; some servers cut between the halves of a pair."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder(_UTF16)("replace")

    def take(self, piece: Json) -> str:
        """The well-formed text that this piece completes; empty for what is not text."""
        if not isinstance(piece, str):
            return ""
        return self._decoder.decode(piece.encode(_UTF16, "surrogatepass"))

    def rest(self) -> str:
        """What is still held back, once the stream has ended."""
        return self._decoder.decode(b"", final=True)
