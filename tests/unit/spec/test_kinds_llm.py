"""Options of llm nodes: what is valid, and each mistake at its place."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from agentflow import errors as error_types
from agentflow.plan.compile import compile_plan
from agentflow.spec.check import Checked, check
from agentflow.spec.kinds.llm import STEP_ERRORS
from tests.unit.spec.samples import line

Json = Any

SOURCES: list[dict[str, Json]] = [
    {"id": name, "kind": "llm", "config": {"provider": "local", "model": "m", **config}}
    for name, config in {
        "small": {"context_window": 8192},
        "tight": {"context_window": 1000, "max_tokens": 1000},
        "large": {},
    }.items()
]
PLAIN: dict[str, Json] = {"source": "small"}
LLM: dict[str, Json] = {
    "source": ["small", "large"],
    "fallback_on": ["CallTimeout", "ContentFiltered"],
    "race": True,
    "prompt_template": "Sum up {user_input}",
    "system_prompt": "Be brief, {execution.id}",
    "images": ["https://example.com/a.png", "${image_result}", {"uri": "blob:1"}],
    "model_name": "other",
    "temperature": 2,
    "max_tokens": 8191,
    "top_p": 0,
    "stop": ["END", "."],
    "seed": -1,
    "frequency_penalty": -2,
    "presence_penalty": 2.0,
    "response_schema": {"type": "object"},
    "stream": False,
    "output_key": "summary",
    "spill": {"to": "large", "max_wait_s": 5, "max_cost_usd_per_hour": 1, "return_below_s": 0},
}


def checked(options: dict[str, Json]) -> Checked:
    """in -> n (an llm node); None takes an option away."""
    metadata = {key: value for key, value in options.items() if value is not None}
    nodes = [{"id": "in", "type": "input"}, {"id": "n", "type": "llm", "metadata": metadata}]
    return check(line(*nodes, sources=copy.deepcopy(SOURCES)))


def errors(found: Checked) -> list[tuple[str, str]]:
    return [(p.code, p.field.removeprefix("nodes[1].metadata.")) for p in found.errors]


def test_check_accepts_every_option() -> None:
    found = checked(LLM)
    assert errors(found) == []
    node = compile_plan(found.normalized or {}).node("n")
    assert node.sources == ("small", "large")
    assert (node.options["prompt"], node.options["model"]) == ("Sum up {user_input}", "other")


@pytest.mark.parametrize(
    "messages",
    [
        "${user_input}",
        [
            {"role": "system", "content": "{user_input}"},
            {"role": "user", "content": [{"text": "a"}]},
        ],
    ],
)
def test_check_accepts_a_whole_chat(messages: Json) -> None:
    assert errors(checked({**PLAIN, "messages": messages})) == []


def test_check_fills_in_the_defaults() -> None:
    options = compile_plan(checked(PLAIN).normalized or {}).node("n").options
    assert options["prompt"] == "{user_input}"
    assert options["output_key"] == "text_result"
    assert options["fallback_on"] == [
        "ProviderUnavailable",
        "ConnectionFailed",
        "ProviderRateLimited",
        "CallTimeout",
    ]
    assert (options["race"], options["stream"], options["images"]) == (False, True, [])
    assert options["temperature"] is options["spill"] is None


def test_fallbacks_beside_a_single_source_are_a_chain() -> None:
    given = {"source_id": "small", "fallbacks": ["large"]}
    node = compile_plan(checked(given).normalized or {}).node("n")
    assert node.options["source"] == ["small", "large"]
    assert errors(checked({**given, "fallbacks": ["large", "gone"]})) == [("E008", "fallbacks[1]")]
    assert errors(checked({"source": ["small", "large"], "fallbacks": ["tight"]}))[0] == (
        "E003",
        "fallbacks",
    )


def test_two_spellings_of_the_prompt_must_agree() -> None:
    same = {**PLAIN, "prompt": "a", "prompt_template": "a"}
    assert errors(checked(same)) == []
    assert errors(checked({**same, "prompt": "b"})) == [("E003", "prompt_template")]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"source": None}, [("E014", "nodes[1].metadata")]),
        ({"source": []}, [("E024", "source"), ("E014", "nodes[1].metadata")]),
        ({"source": [""]}, [("E008", "source[0]"), ("E024", "source[0]")]),
        ({"fallback_on": "CallTimeout"}, [("E024", "fallback_on")]),
        ({"fallback_on": ["CallTimeOut"]}, [("E024", "fallback_on[0]")]),
        ({"fallback_on": []}, []),
        ({"race": "yes"}, [("E024", "race")]),
        ({"prompt": 3}, [("E024", "prompt")]),
        ({"prompt": "{outputs.gone}"}, [("E020", "prompt")]),
        ({"messages": []}, [("E024", "messages")]),
        ({"messages": "hello"}, [("E024", "messages")]),
        ({"messages": [{"role": "", "content": "a"}]}, [("E024", "messages[0]")]),
        ({"messages": [{"role": "user", "content": 3}]}, [("E024", "messages[0]")]),
        ({"messages": [{"role": "user", "content": "${nope}"}]}, [("E020", "messages[0].content")]),
        ({"images": "a.png"}, [("E024", "images")]),
        ({"images": "${nope}"}, [("E020", "images")]),
        ({"images": ["/etc/passwd"]}, [("E024", "images[0]")]),
        ({"images": ["file:///etc/passwd"]}, [("E024", "images[0]")]),
        ({"images": ["C:\\cat.png"]}, [("E024", "images[0]")]),
        ({"images": [3]}, [("E024", "images[0]")]),
        ({"images": ["https://a:hunter2@example.com/x"]}, [("E024", "images[0]")]),
        ({"model": ""}, [("E024", "model")]),
        ({"temperature": 2.1}, [("E024", "temperature")]),
        ({"temperature": "hot"}, [("E024", "temperature")]),
        ({"max_tokens": 0}, [("E024", "max_tokens")]),
        ({"max_tokens": 8192}, [("E024", "max_tokens")]),
        ({"source": ["large", "tight"]}, [("E024", "source")]),
        ({"source": ["large", "tight"], "max_tokens": 999}, []),
        ({"top_p": 1.1}, [("E024", "top_p")]),
        ({"stop": ""}, [("E024", "stop")]),
        ({"stop": "END"}, []),
        ({"stop": ["a", ""]}, [("E024", "stop[1]")]),
        ({"seed": 1.5}, [("E024", "seed")]),
        ({"seed": 2**63}, [("E024", "seed")]),
        ({"frequency_penalty": 3}, [("E024", "frequency_penalty")]),
        ({"presence_penalty": -2.5}, [("E024", "presence_penalty")]),
        ({"response_schema": {"type": "no"}}, [("E024", "response_schema")]),
        ({"stream": 1}, [("E024", "stream")]),
        ({"output_key": ""}, [("E024", "output_key")]),
        ({"output_key": "cost"}, [("E024", "output_key")]),
        ({"spill": "large"}, [("E024", "spill")]),
        ({"spill": {"to": 3}}, [("E024", "spill.to")]),
        ({"spill": {"to": "gone"}}, [("E008", "spill.to")]),
        ({"spill": {"max_wait_s": -1}}, [("E024", "spill.max_wait_s")]),
        ({"spill": {"max_cost_usd_per_hour": 0}}, [("E024", "spill.max_cost_usd_per_hour")]),
        ({"spill": {"max_wait_s": 1, "return_below_s": 2}}, [("E024", "spill")]),
    ],
)  # fmt: skip
def test_check_reports_llm_options(
    changes: dict[str, Json], expected: list[tuple[str, str]]
) -> None:
    found = checked({**PLAIN, **changes})
    assert sorted(errors(found)) == sorted(expected)
    assert all("hunter2" not in str(problem.to_json()) for problem in found.errors)


def test_unknown_error_type_is_told_with_the_nearest_one() -> None:
    [problem] = checked({**PLAIN, "fallback_on": ["CallTimeOut"]}).errors
    assert "Did you mean 'CallTimeout'" in problem.message


def test_every_step_error_can_be_named() -> None:
    assert len(set(STEP_ERRORS)) == len(STEP_ERRORS)
    known = {cls.__name__ for cls in error_types.StepError.__subclasses__()} - {"NodeFailed"}
    assert known <= set(STEP_ERRORS)


def test_source_that_work_spills_to_exists_and_is_used() -> None:
    document = checked(PLAIN).normalized or {}
    document["sources"][0]["config"]["spill"] = {"to": "large", "max_wait_s": 1}
    found = check(document)
    assert [w.node_id for w in found.warnings if w.code == "W003"] == ["tight"]
    document["sources"][0]["config"]["spill"] = {"to": "gone"}
    assert [(p.code, p.field) for p in check(document).errors] == [
        ("E008", "sources[0].config.spill.to")
    ]
    document["sources"][0]["config"]["spill"] = {"max_wait_s": "long"}
    assert [(p.code, p.field) for p in check(document).errors] == [
        ("E003", "sources[0].config.spill.max_wait_s")
    ]
