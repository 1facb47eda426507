"""What the servers share that speak a provider's protocol: requests and answers are both checked.

A request that the provider would refuse is refused, and named in ``wire.faults``; so is an answer of
ours that the provider could not give, and the connection is broken instead of sending it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from tests.fake_provider import FakeProvider, Handler, Reply, Request
from tests.request_shapes import unknown_in

Json = Any


class Wire(FakeProvider):
    """The server; replies are scripted as for FakeProvider. ``faults``: what was wrong so far."""

    said: type[Told]
    refused: type[Denied]

    def __init__(self, *replies: Any, **options: Any) -> None:
        super().__init__(*replies, **{"default": self.said(), **options})
        self.faults: list[str] = []

    @property
    def address(self) -> str:
        """Where the server is, without a path."""
        return f"http://127.0.0.1:{self.port}"

    def wrong_with(self, request: Request) -> list[str]:
        """Why the provider would refuse this request."""
        raise NotImplementedError

    def took(self, request: Request) -> Reply:
        reply = super().took(request)
        found = self.wrong_with(request)
        self.faults += found
        return self.refused(400, "; ".join(found)) if found else reply


@dataclass
class Told(Reply):
    """An answer in one piece."""

    _: KW_ONLY
    request_id: str = "req_4fd21b1a3e5f4f1e"
    delay: float = 0.0
    gate: Any = None

    id_header: ClassVar[str] = ""

    def whole(self) -> Json:
        """The answer."""
        raise NotImplementedError

    def misfits(self, answer: Json, *, streamed: bool) -> list[str]:
        """Why the provider could not have given this answer, or this event of a stream."""
        raise NotImplementedError

    def send(self, handler: Handler, request: Request) -> None:
        answer = self.whole()
        _sound(handler, self.misfits(answer, streamed=False))
        handler.send_json(200, answer, self._ids())

    def _ids(self) -> dict[str, str]:
        return {self.id_header: self.request_id} if self.id_header else {}


@dataclass
class Spoken(Told):
    """An answer, whole or as a stream. ``tools``: (name, arguments) of the calls it makes.
    ``cut_after``, ``stall_after``: events of a stream until the connection breaks, or nothing more
    comes; ``error_after``: until this error comes instead."""

    text: str = "ok"
    _: KW_ONLY
    tools: tuple[tuple[str, dict[str, Json]], ...] = ()
    model: str | None = None
    cut_after: int | None = None
    stall_after: int | None = None
    error_after: tuple[int, Any] | None = None

    end: ClassVar[bytes] = b""

    def streams(self, request: Request) -> bool:
        """Whether this request asks for a stream."""
        return request.streams

    def events(self) -> list[Json]:
        """The answer as a stream."""
        raise NotImplementedError

    def framed(self, event: Json) -> bytes:
        """An event, as it goes over the wire."""
        return b"data: " + json.dumps(event).encode() + b"\n\n"

    def error(self, what: Any) -> Json:
        """The event of an error in the middle of a stream."""
        raise NotImplementedError

    def send(self, handler: Handler, request: Request) -> None:
        if not self.streams(request):
            super().send(handler, request)
            return
        handler.begin_stream(self._ids())
        for index, event in enumerate(self.events()):
            if self.cut_after == index:
                handler.cut()
                return
            if self.stall_after == index:
                handler.server.closing.wait(60)
                return
            if self.error_after is not None and self.error_after[0] == index:
                handler.send_chunk(self.framed(self.error(self.error_after[1])))
                handler.end_stream()
                return
            _sound(handler, self.misfits(event, streamed=True))
            handler.send_chunk(self.framed(event))
        if self.end:
            handler.send_chunk(self.end)
        handler.end_stream()


@dataclass
class Denied(Reply):
    """An error, in the shape that the provider gives it; ``echo_key`` repeats the credential in it."""

    status: int
    message: str = "something went wrong"
    _: KW_ONLY
    echo_key: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    gate: Any = None

    def body(self, message: str) -> Json:
        """The body of the error."""
        raise NotImplementedError

    def misfits(self, body: Json) -> list[str]:
        """Why the provider could not have given this error."""
        raise NotImplementedError

    def send(self, handler: Handler, request: Request) -> None:
        message = self.message
        if self.echo_key:
            key = request.key or request.headers.get("api-key")
            message += f" (key: {key or request.headers['x-goog-api-key']})"
        body = self.body(message)
        _sound(handler, self.misfits(body))
        handler.send_json(self.status, body, self.headers)


def _sound(handler: Handler, misfits: list[str]) -> None:
    """Nothing that a provider could not say leaves."""
    if misfits:
        wire = handler.server.provider
        assert isinstance(wire, Wire)
        wire.faults += misfits
        raise AssertionError(misfits)


def misfits_of(shape: Any, value: Json) -> list[str]:
    """What of a value the SDK's response model ``shape`` does not take, in strict mode."""
    try:
        read = TypeAdapter(shape).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        return [f"answer: {each['loc']}: {each['msg']}" for each in error.errors()]
    return unknown_in(read) if isinstance(read, BaseModel) else [f"answer: {type(read)}"]


def words(text: str) -> Iterable[str]:
    """The pieces of a streamed text; together they are the text."""
    pieces = text.split(" ") if text else []
    return [word + (" " if index < len(pieces) - 1 else "") for index, word in enumerate(pieces)]


def halves(arguments: Json) -> tuple[str, str]:
    """A tool call's arguments, in pieces as they stream in."""
    text = json.dumps(arguments)
    return text[:4], text[4:]
