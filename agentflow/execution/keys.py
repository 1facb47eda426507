"""Names of steps and the idempotency keys of their calls."""

from __future__ import annotations

import hashlib


def step_key(node_id: str, iterations: tuple[int, ...] = (), indices: tuple[int, ...] = ()) -> str:
    """``node@2.5[17]``: iterations of the loops around the node, outermost first, then map indices."""
    iteration = "@" + ".".join(map(str, iterations)) if iterations else ""
    index = "[" + ".".join(map(str, indices)) + "]" if indices else ""
    return f"{node_id}{iteration}{index}"


def node_id_of(key: str) -> str:
    """The node id in a step key."""
    return key.partition("@")[0].partition("[")[0]


def map_key_of(key: str) -> str:
    """The key of the map step in the key of one of its items."""
    return key.partition("[")[0]


def parse_key(key: str) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    """(node id, iterations, map indices) of a step key. Raises ValueError when it is none."""
    rest, _, indices = key.partition("[")
    node_id, _, iterations = rest.partition("@")
    return node_id, _numbers(iterations), _numbers(indices.rstrip("]"))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split("."))) if text else ()


def wait_id(step: str, generation: int) -> str:
    """The name of what a step waits for, unique in its execution: a new one in each generation."""
    return f"{step}/{generation}"


def step_of_wait(name: str) -> tuple[str, int]:
    """(step key, generation) of the name of a wait. Raises ValueError when it is none."""
    step, _, generation = name.rpartition("/")
    return step, int(generation)


def attempt_id(execution_id: str, step: str, generation: int, attempt: int) -> str:
    """The name of one try of a step, unique in the whole installation."""
    return f"{execution_id}/{step}/{generation}/{attempt}"


def idempotency_key(
    tenant: str, execution_id: str, step: str, call_index: int, generation: int
) -> str:
    """A digest that stays the same over attempts and owners, so that a receiver can deduplicate.

    It holds neither the attempt number nor the epoch. It is a digest so that a receiver shared by
    tenants learns no ids.
    """
    parts = "\x1f".join((tenant, execution_id, step, str(call_index), str(generation)))
    return "af-" + hashlib.sha256(parts.encode()).hexdigest()[:40]
