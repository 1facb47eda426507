"""When a reply of an HTTP service may be used again: the rules of a private cache (RFC 9111). Pure.

A reply is used again only as its service allows: while it is fresh by ``Cache-Control: max-age`` or
``Expires``, or after the service confirmed by a 304 that it is still the one. No freshness is guessed, and
nothing stale is ever used because a service is away.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

METHODS = ("GET", "HEAD")
"""Whose replies may be used again."""
STATUSES = (200, 203, 204)
"""Of what is no success nothing is kept: who tries again wants to know whether it is over."""
LONGEST_S = 2.0**31
"""A longer life is not believed (section 1.2.2)."""
_CONDITIONS = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range")
"""Who asks such a question wants its answer."""
_OF_THE_BODY = (
    *("content-length", "content-encoding", "content-type", "content-range", "transfer-encoding"),
    *("connection", "keep-alive"),
)
"""Headers that a confirmation says nothing about (section 3.2)."""
_DIRECTIVES = re.compile(r"(?:[^,;\"]|\"[^\"]*\"|\")+")
"""What stands between commas, or semicolons as some write them, that are in no quotes. It never goes back
to try again, so a service cannot make it slow."""


def directives(headers: Mapping[str, str]) -> dict[str, str]:
    """The directives of ``Cache-Control``, in lower case; of one that is repeated the smallest value.
    ``Pragma: no-cache`` stands for it where it is lacking."""
    told = headers.get("cache-control")
    if told is None:
        return {"no-cache": ""} if "no-cache" in headers.get("pragma", "").lower() else {}
    found: dict[str, str] = {}
    for each in _DIRECTIVES.findall(told):
        name, _, value = each.partition("=")
        name, value = name.strip().lower(), value.strip().strip('"')
        if name not in found or _seconds(value) < _seconds(found[name]):
            found[name] = value
    return found


def may_be_kept_for(method: str, asked: Mapping[str, str]) -> bool:
    """Whether a reply to this request may be one that was kept, or be kept itself. ``asked``: the
    request's headers, in lower case."""
    if method not in METHODS or "range" in asked or any(name in asked for name in _CONDITIONS):
        return False
    return "no-store" not in directives(asked)


def wanted_age(asked: Mapping[str, str]) -> float:
    """How old a reply may be that this request is content with, in seconds; negative: no kept one is,
    unless the service confirms it."""
    told = directives(asked)
    if "no-cache" in told:
        return -1.0
    return _seconds(told["max-age"]) if "max-age" in told else LONGEST_S


def may_be_kept(status: int, got: Mapping[str, str], varying: Mapping[str, str]) -> bool:
    """Whether a reply may be kept. ``varying``: headers that are never the same in two requests."""
    if status not in STATUSES or "no-store" in directives(got):
        return False
    vary = {name.strip().lower() for name in got.get("vary", "").split(",")}
    if "*" in vary or vary & set(varying):
        return False
    return lifetime(got, None) > 0 or bool(validators(got))


def lifetime(got: Mapping[str, str], received: datetime | None) -> float:
    """For how many seconds a reply is fresh from the moment it was made; 0 where it must be confirmed
    each time. ``received`` stands for a ``Date`` that is lacking; None: now."""
    told = directives(got)
    if "no-cache" in told:
        return 0.0
    if "max-age" in told:
        return _seconds(told["max-age"])
    if "expires" not in got:
        return 0.0
    expires = _moment(got["expires"])
    made = _moment(got.get("date", "")) or received or datetime.now(UTC)
    return 0.0 if expires is None else min(max((expires - made).total_seconds(), 0.0), LONGEST_S)


def age(got: Mapping[str, str]) -> float:
    """How many seconds old a reply was already when it came, by what other caches say."""
    return _seconds(got["age"]) if "age" in got else 0.0


def validators(got: Mapping[str, str]) -> dict[str, str]:
    """The headers that ask the service whether this reply is still the one; what no header of a request
    can hold is left out."""
    named = {"if-none-match": got.get("etag"), "if-modified-since": got.get("last-modified")}
    return {
        name: value
        for name, value in named.items()
        if value and value.isascii() and value.isprintable()
    }


def confirmed(kept: Mapping[str, str], told: Mapping[str, str]) -> dict[str, str]:
    """The headers of a kept reply after a 304 with these."""
    news = {name: value for name, value in told.items() if name not in _OF_THE_BODY}
    return {**{name: value for name, value in kept.items() if name != "age"}, **news}


def _seconds(value: str) -> float:
    """A number of seconds; one that cannot be read is no time at all."""
    return min(float(value), LONGEST_S) if value.isascii() and value.isdecimal() else 0.0


def _moment(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
