"""What an ``http`` node makes of a reply: JSON, XML, HTML, text or bytes become a value."""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Callable
from email.message import Message
from typing import Any
from xml.parsers import expat

from agentflow.errors import ProviderRejected, ProviderUnavailable
from agentflow.nodes.http_html import page
from agentflow.sources.exchange import ApiReply
from agentflow.sources.jsontext import read_json
from agentflow.sources.text import well_formed

Json = Any
DEEPEST = 100


def parsed(reply: ApiReply, how: str) -> Json:
    """The body as a value; null when it is empty. ``how``: an option of ``parse``.

    Raises ProviderUnavailable when it is not what it says or should be, ProviderRejected when it is
    nested too deeply.
    """
    if not reply.body:
        return None
    kind = _content_type(reply)
    if how == "auto":
        how = _by_type(kind.get_content_type())
    try:
        return _PARSERS[how](reply.body, kind.get_content_charset() or "")
    except (_Garbage, ValueError, LookupError, RecursionError) as error:
        what = str(error) if isinstance(error, _Garbage) else type(error).__name__
        raise ProviderUnavailable(
            f"{reply.where} answered {reply.status} with what is no {how} ({what}); "
            "the option 'parse' says how a reply is read"
        ) from None


class _Garbage(Exception):
    """The body is not what it should be."""


def _content_type(reply: ApiReply) -> Message:
    message = Message()
    message["content-type"] = reply.headers.get("content-type") or "application/octet-stream"
    return message


def _by_type(kind: str) -> str:
    if kind.endswith(("/json", "+json")):
        return "json"
    if kind in ("text/html", "application/xhtml+xml"):
        return "html"
    if kind.endswith(("/xml", "+xml")):
        return "xml"
    readable = ("application/javascript", "application/yaml", "application/x-www-form-urlencoded")
    return "text" if kind.startswith("text/") or kind in readable else "binary"


def _json(body: bytes, charset: str) -> Json:
    try:
        value = read_json(body.decode(json.detect_encoding(body)))
    except UnicodeDecodeError:
        raise _Garbage("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise _Garbage(f"{error.msg} at character {error.pos}") from None
    except ValueError as error:
        raise _Garbage(str(error)) from None
    except RecursionError:
        raise ProviderRejected("The reply is nested too deeply") from None
    _check_depth(value)
    return value


def _check_depth(value: Json) -> None:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for item in level
            if isinstance(item, dict | list)
            for inner in (item.values() if isinstance(item, dict) else item)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise ProviderRejected(f"The reply is nested more than {DEEPEST} levels deep")


def _text(body: bytes, charset: str) -> str:
    try:
        return well_formed(body.decode(charset or "utf-8-sig", "replace"))
    except LookupError:
        return body.decode("utf-8", "replace")


def _binary(body: bytes, charset: str) -> str:
    return binascii.b2a_base64(body, newline=False).decode()


def _xml(body: bytes, charset: str) -> Json:
    """``{root: value}``: an element is its text, or an object of ``@attribute``, ``#text`` and its
    children; children of one name are a list. Documents with a DTD are refused."""
    reader = _XmlReader()
    parser = expat.ParserCreate(charset if charset.lower() in _XML_CHARSETS else None)
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = reader.doctype
    try:
        parser.Parse(body, True)
    except expat.ExpatError as error:
        raise _Garbage(expat.errors.messages[error.code]) from None
    return reader.root


_XML_CHARSETS = ("utf-8", "iso-8859-1", "utf-16", "us-ascii")


class _XmlReader:
    """Builds the value of a document while it is read."""

    def __init__(self) -> None:
        self.root: dict[str, Json] = {}
        self._open: list[tuple[dict[str, Json], list[str]]] = [(self.root, [])]

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._open) > DEEPEST:
            raise ProviderRejected(f"The reply is nested more than {DEEPEST} levels deep")
        self._open.append(({f"@{key}": value for key, value in attributes.items()}, []))

    def end(self, name: str) -> None:
        children, texts = self._open.pop()
        text = "".join(texts).strip()
        value: Json = text if not children else ({**children, "#text": text} if text else children)
        into = self._open[-1][0]
        if name not in into:
            into[name] = value
        elif isinstance(into[name], list):
            into[name].append(value)
        else:
            into[name] = [into[name], value]

    def text(self, text: str) -> None:
        self._open[-1][1].append(text)

    def doctype(self, *declared: Json) -> None:
        raise ProviderRejected(
            "The reply is XML with a document type declaration, which is refused"
        )


def _html(body: bytes, charset: str) -> Json:
    """``{title, text, links}``: what a person would read, and where its links lead."""
    if not charset and (found := re.search(rb"charset=[\"']?([\w-]+)", body[:2048])):
        charset = found[1].decode()
    return page(_text(body, charset))


_PARSERS: dict[str, Callable[[bytes, str], Json]] = {
    "json": _json,
    "text": _text,
    "binary": _binary,
    "xml": _xml,
    "html": _html,
}
