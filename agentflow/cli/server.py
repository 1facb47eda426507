"""A server, spoken to over HTTP: the same verbs as :mod:`agentflow.cli.inprocess`."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agentflow.cli.outcome import Unreachable
from agentflow.errors import (
    AgentFlowError,
    ConfigError,
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    NotSupported,
    SpecInvalid,
    StoreUnavailable,
    Unauthenticated,
)
from agentflow.ids import to_uuid
from agentflow.settings import Settings

if TYPE_CHECKING:
    import httpx2

Json = Any
_PREFIX = "/api/v1"
_NO_ADDRESS = "{url} is not the address of a server; AGENTFLOW_API_URL looks like http://host:8000"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_BY_STATUS: dict[int, type[AgentFlowError]] = {
    400: InvalidInput,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: InvalidInput,
    422: InvalidInput,
    503: StoreUnavailable,
}
_TERMINAL = (
    "execution.completed",
    "execution.failed",
    "execution.cancelled",
    "execution.timed_out",
)


def address_file(data_dir: Path) -> Path:
    """Where ``agentflow serve`` writes its address and pid while it serves."""
    return data_dir / "server.json"


def address(settings: Settings) -> str:
    """The server meant: AGENTFLOW_API_URL, else the one on this data folder, else the usual port."""
    if settings.api_url:
        return settings.api_url.rstrip("/")
    found = noted(settings.data_dir)
    return found[0] if found else f"http://127.0.0.1:{settings.port}"


def noted(data_dir: Path) -> tuple[str, int] | None:
    """Address and pid of the server that serves this data folder; None when none is seen to live
    (also when the file or the process is another user's)."""
    try:
        found = json.loads(address_file(data_dir).read_text())
        url, pid = str(found["url"]), int(found["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (url, pid) if alive(pid) else None


def alive(pid: int) -> bool:
    """Whether this process of ours lives."""
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def api_key(settings: Settings, url: str) -> str | None:
    """The key for this server. The data folder's own key is for servers on this machine only."""
    given = os.environ.get("AGENTFLOW_API_KEY") or settings.api_key
    if given or _host(url) not in _LOOPBACK:
        return given
    try:
        return (settings.data_dir / "api-key").read_text().strip() or None
    except OSError:
        return None


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise Unreachable(_NO_ADDRESS.format(url=url))
    return host


class Server:
    """A connection to a server. Raises the errors of :mod:`agentflow.errors`, and Unreachable."""

    def __init__(self, settings: Settings) -> None:
        import httpx2

        self.url = address(settings)
        key = api_key(settings, self.url)
        if key and not (key.isascii() and key.isprintable()):
            raise ConfigError("AGENTFLOW_API_KEY holds characters that no key has; set it anew")
        try:
            self._http = httpx2.AsyncClient(
                base_url=self.url,
                headers={"X-API-Key": key} if key else {},
                timeout=httpx2.Timeout(60.0, connect=5.0),
                trust_env=_host(self.url) not in _LOOPBACK,
            )
        except (httpx2.InvalidURL, ValueError):
            raise Unreachable(_NO_ADDRESS.format(url=self.url)) from None

    async def submit(self, document: Json, initial_state: Json) -> str:
        """Start an execution; its id."""
        body = {"workflow": document, "initial_state": initial_state}
        path = "/workflows/execute/async"
        reply = await self._call("POST", path, "execution_id", json=body)
        return str(reply["execution_id"])

    async def get(self, execution_id: str) -> Json:
        """An execution as it stands."""
        return await self._call("GET", f"/executions/{_segment(execution_id)}", "status")

    async def list(self, status: str | None, limit: int, cursor: str | None) -> Json:
        """A page of executions, newest first."""
        given = {"status": status, "limit": limit, "cursor": cursor}
        query = {name: value for name, value in given.items() if value is not None}
        return await self._call("GET", "/executions", "executions", params=query)

    async def cancel(self, execution_id: str, reason: str) -> Json:
        """Ask that an execution ends."""
        path = f"/executions/{_segment(execution_id)}/cancel"
        return await self._call("POST", path, "status", json={"reason": reason})

    async def retry(self, execution_id: str) -> Json:
        """Let an execution go on from what failed."""
        path = f"/executions/{_segment(execution_id)}/retry"
        return await self._call("POST", path, "status", json={})

    async def resume(self, execution_id: str, named: Json, data: Json) -> Json:
        """Answer what an execution waits for; ``named``: its wait_id, node_id or signal."""
        path = f"/executions/{_segment(execution_id)}/resume"
        return await self._call("POST", path, "status", json={**named, "data": data})

    async def release(self, execution_id: str, reason: str) -> Json:
        """Let a quarantined execution run again."""
        path = f"/executions/{_segment(execution_id)}/release"
        return await self._call("POST", path, "status", json={"reason": reason})

    async def diff(self, a: str, b: str) -> Json:
        """How two executions differ."""
        path = f"/executions/{_segment(a)}/diff/{_segment(b)}"
        return await self._call("GET", path, "nodes")

    async def fork(self, execution_id: str, from_node: str, state: Json, *, preview: bool) -> Json:
        """Begin a new execution from a node of another one, or say what that would reuse."""
        path = f"/executions/{_segment(execution_id)}/fork"
        body = {"from_node": from_node, "state": state, "preview": preview}
        return await self._call("POST", path, "reused_steps", json=body)

    @asynccontextmanager
    async def blob(self, sha256: str) -> AsyncIterator[tuple[str, AsyncIterator[bytes]]]:
        """The media type of a blob, and its content in pieces."""
        import httpx2

        try:
            async with self._http.stream("GET", f"{_PREFIX}/blobs/{sha256}") as reply:
                if reply.status_code != 200:
                    await reply.aread()
                    raise self._error(reply)
                yield reply.headers.get("content-type", ""), reply.aiter_bytes()
        except httpx2.TransportError as error:
            raise self._unreachable(error) from None

    async def follow(self, execution_id: str, after: int = 0) -> AsyncIterator[Json]:
        """Events from this number on, across lost connections, up to the one that ends it; a retry may
        follow an end, so it is the server that closes the stream."""
        import httpx2

        path = f"{_PREFIX}/executions/{_segment(execution_id)}/events"
        failures, ended = 0, False
        while True:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
            try:
                async with self._http.stream("GET", path, headers=headers) as reply:
                    if reply.status_code != 200:
                        await reply.aread()
                        raise self._error(reply)
                    async for event in _events(reply.aiter_lines()):
                        failures = 0
                        after = event.get("seq") or after
                        ended = event["type"] in _TERMINAL or (
                            ended and event["type"] != "execution.resumed"
                        )
                        yield event
                if ended:
                    return
            except httpx2.TransportError as error:
                failures += 1
                if failures > 8:
                    raise self._unreachable(error) from None
            await asyncio.sleep(min(0.1 * 2**failures, 2.0))

    async def close(self) -> None:
        """Let the connections go."""
        await self._http.aclose()

    async def _call(self, method: str, path: str, member: str, **options: Any) -> Json:
        """The answer, an object with this member: else it is not AgentFlow that answers."""
        import httpx2

        try:
            reply = await self._http.request(method, _PREFIX + path, **options)
        except httpx2.TransportError as error:
            raise self._unreachable(error) from None
        if reply.is_success:
            try:
                answer = reply.json()
            except ValueError:
                raise self._foreign() from None
            if not isinstance(answer, dict) or member not in answer:
                raise self._foreign()
            return answer
        raise self._error(reply)

    def _error(self, reply: httpx2.Response) -> AgentFlowError:
        try:
            problem = reply.json()
            detail = str(problem["detail"])
        except (ValueError, KeyError, TypeError):
            return self._foreign()
        if reply.status_code == 400 and problem.get("errors"):
            return SpecInvalid(problem["errors"])
        if reply.status_code == 400 and problem.get("code") == "VALIDATION_ERROR":
            return NotSupported(detail)
        if reply.status_code in (401, 403):
            detail += "; set AGENTFLOW_API_KEY to a key of this server"
        return _BY_STATUS.get(reply.status_code, AgentFlowError)(detail)

    def _foreign(self) -> Unreachable:
        return Unreachable(
            f"Something answers at {self.url}, but it is not an AgentFlow server; "
            "set AGENTFLOW_API_URL to the right address"
        )

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(
            f"No AgentFlow server answers at {self.url} ({type(error).__name__}); start one with "
            "`agentflow serve`, or set AGENTFLOW_API_URL"
        )


async def _events(lines: AsyncIterator[str]) -> AsyncIterator[Json]:
    data: list[str] = []
    async for line in lines:
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            yield json.loads("\n".join(data))
            data = []


def _segment(execution_id: str) -> str:
    """The id, safe in a path. Raises NotFound for what no execution can be called."""
    try:
        to_uuid(execution_id, "exec")
    except ValueError:
        raise NotFound("Execution not found") from None
    return execution_id
