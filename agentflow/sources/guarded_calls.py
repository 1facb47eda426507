"""Services and databases behind a breaker, as models are: while one is down, few calls reach it."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from agentflow.errors import (
    CallTimeout,
    ConnectionFailed,
    InvalidInput,
    ProviderAuthError,
    ProviderRateLimited,
    ProviderRejected,
    ProviderUnavailable,
    QueryFailed,
    UnknownOutcome,
)
from agentflow.sources.base import Source
from agentflow.sources.breaker import Breaker, Outcome
from agentflow.sources.connections import Opener, SourceSpec
from agentflow.sources.exchange import ApiReply, ApiRequest, HttpService
from agentflow.sources.guarded import breaker_of, turned_away
from agentflow.sources.sql import SqlReply, SqlRequest, SqlService

DOWN = (ProviderUnavailable, ConnectionFailed, CallTimeout, UnknownOutcome)
THERE = (ProviderRejected, ProviderAuthError, QueryFailed, InvalidInput)


def guarded_service(opener: Opener) -> Opener:
    """An opener whose HTTP services are called through a breaker each; but not what has no base URL,
    for that is no one service."""

    async def opened(source: SourceSpec) -> Source:
        service = cast(HttpService, await opener(source))
        if not source.config.get("base_url"):
            return service
        return GuardedService(service, _Guard(source.id, breaker_of(source)))

    return opened


def guarded_database(opener: Opener) -> Opener:
    """An opener whose databases are called through a breaker each."""

    async def opened(source: SourceSpec) -> Source:
        database = cast(SqlService, await opener(source))
        return GuardedDatabase(database, _Guard(source.id, breaker_of(source)))

    return opened


class _Guard:
    """A breaker, asked before every call and told of its end."""

    def __init__(self, source_id: str, breaker: Breaker) -> None:
        self._id = source_id
        self._breaker = breaker

    @contextmanager
    def call(self, attempt: int) -> Iterator[list[Outcome]]:
        """Raises ProviderUnavailable, which uses up no attempt, when no call may be made. Who knows
        better than the errors say how the call ended appends it."""
        admitted = self._breaker.admit(time.monotonic(), random.random(), retry=attempt > 1)
        if admitted.wait_s is not None:
            raise turned_away(self._id, self._breaker, admitted.wait_s)
        told: list[Outcome] = []
        outcome = Outcome.UNKNOWN
        try:
            yield told
            outcome = told[-1] if told else Outcome.THERE
        except THERE:
            outcome = Outcome.THERE
            raise
        except ProviderRateLimited:
            outcome = Outcome.BUSY
            raise
        except DOWN:
            outcome = Outcome.DOWN
            raise
        finally:
            self._breaker.ended(time.monotonic(), random.random(), admitted, outcome)


class GuardedService:
    """An HTTP service, as its callers see it."""

    def __init__(self, service: HttpService, guard: _Guard) -> None:
        self._service = service
        self._guard = guard

    async def request(self, request: ApiRequest) -> ApiReply:
        """See the contract. A reply that says "I am down" counts as a failure."""
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

    def __init__(self, database: SqlService, guard: _Guard) -> None:
        self._database = database
        self._guard = guard

    async def execute(self, request: SqlRequest) -> SqlReply:
        """See the contract."""
        with self._guard.call(request.attempt):
            return await self._database.execute(request)

    async def prepare(self) -> str:
        """See the contract."""
        return await self._database.prepare()

    async def close(self) -> None:
        """Close the connection."""
        await self._database.close()
