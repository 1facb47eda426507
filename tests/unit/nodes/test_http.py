"""Http nodes, through a real source and a service on a real socket."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentflow.addresses import Policy
from agentflow.errors import (
    CallTimeout,
    ConnectionFailed,
    ExpressionError,
    InvalidInput,
    OutputSchemaMismatch,
    ProviderAuthError,
    ProviderRateLimited,
    ProviderRejected,
    ProviderUnavailable,
    StepError,
)
from agentflow.nodes.base import StepContext
from agentflow.nodes.http import HttpNode, _links
from agentflow.nodes.http_reply import parsed
from agentflow.nodes.http_request import prepared
from agentflow.sources.api import open_api
from agentflow.sources.base import Source
from agentflow.sources.credentials import Credentials
from agentflow.sources.exchange import ApiReply
from agentflow.sources.replies import Replies
from tests.fake_provider import Cut, Drip, FakeProvider, Hang, Raw, Request, Status
from tests.unit.nodes.conftest import NewContext

Json = Any
LOOPBACK = Policy(allow=(ip_network("127.0.0.0/8"),))
NOBODY = Credentials({}, lambda name: False)
Perform = Callable[..., Any]


def answer(value: Json, status: int = 200, **headers: str) -> Raw:
    return Raw(json.dumps(value).encode(), status, "application/json", dict(headers))


@pytest.fixture
async def step(provider: FakeProvider, new_context: NewContext) -> AsyncIterator[NewContext]:
    """Makes contexts of http steps; source ``main`` is the service, with whatever else is wanted."""
    opened: list[Source] = []

    def make(
        options: dict[str, Any], view: dict[str, Any] | None = None, **more: Any
    ) -> StepContext:
        config = {"base_url": f"http://127.0.0.1:{provider.port}/api", **more.pop("config", {})}

        async def open_source(source_id: str) -> Source:
            opened.append(await open_api(source_id, config, policy=LOOPBACK, credentials=NOBODY))
            return opened[-1]

        given = {"source": "main", **options}
        return new_context("http", given, view or {}, open_source=open_source, **more)

    yield make
    for source in opened:
        await source.close()


async def nowhere(source: Any, tenant: str) -> Source:
    raise AssertionError("the node names its source")


async def perform(context: StepContext) -> Json:
    done = await HttpNode(nowhere).run(context)
    assert done.delta == {context.options["output_key"]: done.result}
    return done.result


async def test_http_result_has_every_part(provider: FakeProvider, step: NewContext) -> None:
    provider.script(answer({"title": "Lost"}, 200, **{"X-Total": "3", "Set-Cookie": "sid=1"}))
    result = await perform(step({"url": "/tickets/{id}", "query": {"a": "${user_input}"}},
                                {"id": "a/b ?", "user_input": "x&y"}, epoch=7))  # fmt: skip
    assert result["data"] == {"title": "Lost"}
    assert (result["status_code"], result["success"]) == (200, True)
    assert result["headers"]["x-total"] == "3" and "set-cookie" not in result["headers"]
    assert result["url"].endswith("/api/tickets/a%2Fb%20%3F?a=x%26y")
    request = provider.last
    assert (request.method, request.path) == ("GET", "/api/tickets/a%2Fb%20%3F?a=x%26y")
    assert request.headers["agentflow-fence"] == "7"
    assert request.headers["user-agent"] == "agentflow"


async def test_http_keys_are_the_same_in_every_attempt(
    provider: FakeProvider, step: NewContext
) -> None:
    provider.default = answer({})
    first, second = step({"url": "/x"}), step({"url": "/x"}, attempt=2)
    for context in (first, second):
        await perform(context)
    assert [r.idempotency_key for r in provider.requests] == [first.key(0)] * 2


async def test_http_keeps_no_cookies(provider: FakeProvider, step: NewContext) -> None:
    provider.default = answer({}, 200, **{"Set-Cookie": "sid=1; Path=/"})
    context = step({"url": "/x"})
    source = await context.source("main")
    for _ in range(2):
        context._open_source = lambda name: _given(source)
        await perform(context)
    assert "cookie" not in provider.last.headers


async def _given(source: Source) -> Source:
    return source


@pytest.mark.parametrize(
    ("options", "view", "sent", "kind"),
    [
        ({"body": {"q": "${user_input}", "n": [1, "${1 + 1}"]}}, {"user_input": 'a"b'},
         b'{"q":"a\\"b","n":[1,2]}', "application/json"),
        ({"body": '{"q": "{user_input}"}'}, {"user_input": "hi"}, b'{"q": "hi"}', "application/json"),
        ({"body": "${user_input}"}, {"user_input": "hi"}, b'"hi"', "application/json"),
        ({"body": {"a": "1 2", "b": [1, True], "c": None},
          "content_type": "application/x-www-form-urlencoded"}, {},
         b"a=1+2&b=1&b=true", "application/x-www-form-urlencoded"),
        ({"body": "{user_input}", "content_type": "text/plain"}, {"user_input": "\u00e9"},
         "\u00e9".encode(), "text/plain"),
        ({"body": "<a/>", "headers": {"Content-Type": "text/xml"}}, {}, b"<a/>", "text/xml"),
    ],
)  # fmt: skip
async def test_http_sends_the_body(
    provider: FakeProvider, step: NewContext, options: Json, view: Json, sent: bytes, kind: str
) -> None:
    provider.default = answer({})
    await perform(step({"method": "POST", "url": "/x", **options}, view))
    assert (provider.last.raw, provider.last.headers["content-type"]) == (sent, kind)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
async def test_http_knows_every_method(
    provider: FakeProvider, step: NewContext, method: str
) -> None:
    provider.default = Raw(b"", 204, "text/plain")
    context = step({"method": method, "url": "/x"})
    result = await perform(context)
    assert provider.last.method == method and result["data"] is None
    assert context.node.effects == ("once" if method in ("POST", "PATCH") else "idempotent")


@pytest.mark.parametrize(
    ("reply", "error", "words"),
    [
        (Status(400, "bad field"), ProviderRejected, "answered 400. It said: bad field"),
        (Status(401), ProviderAuthError, "credentials of source 'main' with 401"),
        (Status(404), ProviderRejected, "answered 404"),
        (Status(408), ProviderUnavailable, "answered 408"),
        (Status(418, retry_after=1), ProviderRejected, "answered 418"),
        (Status(429, retry_after=7), ProviderRateLimited, "a pause of 7 s"),
        (Status(500), ProviderUnavailable, "answered 500"),
        (Status(503, retry_after=3), ProviderUnavailable, "answered 503"),
        (Raw(b"", 304), ProviderRejected, "answered 304"),
        (Raw(b"{", 200, "application/json"), ProviderUnavailable, "is no json"),
        (Raw(b"[NaN]", 200, "application/json"), ProviderUnavailable, "NaN is not JSON"),
        (Raw(b"\xff\xfe\xfd", 200, "application/json"), ProviderUnavailable, "is no json"),
        (Raw(b"[" * 5000 + b"]" * 5000, 200, "application/json"), ProviderRejected, "nested"),
        (Raw(b"[" * 200 + b"]" * 200, 200, "application/json"), ProviderRejected, "nested"),
        (Raw(b"<a><b></a>", 200, "text/xml"), ProviderUnavailable, "is no xml"),
        (
            Raw(b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", 200, "text/xml"),
            ProviderRejected,
            "type",
        ),
        (Raw(b"x", 302, headers={"Location": "/api/again"}), ProviderRejected, "redirected"),
        (Raw(b"x", 302, headers={"Location": "http://10.0.0.1/"}), ProviderRejected, "private"),
        (Raw(b"x", 302, headers={"Location": "file:///etc/passwd"}), ProviderRejected, "Only http"),
        (
            Raw(b"not gzip", 200, headers={"Content-Encoding": "gzip"}),
            ProviderUnavailable,
            "unpack",
        ),
        (Cut(), ProviderUnavailable, "broke"),
        (Hang(), CallTimeout, "within 0.2 s"),
        (Drip(every=0.02), CallTimeout, "within 0.2 s"),
        (Drip(every=0.02, headers=True), CallTimeout, "within 0.2 s"),
        (Drip(every=0.0001, headers=True, size=9000), StepError, ""),
    ],
)
async def test_http_says_what_went_wrong(
    provider: FakeProvider, step: NewContext, reply: Any, error: type[StepError], words: str
) -> None:
    provider.default = reply
    with pytest.raises(error, match=None) as caught:
        await perform(step({"url": "/x", "timeout_s": 0.2 if not words or "0.2" in words else 5}))
    assert words in caught.value.message
    wait = getattr(reply, "retry_after", None)
    assert caught.value.after == (wait if caught.value.retryable else None)


async def test_http_says_that_nobody_listens(step: NewContext) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        config = {"base_url": f"http://127.0.0.1:{closed.getsockname()[1]}"}
        with pytest.raises(ConnectionFailed) as caught:
            await perform(step({"url": "/x"}, config=config))
    assert caught.value.uncounted


@pytest.mark.parametrize(
    ("wanted", "status"), [(404, 404), ("400-499", 404), ([200, "404-410"], 410)]
)
async def test_http_takes_the_statuses_that_are_wanted(
    provider: FakeProvider, step: NewContext, wanted: Json, status: int
) -> None:
    provider.default = answer({"gone": True}, status)
    result = await perform(step({"url": "/x", "success": wanted}))
    assert (result["status_code"], result["success"]) == (status, False)
    assert result["data"] == {"gone": True}


@pytest.mark.parametrize(
    ("url", "view"),
    [
        ("http://{user_input}/x", {"user_input": "evil.example.com"}),
        ("{user_input}", {"user_input": "http://evil.example.com/"}),
        ("//{user_input}", {"user_input": "evil.example.com"}),
        ("{user_input}", {"user_input": "file:///etc/passwd"}),
    ],
)
async def test_http_takes_credentials_nowhere_else(
    provider: FakeProvider, step: NewContext, url: str, view: Json
) -> None:
    with pytest.raises(ProviderRejected, match="another host"):
        await perform(step({"url": url}, view))
    assert provider.calls == 0


@pytest.mark.parametrize("value", ["..", ".", "%2e%2e", "../x"])
async def test_http_takes_no_value_that_leaves_the_path(step: NewContext, value: str) -> None:
    context = step({"url": "/a/{user_input}/b"}, {"user_input": value})
    if value in ("%2e%2e", "../x"):
        assert "/a/%2" in prepared(context).address or "/a/..%2Fx/b" in prepared(context).address
        return
    with pytest.raises(InvalidInput, match="another path"):
        await perform(context)


@pytest.mark.parametrize("value", ["a\r\nX: 1", "a\x00", "caf\u00e9"])
async def test_http_takes_no_value_that_breaks_a_header(
    provider: FakeProvider, step: NewContext, value: str
) -> None:
    with pytest.raises(InvalidInput, match="header 'x-a'"):
        await perform(
            step({"url": "/x", "headers": {"X-A": "{user_input}"}}, {"user_input": value})
        )
    assert provider.calls == 0


@settings(max_examples=60, deadline=None)
@given(value=st.text(max_size=12))
def test_http_address_keeps_any_value_in_its_segment(value: str) -> None:
    from urllib.parse import unquote, urlsplit

    try:
        made = prepared(_bare({"url": "https://h.example/a/{user_input}/b", "query": {"q": "${user_input}"}},
                              value))  # fmt: skip
    except InvalidInput:
        assert value in (".", "..")
        return
    except ExpressionError:
        assert "\x00" in value
        return
    parts = urlsplit(made.url())
    assert parts.netloc == "h.example" and parts.path.count("/") == 3 and not parts.fragment
    assert unquote(parts.path.split("/")[2]) == value.encode("utf-8", "replace").decode()
    assert parts.query.count("&") == 0


def _bare(options: Json, text: str) -> StepContext:
    from agentflow.plan.plan import Field, PlanNode, Retry
    from agentflow.spec.kinds.http import KIND
    from agentflow.spec.rules.options import options_of
    from agentflow.spec.state import BUILTIN

    node = PlanNode(index=0, id="n", type="http", options=options_of(KIND, options), rank=0,
                    placement="io", effects="once", retry=Retry())  # fmt: skip
    fields = {name: Field(name, f.type, f.merge, f.default) for name, f in BUILTIN.items()}
    return StepContext(node=node, view={"user_input": text, "outputs": {}}, fields=fields,
                       tenant="t", execution_id="e", step="n")  # fmt: skip


def reply(body: bytes, kind: str = "application/json") -> ApiReply:
    return ApiReply(status=200, headers={"content-type": kind}, body=body, url="", where="GET x")


@pytest.mark.parametrize(
    ("body", "kind", "how", "value"),
    [
        (b'{"a": 1.5}', "application/json; charset=utf-8", "auto", {"a": 1.5}),
        (b'\xef\xbb\xbf{"a": 1}', "application/problem+json", "auto", {"a": 1}),
        (b"[9223372036854775807, 9223372036854775808]", "application/json", "auto",
         [2**63 - 1, float(2**63)]),
        (b'["\\ud800", "\\ud83d\\ude00"]', "application/json", "auto", ["\ufffd", "\U0001f600"]),
        (b"hi", "text/plain", "auto", "hi"),
        (b"caf\xe9", "text/plain; charset=iso-8859-1", "auto", "caf\u00e9"),
        (b"caf\xe9", "text/plain; charset=rot13", "auto", "caf\ufffd"),
        (b"+2AA-", "text/plain; charset=utf-7", "auto", "\ufffd"),
        ('["\\ud800"]'.encode("utf-16"), "application/json", "auto", ["\ufffd"]),
        (b"\x00\xff", "image/png", "auto", "AP8="),
        (b"\x00\xff", "", "auto", "AP8="),
        (b'{"a": 1}', "text/plain", "json", {"a": 1}),
        (b"<r id='7'><i>a</i><i>b</i><e/></r>", "application/atom+xml", "auto",
         {"r": {"@id": "7", "i": ["a", "b"], "e": ""}}),
        (b"<r>t<i>a</i></r>", "text/xml", "auto", {"r": {"i": "a", "#text": "t"}}),
        (b"<html><head><title> A  b</title><script>x()</script></head><body><p>One <b>two</b></p>"
         b"<p><a href='/n'>next</a></p></body></html>", "text/html", "auto",
         {"title": "A b", "text": "One two\nnext", "links": [{"href": "/n", "text": "next"}]}),
        (b"<!doctype html><!-- <p>no --><A b='>' HREF=\"/q?a&amp;b\">x &lt; y</A> 1 < 2<p>z</p", "text/html",
         "auto", {"title": "", "text": "x < y 1 < 2\nz", "links": [{"href": "/q?a&b", "text": "x < y"}]}),
        (b"<style>a{}</style>k<![CDATA[x]]>", "text/html", "auto",
         {"title": "", "text": "k", "links": []}),
    ],
)  # fmt: skip
def test_reply_becomes_a_value(body: bytes, kind: str, how: str, value: Json) -> None:
    assert parsed(reply(body, kind), how) == value


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"a": "\xed\xa0\x80"}', "application/json"),
        (b'<?xml version="1.0" encoding="foo"?><a/>', "text/xml"),
        (b'<?xml version="1.0" encoding="shift_jis"?><a/>', "text/xml"),
        (b"&#" + b"9" * 5000, "text/html"),
        (b"<p>" * 1_500_000, "text/html"),
    ],
)
def test_reply_that_cannot_be_read_is_a_typed_error(body: bytes, kind: str) -> None:
    with pytest.raises((ProviderUnavailable, ProviderRejected)):
        parsed(reply(body, kind), "auto")


@pytest.mark.parametrize("piece", ["<a ", "<a b='", "<!", "<!--", "<![", "</", "<"])
def test_reply_that_is_a_hostile_page_is_read_in_linear_time(piece: str) -> None:
    began = time.thread_time()
    parsed(reply(piece.encode() * 20_000, "text/html"), "auto")
    assert time.thread_time() - began < 3, "the page took minutes where it was read quadratically"


@settings(max_examples=60, deadline=None)
@given(
    body=st.binary(max_size=60),
    kind=st.sampled_from(["application/json", "text/xml", "text/html", "text/plain", "a/b", "?"]),
)
def test_reply_of_any_bytes_is_a_value_or_a_typed_error(body: bytes, kind: str) -> None:
    try:
        json.dumps(parsed(reply(body, kind), "auto"), allow_nan=False).encode()
    except StepError:
        pass


async def test_http_extracts_then_checks(provider: FakeProvider, step: NewContext) -> None:
    items = [{"id": 1, "open": True, "t": "ab"}, {"id": 2, "open": False, "t": "xb"}]
    provider.default = answer({"items": items, "title": "T"})
    options = {
        "url": "/x",
        "extract": {
            "title": "$.title",
            "none": "$.nope",
            "ids": "$.items[?@.open == true].id",
            "found": "$.items[?search(@.t, '^x')].id",
        },
        "response_schema": {"properties": {"ids": {"items": {"type": "integer"}}}},
    }
    result = await perform(step(options))
    assert result["data"] == {"title": "T", "none": None, "ids": [1], "found": [2]}
    options["response_schema"] = {"properties": {"title": {"type": "integer"}}}
    with pytest.raises(OutputSchemaMismatch, match="title"):
        await perform(step(options))
    with pytest.raises(InvalidInput, match="JSONPath"):
        await perform(step({"url": "/x", "extract": {"a": "$[?]"}}))


def pages(request: Request) -> Raw:
    from urllib.parse import parse_qs, urlsplit

    query = {name: values[0] for name, values in parse_qs(urlsplit(request.path).query).items()}
    number = int(query.get("page") or query.get("cursor") or 1)
    items = [number * 10, number * 10 + 1] if number <= 3 else []
    more = {"Link": f'<?page={number + 1}>; rel="next last", <x>; rel=prev'} if number < 3 else {}
    cursor = str(number + 1) if number < 3 else None
    return answer({"items": items, "next_cursor": cursor, "size": query.get("size")}, 200, **more)


@pytest.mark.parametrize(
    ("mode", "most", "read", "truncated"),
    [("link", 10, 3, False), ("cursor", 10, 3, False), ("page", 10, 4, False), ("page", 2, 2, True),
     ("link", 2, 2, True), ("cursor", 3, 3, False)],
)  # fmt: skip
async def test_http_reads_every_page(
    provider: FakeProvider, step: NewContext, mode: str, most: int, read: int, truncated: bool
) -> None:
    provider.default = pages
    how = {"mode": mode, "max_pages": most, "items_path": "$.items"}
    context = step({"url": "/x", "query": {"size": 2}, "paginate": how})
    result = await perform(context)
    wanted = [n * 10 + i for n in range(1, min(read, 3) + 1) for i in (0, 1)]
    assert (result["data"], result["pages"], result["truncated"]) == (wanted, read, truncated)
    assert [r.idempotency_key for r in provider.requests] == [context.key(i) for i in range(read)]


@pytest.mark.parametrize(
    ("how", "header", "words"),
    [
        ({"mode": "link"}, '<http://other.example/>; rel="next"', "another host"),
        ({"mode": "link"}, '<http://[>; rel="next"', "no valid address"),
        ({"mode": "link"}, '<?>; rel="next"', "back to one"),
        ({"mode": "cursor", "cursor_path": "$.same"}, "", "back to one"),
    ],
)
async def test_http_refuses_pages_that_lead_astray(
    provider: FakeProvider, step: NewContext, how: Json, header: str, words: str
) -> None:
    provider.default = answer({"same": "s"}, 200, **({"Link": header} if header else {}))
    with pytest.raises(ProviderRejected, match=words):
        await perform(step({"url": "/x?", "paginate": how}))


async def test_http_does_not_claim_that_nothing_happened_after_a_page(
    provider: FakeProvider, step: NewContext
) -> None:
    provider.script(answer([1], 200, Link='<?p=2>; rel="next"'), Status(429, retry_after=1))
    context = step({"method": "POST", "url": "/x", "paginate": {"mode": "link"}})
    with pytest.raises(ProviderUnavailable) as caught:
        await perform(context)
    assert not caught.value.uncounted and caught.value.after == 1


def test_links_are_read_as_the_standard_says() -> None:
    header = '</a>; rel="prev", </b,c>; title="x, <y>; rel=next"; rel=next, </d>; rel="last"'
    assert list(_links(header)) == ["/b,c"]
    assert list(_links('<a>;rel="' + "x " * 30000 + "<a" * 100)) == []


async def test_http_without_source_calls_an_absolute_address(
    provider: FakeProvider, new_context: NewContext
) -> None:
    provider.default = answer([1])
    source = await open_api("", {}, policy=LOOPBACK, credentials=NOBODY)
    node = HttpNode(lambda spec, tenant: _given(source))
    base = f"http://127.0.0.1:{provider.port}"
    done = await node.run(new_context("http", {"url": "{user_input}/a b?c={d}"},
                                      {"user_input": f"{base}/x%20y", "d": "1&2"}))  # fmt: skip
    assert done.result["data"] == [1] and provider.last.path == "/x%20y/a%20b?c=1%262"
    with pytest.raises(InvalidInput, match="not absolute"):
        await node.run(new_context("http", {"url": "{nope}"}, {}))
    await source.close()
    closed = await open_api("", {}, policy=Policy(), credentials=NOBODY)
    node = HttpNode(lambda spec, tenant: _given(closed))
    for address in (base, "http://[::1]/", "http://169.254.169.254/latest", "http://0x7f.1/"):
        with pytest.raises(ProviderRejected, match="refused"):
            await node.run(new_context("http", {"url": address}, {}))
    await closed.close()


async def test_http_expression_that_fails_is_said(step: NewContext) -> None:
    with pytest.raises(ExpressionError):
        await perform(step({"url": "/x", "query": {"a": "${outputs.a.b}"}}))


async def test_http_result_says_that_its_reply_was_kept(
    provider: FakeProvider, new_context: NewContext
) -> None:
    config = {"base_url": f"http://127.0.0.1:{provider.port}"}
    source = await open_api("main", config, policy=LOOPBACK, credentials=NOBODY, replies=Replies())

    async def open_source(source_id: str) -> Source:
        return source

    async def result(**options: Json) -> Json:
        given = {"source": "main", "url": "/x", **options}
        return await perform(new_context("http", given, {}, open_source=open_source))

    provider.default = answer([{"n": 1}], 200, **{"Cache-Control": "max-age=60"})
    first, again = await result(), await result()
    assert "cached" not in first and again["cached"] is True
    assert again["data"] == first["data"] and provider.calls == 1
    paged = {"mode": "page", "max_pages": 2}
    one, two = await result(paginate=paged), await result(paginate=paged)
    assert "cached" not in one and (two["cached"], two["pages"]) == (True, 2)
    assert two["data"] == one["data"]
    await source.close()
