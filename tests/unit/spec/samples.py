"""Workflow documents and strategies that several tests of the spec need."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

Json = Any

TRIAGE: dict[str, Json] = {
    "name": "triage",
    "start_node": "ask",
    "nodes": [
        {"id": "ask", "type": "input"},
        {
            "id": "route",
            "type": "router",
            "metadata": {"routes": [{"intent": "answer", "keywords": ["why"]}]},
        },
        {"id": "answer", "type": "llm", "metadata": {"source": "small", "prompt": "{user_input}"}},
        {"id": "chat", "type": "llm", "metadata": {"source": "small"}},
        {"id": "join", "type": "aggregator"},
    ],
    "edges": [
        {"from": "ask", "to": "route"},
        {"from": "route", "to": "answer", "condition": "intent"},
        {"from": "route", "to": "chat", "condition": "else"},
        {"from": "answer", "to": "join"},
        {"from": "chat", "to": "join"},
        {"from": "join", "to": "end"},
    ],
    "sources": [
        {"id": "small", "kind": "llm", "config": {"provider": "local", "model": "smollm2"}}
    ],
}


def triage(**changes: Json) -> dict[str, Json]:
    """A valid workflow of five nodes, with top-level fields replaced."""
    return {**copy.deepcopy(TRIAGE), **changes}


def line(*nodes: dict[str, Json], **changes: Json) -> dict[str, Json]:
    """A workflow whose nodes follow each other, with a local source ``small``."""
    ids = [node["id"] for node in nodes]
    return {
        "start_node": ids[0],
        "nodes": list(nodes),
        "edges": [{"from": a, "to": b} for a, b in pairwise(ids)],
        "sources": copy.deepcopy(TRIAGE["sources"]),
        **changes,
    }


_WORDS = [
    "nodes", "edges", "sources", "queues", "start_node", "id", "type", "from", "to", "condition",
    "metadata", "config", "source", "source_id", "fallbacks", "kind", "provider", "state", "merge",
    "settings", "durability", "on_error", "goto", "join", "n_of", "retry", "max_attempts", "routes",
    "intent", "keywords", "pattern", "strategy", "template", "source_keys", "expression", "output",
    "bandwidth", "sub_queues", "weight", "match", "resources", "num_gpus", "labels", "api_key_env",
    "base_url", "input_schema", "prompt", "messages", "validate", "schema", "default", "key",
    "size", "n", "query", "params", "mode", "limit", "offset", "cursor", "method", "url", "headers",
    "body", "extract", "success", "paginate", "sign", "agents", "tools", "handoffs", "ref", "graph",
    "checkpoint", "form", "on_expire", "expires_s", "seconds", "until", "signal", "plugin", "model",
    "history_key", "input", "effects", "race", "price", "limits", "name", "system_prompt",
]  # fmt: skip
_VALUES = [
    "a", "b", "end", "__end__", "input", "router", "llm", "aggregator", "map", "human", "agent",
    "else", "intent", "user_input == 'x'", "outputs.a.text", "outputs['b']", "${outputs.a}", "${",
    "{user_input}", "{outputs.c.text}", "local", "openai", "db", "postgres", "none", "rules", "(",
    "custom", "select", "template", "OPENAI_API_KEY", "DATABASE_URL", "sk-aaaaaaaaaaaaaaaaaaaaaaaa",
    "http://x", "postgres://u:p@h/d", "any", "sum", "", "1",
    "image", "http", "langgraph", "wait", "plugin", "subworkflow", "SELECT :a FROM {b}", "write",
    "once", "first_success", "dall-e-3", "$.a[0]", "200-299", "POST", "gpt-4", "2027-01-01T00:00:00Z",
]  # fmt: skip

json_values: st.SearchStrategy[Json] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 70000)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(_VALUES),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(_WORDS) | st.text(max_size=4), inner, max_size=6)
    ),
    max_leaves=30,
)


@st.composite
def damaged_documents(draw: st.DrawFn) -> Json:
    """A valid document in which some places were replaced by any JSON value."""
    document = triage(
        state={"score": {"type": "number"}},
        queues=[
            {
                "id": "q",
                "from": "ask",
                "to": "route",
                "bandwidth": {"max_concurrent": 3},
                "sub_queues": [{"id": "s", "weight": 0.5, "match": "intent == 'x'"}],
            }
        ],
        settings={"timeout_s": 10},
        output={"answer": "${final_output}"},
    )
    for _ in range(draw(st.integers(1, 4))):
        holder: Json = document
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            inner = holder[key]
            if isinstance(inner, dict | list) and inner and draw(st.booleans()):
                holder = inner
                continue
            if isinstance(holder, dict) and draw(st.integers(0, 5)) == 0:
                del holder[key]
                if draw(st.booleans()):
                    holder[draw(st.sampled_from(_WORDS))] = draw(json_values)
            else:
                holder[key] = draw(json_values)
            break
    return document
