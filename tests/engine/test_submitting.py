"""What a caller in this process may hand to a flow."""

from __future__ import annotations

import pytest

from agentflow.access.model import DEFAULT_TENANT
from agentflow.errors import InvalidInput
from agentflow.flow import open_local
from agentflow.settings import load

SPEC = {"nodes": [{"id": "in", "type": "input"}], "start_node": "in"}


async def test_initial_state_that_is_not_json_is_refused_and_the_flow_goes_on(dsn, tmp_path):
    flow = await open_local(
        load({"DATABASE_URL": dsn, "AGENTFLOW_DATA_DIR": str(tmp_path), "API_KEY": "k" * 40})
    )
    try:
        for wrong in ({"x": float("nan")}, {"x": "\ud800"}, {"x": object()}, {"x": {1j: 2}}):
            with pytest.raises(InvalidInput, match="JSON"):
                await flow.submit(DEFAULT_TENANT, SPEC, initial_state=wrong)
        asked = await flow.submit(
            DEFAULT_TENANT, SPEC, initial_state={"x": (2**70, "\x00"), "errors": 5}
        )
        record = await flow.wait(DEFAULT_TENANT, asked, 10)
    finally:
        await flow.close()
    assert record.status == "completed" and record.final_state["x"] == [2**70, "\x00"]


async def test_list_refuses_a_status_that_no_execution_has(dsn, tmp_path):
    flow = await open_local(
        load({"DATABASE_URL": dsn, "AGENTFLOW_DATA_DIR": str(tmp_path), "API_KEY": "k" * 40})
    )
    try:
        with pytest.raises(InvalidInput, match="completed"):
            await flow.list(DEFAULT_TENANT, status="done")
        assert (await flow.list(DEFAULT_TENANT, status="completed")).total == 0
    finally:
        await flow.close()
