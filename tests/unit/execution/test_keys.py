"""Names of steps and attempts, and the idempotency keys of their calls."""

from __future__ import annotations

from agentflow.execution.keys import attempt_id, idempotency_key, parse_key, step_key


def test_step_key_names_iterations_and_items():
    assert step_key("n") == "n"
    assert step_key("n", (2, 5), (17,)) == "n@2.5[17]"


def test_step_key_can_be_read_back():
    for key in ("n", "n@3", "n@2.5", "n[4]", "n@2.5[17]"):
        assert step_key(*parse_key(key)) == key


def test_attempt_id_differs_by_generation_and_attempt():
    ids = {
        attempt_id("exec_1", "n", generation, attempt)
        for generation in (0, 1)
        for attempt in (1, 2)
    }
    assert len(ids) == 4


def test_idempotency_key_differs_by_tenant_execution_step_call_and_generation():
    first = ("ten", "exec_1", "n@1", 0, 0)
    others = [("x", *first[1:]), ("ten", "x", "n@1", 0, 0), ("ten", "exec_1", "n@2", 0, 0)]
    others += [("ten", "exec_1", "n@1", 1, 0), ("ten", "exec_1", "n@1", 0, 1)]
    keys = {idempotency_key(*given) for given in (first, *others)}
    assert len(keys) == 6 and idempotency_key(*first) in keys


def test_idempotency_key_tells_no_names():
    assert "exec_1" not in idempotency_key("ten", "exec_1", "n", 0, 0)
