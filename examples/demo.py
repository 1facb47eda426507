"""The demo: a real workflow on Ray to its end, then the same kind of work with its coordinator killed.

Starts its own server (embedded PostgreSQL, Ray, the HTTP API) on loopback and talks to it like any
client. Act two sends its model calls through a counting gateway outside the engine, kills the
coordinator with SIGKILL in the middle and reads from the gateway's ledger what was called again.

Usage: python examples/demo.py [--prompt TEXT] [--no-kill]      (make demo, make demo PROMPT='...')
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from rich.console import Console
from rich.table import Table

from agentflow.access.model import DEFAULT_TENANT
from agentflow.execution.keys import idempotency_key

Json = Any
PR_SET_PDEATHSIG = 1
HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
screen = Console(highlight=False, soft_wrap=True)


class Client:
    """The few calls of the HTTP API that the demo needs."""

    def __init__(self, url: str, key: str) -> None:
        self.http = httpx2.Client(
            base_url=f"{url}/api/v1", headers={"X-API-Key": key}, timeout=60, trust_env=False
        )

    def start(self, workflow: Json, state: Json) -> str:
        body = {"workflow": workflow, "initial_state": state}
        reply = self.http.post("/workflows/execute/async", json=body)
        reply.raise_for_status()
        return str(reply.json()["execution_id"])

    def events(self, execution_id: str) -> Iterator[Json]:
        """Every event up to the end; goes on after a broken connection where it stopped."""
        last = "0"
        while True:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": last}
            path = f"/executions/{execution_id}/events"
            try:
                with self.http.stream("GET", path, headers=headers) as reply:
                    for line in reply.iter_lines():
                        if line.startswith("id:"):
                            last = line[3:].strip()
                        elif line.startswith("data:"):
                            event = json.loads(line[5:])
                            yield event
                            if event["type"] in ENDS:
                                return
            except httpx2.TransportError:
                time.sleep(0.2)

    def execution(self, execution_id: str) -> Json:
        reply = self.http.get(f"/executions/{execution_id}")
        reply.raise_for_status()
        return reply.json()

    def coordinators(self) -> list[Json]:
        reply = self.http.get("/admin/health/workers")
        reply.raise_for_status()
        return list(reply.json()["coordinators"])


ENDS = {
    "execution.completed",
    "execution.failed",
    "execution.cancelled",
    "execution.timed_out",
}


@contextmanager
def server() -> Iterator[tuple[str, str]]:
    """`agentflow serve` on loopback: its address and its API key."""
    key = "af_demo_" + secrets.token_urlsafe(24)
    environ = {**os.environ, "API_KEY": key, "AGENTFLOW_EGRESS_ALLOW": "127.0.0.0/8"}
    process = subprocess.Popen(
        [str(BIN / "agentflow"), "serve"],
        env=environ,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=end_with_parent,
    )
    try:
        line = process.stdout.readline().strip() if process.stdout else ""
        found = re.search(r"API (http://\S+)", line)
        if found is None:
            raise SystemExit(line or "The server did not start; what it said stands above.")
        screen.print(f"[dim]{line}[/dim]")
        yield found[1], key
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()


def end_with_parent() -> None:
    """In the child: Linux sends it SIGTERM when this process dies, however it dies."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def gateway(ledger: Path) -> Iterator[str]:
    """The counting gateway, in a process outside the engine: its base URL."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "counting_gateway.py"), str(ledger)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        url = process.stdout.readline().strip() if process.stdout else ""
        if not url:
            raise SystemExit("The counting gateway did not start: run `make setup` again.")
        yield url
    finally:
        if process.stdin:
            process.stdin.close()
        process.wait(timeout=10)


def show_graph(path: Path) -> None:
    subprocess.run([str(BIN / "agentflow"), "graph", str(path)], check=True)


def show_steps(execution: Json) -> None:
    """Per step: where it ran, when, and what it used."""
    began = min((step["started_at"] for step in execution["steps"]), default="")
    table = Table("step", "status", "worker", "Ray node", "start", "end", "tokens", box=None)
    for step in execution["steps"]:
        worker = step.get("worker") or {}
        place = f"{worker.get('pool', '')} pid {worker['pid']}" if worker else "coordinator"
        table.add_row(
            step["node_id"],
            step["status"],
            place,
            worker.get("node", "") or "-",
            since(began, step["started_at"]),
            since(began, step["ended_at"]),
            str(step["tokens"] or "-"),
        )
    screen.print(table)


def since(began: str, at: str | None) -> str:
    if not at:
        return "-"
    from datetime import datetime

    seconds = (datetime.fromisoformat(at) - datetime.fromisoformat(began)).total_seconds()
    return f"+{seconds:.3f} s"


def narrate(event: Json, streaming: set[str]) -> None:
    """One line per durable event; the pieces of the replies in between are counted, not shown."""
    if event["type"] == "message.delta":
        streaming.add(event["step"])
        return
    if event["type"].startswith("step."):
        name = event["type"].removeprefix("step.")
        error = event["data"].get("error") or {}
        why = f": {error['type']}, {error['message']}" if error else ""
        screen.print(f"  {event['seq']:>3}  {event['step']:<14} {name}{why}")


def perform(client: Client, workflow: Json, state: Json) -> Json:
    """Run a workflow to its end and show it."""
    execution_id = client.start(workflow, state)
    screen.print(f"Execution {execution_id}")
    streaming: set[str] = set()
    for event in client.events(execution_id):
        narrate(event, streaming)
    execution = client.execution(execution_id)
    show_steps(execution)
    screen.print(f"Status: {execution['status']}; tokens streamed live from: {sorted(streaming)}")
    screen.print_json(data=execution["output"])
    return execution


def first_act(client: Client, prompt: str | None) -> None:
    name = "hello" if prompt else "support_triage"
    path = HERE / f"{name}.json"
    state = {"user_input": prompt}
    if not prompt:
        state = json.loads((HERE / f"{name}.input.json").read_text())
    screen.rule(f"Act 1: {path.name}, on Ray, with a real language model")
    show_graph(path)
    execution = perform(client, json.loads(path.read_text()), state)
    if execution["status"] != "completed":
        raise SystemExit("The execution did not complete.")


def counted(workflow: Json, url: str) -> Json:
    """The same workflow with its models reached through the counting gateway."""
    config = {"provider": "openai-compatible", "model": "smollm2", "base_url": url}
    sources = [{**source, "config": {**config}} for source in workflow["sources"]]
    return {**workflow, "sources": sources}


def second_act(client: Client) -> None:
    screen.rule("Act 2: the coordinator is killed in the middle")
    path = HERE / "long_brief.json"
    workflow = json.loads(path.read_text())
    state = json.loads((HERE / "long_brief.input.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder) / "ledger.jsonl"
        with gateway(ledger) as url:
            execution_id = client.start(counted(workflow, url), state)
            screen.print(f"Execution {execution_id}, its model calls counted outside the engine")
            committed = kill_in_the_middle(client, execution_id)
        show_ledger(client, execution_id, ledger, committed)


def kill_in_the_middle(client: Client, execution_id: str, after: int = 3) -> set[str]:
    """SIGKILL the owner once ``after`` model steps are committed; the steps committed by then."""
    committed: set[str] = set()
    killed_at, resumed = 0.0, False
    for event in client.events(execution_id):
        narrate(event, set())
        calls = (event.get("data") or {}).get("calls")
        if event["type"] == "step.completed" and calls and not killed_at:
            committed.add(event["step"])
            if len(committed) == after:
                owner = client.execution(execution_id)["owner"]
                pid = next(c["pid"] for c in client.coordinators() if c["id"] == owner)
                screen.print(f"  ---  SIGKILL to {owner} (pid {pid})", style="bold")
                os.kill(pid, signal.SIGKILL)
                killed_at = time.monotonic()
        elif killed_at and not resumed and event["type"] == "step.retrying":
            resumed = True
            pause = time.monotonic() - killed_at
            screen.print(f"  ---  another coordinator goes on {pause:.2f} s later", style="bold")
    return committed


def show_ledger(client: Client, execution_id: str, ledger: Path, committed: set[str]) -> None:
    execution = client.execution(execution_id)
    calls = Counter(
        entry["key"]
        for entry in map(json.loads, ledger.read_text().splitlines())
        if entry["event"] == "called"
    )
    table = Table("step", "calls seen outside", "committed before the kill", box=None)
    repeated = []
    for step in execution["steps"]:
        made = sum(
            calls[idempotency_key(DEFAULT_TENANT, execution_id, step["step"], n, 0)] for n in (0, 1)
        )
        if not made:
            continue
        before = step["step"] in committed
        table.add_row(step["step"], str(made), "yes" if before else "no")
        if before and made != 1:
            repeated.append(step["step"])
    screen.print(table)
    screen.print(f"Status: {execution['status']}")
    if execution["status"] != "completed" or repeated:
        raise SystemExit(f"Committed calls were made again: {repeated}")
    screen.print(
        f"{sum(calls.values())} calls in all; of the {len(committed)} whose result was committed "
        "before the kill, none was made again.",
        style="bold",
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompt", default=os.environ.get("PROMPT") or None)
    parser.add_argument("--no-kill", action="store_true", help="leave out the second act")
    options = parser.parse_args()
    started = time.monotonic()
    screen.print("Starting PostgreSQL, Ray and the API (about 20 s) ...")
    with server() as (url, key):
        client = Client(url, key)
        first_act(client, options.prompt)
        if not options.no_kill and not options.prompt:
            second_act(client)
    screen.print(f"[dim]Done in {time.monotonic() - started:.0f} s.[/dim]")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
