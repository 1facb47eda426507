"""SQL text as pieces: enough of it to know where a placeholder stands and where a statement ends."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator

from agentflow.spec.templates import paths

POSTGRES, MYSQL = "postgres", "mysql"
DIALECTS = (POSTGRES, MYSQL)

_NAMED = re.compile(r"(?<![:\w\\]):([A-Za-z_]\w*)(?!\w|:(?!:))")
_DOUBLED = re.compile(r"\{\{([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\}\}", re.ASCII)
_WORD = re.compile(r"[^\W\d][\w$]*|\d[\w.]*")
_DOLLAR = re.compile(r"\$(?:[^\W\d]\w*)?\$")
_MARKS = re.compile(r"/\*|\*/")
_TABLE_FOLLOWS = ("FROM", "JOIN", "INTO", "UPDATE", "TABLE")
_QUOTES = {"'": "a quote (')", '"': 'a quote (")', "`": "a quote (`)"}


class Statement:
    """What one text of SQL holds. ``dialect``: one of :data:`DIALECTS`.

    ``count``: statements in it; ``verb``: its first word, in capitals. ``names`` and ``paths``: its
    ``:name`` and ``{path}`` placeholders; ``quoted_names`` and ``quoted_paths``: those inside quotes.
    ``misplaced``: the first placeholder that stands for a table. ``unclosed``: a quote or a comment
    without an end, in words. ``executable``: whether a comment is one that MySQL executes.
    """

    def __init__(self, text: str, dialect: str) -> None:
        self.names: list[str] = []
        self.paths: list[str] = []
        self.quoted_names: list[str] = []
        self.quoted_paths: list[str] = []
        self.verb = ""
        self.count = 0
        self.misplaced = ""
        self.unclosed = ""
        self.executable = False
        self._text = text
        self._known = False
        self._mysql = dialect == MYSQL
        self._templates = {found.offset: ".".join(found.path) for found in paths(text)}
        self._offsets = sorted(self._templates)
        self._read()
        self._known = True

    def tokens(self) -> Iterator[tuple[str, str]]:
        """(kind, text) of what is neither white space nor a comment: quote, word (in capitals), name,
        path or other."""
        for kind, piece in self._pieces():
            if kind != "space":
                yield kind, piece.upper() if kind == "word" else piece

    def rewritten(self, place: Callable[[str], str]) -> str:
        """The text with every placeholder replaced by what ``place`` makes of its name or path;
        doubled braces become single ones."""
        at, out = 0, ""
        while at < len(self._text):
            kind, piece, end = self._next(at)
            raw = self._text[at:end]
            out += place(piece) if kind in ("name", "path") else raw
            at = end
        return _DOUBLED.sub(r"{\1}", out)

    def _read(self) -> None:
        depth, words, open_statement = 0, ["", ""], False
        for kind, piece in self._pieces():
            if kind == "space":
                continue
            if piece == ";":
                open_statement = False
                continue
            if not open_statement:
                open_statement, depth = True, 0
                self.count += 1
            if kind == "word":
                self.verb = self.verb or piece.upper()
                words = [words[1], piece.upper()]
                continue
            if kind in ("name", "path"):
                self._placeholder(kind, piece, depth, words)
            depth += {"(": 1, ")": -1}.get(piece, 0)
            words = ["", ""]

    def _placeholder(self, kind: str, piece: str, depth: int, words: list[str]) -> None:
        (self.names if kind == "name" else self.paths).append(piece)
        before, word = words
        table = word in _TABLE_FOLLOWS and before != "DISTINCT"
        if table and (word != "FROM" or not depth) and not self.misplaced:
            self.misplaced = f":{piece}" if kind == "name" else "{" + piece + "}"

    def _pieces(self) -> Iterator[tuple[str, str]]:
        """(kind, text): space, quote, word, name, path or other."""
        at = 0
        while at < len(self._text):
            kind, piece, end = self._next(at)
            yield kind, piece
            at = end

    def _next(self, at: int) -> tuple[str, str, int]:
        text, char = self._text, self._text[at]
        if char.isspace():
            return "space", char, at + 1
        end = self._comment(at)
        if end:
            return "space", "", end
        end = self._quoted(at)
        if end:
            self._inside(at, end)
            return "quote", "", end
        if at in self._templates:
            path = self._templates[at]
            return "path", path, at + len(path) + 2
        if named := _NAMED.match(text, at):
            return "name", named[1], named.end()
        if word := _WORD.match(text, at):
            return "word", word[0], word.end()
        return "other", char, at + 1

    def _comment(self, at: int) -> int:
        """Where a comment that begins here ends, or 0."""
        text = self._text
        dashes = text.startswith("--", at)
        if self._mysql and dashes:
            dashes = at + 2 >= len(text) or text[at + 2].isspace()
        if dashes or (self._mysql and text[at] == "#"):
            end = text.find("\n", at)
            return len(text) if end < 0 else end
        if not text.startswith("/*", at):
            return 0
        if self._mysql and text.startswith(("/*!", "/*M!"), at):
            self.executable = True
        depth = 0
        for mark in _MARKS.finditer(text, at):
            if mark[0] == "*/":
                depth -= 1
            elif not depth or not self._mysql:
                depth += 1
            if not depth:
                return mark.end()
        self.unclosed = "a comment"
        return len(text)

    def _quoted(self, at: int) -> int:
        """Where a quoted text that begins here ends, or 0."""
        text, char = self._text, self._text[at]
        if char == "$" and not self._mysql and not _in_word(text, at):
            tag = _DOLLAR.match(text, at)
            if tag is None:
                return 0
            end = text.find(tag[0], tag.end())
            if end < 0:
                self.unclosed = f"a quote ({tag[0]})"
                return len(text)
            return end + len(tag[0])
        escapes = self._mysql and char != "`"
        if char in "eE" and text[at + 1 : at + 2] == "'" and not _in_word(text, at):
            at, char, escapes = at + 1, "'", True
        if char not in _QUOTES:
            return 0
        scan = at + 1
        while scan < len(text):
            if text[scan] == "\\" and escapes:
                scan += 2
            elif text[scan] != char:
                scan += 1
            elif text[scan + 1 : scan + 2] == char:
                scan += 2
            else:
                return scan + 1
        self.unclosed = _QUOTES[char]
        return len(text)

    def _inside(self, start: int, end: int) -> None:
        if self._known:
            return
        self.quoted_names += [found[1] for found in _NAMED.finditer(self._text, start, end)]
        first, last = bisect_left(self._offsets, start), bisect_left(self._offsets, end)
        self.quoted_paths += [self._templates[at] for at in self._offsets[first:last]]


def _in_word(text: str, at: int) -> bool:
    return at > 0 and (text[at - 1].isalnum() or text[at - 1] in "_$")
