"""Replies that are used again: only as their service allows, and never for somebody else."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentflow.errors import MissingCredential, ProviderUnavailable
from agentflow.plan.plan import PlanSource
from agentflow.sources import freshness
from agentflow.sources.api import ApiSource, open_api
from agentflow.sources.connections import Connections
from agentflow.sources.credentials import Credentials
from agentflow.sources.exchange import ApiReply, ApiRequest
from agentflow.sources.guarded_calls import guarded_service
from agentflow.sources.replies import Asked, Replies
from tests.fake_provider import FakeProvider, Raw, Request, Status
from tests.unit.sources.conftest import LOOPBACK

Json = Any
BEARER = {"auth": "bearer", "auth_env": "KEY"}


class Clock:
    """Time that goes on when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def held() -> dict[str, str]:
    """The environment; tests change it."""
    return {"KEY": "first-key", "ID": "client"}


@pytest.fixture
async def open_service(
    provider: FakeProvider, clock: Clock, held: dict[str, str]
) -> AsyncIterator[Callable[..., Any]]:
    opened: list[ApiSource] = []
    shared = Replies(clock=clock)

    async def make(replies: Replies = shared, **config: Json) -> ApiSource:
        base = f"http://127.0.0.1:{provider.port}"
        config = {"base_url": base, "token_url": f"{base}/token", **config}
        credentials = Credentials(held, lambda name: name in held)
        opened.append(
            await open_api(
                "main", config, policy=LOOPBACK, credentials=credentials, replies=replies
            )
        )
        return opened[-1]

    yield make
    for source in opened:
        await source.close()


def says(text: str = "text", status: int = 200, **headers: str) -> Raw:
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return Raw(text.encode(), status, "text/plain", told)


def get(url: str = "/x", **headers: str) -> ApiRequest:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ApiRequest(method="GET", url=url, headers=named)


FRESH = says("fresh", Cache_Control="max-age=60")


async def test_a_fresh_reply_is_used_without_a_call_until_its_time_is_over(
    provider, open_service, clock
):
    provider.default = FRESH
    source = await open_service()
    first = await source.request(get())
    clock.now += 59
    again = await source.request(get())
    assert (first.cached, again.cached, again.body) == (False, True, b"fresh")
    assert (again.headers["age"], provider.calls) == ("59", 1)
    clock.now += 2
    assert not (await source.request(get())).cached
    assert provider.calls == 2


@pytest.mark.parametrize("reply", [
    says(), says(Cache_Control="no-store, max-age=60"), says(Cache_Control="max-age=0"),
    says(Cache_Control="max-age=nonsense"), says(Cache_Control="s-maxage=60"),
    says(Cache_Control="max-age=60", Vary="*"), says(Cache_Control="max-age=60", Age="60"),
    says(Cache_Control="max-age=60", Vary="Accept, Idempotency-Key"), says(Expires="0"),
    says("gone", 404, Cache_Control="max-age=60"), says(Cache_Control="no-cache, max-age=60"),
    says("part", 206, Cache_Control="max-age=60"), says(Cache_Control="max-age=60, max-age=0"),
    says(Pragma="no-cache", Expires="Fri, 01 Jan 2100 00:00:00 GMT"),
], ids=lambda reply: f"{reply.status} {reply.headers}")  # fmt: skip
async def test_what_its_service_does_not_allow_is_not_used_again(provider, open_service, reply):
    provider.default = reply
    source = await open_service()
    for _ in range(2):
        assert not (await source.request(get())).cached
    assert provider.calls == 2


async def test_a_date_until_which_a_reply_is_fresh_counts(provider, open_service, clock):
    until = datetime.now(UTC) + timedelta(seconds=60)
    provider.default = says(Expires=format_datetime(until, usegmt=True))
    source = await open_service()
    await source.request(get())
    clock.now += 30
    assert (await source.request(get())).cached


async def test_a_stale_reply_is_confirmed_and_not_sent_again(provider, open_service, clock):
    def service(request: Request) -> Raw:
        if request.headers.get("if-none-match") == '"v1"':
            return says("", 304, ETag='"v1"', Cache_Control="max-age=60", X_Seen="twice")
        return says("whole", ETag='"v1"', Cache_Control="max-age=1", X_Seen="once")

    provider.default = service
    source = await open_service()
    await source.request(get())
    clock.now += 5
    again = await source.request(get())
    assert (again.status, again.body, again.headers["x-seen"]) == (200, b"whole", "twice")
    assert (again.cached, provider.calls) == (False, 2)
    clock.now += 30
    assert (await source.request(get())).cached


async def test_a_mark_that_cannot_be_sent_back_is_not_sent(provider, open_service):
    provider.default = says("whole", ETag='"\xe9"', Cache_Control="no-cache")
    source = await open_service()
    for _ in range(2):
        assert (await source.request(get())).body == b"whole"
    assert "if-none-match" not in provider.last.headers


async def test_a_stale_reply_that_has_changed_is_replaced(provider, open_service, clock):
    versions = iter(("one", "two"))
    modified = "Wed, 01 Jan 2020 00:00:00 GMT"
    provider.default = lambda request: says(next(versions), Last_Modified=modified)
    source = await open_service()
    assert (await source.request(get())).body == b"one"
    assert (await source.request(get())).body == b"two"
    assert provider.last.headers["if-modified-since"] == modified


async def test_a_confirmation_of_what_has_gone_is_asked_for_in_full(provider, open_service, clock):
    replies = Replies(clock=clock)
    source = await open_service(replies)
    provider.default = says("whole", ETag='"v1"')
    await source.request(get())

    def service(request: Request) -> Raw:
        for place in replies.places(1):
            replies.remove([place])
        return says("", 304) if "if-none-match" in request.headers else says("anew")

    provider.default = service
    assert (await source.request(get())).body == b"anew"


@pytest.mark.parametrize("headers", [
    {"Cache_Control": "no-cache"}, {"Cache_Control": "no-store"}, {"Cache_Control": "max-age=0"},
    {"Pragma": "no-cache"}, {"Range": "bytes=0-1"}, {"If_None_Match": '"mine"'},
    {"Accept": "text/html"},
], ids=str)  # fmt: skip
async def test_who_asks_for_more_than_a_kept_reply_is_answered_by_the_service(
    provider, open_service, clock, headers
):
    provider.default = FRESH
    source = await open_service()
    await source.request(get())
    clock.now += 1
    assert not (await source.request(get(**headers))).cached
    assert provider.calls == 2


async def test_who_tries_again_asks_for_all_of_it(provider, open_service):
    provider.default = says("fresh", Cache_Control="max-age=60", ETag='"v1"')
    source = await open_service()
    await source.request(get())
    again = await source.request(ApiRequest(method="GET", url="/x", attempt=2))
    assert not again.cached and "if-none-match" not in provider.last.headers
    assert (await source.request(get())).cached


async def test_every_address_and_method_has_a_reply_of_its_own(provider, open_service):
    provider.default = FRESH
    source = await open_service()
    for url in ("/x", "/x?page=2", "/y"):
        assert not (await source.request(get(url))).cached
    head = ApiRequest(method="HEAD", url="/x")
    assert not (await source.request(head)).cached
    assert (await source.request(head)).cached


async def test_a_question_in_a_body_is_always_asked(provider, open_service):
    provider.default = FRESH
    source = await open_service()
    for body in (b"a", b"b", b"b", b""):
        request = ApiRequest(method="GET", url="/x", body=body)
        assert not (await source.request(request)).cached


async def test_nobody_gets_what_was_told_to_other_credentials(provider, open_service, held):
    provider.default = FRESH
    source, open_to_all = await open_service(**BEARER), await open_service()
    await source.request(get())
    held["KEY"] = "second-key"
    assert not (await source.request(get())).cached
    assert not (await open_to_all.request(get())).cached
    assert not (await source.request(get(X_User="someone"))).cached
    held["KEY"] = "first-key"
    assert (await source.request(get())).cached
    del held["KEY"]
    with pytest.raises(MissingCredential):
        await source.request(get())


async def test_a_renewed_token_is_the_same_caller(provider, open_service, clock):
    def service(request: Request) -> Raw:
        if request.path == "/token":
            body = b'{"access_token": "t%d", "expires_in": 0.01}' % provider.calls
            return Raw(body, 200, "application/json")
        return FRESH

    provider.default = service
    source = await open_service(auth="oauth2", client_id_env="ID", client_secret_env="KEY")
    await source.request(get())
    calls = provider.calls
    assert (await source.request(get())).cached and provider.calls == calls


async def test_tenants_never_share_a_reply(provider, clock):
    provider.default = FRESH
    replies = Replies(clock=clock)

    async def opener(source: Any) -> ApiSource:
        nobody = Credentials({}, lambda name: False)
        return await open_api(
            source.id, source.config, policy=LOOPBACK, credentials=nobody, replies=replies
        )

    connections = Connections({"api": guarded_service(opener)})
    main = PlanSource("main", "api", "", {"base_url": f"http://127.0.0.1:{provider.port}"})
    told = []
    for tenant in ("ten_a", "ten_b", "ten_a"):
        source: Any = await connections.open(main, tenant)
        told.append((await source.request(get())).cached)
    assert told == [False, False, True]
    await connections.close()
    assert replies.size == 0


@pytest.mark.parametrize(("method", "url", "headers"), [
    ("POST", "/x", {}), ("PUT", "/x", {}), ("PATCH", "/x", {}), ("DELETE", "/x", {}),
    ("POST", "/others", {"Location": "/x"}), ("POST", "/others", {"Content_Location": "x"}),
])  # fmt: skip
async def test_a_change_makes_what_was_kept_out_of_date(
    provider, open_service, method, url, headers
):
    provider.default = FRESH
    source = await open_service()
    await source.request(get())
    provider.default = says("done", 201, **headers)
    await source.request(ApiRequest(method=method, url=url))
    provider.default = FRESH
    assert not (await source.request(get())).cached


@pytest.mark.parametrize("place", ["http://[", "//]x", "http://a:b/", "http://elsewhere.example/x"])
async def test_a_change_is_done_whatever_place_it_names(provider, open_service, place):
    provider.default = says("done", 201, Location=place)
    source = await open_service()
    reply = await source.request(ApiRequest(method="POST", url="/x"))
    assert (reply.status, reply.headers["location"]) == (201, place)


async def test_a_refused_change_leaves_what_was_kept(provider, open_service):
    provider.default = FRESH
    source = await open_service()
    await source.request(get())
    provider.default = Status(409)
    await source.request(ApiRequest(method="PUT", url="/x"))
    assert (await source.request(get())).cached


async def test_a_reply_from_elsewhere_is_not_kept(provider, open_service):
    def service(request: Request) -> Raw:
        elsewhere = says("", 302, Location="/y", Cache_Control="max-age=60")
        return elsewhere if request.path == "/x" else FRESH

    provider.default = service
    source = await open_service()
    await source.request(get())
    assert not (await source.request(get())).cached


async def test_what_is_fresh_is_there_while_nobody_calls_the_service(provider, open_service, clock):
    provider.default = FRESH
    inner = await open_service()

    async def opener(source: Any) -> ApiSource:
        return inner

    config = {
        "base_url": f"http://127.0.0.1:{provider.port}",
        "breaker": {"failures": 1, "reset_s": 60},
    }
    source: Any = await guarded_service(opener)(PlanSource("main", "api", "", config))
    await source.request(get())
    provider.default = Status(500)
    assert (await source.request(get("/down"))).status == 500
    with pytest.raises(ProviderUnavailable):
        await source.request(get("/down"))
    calls = provider.calls
    assert (await source.request(get())).cached
    with pytest.raises(ProviderUnavailable):  # and says nothing about the service
        await source.request(get("/down"))
    assert provider.calls == calls


async def test_no_more_is_kept_than_there_is_room_for(provider, open_service, clock):
    replies = Replies(10_000, largest=4_000, clock=clock)
    source = await open_service(replies)
    provider.default = says("x" * 1_000, Cache_Control="max-age=60")
    for number in range(20):
        await source.request(get(f"/{number}"))
        assert replies.size <= 10_000
    assert (await source.request(get("/19"))).cached
    assert not (await source.request(get("/0"))).cached
    provider.default = says("x" * 5_000, Cache_Control="max-age=60")
    await source.request(get("/long"))
    assert not (await source.request(get("/long"))).cached


async def test_many_at_once_are_answered(provider, open_service):
    provider.default = FRESH
    source = await open_service()
    told = await asyncio.gather(*(source.request(get(f"/{n % 3}")) for n in range(30)))
    assert {reply.body for reply in told} == {b"fresh"}


@pytest.mark.parametrize("told", [
    "a" * 64_000 + ";", "a" + " " * 64_000 + ";", " " * 64_000 + ";", '"' * 64_001, 'a="' * 21_000,
], ids=["word", "spaces after", "spaces", "quotes", "openings"])  # fmt: skip
def test_what_a_service_says_is_read_quickly(told: str) -> None:
    began = time.thread_time()
    freshness.directives({"cache-control": told})
    assert time.thread_time() - began < 1.0


@pytest.mark.parametrize("told", [
    "no-store; max-age=60", "max-age=60; no-store", 'x="y, no-store, max-age=60',
    'private="a, b", no-store, max-age=60', "NO-STORE ,max-age = 60",
])  # fmt: skip
def test_what_is_forbidden_is_understood_however_it_is_written(told: str) -> None:
    assert not freshness.may_be_kept(200, {"cache-control": told}, {})


def test_many_headers_take_up_the_memory_that_they_need() -> None:
    replies = Replies()
    shelf, asked = replies.shelf(), Asked.of("GET", "http://a.example/", {}, ())
    assert asked is not None
    headers = {f"x{number}": "" for number in range(10_000)} | {"cache-control": "max-age=60"}
    shelf.take(asked, ApiReply(status=200, headers=headers, body=b"", url="", where=""), 0.0)
    held = sum(sys.getsizeof(name) + sys.getsizeof(value) for name, value in headers.items())
    assert replies.size >= held + sys.getsizeof(headers)


def test_a_change_takes_no_longer_where_much_is_kept() -> None:
    replies = Replies()
    shelf, changed = replies.shelf(), replies.shelf()
    reply = ApiReply(status=200, headers={"etag": "x"}, body=b"", url="", where="")
    for number in range(20_000):
        asked = Asked.of("GET", f"http://a.example/{number}", {}, ())
        assert asked is not None
        shelf.take(asked, reply, 0.0)
    began = time.thread_time()
    for _ in range(1_000):
        changed.changed("http://a.example/1", reply)
    assert time.thread_time() - began < 0.5
    assert len(replies.places(1)) == 20_000


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(
    st.sampled_from(["cache-control", "expires", "date", "age", "vary", "pragma", "etag"]),
    st.text(max_size=30) | st.sampled_from(["max-age=60", 'max-age="9"', "no-cache", "*", "60"]),
))  # fmt: skip
def test_whatever_a_service_says_is_never_an_error(headers: dict[str, str]) -> None:
    replies = Replies()
    shelf, asked = replies.shelf(), Asked.of("GET", "http://a.example/", {}, ())
    assert asked is not None
    reply = ApiReply(status=200, headers=headers, body=b"x", url=asked.url, where="GET")
    shelf.take(asked, reply, 0.0)
    assert 0.0 <= freshness.lifetime(headers, None) <= freshness.LONGEST_S
    if "no-store" in headers.get("cache-control", "").lower().split(","):
        assert shelf.fresh(asked) is None
