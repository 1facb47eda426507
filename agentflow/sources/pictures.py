"""Pictures in a chat: fetched here, through the egress guard, and sent along as data.

No provider is asked to fetch an address: a server of ours would then call whatever an author names.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from agentflow import egress
from agentflow.addresses import Policy
from agentflow.errors import InvalidInput, ProviderRejected, ProviderUnavailable
from agentflow.sources.answer import shown
from agentflow.sources.base import Message
from agentflow.sources.images_bytes import media_type_of

Json = Any

MOST_BYTES, MOST_TOGETHER = 20 * 2**20, 50 * 2**20
"""Of one picture, and of all that are fetched for one call; providers take no more."""
FETCH_S = 30.0
_DATA = re.compile(r"data:([a-z]+/[a-z0-9.+-]+);base64,", re.IGNORECASE)


class Picture(NamedTuple):
    """A picture as providers take it: ``data`` is base64."""

    media_type: str
    data: str


async def embedded(messages: Sequence[Message], policy: Policy) -> tuple[Message, ...]:
    """The messages with every picture as a data URL.

    Raises InvalidInput (no picture), ProviderRejected (an address that may not be called, too large),
    ConnectionFailed, CallTimeout, ProviderUnavailable.
    """
    if not any(_address(part) for message in messages for part in parts(message)):
        return tuple(messages)
    found = []
    sizes: list[int] = []
    async with egress.client(policy, FETCH_S, caps=_CAPS) as http:
        for message in messages:
            content = [await _embedded(part, http, sizes) for part in parts(message)]
            found.append(msgspec.structs.replace(message, content=content) if content else message)
    return tuple(found)


_CAPS = egress.Caps(body=MOST_BYTES, decompressed=MOST_BYTES, total_s=FETCH_S)


def parts(message: Message) -> Sequence[Json]:
    """The parts of a message; none when its content is a text."""
    return message.content if isinstance(message.content, list | tuple) else ()


def words(message: Message) -> str:
    """The text of a message, without its pictures."""
    if isinstance(message.content, str):
        return message.content
    return "".join(str(part.get("text") or "") for part in parts(message))


def unsendable(part: Json, provider: str) -> ProviderRejected:
    """The error of a part that is neither a text nor a picture."""
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    return ProviderRejected(
        f"A message part of type {str(kind)[:60]!r} cannot be sent to {provider}: text and image_url "
        "can"
    )


def picture(part: Json) -> Picture | None:
    """The picture of an embedded part; None when it is no picture. Raises InvalidInput."""
    address = _address(part)
    if address is None:
        return None
    start = _DATA.match(address)
    if start is None:
        raise InvalidInput("A picture must be an http address or a base64 data URL")
    data = address[start.end() :]
    try:
        base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput("A picture's data URL is no valid base64") from None
    return Picture(start[1].lower(), data)


def _address(part: Json) -> str | None:
    if not isinstance(part, Mapping) or part.get("type") != "image_url":
        return None
    named = part.get("image_url")
    url = named.get("url") if isinstance(named, Mapping) else named
    if not isinstance(url, str):
        raise InvalidInput('A picture must be {"type": "image_url", "image_url": {"url": ...}}')
    return url


async def _embedded(part: Json, http: Any, sizes: list[int]) -> Json:
    address = _address(part)
    if address is None:
        return part
    if not re.match(r"https?://", address, re.IGNORECASE):
        picture(part)
        return part
    kept = part["image_url"] if isinstance(part["image_url"], Mapping) else {}
    data = await _fetched(address, http)
    sizes.append(len(data) * 3 // 4)
    if sum(sizes) > MOST_TOGETHER:
        raise ProviderRejected(f"The pictures of the chat exceed {MOST_TOGETHER} bytes")
    return {**part, "image_url": {**kept, "url": data}}


async def _fetched(address: str, http: Any) -> str:
    egress.check_url(address)
    response = await http.get(address)
    where = f"The picture at {shown(address)}"
    if response.status_code >= 500:
        raise ProviderUnavailable(f"{where} could not be fetched: its server answered "
                                  f"{response.status_code}")  # fmt: skip
    if response.status_code != 200:
        raise InvalidInput(f"{where} could not be fetched: the answer was {response.status_code}")
    body: bytes = response.content
    kind = media_type_of(body)
    if kind is None:
        raise InvalidInput(f"{where} is none: PNG, JPEG, GIF and WebP are understood")
    return f"data:{kind};base64,{base64.b64encode(body).decode()}"
