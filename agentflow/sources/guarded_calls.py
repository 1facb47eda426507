"""Services and databases behind a breaker, as models are: while one is down, few calls reach it."""

from __future__ import annotations

from typing import cast

from agentflow.errors import (
    CallTimeout,
    ConnectionFailed,
    InvalidInput,
    ProviderAuthError,
    ProviderRejected,
    ProviderUnavailable,
    QueryFailed,
    UnknownOutcome,
)
from agentflow.sources.base import Source
from agentflow.sources.breaker import Outcome
from agentflow.sources.connections import Opener, SourceSpec
from agentflow.sources.exchange import ApiReply, ApiRequest, HttpService
from agentflow.sources.guarded import Guard, guard_of
from agentflow.sources.sql import RowFile, SqlReply, SqlRequest, SqlService

DOWN = (ProviderUnavailable, ConnectionFailed, CallTimeout, UnknownOutcome)
THERE = (ProviderRejected, ProviderAuthError, QueryFailed, InvalidInput)


def guarded_service(opener: Opener) -> Opener:
    """An opener whose HTTP services are called through a breaker each; but not what has no base URL,
    for that is no one service."""

    async def opened(source: SourceSpec) -> Source:
        service = cast(HttpService, await opener(source))
        if not source.config.get("base_url"):
            return service
        return GuardedService(service, guard_of(source, there=THERE, down=DOWN))

    return opened


def guarded_database(opener: Opener) -> Opener:
    """An opener whose databases are called through a breaker each."""

    async def opened(source: SourceSpec) -> Source:
        database = cast(SqlService, await opener(source))
        return GuardedDatabase(database, guard_of(source, there=THERE, down=DOWN))

    return opened


class GuardedService:
    """An HTTP service, as its callers see it."""

    def __init__(self, service: HttpService, guard: Guard) -> None:
        self._service = service
        self._guard = guard

    def kept(self, request: ApiRequest) -> ApiReply | None:
        """See the contract."""
        return self._service.kept(request)

    async def request(self, request: ApiRequest) -> ApiReply:
        """See the contract. A reply that says "I am down" counts as a failure; what is fresh is there
        also while nobody calls the service."""
        if (kept := self._service.kept(request)) is not None:
            return kept
        with self._guard.call(request.attempt) as told:
            reply = await self._service.request(request)
            if reply.status == 429:
                told.append(Outcome.BUSY)
            elif reply.status == 408 or reply.status >= 500:
                told.append(Outcome.DOWN)
            return reply

    async def close(self) -> None:
        """Close the connection."""
        await self._service.close()


class GuardedDatabase:
    """A database, as its callers see it."""

    def __init__(self, database: SqlService, guard: Guard) -> None:
        self._database = database
        self._guard = guard

    async def execute(self, request: SqlRequest, file: RowFile | None = None) -> SqlReply:
        """See the contract."""
        with self._guard.call(request.attempt):
            return await self._database.execute(request, file)

    async def prepare(self) -> str:
        """See the contract."""
        return await self._database.prepare()

    async def close(self) -> None:
        """Close the connection."""
        await self._database.close()
