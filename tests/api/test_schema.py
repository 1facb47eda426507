"""GET /schemas/workflow.json: for editors, without a key, and not sent twice."""

from __future__ import annotations

import jsonschema_rs
import pytest

from agentflow.spec.schema import workflow_schema

PATHS = ("/schemas/workflow.json", "/api/v1/schemas/workflow.json")


@pytest.mark.parametrize("path", PATHS)
async def test_schema_is_the_published_one(client, path):
    answer = await client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/schema+json"
    assert answer.json() == workflow_schema()
    jsonschema_rs.meta.validate(answer.json())


@pytest.mark.parametrize("path", PATHS)
async def test_schema_needs_no_key(anonymous, path):
    assert (await anonymous.get(path)).status_code == 200


async def test_schema_is_not_sent_again_while_it_is_the_same(client):
    first = await client.get(PATHS[0])
    tag = first.headers["etag"]
    assert first.headers["cache-control"] == "public, max-age=3600"
    for asked in (tag, f'"other", W/{tag}', "*"):
        again = await client.get(PATHS[0], headers={"If-None-Match": asked})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
    changed = await client.get(PATHS[0], headers={"If-None-Match": '"other"'})
    assert changed.status_code == 200


async def test_validate_of_one_node_takes_in_the_edges_that_leave_it(client, quick):
    broken = {**quick, "edges": [*quick["edges"], {"from": "left", "to": "nowhere"}]}
    left = (await client.post("/workflows/validate?node=left", json=broken)).json()
    assert [error["code"] for error in left["errors"]] == ["E006"]
    right = (await client.post("/workflows/validate?node=right", json=broken)).json()
    assert right == {"valid": True, "errors": [], "warnings": []}
