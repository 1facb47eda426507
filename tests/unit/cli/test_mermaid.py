"""A workflow as Mermaid: every line of a strict grammar, every text the same when it is read back."""

import re

import pytest
from hypothesis import given, settings

from agentflow.cli import captions, mermaid
from agentflow.cli.mermaid import as_mermaid
from tests.soak import cases
from tests.unit.cli.plans import NASTY, example, nasty_plans, plans

TEXT = r"(?:[A-Za-z0-9 ,'()=/!?]|(?<=[A-Za-z0-9])[-_.](?=[A-Za-z0-9])|[^\x00-\x7f°¶]|#\d+;|#quot;|<br/>)*"
SHAPES = [r"\[", r"\]"], [r"\(\[", r"\]\)"], [r"\{\{", r"\}\}"], [r"\[\(", r"\)\]"]
SHAPES += ([r"\[/", r"/\]"], [r"\[\[", r"\]\]"], [r"\(", r"\)"])
NODE = "|".join(f'{opens}"(?P<t{n}>{TEXT})"{closes}' for n, (opens, closes) in enumerate(SHAPES))
LINES = {
    "node": re.compile(rf"n(?P<number>\d+)(?:{NODE})"),
    "finish": re.compile(r'finish\(\("end"\)\)'),
    "loop": re.compile(rf'subgraph loop(?P<number>\d+)\["(?P<text>{TEXT})"\]'),
    "close": re.compile("end"),
    "edge": re.compile(
        r"n(?P<source>\d+) (?P<arrow>-->|==>|-\.->)"
        rf'(?:\|"(?P<text>{TEXT})"\|)? (?P<target>n\d+|finish)'
    ),
}


def read(flowchart: str) -> list[tuple[str, dict[str, str], int]]:
    """Every line: what it is, its parts, and how deep it is. Fails on a line that is none of these."""
    first, *lines = flowchart.split("\n")
    assert first == "flowchart TD"
    found, depth = [], 1
    for line in lines:
        body = line.strip(" ")
        kind, match = next(
            ((kind, m) for kind, rule in LINES.items() if (m := rule.fullmatch(body))), (None, None)
        )
        assert kind, line
        depth -= kind == "close"
        assert line == "    " * depth + body
        assert not re.search(r"direction\s+(TB|BT|RL|LR|TD)", line)
        found.append((kind, match.groupdict(), depth))
        depth += kind == "loop"
    assert depth == 1
    return found


def decoded(text: str | None) -> str:
    text = (text or "").replace("<br/>", "\n").replace("#quot;", '"')
    return re.sub(r"#(\d+);", lambda code: chr(int(code[1])), text)


def node_text(parts: dict[str, str]) -> str:
    return decoded(next((v for k, v in parts.items() if k[0] == "t" and v is not None), ""))


@given(nasty_plans())
@settings(deadline=None, max_examples=cases(100))
def test_follows_the_grammar_and_reads_back_the_same(plan):
    lines = read(as_mermaid(plan))
    nodes = {int(p["number"]): node_text(p) for kind, p, _ in lines if kind == "node"}
    assert sorted(nodes) == list(range(len(plan.nodes)))
    for node in plan.nodes:
        wanted = [captions.plain(node.id), captions.work(node), captions.join(node)]
        assert nodes[node.index] == "\n".join(line for line in wanted if line)
    edges = [parts for kind, parts, _ in lines if kind == "edge"]
    assert len(edges) == len(plan.edges)
    for edge, parts in zip(plan.edges, edges):
        mark = "↺ " if edge.back else ""
        assert decoded(parts["text"]) == f"{mark}{captions.when(plan, edge)}".strip()
        assert int(parts["source"]) == edge.source
        assert parts["target"] == ("finish" if edge.target < 0 else f"n{edge.target}")


@given(plans())
@settings(deadline=None, max_examples=cases(60))
def test_nodes_stand_inside_their_loops(plan):
    inside: list[int] = []
    for kind, parts, depth in read(as_mermaid(plan)):
        if kind == "loop":
            inside.append(int(parts["number"]))
        elif kind == "close":
            inside.pop()
        elif kind == "node":
            assert tuple(inside) == plan.nodes[int(parts["number"])].loops
            assert depth == len(inside) + 1


@pytest.mark.parametrize("text", NASTY)
def test_any_text_is_quoted(text: str):
    line = captions.plain(text)
    shown = mermaid.text([line])
    assert re.fullmatch(TEXT, shown)
    assert decoded(shown) == line


def test_words_that_mermaid_reads_even_in_quotes_are_broken():
    assert mermaid.text(["direction LR"]) == "direction#32;LR"


def test_loops_are_subgraphs_and_edges_differ_by_kind():
    lines = read(as_mermaid(example("tests/golden/loops_in_loops.json")))
    assert [(k, d) for k, _, d in lines if k in ("loop", "close")] == [
        ("loop", 1),
        ("loop", 2),
        ("close", 2),
        ("close", 1),
    ]
    arrows = [(p["arrow"], decoded(p["text"])) for kind, p, _ in lines if kind == "edge"]
    assert ("==>", "↺ cost < 0.5") in arrows
    assert ("-->", "else") in arrows
    lines = read(as_mermaid(example("tests/golden/diamond_of_everything_later.json")))
    assert ("-.->", "on error") in [(p["arrow"], p["text"]) for k, p, _ in lines if k == "edge"]


@given(nasty_plans())
@settings(deadline=None, max_examples=cases(40))
def test_can_be_written_in_ascii(plan):
    drawn = as_mermaid(plan)
    narrow = mermaid.in_ascii(drawn)
    assert narrow.isascii()
    assert [kind for kind, _, _ in read(narrow)] == [kind for kind, _, _ in read(drawn)]
