"""The tasks of the Celery adapter, which its workers import. The broker's port comes by the environment."""

from __future__ import annotations

import os
import time
from pathlib import Path

import redis
from celery import Celery

from benchmarks.peers import serving
from benchmarks.peers.driving import Gate

PORT = "BENCH_CELERY_PORT"
FOLDER = "BENCH_CELERY_FOLDER"
VISIBILITY_S = 10
WAITING = "waiting"
"""The queue of the tasks that wait, which workers with greenlets take; the others' is Celery's own."""

address = f"redis://127.0.0.1:{os.environ[PORT]}"
app = Celery("bench", broker=f"{address}/0", backend=f"{address}/1")
app.conf.update(
    broker_transport_options={
        "visibility_timeout": VISIBILITY_S,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    },
    result_expires=3600,
    task_ignore_result=True,
    task_routes={"sleep": {"queue": WAITING}, "wait": {"queue": WAITING}},
    worker_enable_remote_control=False,
)


@app.task(name="nothing")
def nothing() -> str:
    return "done"


@app.task(name="sleep")
def sleep(seconds: float) -> str:
    time.sleep(seconds)
    return "done"


@app.task(name="carry")
def carry(text: str, number: int) -> str:
    return f"{number}{text[1:]}"


@app.task(name="log", acks_late=True, reject_on_worker_lost=True)
def log(execution: str, number: int) -> str:
    serving.log_step(Path(os.environ[FOLDER]), execution, number)
    time.sleep(serving.RECOVERY_STEP_S)
    return "done"


@app.task(name="wait")
def wait(run: str, until: int) -> str:
    """Counts itself in the broker's server, since the workers are several processes."""
    client = redis.Redis(port=int(os.environ[PORT]), db=2)
    if client.incr(f"{run} came") == until:
        time.sleep(Gate.HOLD_S)
        client.set(f"{run} open", 1, ex=600)
    while not client.exists(f"{run} open"):
        time.sleep(1.0)
    return "done"
