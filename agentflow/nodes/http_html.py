"""What a person would read of an HTML page. It is read in one go forward, so the time it takes grows with
the page alone, whatever a hostile one holds."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

from agentflow.errors import ProviderRejected

Json = Any
MOST_CHARACTERS = 4 * 2**20
_NAME = re.compile(r"[A-Za-z][^\s/>]*+")
_ATTRIBUTE = re.compile(
    r"[\s/]*+([^\s/>=][^\s/>=]*+)(?:\s*+=\s*+(?:\"([^\"]*+)\"|'([^']*+)'|([^\s>\"'][^\s>]*+)))?+"
)
_TAIL = re.compile(r"[\s/=]*+")
_RAW = ("script", "style", "title", "textarea", "xmp", "iframe", "noembed", "noframes")
"""Elements that hold text alone: tags in them are no tags."""
_SILENT = ("script", "style", "noscript", "template", "iframe", "noembed", "noframes")
_INLINE = ("a", "abbr", "b", "code", "em", "i", "mark", "small", "span", "strong", "sub", "sup")


def page(text: str) -> dict[str, Json]:
    """``{title, text, links}``: what a person would read, and where its links lead.

    Raises ProviderRejected for a page that is too long.
    """
    if len(text) > MOST_CHARACTERS:
        raise ProviderRejected(
            f"The reply is a page of more than {MOST_CHARACTERS} characters; with parse 'text' it comes "
            "as it is"
        )
    reader = _Reader()
    for kind, name, value in _pieces(text):
        reader.take(kind, name, value)
    return {
        "title": _squeezed("".join(reader.title)),
        "text": "\n".join(filter(None, map(_squeezed, "".join(reader.words).split("\n")))),
        "links": reader.links,
    }


def _pieces(text: str) -> Iterator[tuple[str, str, str]]:
    """(kind, name, value): text with its value; start of an element, with its href; end of one. What
    is not finished at the end of the page is left out, as browsers do."""
    at = 0
    while at < len(text):
        tag = text.find("<", at)
        end = len(text) if tag < 0 else tag
        if end > at:
            yield "text", "", text[at:end]
        if tag < 0:
            return
        if text.startswith(("<!", "<?", "</"), tag):
            at = _closed(text, tag)
            if at and text[tag + 1] == "/" and (named := _NAME.match(text, tag + 2)):
                yield "end", named[0].lower(), ""
        elif named := _NAME.match(text, tag + 1):
            name = named[0].lower()
            href, at = _attributes(text, named.end())
            if at:
                yield "start", name, href
            if at and name in _RAW:
                closing = re.compile(f"</{name}(?=[\\s/>])", re.IGNORECASE).search(text, at)
                inner = closing.start() if closing else len(text)
                yield "text", "", text[at:inner]
                at = inner
        else:
            yield "text", "", "<"
            at = tag + 1
        if not at:
            return


def _closed(text: str, tag: int) -> int:
    """Where a comment, a declaration or an end tag that begins here is over; 0 if it never is."""
    if text.startswith("<!--", tag):
        if text.startswith(("<!-->", "<!--->"), tag):
            return text.index(">", tag) + 1
        end = text.find("-->", tag + 4)
        return end + 3 if end >= 0 else 0
    return text.find(">", tag) + 1


def _attributes(text: str, at: int) -> tuple[str, int]:
    """The href of a start tag, and where the tag is over; 0 if it never is."""
    href = ""
    while found := _ATTRIBUTE.match(text, at):
        if found[1].lower() == "href" and not href:
            href = html.unescape(found[2] or found[3] or found[4] or "").strip()
        at = found.end()
        if text[at : at + 1] in ("=", '"', "'") and not (at := _loose(text, at)):
            return "", 0
    at = _TAIL.match(text, at).end()  # type: ignore[union-attr]
    return (href, at + 1) if text[at : at + 1] == ">" else ("", 0)


def _loose(text: str, at: int) -> int:
    """Past a piece of a tag that is no attribute; 0 where a quote is never closed."""
    at = _TAIL.match(text, at).end()  # type: ignore[union-attr]
    mark = text[at : at + 1]
    return text.find(mark, at + 1) + 1 if mark in ('"', "'") else at


class _Reader:
    """Collects title, text and links of a page; scripts and styles are left out."""

    def __init__(self) -> None:
        self.title: list[str] = []
        self.words: list[str] = []
        self.links: list[dict[str, str]] = []
        self._silent = 0
        self._in_title = False
        self._in_link = False

    def take(self, kind: str, name: str, value: str) -> None:
        """Take the next piece."""
        if kind == "text":
            self._text(html.unescape(value))
            return
        begins = kind == "start"
        if name in _SILENT:
            self._silent = max(self._silent + (1 if begins else -1), 0)
        self._in_title = begins and name == "title"
        if name not in _INLINE:
            self.words.append("\n")
        if name == "a":
            self._in_link = begins and bool(value)
            if self._in_link:
                self.links.append({"href": value, "text": ""})

    def _text(self, text: str) -> None:
        if self._in_title:
            self.title.append(text)
        elif not self._silent:
            self.words.append(text)
            if self._in_link and not self.links[-1]["text"]:
                self.links[-1]["text"] = _squeezed(text)


def _squeezed(text: str) -> str:
    return " ".join(text.split())
