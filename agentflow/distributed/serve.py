"""The front door: a given Serve application behind HAProxy, and its orderly end."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from agentflow.distributed.coordinator import drain_coordinators
from agentflow.distributed.pools import NAMESPACE
from agentflow.distributed.workers import resolve
from agentflow.errors import ConfigError

APPLICATION = "agentflow"
"""The name of the application in the Ray dashboard."""
KEEP_ALIVE_S = 90.0

log = logging.getLogger(__name__)


def publish(application: str, host: str, port: int, log_file: Path | None = None) -> None:
    """Serve the application of this dotted name; returns when its replica is ready.

    What Serve says meanwhile goes to ``log_file``. Raises ConfigError when it does not become ready.
    """
    with _quiet(log_file):
        from ray import serve
        from ray.serve.config import HTTPOptions

        options = HTTPOptions(
            host=host, port=port, request_timeout_s=None, keep_alive_timeout_s=KEEP_ALIVE_S
        )
        quiet = {"enable_access_log": False}
        try:
            serve.start(proxy_location="HeadOnly", http_options=options, logging_config=quiet)
            serve.run(resolve(application), name=APPLICATION, route_prefix="/")
        except (RuntimeError, TimeoutError, ValueError) as error:
            raise ConfigError(f"The API did not start: {_last_line(error)}") from error


def withdraw(coordinators: Sequence[str], *, ours: bool, log_file: Path | None = None) -> None:
    """Take no more requests, let coordinators hand over what they own, and end them.

    ``ours``: nobody else uses this cluster, so that Serve itself is ended too.
    """
    with _quiet(log_file):
        import ray
        from ray import serve

        if ours:
            serve.shutdown()  # type: ignore[no-untyped-call]
        else:
            serve.delete(APPLICATION)
        drain_coordinators(coordinators)
        for name in coordinators:
            with contextlib.suppress(ValueError):  # it is gone already
                ray.kill(ray.get_actor(name, namespace=NAMESPACE), no_restart=True)


@contextlib.contextmanager
def _quiet(log_file: Path | None) -> Iterator[None]:
    """What Ray says goes to its log file. Its handlers and threads hold on to the stream, so it stays
    open as long as the process lives."""
    said = (log_file or Path(os.devnull)).open("a", buffering=1)
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        yield


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
