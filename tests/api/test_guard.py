import re

import pytest
from starlette.datastructures import Headers

from agentflow.access.model import Principal
from agentflow.api.guard import PUBLIC, VerifiedKeys, presented_key
from agentflow.errors import Unauthenticated
from agentflow.ids import new_id
from tests.api.conftest import KEY


def routes_of(app) -> list[tuple[str, str]]:
    """Every (method, path) that the application answers, with and without the prefix."""
    found = []
    for route in app.routes:
        included = getattr(route, "effective_route_contexts", None)
        for each in included() if included else [route]:
            found += [(method, each.path) for method in each.methods]
    return found


async def test_every_route_that_is_not_public_needs_a_key(app, anonymous):
    routes = routes_of(app)
    paths = {path for _, path in routes}
    assert {"/", "/metrics", "/api/v1/metrics", "/api/v1/workflows/execute", "/executions"} <= paths
    for method, path in routes:
        concrete = re.sub(r"\{.*?\}", new_id("exec"), path)
        answer = await anonymous.request(method, concrete)
        assert (answer.status_code == 401) == (path not in PUBLIC), (method, path)


async def test_public_paths_answer_without_a_key(anonymous):
    for path in sorted(PUBLIC):
        answer = await anonymous.get(path)
        assert answer.status_code in (200, 503), path


async def test_unknown_path_needs_a_key_too(anonymous, client):
    assert (await anonymous.get("/nowhere")).status_code == 401
    assert (await client.get("/nowhere")).status_code == 404


@pytest.mark.parametrize("headers", [{"X-API-Key": KEY}, {"Authorization": f"bearer {KEY}"}])
async def test_key_opens_in_both_headers(anonymous, headers):
    assert (await anonymous.get("/executions", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        ({}, "API key required"),
        ({"X-API-Key": ""}, "API key required"),
        ({"Authorization": "Basic abc"}, "API key required"),
        ({"X-API-Key": "wrong"}, "Invalid API key"),
        ({"Authorization": "Bearer wrong"}, "Invalid API key"),
        ({"X-API-Key": b"\xff\xfe"}, "Invalid API key"),
        ({"X-API-Key": "k" * 5000}, "Invalid API key"),
        ({"X-API-Key": "wrong", "Authorization": f"Bearer {KEY}"}, "Invalid API key"),
    ],
)
async def test_refused_key_is_a_problem(anonymous, headers, detail):
    answer = await anonymous.get("/executions", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert detail in answer.json()["detail"]
    assert answer.json()["code"] == "UNAUTHENTICATED"


def test_presented_key_prefers_the_header_of_its_own():
    assert presented_key(Headers({"x-api-key": " a ", "authorization": "Bearer b"})) == "a"
    assert presented_key(Headers({"authorization": "BEARER  b"})) == "b"
    assert presented_key(Headers({})) == ""


async def test_verified_keys_are_remembered_for_a_short_time():
    asked: list[str] = []
    now = [0.0]

    async def authenticate(key: str) -> Principal:
        asked.append(key)
        if key == "bad":
            raise Unauthenticated
        return Principal(tenant="t", name=key)

    keys = VerifiedKeys(ttl_s=5, limit=2, clock=lambda: now[0])
    assert (await keys.principal("a", authenticate)).name == "a"
    now[0] = 4.9
    await keys.principal("a", authenticate)
    assert asked == ["a"]
    now[0] = 5.1
    await keys.principal("a", authenticate)
    assert asked == ["a", "a"]
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            await keys.principal("bad", authenticate)
    assert asked.count("bad") == 2
    for name in ("b", "c", "d"):
        await keys.principal(name, authenticate)
    assert len(keys._known) <= 2
