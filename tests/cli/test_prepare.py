"""``agentflow sources prepare``, and ``test`` of databases and services: against real ones."""

import json
import socket

import pytest

from tests.fake_provider import FakeProvider, Raw


@pytest.fixture
def workflow(tmp_path):
    """Writes a workflow with these sources, of which its node uses the first; the name of its file."""

    def write(**configs):
        sources = [
            {"id": name, "kind": kind, "config": config} for name, (kind, config) in configs.items()
        ]
        used = {"source": sources[0]["id"], "query": "SELECT 1 AS one"}
        document = {
            "nodes": [{"id": "ask", "type": "db", "metadata": used}],
            "sources": sources,
            "start_node": "ask",
        }
        (tmp_path / "flow.json").write_text(json.dumps(document))
        return "flow.json"

    return write


async def test_databases_and_services_are_tested_and_prepared(cli, workflow, empty_dsn):
    with FakeProvider(default=Raw(b"no", 404)) as provider, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}/"
        file = workflow(
            store=("db", {"dsn_env": "MY_DSN", "allow_write": True}),
            named=("db", {"dsn_env": "MY_DSN", "allow_write": True, "dedupe_table": "done"}),
            shut=("db", {"dsn_env": "MY_DSN", "ssl": "verify-full"}),
            crm=("api", {"base_url": f"http://127.0.0.1:{provider.port}/"}),
            gone=("api", {"base_url": closed}),
        )
        names = {"MY_DSN": empty_dsn, "AGENTFLOW_SOURCE_ENV": "MY_DSN"}
        told = cli("sources", "test", file, "-o", "json", **names)
        assert told.returncode == 1
        found = {each["source_id"]: each for each in json.loads(told.stdout)["sources"]}
        assert {name: each["connected"] for name, each in found.items()} == {
            "store": True, "named": True, "shut": False, "crm": True, "gone": False,
        }  # fmt: skip
        assert found["crm"]["message"] == "the service answered 404"
        told = cli("sources", "prepare", file, "-o", "json", **names)
        assert told.returncode == 0 and "postgresql://" not in told.stdout + told.stderr
        assert json.loads(told.stdout)["sources"] == [
            {"source_id": "store", "dedupe_table": "agentflow_dedupe",
             "message": 'set "dedupe_table": "agentflow_dedupe"'},
            {"source_id": "named", "dedupe_table": "done",
             "message": "writes take effect exactly once"},
        ]  # fmt: skip
        refused = cli("sources", "prepare", file, "--source", "shut", **names)
        assert refused.returncode != 0 and "no database 'shut' with allow_write" in refused.stderr
