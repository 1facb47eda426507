"""What an ``http`` node sends: address, headers and body, made of its templates and the state."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from agentflow.errors import InvalidInput
from agentflow.nodes.base import StepContext
from agentflow.nodes.names import declared_names
from agentflow.spec.kinds.values import is_expression
from agentflow.spec.templates import (
    compact,
    look_up,
    paths,
    render,
    resolve_values,
)

Json = Any
_log = logging.getLogger(__name__)
_ABSENT = object()
_FORM = "application/x-www-form-urlencoded"
_URL_SAFE = "%:/?#[]@!$&'()*+,;=~"
_DOTS = re.compile(r"(?:^|/)(?:\.|%2e){1,2}(?=/|$)", re.IGNORECASE)


class Prepared(msgspec.Struct, frozen=True):
    """A request before it is authenticated; ``query`` holds (name, text) pairs, not yet encoded."""

    method: str
    address: str
    query: tuple[tuple[str, str], ...]
    headers: dict[str, str]
    body: bytes

    def url(self, changes: Mapping[str, str] | None = None) -> str:
        """The address with its query; ``changes`` replace parameters of these names."""
        changes = changes or {}
        pairs = [pair for pair in self.query if pair[0] not in changes]
        query = urlencode([*pairs, *changes.items()], quote_via=quote)
        mark = "&" if "?" in self.address else "?"
        return f"{self.address}{mark}{query}" if query else self.address


def prepared(context: StepContext) -> Prepared:
    """The request of a step. Raises InvalidInput, ExpressionError."""
    options = context.options
    missing: list[str] = []
    declared = declared_names(context)
    address = _address(options["url"], context, missing)
    query = tuple(_query(resolve_values(options["query"], context.view, declared)))
    headers = {
        name: render(value, context.view, missing) for name, value in options["headers"].items()
    }
    body = _body(context, declared, missing)
    if options["body"] is not None and "content-type" not in {name.lower() for name in headers}:
        headers["Content-Type"] = options["content_type"]
    for name in dict.fromkeys(missing):
        _log.warning("Node %r: the template names {%s}, which is absent", context.node.id, name)
    return Prepared(options["method"], address, query, headers, body)


def _address(template: str, context: StepContext, missing: list[str]) -> str:
    """The rendered address. Values are percent-encoded, but for one that the address begins with:
    that is an address itself, or the beginning of one."""
    found = paths(template)
    text, at = "", 0
    for place in found:
        value = look_up(context.view, place.path, _ABSENT)
        end = place.offset + len(".".join(place.path)) + 2
        text += _literal(template[at : place.offset])
        if value is _ABSENT:
            missing.append(".".join(place.path))
            text += quote(template[place.offset : end], safe="")
        else:
            shown = value if isinstance(value, str) else compact(value)
            shown = shown.encode("utf-8", "replace").decode()
            text += quote(shown, safe=_URL_SAFE if place.offset == 0 else "")
        at = end
    text += _literal(template[at:])
    if found and _DOTS.search(re.split(r"[?#]", text, maxsplit=1)[0]):
        raise InvalidInput(
            "A value in the address of the request is '.' or '..', which would lead to another path"
        )
    return text.partition("#")[0]


def _literal(text: str) -> str:
    """Text of the template between placeholders: doubled braces are single ones."""
    return quote(re.sub(r"\{\{([^{}]*)\}\}", r"{\1}", text), safe=_URL_SAFE)


def _query(values: Mapping[str, Json]) -> list[tuple[str, str]]:
    pairs = []
    for name, value in values.items():
        for item in value if isinstance(value, list) else [value]:
            if item is not None:
                text = item if isinstance(item, str) else compact(item)
                pairs.append((name, text.encode("utf-8", "replace").decode()))
    return pairs


def _body(context: StepContext, declared: Mapping[str, str], missing: list[str]) -> bytes:
    body, kind = context.options["body"], context.options["content_type"]
    if body is None:
        return b""
    if isinstance(body, str) and not is_expression(body):
        return render(body, context.view, missing).encode("utf-8", "replace")
    value = resolve_values(body, context.view, declared)
    if kind.partition(";")[0].strip() == _FORM and isinstance(value, Mapping):
        return urlencode(_query(value)).encode()
    if isinstance(value, str) and "json" not in kind:
        return value.encode("utf-8", "replace")
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=dict)
    return text.encode("utf-8", "replace")
