"""``agentflow sources`` and ``agentflow models``: what a workflow brings along, and whether it answers."""

import json
import socket

import pytest

from tests.fake_provider import FakeProvider, Status, Text
from tests.images_wire import GeminiKnown, ImagesWire, Listed

KEY = "sk-canary-00112233445566"


@pytest.fixture
def workflow(tmp_path):
    """Writes a workflow with these sources; the name of its file."""

    def write(**configs):
        sources = [
            {"id": name, "kind": kind, "config": config} for name, (kind, config) in configs.items()
        ]
        kind = "image" if sources[0]["kind"] == "image" else "llm"
        node = {"id": "ask", "type": kind, "metadata": {"source": sources[0]["id"]}}
        document = {"nodes": [node], "sources": sources, "start_node": "ask"}
        (tmp_path / "flow.json").write_text(json.dumps(document))
        return "flow.json"

    return write


def model(base_url, **more):
    return (
        "llm",
        {"provider": "openai-compatible", "model": "m1", "base_url": base_url}
        | {"api_key_env": "OPENAI_API_KEY"}
        | more,
    )


def test_sources_are_listed_with_names_of_credentials(cli, workflow):
    file = workflow(a=model("https://a.example.com/v1"), b=("db", {"dsn_env": "MY_DSN"}))
    done = cli(
        "sources", "list", file, "-o", "json", OPENAI_API_KEY=KEY, AGENTFLOW_SOURCE_ENV="MY_DSN"
    )
    assert done.returncode == 0 and KEY not in done.stdout
    a, b = json.loads(done.stdout)["sources"]
    assert (a["provider"], a["model"], a["address"]) == (
        "openai-compatible",
        "m1",
        "https://a.example.com/v1",
    )
    assert a["credentials"] == {"OPENAI_API_KEY": True} and b["credentials"] == {"MY_DSN": False}
    table = cli("sources", "list", file, AGENTFLOW_SOURCE_ENV="MY_DSN").stdout
    assert "MY_DSN (not set)" in table and table.startswith("ID\tKIND")


def test_sources_are_tested_for_real(cli, workflow):
    with FakeProvider(Text("ok"), Status(401, "no", echo_key=True)) as provider:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            closed = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        file = workflow(
            a=model(provider.base_url),
            b=model(provider.base_url, model="m2"),
            c=model(closed),
            d=("db", {"dsn_env": "MY_DSN"}),
            e=("image", {"provider": "local", "model": "p"}),
            f=("mcp", {"transport": "http", "url": "https://tools.example.com/mcp"}),
        )
        given = {"OPENAI_API_KEY": KEY, "AGENTFLOW_SOURCE_ENV": "MY_DSN"}
        done = cli("sources", "test", file, "-o", "json", **given)
        told = {each["source_id"]: each for each in json.loads(done.stdout)["sources"]}
        assert done.returncode == 1 and KEY not in done.stdout + done.stderr
        connected = [told[name]["connected"] for name in "abcdef"]
        assert connected == [True, False, False, False, False, None]
        assert "MY_DSN" in told["d"]["message"]
        assert "OPENAI_API_KEY" in told["b"]["message"] and told["a"]["latency_ms"] >= 0
        assert provider.requests[0].body["max_tokens"] == 16
        only = cli("sources", "test", file, "--source", "a", **given)
        assert only.returncode == 0 and "a\tllm\ttrue" in only.stdout


def painter(provider, wire, path, **more):
    config = {"provider": provider, "model": "sdxl", "base_url": wire.address + path}
    return "image", {**config, "api_key_env": "OPENAI_API_KEY", **more}


def test_sources_of_pictures_are_tested_without_a_picture(cli, workflow):
    with ImagesWire("compatible") as wire, ImagesWire("gemini", GeminiKnown()) as gemini:
        wire.script(Listed(("sdxl",)), wire.refused(401, "no", echo_key=True))
        model = "gemini-3.1-flash-image"
        file = workflow(
            a=painter("openai-compatible", wire, "/v1"),
            b=painter("gemini", gemini, "", model=model, api_key_env="GEMINI_API_KEY"),
            c=painter("openai-compatible", wire, "/v1", size="512x512"),
        )
        given = {"OPENAI_API_KEY": KEY, "GEMINI_API_KEY": KEY}
        done = cli("sources", "test", file, "-o", "json", **given)
        told = {each["source_id"]: each for each in json.loads(done.stdout)["sources"]}
        assert [told[name]["connected"] for name in "abc"] == [True, True, False], told
        assert "listed 1 models, with sdxl" in told["a"]["message"]
        assert f"knows the model {model}" in told["b"]["message"]
        assert "OPENAI_API_KEY" in told["c"]["message"] and KEY not in done.stdout + done.stderr
        assert {each.method for each in (*wire.requests, *gemini.requests)} == {"GET"}
        assert wire.faults == gemini.faults == []


def test_source_that_is_not_there_is_named(cli, workflow):
    done = cli("sources", "test", workflow(a=model("https://a.example.com/v1")), "--source", "zz")
    assert done.returncode == 4 and "'zz'" in done.stderr


def test_source_without_its_credential_says_so(cli, workflow):
    done = cli("sources", "test", workflow(a=model("https://a.example.com/v1")), "-o", "json")
    [told] = json.loads(done.stdout)["sources"]
    assert done.returncode == 1 and "OPENAI_API_KEY" in told["message"]


def test_prices_are_listed(cli):
    done = cli("models", "prices", "gpt-4o-mini", "--provider", "openai", "-o", "json")
    found = json.loads(done.stdout)
    [price] = [each for each in found["prices"] if each["model"] == "gpt-4o-mini"]
    assert 0 < price["cached_per_mtok"] < price["input_per_mtok"] < price["output_per_mtok"]
    assert {each["provider"] for each in found["prices"]} == {"openai"}
    assert "input_per_mtok" in cli("models", "prices", "no-such-model").stderr
    assert cli("models", "prices", "--provider", "nobody").returncode == 2
