"""The workflows that are used, by kind. Each step names itself to whoever it calls (see ledger.py)."""

from __future__ import annotations

import itertools
from typing import Any

from tests.campaign import target

Json = Any

BACKOFF_S = 15.0
"""How long a step of the kind ``backoff`` waits to be tried again."""
PAUSE_S = 1.5
WAITS: dict[str, dict[str, tuple[str, ...]]] = {
    "human": {"ask": ("ask",)},
    "signals": {"go": ("go1", "go2")},
}
"""Kind -> what is to be answered: a node, or the name of a signal -> the steps that wait for it."""


def documents(provider: str) -> dict[str, Json]:
    made = {
        "chain": _chain("a", "b", "c"),
        "fan": _fan(),
        "loop": _loop(),
        "relaxed": _relaxed(_chain("a", "b", "c", "d")),
        "once": _chain("a", "once", "c"),
        "stubborn": _chain("a", "stubborn", "c"),
        "slow": _chain("a", "slow2", "slow4", "d"),
        "large": _chain("a", "large", "c"),
        "http": _chain("a", "post", "put", "d"),
        "once http": _chain("a", "once_post", "c"),
        "db": _chain("a", "write1", "read", "write2", "c"),
        "once db": _chain("a", "once_write", "c"),
        "human": _chain("a", "ask", "c"),
        "signals": _chain("a", "go1", "go2", "c"),
        "timer": _chain("a", "pause", "c"),
        "held": _chain("a", "held", "b", "c"),
        "relaxed held once": _relaxed(_chain("held", "once", "c")),
        "backoff": _backoff(),
        "stubborn http": _chain("a", "stubborn_post", "c"),
        "stubborn once": _chain("a", "once_stubborn_post", "c"),
    }
    config = {"provider": "openai-compatible", "model": "m", "base_url": provider}
    model = {"id": "model", "kind": "llm", "config": {**config, "timeout_s": 60}}
    service = {"id": "service", "kind": "api", "config": {"base_url": provider}}
    sources = {each["id"]: each for each in (model, service, *target.sources())}
    for name, each in made.items():
        used = {node.get("metadata", {}).get("source") for node in each["nodes"]} - {None}
        each |= {"name": name, "sources": [sources[source] for source in sorted(used)]}
    return made


def _step(node: str, before: str = "") -> Json:
    """A node by its name; what the node ``before`` it gave is sent along."""
    past = _said(before) if before else ""
    kind = node.rpartition("_")[2]
    if kind.rstrip("12") == "write":
        return target.write(node, _expression(before), "bare" if "once" in node else "target")
    if kind == "read":
        return target.read(node, before)
    if kind in ("post", "put"):
        return _http(node, kind.upper(), _expression(before))
    if kind == "ask":
        form = {"type": "object", "properties": {"token": {"type": "string"}}}
        asked = {"prompt": f"Go on after {past}?", "form": form, "output_key": f"said_{node}"}
        return {"id": node, "type": "human", "metadata": asked}
    if kind.rstrip("12") == "go":
        asked = {"signal": "go", "output_key": f"said_{node}"}
        return {"id": node, "type": "wait", "metadata": asked}
    if kind == "pause":
        return {"id": node, "type": "wait", "metadata": {"seconds": PAUSE_S}}
    return _llm(node, past)


def _field(node: str) -> str:
    return f"said_{node}"


PARTS = {"post": "data.said", "put": "data.said", "ask": "token", "go": "token"}
"""Where in the field of such a node the word is that it gave; elsewhere the field itself is the word."""


def _part(node: str) -> str:
    return PARTS.get((node.rpartition("_")[2]).rstrip("12"), "")


def _said(node: str) -> str:
    """A template of what a node gave."""
    return (
        "" if node == "pause" else "{" + ".".join(filter(None, (_field(node), _part(node)))) + "}"
    )


def _expression(node: str) -> str:
    """The same as an expression. A result of a database is told by its first row."""
    if (node.rpartition("_")[2]).rstrip("12") in ("write", "read"):
        return "${" + _field(node) + "[0].said}"
    return "$" + _said(node)


def _llm(node: str, past: str = "", name: str = "") -> Json:
    prompt = f"T={{user_input}} S={name or node}" + (f" P={past}" if past else "")
    retry = {"max_attempts": 6, "initial_s": 0.1, "max_s": 2}
    step = {"id": node, "type": "llm", "retry": retry}
    asked = {"source": "model", "prompt": prompt, "stream": False}
    if node.startswith("once"):
        step["effects"] = "once"
        step["retry"] = {"max_attempts": 1}
    return {**step, "metadata": {**asked, "output_key": f"said_{node}"}}


def _http(node: str, method: str, past: str) -> Json:
    """A request that has an effect. The service knows a repeated one by its key."""
    asked = {
        "source": "service",
        "method": method,
        "url": "/things",
        "body": {"tag": "${user_input}", "step": node, "past": past},
        "extract": {"said": "$.said"},
        "output_key": f"said_{node}",
    }
    once = node.startswith("once")
    retry = {"max_attempts": 6, "initial_s": 0.1, "max_s": 2}
    effects = "once" if once else "idempotent"
    return {"id": node, "type": "http", "effects": effects, "retry": retry, "metadata": asked}


def _fields(*nodes: str) -> Json:
    return {f"said_{node}": {"type": "any", "default": "-"} for node in nodes if node != "pause"}


def _chain(*nodes: str) -> Json:
    steps = [_step(node, before) for before, node in itertools.pairwise(("", *nodes))]
    names = ["start", *nodes]
    return {
        "start_node": "start",
        "nodes": [{"id": "start", "type": "input"}, *steps],
        "edges": [{"from": one, "to": other} for one, other in itertools.pairwise(names)],
        "state": _fields(*nodes),
    }


def _relaxed(made: Json) -> Json:
    return {**made, "settings": {"durability": "relaxed"}}


def _backoff() -> Json:
    """A step that fails at first, and is tried again after a while that is always the same."""
    made = _chain("a", "stubborn")
    made["nodes"][2]["retry"] = {
        "max_attempts": 3,
        "initial_s": BACKOFF_S,
        "max_s": BACKOFF_S,
        "jitter": False,
    }
    return made


def _fan() -> Json:
    template = "{said_l}|{said_m}|{said_r}"
    options = {"strategy": "template", "template": template, "output_key": "joined"}
    return {
        "start_node": "start",
        "nodes": [
            {"id": "start", "type": "input"},
            *(_llm(node) for node in "lmr"),
            {"id": "join", "type": "aggregator", "metadata": options},
            _llm("z", "{joined}"),
        ],
        "edges": [
            {"from": "start", "to": ["l", "m", "r"]},
            *({"from": node, "to": "join"} for node in "lmr"),
            {"from": "join", "to": "z"},
        ],
        "state": {**_fields("l", "m", "r", "z"), "joined": {"type": "string", "default": "-"}},
    }


def _loop() -> Json:
    count = {"strategy": "custom", "expression": "rounds + 1", "output_key": "rounds"}
    return {
        "start_node": "start",
        "nodes": [
            {"id": "start", "type": "input"},
            {"id": "next", "type": "aggregator", "metadata": count},
            _llm("ask", "{said_ask}", "ask@{rounds}"),
        ],
        "edges": [
            {"from": "start", "to": "next"},
            {"from": "next", "to": "ask"},
            {"from": "ask", "to": "next", "condition": "rounds < 3"},
            {"from": "ask", "to": "end", "condition": "else"},
        ],
        "state": {**_fields("ask"), "rounds": {"type": "int", "default": 0}},
    }
