"""Services and databases behind a breaker."""

from __future__ import annotations

from typing import Any

import pytest

from agentflow.errors import ConnectionFailed, ProviderUnavailable, QueryFailed
from agentflow.plan.plan import PlanSource
from agentflow.sources.exchange import ApiReply, ApiRequest
from agentflow.sources.guarded_calls import guarded_database, guarded_service
from agentflow.sources.sql import SqlReply, SqlRequest

BREAKER = {"breaker": {"failures": 2, "reset_s": 60}}


class Down:
    """A service, and a database, that does what its script says."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)

    def kept(self, request: ApiRequest) -> None:
        """Nothing is kept."""

    async def request(self, request: ApiRequest) -> ApiReply:
        return ApiReply(status=self._next(), headers={}, body=b"", url="", where="GET x")

    async def execute(self, request: SqlRequest, file: object = None) -> SqlReply:
        return self._next()

    def _next(self) -> Any:
        item = self.script.pop(0)
        if isinstance(item, Exception):
            raise item
        return item


async def opened(guard: Any, kind: str, down: Down, **config: Any) -> Any:
    async def opener(source: Any) -> Any:
        return down

    return await guard(opener)(PlanSource("s", kind, "", {**BREAKER, **config}))


async def test_service_that_is_down_is_not_called() -> None:
    get = ApiRequest(method="GET", url="/")
    down = Down(200, 503, 404, 500, ConnectionFailed(), 200)
    service = await opened(guarded_service, "api", down, base_url="http://h")
    assert [(await service.request(get)).status for _ in range(4)] == [200, 503, 404, 500]
    with pytest.raises(ConnectionFailed):
        await service.request(get)
    with pytest.raises(ProviderUnavailable, match="failed 2 times") as caught:
        await service.request(get)
    assert caught.value.uncounted and caught.value.after and down.script == [200]


async def test_service_without_a_base_is_no_one_service() -> None:
    down = Down(503, 503, 503)
    service = await opened(guarded_service, "api", down)
    for _ in range(3):
        await service.request(ApiRequest(method="GET", url="http://h/"))


async def test_database_that_is_down_is_not_called() -> None:
    down = Down(
        ConnectionFailed(), QueryFailed(), ConnectionFailed(), ProviderUnavailable(), SqlReply()
    )
    database = await opened(guarded_database, "db", down)
    for error in (ConnectionFailed, QueryFailed, ConnectionFailed, ProviderUnavailable):
        with pytest.raises(error):
            await database.execute(SqlRequest(text="SELECT 1"))
    with pytest.raises(ProviderUnavailable, match="no call is made"):
        await database.execute(SqlRequest(text="SELECT 1"))
    assert len(down.script) == 1
