"""What an ``http`` node makes of a reply: JSON, XML, HTML, text or bytes become a value."""

from __future__ import annotations

import binascii
import json
import math
import re
from collections.abc import Callable
from email.message import Message
from html.parser import HTMLParser
from typing import Any
from xml.parsers import expat

from agentflow.errors import ProviderRejected, ProviderUnavailable
from agentflow.sources.exchange import ApiReply
from agentflow.sources.text import well_formed

Json = Any
DEEPEST = 100
_INT64 = 2**63


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
    except (_Garbage, ValueError, RecursionError) as error:
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
        value = json.loads(
            body, parse_constant=_no_constant, parse_int=_integer, parse_float=_finite
        )
    except UnicodeDecodeError:
        raise _Garbage("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise _Garbage(f"{error.msg} at character {error.pos}") from None
    except RecursionError:
        raise ProviderRejected("The reply is nested too deeply") from None
    _check_depth(value)
    return _clean(value) if b"\\ud" in body or b"\\uD" in body else value


def _no_constant(name: str) -> Json:
    raise _Garbage(f"{name} is not JSON")


def _integer(digits: str) -> int | float:
    """Whole numbers beyond 64 bits become the nearest float, as most readers of JSON do."""
    number = int(digits) if len(digits) < 25 else _INT64
    if -_INT64 <= number < _INT64:
        return number
    return _finite(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise _Garbage("a number that is too large")
    return number


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


def _clean(value: Json) -> Json:
    """The value with lone halves of surrogate pairs replaced."""
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {well_formed(key): _clean(item) for key, item in value.items()}
    return value


def _text(body: bytes, charset: str) -> str:
    try:
        return body.decode(charset or "utf-8-sig", "replace")
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
    reader = _HtmlReader()
    reader.feed(_text(body, charset))
    reader.close()
    return {
        "title": _squeezed("".join(reader.title)),
        "text": "\n".join(filter(None, map(_squeezed, "".join(reader.words).split("\n")))),
        "links": reader.links,
    }


def _squeezed(text: str) -> str:
    return " ".join(text.split())


class _HtmlReader(HTMLParser):
    """Collects title, text and links of a page; scripts and styles are left out."""

    _SILENT = ("script", "style", "noscript", "template")
    _INLINE = ("a", "abbr", "b", "code", "em", "i", "mark", "small", "span", "strong", "sub", "sup")

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title: list[str] = []
        self.words: list[str] = []
        self.links: list[dict[str, str]] = []
        self._silent = 0
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in self._SILENT
        self._in_title = tag == "title"
        if tag not in self._INLINE:
            self.words.append("\n")
        address = dict(attrs).get("href") if tag == "a" else None
        if address:
            self.links.append({"href": address, "text": ""})

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in self._SILENT and self._silent > 0
        self._in_title = False
        if tag not in self._INLINE:
            self.words.append("\n")
        elif tag == "a":
            self.words.append("")

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title.append(data)
        elif not self._silent:
            self.words.append(data)
            if self.links and self.lasttag == "a" and not self.links[-1]["text"]:
                self.links[-1]["text"] = _squeezed(data)


_PARSERS: dict[str, Callable[[bytes, str], Json]] = {
    "json": _json,
    "text": _text,
    "binary": _binary,
    "xml": _xml,
    "html": _html,
}
