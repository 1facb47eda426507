"""Coordinators as actors of Ray, and the door through which an API replica reaches them."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from functools import cache, partial
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from agentflow.distributed.acceptance import Line, Told, accept_all
from agentflow.distributed.dispatch import RayWorkers
from agentflow.distributed.feeds import Feed, FeedReader
from agentflow.distributed.metrics import RayMetrics
from agentflow.distributed.pools import NAMESPACE
from agentflow.distributed.workers import resolve
from agentflow.engine.engine import Engine
from agentflow.engine.stream import StreamItem
from agentflow.errors import AgentFlowError, ConfigError, Conflict, StoreUnavailable
from agentflow.execution.journal import Outcome, Submission
from agentflow.settings import load
from agentflow.telemetry import logs
from agentflow.telemetry.metrics import MetricsListener

Json = Any

log = logging.getLogger(__name__)

OPEN_COORDINATOR = "agentflow.flow:open_coordinator"
OPEN_PERFORMER = "agentflow.flow:open_performer"
ANSWER_S = 10.0
"""A coordinator that has not committed a submission by then is passed over."""
ROUNDS_S = 15.0
"""How long a submission looks for a coordinator, while killed ones come back."""
ASK_S = 1.5


def coordinator_name(index: int) -> str:
    """The name of a coordinator in Ray and in metrics."""
    return f"af/coordinator/{index}"


def coordinator_id(name: str) -> str:
    """A new id for the database, from a coordinator's name. Several clusters may share a database, and
    their coordinators must not fence each other; one that Ray restarts keeps the id it was made with.
    """
    return f"{name}@{secrets.token_hex(4)}"


def actor_name(owner: str) -> str:
    """The name in Ray of the coordinator with this id."""
    return owner.partition("@")[0]


class CoordinatorActor:
    """One engine in a process of its own. It opens by itself, also after Ray restarted it."""

    def __init__(self, coordinator_id: str, opener: str, performer: str) -> None:
        self.id = coordinator_id
        self._opener = opener
        self._performer = performer
        self._metrics = MetricsListener()
        self._engine: Engine | None = None
        self._workers: RayWorkers | None = None
        self._failure: AgentFlowError | None = None
        self._opened = asyncio.Event()
        self._feeds: dict[str, Feed] = {}
        self._draining = False
        # Nobody calls a restarted actor, so the constructor, which runs on the loop, sets it going.
        self._opening = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        """Open the engine, again and again while the database is away. Wrong settings are final."""
        settings = load()
        logs.configure(settings.log_level)
        pause_s = 0.5
        while not self._draining:
            workers = RayWorkers(self.id, self._performer)
            published = RayMetrics(actor_name(self.id))
            listeners = (self._metrics, published, logs.EventLog(self.id))
            try:
                self._engine = await resolve(self._opener)(settings, self.id, workers, listeners)
            except Exception as error:  # noqa: BLE001 - it must come back by itself
                self._failure = _as_ours(error)
                log.warning("%s could not open: %s", self.id, self._failure)
                published.close()
                await workers.close()
                if isinstance(error, ConfigError):
                    break
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, 10.0)
            else:
                self._workers, self._failure = workers, None
                break
        self._opened.set()

    async def ready(self) -> str:
        """Returns the coordinator's id when its engine is open. Raises ConfigError."""
        await self._opened.wait()
        if self._failure is not None:
            raise self._failure
        return self.id

    async def accept(self, submissions: Sequence[bytes]) -> list[Told] | None:
        """Commit the executions; what became of each, or None when the engine is not open yet."""
        if self._engine is None and self._failure is None:
            return None
        return await accept_all(self._ours(), submissions)

    async def feed(self, feed_id: str) -> AsyncIterator[bytes]:
        """What a replica watches here, on one stream: :meth:`Feed.batches`."""
        feed = self._feeds[feed_id] = Feed()
        try:
            async for batch in feed.batches():
                yield batch
        finally:
            del self._feeds[feed_id]

    async def watch(self, feed_id: str, key: int, execution_id: str, after: int) -> bool:
        """Tell what :meth:`Engine.watch` yields on this feed; False when there is no such feed."""
        feed = self._feeds.get(feed_id)
        if feed is None:
            return False
        feed.open(key, self._ours().watch(execution_id, after))
        return True

    async def unwatch(self, feed_id: str, key: int) -> None:
        """Nobody listens to this any more."""
        feed = self._feeds.get(feed_id)
        if feed is not None:
            feed.close(key)

    async def nudge(self, execution_id: str) -> None:
        """A command waits for this execution."""
        if self._engine is not None:
            self._engine.nudge(execution_id)

    async def metrics_text(self) -> str:
        """This coordinator's figures in Prometheus' text format."""
        return self._metrics.text()

    async def describe(self) -> dict[str, Json]:
        """``{id, alive, active, pid, node}``; ``alive``: it would take a submission now."""
        engine = self._engine
        return {
            "id": self.id,
            "alive": engine is not None and engine.available,
            "active": engine.active if engine is not None else 0,
            "pid": os.getpid(),
            "node": str(ray.util.get_node_ip_address()),  # type: ignore[no-untyped-call]
        }

    async def drain(self) -> None:
        """Hand every execution over and take no more; running attempts go on in their pools."""
        self._draining = True
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.drain()
            await engine.close()
        if self._workers is not None:
            await self._workers.close()

    def _ours(self) -> Engine:
        if self._engine is None:
            raise self._failure or StoreUnavailable(f"{self.id} is not open yet; try again")
        return self._engine


def _as_ours(error: Exception) -> AgentFlowError:
    if isinstance(error, AgentFlowError):
        return error
    return StoreUnavailable(f"The coordinator could not open: {type(error).__name__}: {error}")


@cache
def _actor_class() -> Any:
    return ray.remote(CoordinatorActor)


def start_coordinators(
    count: int,
    *,
    opener: str = OPEN_COORDINATOR,
    performer: str = OPEN_PERFORMER,
    timeout_s: float = 120.0,
) -> list[str]:
    """Start the coordinators that are not there yet and wait until all are open; their ids.

    ``opener`` and ``performer`` are dotted names, resolved inside the actors.
    Raises ConfigError when one refuses its settings or is not open in time.
    """
    names = [coordinator_name(index) for index in range(count)]
    handles = [
        _actor_class()
        .options(
            name=name,
            namespace=NAMESPACE,
            get_if_exists=True,
            lifetime="detached",
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=0,
            max_concurrency=2000,
        )
        .remote(coordinator_id(name), opener, performer)
        for name in names
    ]
    try:
        ray.get([handle.ready.remote() for handle in handles], timeout=timeout_s)
    except GetTimeoutError:
        raise ConfigError(
            f"The coordinators did not open within {timeout_s:g} s; "
            "see the worker logs of the Ray session"
        ) from None
    except RayTaskError as error:
        raise _unwrapped(error) from None
    return names


def drain_coordinators(names: Sequence[str], timeout_s: float = 10.0) -> None:
    """Let every coordinator hand over what it owns; one that does not answer in time is left."""
    calls: list[Any] = []
    for name in names:
        try:
            calls.append(ray.get_actor(name, namespace=NAMESPACE).drain.remote())
        except ValueError:
            continue  # it is gone already
    done, late = ray.wait(calls, num_returns=len(calls), timeout=timeout_s) if calls else ([], [])
    for call in done:
        try:
            ray.get(call)
        except RayError as error:
            log.warning("a coordinator did not drain: %s", error)
    if late:
        log.warning("%d coordinators did not drain in time", len(late))


class RayDoor:
    """The :class:`~agentflow.engine.door.Door` to coordinators of these names in this cluster."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._handles: dict[str, Any] = {}
        self._feeds: dict[str, FeedReader] = {}
        self._lines = {name: Line(partial(self._call, name)) for name in self._names}

    async def accept(self, submission: Submission) -> Outcome | None:
        order = rendezvous(submission.execution_id, self._names)
        clock = asyncio.get_running_loop().time
        deadline = clock() + ROUNDS_S
        unanswered = refused = False
        while True:
            refusals: list[StoreUnavailable] = []
            for name in order:
                try:
                    is_open, outcome = await self._offer(name, submission)
                    if is_open:
                        return outcome
                except Conflict:
                    if refused:  # and who refused it may cancel it yet
                        raise StoreUnavailable() from None
                    if unanswered:  # the one that gave no answer had committed it
                        return None
                    raise
                except StoreUnavailable as error:
                    refused = True
                    refusals.append(error)
                except (RayActorError, TimeoutError):
                    unanswered = True
            if len(refusals) == len(order) or clock() > deadline:
                raise refusals[0] if refusals else StoreUnavailable("No coordinator answers")
            await asyncio.sleep(0.2)

    async def _offer(self, name: str, submission: Submission) -> tuple[bool, Outcome | None]:
        """Whether this coordinator committed it, and its outcome where that is told; False when the
        coordinator is not there or not open yet."""
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._lines[name].bring(submission)
        except ValueError:
            return False, None

    async def _call(self, name: str, submissions: Sequence[bytes]) -> Sequence[Told] | None:
        """What this coordinator says to these submissions. Raises ValueError when it is not there,
        RayActorError, TimeoutError."""
        try:
            handle = await self._handle(name)
            async with asyncio.timeout(ANSWER_S):
                told: Sequence[Told] | None = await _answer(handle.accept.remote(submissions))
                return told
        except (RayActorError, TimeoutError):
            self._handles.pop(name, None)
            raise

    async def watch(
        self, owner: str, execution_id: str, after: int
    ) -> AsyncIterator[Sequence[StreamItem]]:
        try:
            handle = await self._handle(actor_name(owner))
        except ValueError:
            return
        feed = self._feeds.get(actor_name(owner))
        if feed is None or feed.ended:
            feed = self._feeds[actor_name(owner)] = FeedReader(handle, _answer)
        try:
            async with aclosing(feed.watch(execution_id, after)) as items:
                async for each in items:
                    yield each
        except (RayActorError, StoreUnavailable):
            self._forget(owner)  # the owner is gone: the caller asks the journal
        else:
            if feed.ended:
                self._forget(owner)

    async def nudge(self, owner: str, execution_id: str) -> None:
        try:
            (await self._handle(actor_name(owner))).nudge.remote(execution_id)
        except (RayActorError, ValueError):
            self._forget(owner)

    async def metrics(self) -> dict[str, str]:
        texts = await asyncio.gather(*(self._ask(name, "metrics_text") for name in self._names))
        return {name: text for name, text in zip(self._names, texts) if text is not None}

    async def coordinators(self) -> list[dict[str, Json]]:
        found = await asyncio.gather(*(self._ask(name, "describe") for name in self._names))
        absent = {"alive": False, "active": 0, "pid": None, "node": None}
        return [each or {"id": name, **absent} for name, each in zip(self._names, found)]

    async def close(self) -> None:
        feeds = tuple(self._feeds.values())
        self._feeds.clear()
        self._handles.clear()
        for feed in feeds:
            await feed.close()

    def _forget(self, owner: str) -> None:
        self._handles.pop(actor_name(owner), None)

    async def _ask(self, name: str, method: str) -> Any:
        """The coordinator's answer, or None when it gives none soon."""
        try:
            handle = await self._handle(name)
            return await asyncio.wait_for(_answer(getattr(handle, method).remote()), ASK_S)
        except (RayError, TimeoutError, ValueError):
            self._handles.pop(name, None)
            return None

    async def _handle(self, name: str) -> Any:
        """The actor of this name. Raises ValueError when there is none."""
        if name not in self._handles:
            self._handles[name] = await asyncio.to_thread(ray.get_actor, name, namespace=NAMESPACE)
        return self._handles[name]


def rendezvous(execution_id: str, names: Sequence[str]) -> list[str]:
    """The names in the order in which this id asks them; losing one moves only its own ids."""

    def weight(name: str) -> bytes:
        return hashlib.blake2b(f"{name} {execution_id}".encode(), digest_size=8).digest()

    return sorted(names, key=weight)


async def _answer(call: Any) -> Any:
    """What a call returns, with our own errors as they were raised over there."""
    try:
        return await call
    except RayTaskError as error:
        raise _unwrapped(error) from None


def _unwrapped(error: RayTaskError) -> Exception:
    return error.cause if isinstance(error.cause, AgentFlowError) else error
