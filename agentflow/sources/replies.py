"""Replies of HTTP services that are kept for the next request, in the memory of one worker.

Every connection has a shelf of its own, and a connection is one tenant's and one configuration's; on it
replies lie apart for each address, for whoever the credentials are, and for every header that is sent. So
nobody gets what another one was told, whatever a service forgets to say in ``Vary``.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import urljoin, urlsplit

import msgspec

from agentflow.sources import freshness
from agentflow.sources.exchange import ApiReply

LIMIT = 32 * 2**20
"""Bytes of all replies that a worker keeps."""
LARGEST = LIMIT // 8
"""Bytes of one reply; longer ones are not kept."""
OVERHEAD = 1_000
"""Bytes that an entry takes beside its content."""
HEADER_OVERHEAD = 200
"""Bytes that a header takes beside its name and value."""
VARYING = ("idempotency-key", "agentflow-fence")
"""Headers of ours that are others in every step; they play no part in what is asked for."""


class Asked(msgspec.Struct, frozen=True):
    """What is asked for. ``headers``: in lower case, without credentials and :data:`VARYING`."""

    method: str
    url: str
    headers: Mapping[str, str]
    who: bytes

    @classmethod
    def of(
        cls, method: str, url: str, headers: Mapping[str, str], secrets: Iterable[str]
    ) -> Asked | None:
        """None where no kept reply will do. ``secrets``: what says who asks; only a digest is held."""
        if not freshness.may_be_kept_for(method, headers):
            return None
        shown = {name: value for name, value in headers.items() if name not in VARYING}
        parts = msgspec.json.encode([method, sorted(shown.items()), list(secrets)])
        return cls(method, url, shown, hashlib.sha256(parts).digest())


class _Kept(msgspec.Struct):
    """A reply; ``since``: the moment from which its age counts, by a clock that never goes back."""

    reply: ApiReply
    since: float
    lifetime: float
    size: int


_Place = tuple[int, str, bytes]


class Replies:
    """What one worker keeps; the longest unused goes first. For one event loop."""

    def __init__(
        self,
        limit: int = LIMIT,
        *,
        largest: int = LARGEST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit, self._largest, self.clock = limit, largest, clock
        self._kept: OrderedDict[_Place, _Kept] = OrderedDict()
        self._at: dict[tuple[int, str], set[bytes]] = {}
        self._size = 0
        self._shelves = 0

    @property
    def size(self) -> int:
        """Bytes that are taken up."""
        return self._size

    def shelf(self) -> Shelf:
        """A new shelf, on which nothing lies."""
        self._shelves += 1
        return Shelf(self, self._shelves)

    def look(self, place: _Place) -> _Kept | None:
        """What lies there; it is the last to go now."""
        kept = self._kept.get(place)
        if kept is not None:
            self._kept.move_to_end(place)
        return kept

    def put(self, place: _Place, kept: _Kept) -> None:
        """Keep a reply in place of what was there, and let go of what there is no room for."""
        self.remove([place])
        if kept.size > self._largest:
            return
        self._kept[place] = kept
        self._at.setdefault(place[:2], set()).add(place[2])
        self._size += kept.size
        while self._size > self._limit:
            self.remove([next(iter(self._kept))])

    def remove(self, places: Iterable[_Place]) -> None:
        """Let go of what lies there."""
        for place in places:
            kept = self._kept.pop(place, None)
            if kept is not None:
                self._size -= kept.size
                there = self._at[place[:2]]
                there.remove(place[2])
                if not there:
                    del self._at[place[:2]]

    def places_at(self, shelf: int, url: str) -> list[_Place]:
        """The places of one shelf with this address."""
        return [(shelf, url, who) for who in self._at.get((shelf, url), ())]

    def places(self, shelf: int) -> list[_Place]:
        """The places of one shelf."""
        return [place for place in self._kept if place[0] == shelf]


class Shelf:
    """What is kept for one connection."""

    def __init__(self, replies: Replies, number: int) -> None:
        self._replies, self._number = replies, number

    def fresh(self, asked: Asked) -> ApiReply | None:
        """A reply that may be used without asking the service, with its age in the header ``age``."""
        kept = self._replies.look(self._place(asked))
        if kept is None:
            return None
        age = self._replies.clock() - kept.since
        if not age < kept.lifetime or age > freshness.wanted_age(asked.headers):
            return None
        headers = {**kept.reply.headers, "age": str(int(age))}
        return msgspec.structs.replace(kept.reply, headers=headers, cached=True)

    def questions(self, asked: Asked) -> dict[str, str]:
        """Headers by which the service is asked whether what is kept is still the one."""
        kept = self._replies.look(self._place(asked))
        return {} if kept is None else freshness.validators(kept.reply.headers)

    def confirmed(self, asked: Asked, told: ApiReply, took_s: float) -> ApiReply | None:
        """The reply that a 304 confirms; None where it has gone meanwhile. ``took_s``: how long the
        exchange took."""
        kept = self._replies.look(self._place(asked))
        if kept is None or told.redirected:
            return None
        headers = freshness.confirmed(kept.reply.headers, told.headers)
        reply = msgspec.structs.replace(kept.reply, headers=headers)
        self.take(asked, reply, took_s)
        return reply

    def take(self, asked: Asked, reply: ApiReply, took_s: float) -> None:
        """Keep a reply where its service allows it; what was there before is out of date."""
        place = self._place(asked)
        varying = dict.fromkeys(VARYING, "")
        if reply.redirected or not freshness.may_be_kept(reply.status, reply.headers, varying):
            if reply.status < 500:  # a service that fails says nothing about what it gave before
                self._replies.remove([place])
            return
        named = reply.headers.items()
        told = sum(len(name) + len(value) + HEADER_OVERHEAD for name, value in named)
        size = len(reply.body) + told + len(asked.url) + OVERHEAD
        since = self._replies.clock() - took_s - freshness.age(reply.headers)
        kept = _Kept(reply, since, freshness.lifetime(reply.headers, None), size)
        self._replies.put(place, kept)

    def changed(self, url: str, reply: ApiReply) -> None:
        """A request that is not safe was answered: what was kept of its address, and of those that the
        reply names, is out of date (RFC 9111, section 4.4)."""
        if reply.status >= 400:
            return
        named = (reply.headers.get(name) for name in ("location", "content-location"))
        for each in (url, *(_beside(url, name) for name in named if name)):
            self._replies.remove(self._replies.places_at(self._number, each))

    def clear(self) -> None:
        """Let go of everything."""
        self._replies.remove(self._replies.places(self._number))

    def _place(self, asked: Asked) -> _Place:
        return self._number, asked.url, asked.who


def _beside(url: str, named: str) -> str:
    """The address that a reply of this one names, where both are of one origin; else this one."""
    try:
        other = urljoin(url, named)
        return other if _origin(other) == _origin(url) else url
    except ValueError:  # it is none
        return url


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme.lower(), parts.netloc.lower()
