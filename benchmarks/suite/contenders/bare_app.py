"""Serve applications that do nothing: what a request costs before anybody does anything for it."""

from __future__ import annotations

from typing import Any

from ray import serve
from starlette.requests import Request

OPTIONS = {"ray_actor_options": {"num_cpus": 0}, "max_ongoing_requests": 1000}


@serve.deployment(name="bare", **OPTIONS)
class Bare:
    """Answers at once."""

    async def __call__(self, request: Request) -> dict[str, bool]:
        await request.body()
        return {"done": True}


@serve.deployment(name="inner", **OPTIONS)
class Inner:
    """Is called by the ingress, in another process."""

    async def done(self) -> dict[str, bool]:
        return {"done": True}


@serve.deployment(name="ingress", **OPTIONS)
class Ingress:
    """Answers with what the inner deployment says."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def __call__(self, request: Request) -> dict[str, bool]:
        await request.body()
        found: dict[str, bool] = await self._inner.done.remote()
        return found


bare = Bare.bind()
ingress = Ingress.bind(Inner.bind())
