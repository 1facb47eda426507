"""Options of ``http`` nodes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from agentflow.spec.environment import has_password, literal_credentials
from agentflow.spec.jsonpath import jsonpath_problem
from agentflow.spec.kinds.base import (
    TEMPLATE,
    VALUES,
    Complaint,
    Json,
    NodeKind,
    Options,
    OptionsModel,
    Text,
)
from agentflow.spec.kinds.values import Seconds, Word, is_expression, schema_complaints
from agentflow.spec.templates import paths

ONCE = ("POST", "PATCH")
"""Methods that may not be repeated when their outcome is unknown."""

OWN_HEADERS = ("host", "content-length", "transfer-encoding", "connection", "agentflow-fence")
"""Headers that no author can set: they are part of how a request is sent."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_MEDIA_TYPE = r"^[\w!#$&^.+-]+/[\w!#$&^.+-]+(\s*;\s*[\w-]+=[^\x00-\x1f]*)?$"
_AUTHORITY = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*):)?[/\\]{2}([^/?#\\]*)")
_PORTS = {"http": ":80", "https": ":443"}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_RANGE = re.compile(r"([1-5]\d\d)-([1-5]\d\d)")

Status = Annotated[int, Field(ge=100, le=599)]


class Paginate(OptionsModel):
    """How further pages are found."""

    mode: Literal["link", "page", "cursor"] = Field(
        description="By the Link header, by a page number, or by a cursor in the reply."
    )
    max_pages: Annotated[int, Field(ge=1)] = Field(10, description="Most pages that are read.")
    items_path: Word | None = Field(
        None, description="JSONPath of a page's items, which are joined.", examples=["$.items"]
    )
    param: Word | None = Field(
        None, description="Query parameter of the page or the cursor. Null: page, or cursor."
    )
    cursor_path: Word = Field(
        "$.next_cursor",
        description="JSONPath of the next page's cursor in the reply; the last page has none.",
    )


class Sign(OptionsModel):
    """How requests are signed. Keys ending in _env or _ref name the credentials."""

    type: Literal["hmac", "aws_sigv4"] = Field(
        description="hmac needs secret_env; aws_sigv4 needs access_key_id_env and "
        "secret_access_key_env (each may end in _ref instead)."
    )
    header: Word = Field(
        "X-Signature",
        description="Header of the hexadecimal HMAC-SHA256 of '<timestamp>.<body>' (hmac).",
    )
    timestamp_header: Word = Field(
        "X-Timestamp", description="Header of the seconds since 1970 that are signed too (hmac)."
    )
    region: Word | None = Field(None, description="AWS region; required (aws_sigv4).")
    service: Word | None = Field(None, description="AWS service; required (aws_sigv4).")


class HttpOptions(OptionsModel):
    """Makes one HTTP request."""

    source: Word | None = Field(
        None, description="Id of a source of kind api: base URL, authentication and headers."
    )
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"] = Field(
        "GET", description="POST and PATCH have effects once unless the node says otherwise."
    )
    url: Word = Field(
        description="Template of the address; path is the same. Without source it must be absolute. "
        "Inserted values are percent-encoded.",
        examples=["/tickets/{ticket_id}"],
    )
    headers: dict[str, str] = Field(
        {}, description="Request headers: name to template. Never a credential: those are sources'."
    )
    query: dict[str, Any] = Field(
        {}, description="Query parameters: name to value or ${expression}."
    )
    body: Json = Field(
        None, description="${expression}, an object or list that may hold such, or a text template."
    )
    content_type: Annotated[str, Field(pattern=_MEDIA_TYPE)] = Field(
        "application/json", description="Media type of the body."
    )
    parse: Literal["auto", "json", "xml", "html", "text", "binary"] = Field(
        "auto", description="How the reply is read; auto goes by its content type."
    )
    extract: dict[Word, Word] = Field(
        {}, description="Parts of the reply: name to JSONPath.", examples=[{"title": "$.title"}]
    )
    response_schema: dict[str, Any] | None = Field(
        None, description="A JSON Schema that the reply, after extract, must fit."
    )
    success: Status | str | Annotated[list[Status | str], Field(min_length=1)] = Field(
        "200-299",
        description="Status codes, or ranges of them, that are no errors.",
        examples=[["200-299", 404]],
    )
    paginate: Paginate | None = Field(None, description="Further pages are read too.")
    sign: Sign | None = Field(None, description="Requests are signed.")
    timeout_s: Seconds | None = Field(
        None, description="Limit of one call in seconds. Null: the source's, else 30."
    )
    output_key: Word = Field("api_result", description="State field that is written.")


def _complaints(options: Options) -> tuple[Complaint, ...]:
    found: list[Complaint] = []
    if (sentence := _url_problem(options["url"])) is not None:
        found.append((("url",), sentence))
    found += _header_complaints(options["headers"])
    named = [(("extract", name), path) for name, path in options["extract"].items()]
    pages = options.get("paginate") or {}
    named += [
        (("paginate", name), pages[name])
        for name in ("items_path", "cursor_path")
        if pages.get(name) is not None
    ]
    for at, path in named:
        if (sentence := jsonpath_problem(path)) is not None:
            found.append((at, f"is not a JSONPath: it {sentence}"))
    found += _success_complaints(options["success"])
    found += schema_complaints(options, "response_schema")
    found += _sign_complaints(options.get("sign") or {})
    if options["body"] is not None and options["method"] in ("GET", "HEAD"):
        found.append((("body",), f"cannot be sent with method {options['method']!r}"))
    return tuple(found)


def _url_problem(url: str) -> str | None:
    if any(char.isspace() or not char.isprintable() for char in url):
        return "holds white space or a control character; write it percent-encoded"
    if has_password(url):
        return "holds a password; put the credential into a source"
    scheme = _SCHEME.match(url)
    if scheme and scheme[1].lower() not in ("http", "https"):
        return f"has the scheme {scheme[1][:20]!r}; only http and https can be called"
    if scheme and not re.match(r"https?://[^/?#]", url, re.IGNORECASE):
        return "names no host"
    return None


def host_of(url: str) -> tuple[str, str] | None:
    """(scheme, host and port) of an absolute address or a template of one, in lower case; None for one
    that continues another. The scheme is empty where the address begins with ``//``."""
    found = _AUTHORITY.match(url)
    if found is None:
        return None
    scheme, host = (found[1] or "").lower(), found[2].lower()
    return scheme, host.removesuffix(_PORTS.get(scheme, "")).removesuffix(":")


def header_problem(name: str) -> str | None:
    """Why an author may not set a header of this name, or None."""
    if not _TOKEN.fullmatch(name):
        return "is not the name of a header"
    return "is a header that AgentFlow sets itself" if name.lower() in OWN_HEADERS else None


def _header_complaints(headers: Mapping[str, str]) -> list[Complaint]:
    found: list[Complaint] = []
    secret = {at[-1] for at, _ in literal_credentials({"headers": headers})}
    for name, value in headers.items():
        at = ("headers", name)
        if (sentence := header_problem(name)) is not None:
            found.append((at, sentence))
        elif any(char in value for char in "\r\n\x00"):
            found.append((at, "holds a line break"))
        elif name in secret and not paths(value):
            found.append((at, "holds a credential; put it into a source"))
    return found


def _success_complaints(success: Json) -> list[Complaint]:
    listed = isinstance(success, list)
    found: list[Complaint] = []
    for index, item in enumerate(success if listed else [success]):
        codes = _RANGE.fullmatch(item) if isinstance(item, str) else None
        if isinstance(item, int) or (codes and codes[1] <= codes[2]):
            continue
        at: tuple[str | int, ...] = ("success", index) if listed else ("success",)
        found.append((at, "must be a status code, or a range such as '200-299'"))
    return found


_SIGNS: Mapping[str, tuple[str, ...]] = {
    "hmac": ("secret",),
    "aws_sigv4": ("access_key_id", "secret_access_key"),
}


def _sign_complaints(sign: Mapping[str, Json]) -> list[Complaint]:
    lacking = [
        f"{name}_env"
        for name in _SIGNS.get(sign.get("type", ""), ())
        if not sign.get(f"{name}_env") and not sign.get(f"{name}_ref")
    ]
    if sign.get("type") == "aws_sigv4":
        lacking += [name for name in ("region", "service") if not sign.get(name)]
    found: list[Complaint] = [
        (("sign", name), f"is missing: type {sign['type']!r} needs it") for name in lacking
    ]
    for name in ("header", "timestamp_header") if sign.get("type") == "hmac" else ():
        if (sentence := header_problem(sign[name])) is not None:
            found.append((("sign", name), sentence))
    return found


def _texts(options: Options) -> tuple[Text, ...]:
    texts = [Text(("url",), TEMPLATE, options["url"]), Text(("query",), VALUES, options["query"])]
    texts += [
        Text(("headers", name), TEMPLATE, value) for name, value in options["headers"].items()
    ]
    body = options["body"]
    plain = isinstance(body, str) and not is_expression(body)
    texts.append(Text(("body",), TEMPLATE if plain else VALUES, body))
    return tuple(texts)


def _needs_source(options: Options) -> bool:
    url = options.get("url")
    relative = isinstance(url, str) and not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:|\{", url)
    return relative and not options.get("source")


def _unsupported(options: Options) -> tuple[str, ...]:
    stored = any(str(key).endswith("_ref") for key in options.get("sign") or {})
    return ("'sign' with a stored secret (name a variable)",) if stored else ()


def _refine(options: Options, source: Options) -> Mapping[str, Json]:
    return {"effects": "once"} if options["method"] in ONCE else {}


KIND = NodeKind(
    type="http",
    options=HttpOptions,
    effects="idempotent",
    attempts=4,
    placement="io",
    field="api_result",
    always_writes=True,
    texts=_texts,
    needs_source=_needs_source,
    complaints=_complaints,
    unsupported=_unsupported,
    refine=_refine,
)
