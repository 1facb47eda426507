"""Ids sort by creation and round-trip through UUIDs."""

import threading

import pytest

from agentflow.ids import from_uuid, new_id, to_uuid


def test_ids_are_unique_and_sort_by_creation():
    made = [new_id("exec") for _ in range(20_000)]
    assert made == sorted(set(made))


def test_ids_are_unique_over_threads():
    made: list[str] = []
    threads = [
        threading.Thread(target=lambda: made.extend(new_id("exec") for _ in range(5000)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 20_000


def test_id_is_a_version_7_uuid_behind_its_prefix():
    made = new_id("exec")
    value = to_uuid(made, "exec")
    assert value.version == 7 and from_uuid(value, "exec") == made


@pytest.mark.parametrize("text", ["", "exec_", "wf_" + "0" * 32, "exec_" + "z" * 32, "exec_0"])
def test_malformed_id_is_refused(text):
    with pytest.raises(ValueError):
        to_uuid(text, "exec")
