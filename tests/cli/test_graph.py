"""``agentflow graph``: the shape of a workflow, for people, pages and tools."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from agentflow.cli import drawing
from tests.cli.conftest import EXAMPLES
from tests.soak import cases

DIAMOND = """\
      ┌───┐
      │ a │
      └───┘
    ┌───┴───┐
  ┌───┐   ┌───┐
  │ b │   │ c │
  └───┘   └───┘
    └───┬───┘
      ┌───┐
      │ d │
      └───┘"""


def stripped(text: str) -> list[str]:
    lines = text.splitlines()
    margin = min(len(line) - len(line.lstrip()) for line in lines)
    return [line[margin:] for line in lines]


def test_diamond_is_drawn():
    drawn = drawing.draw(["a", "b", "c", "d"], [(0, 1), (0, 2), (1, 3), (2, 3)], 0)
    assert stripped(drawn) == stripped(DIAMOND)


def test_edge_over_several_layers_is_led_past():
    drawn = drawing.draw(["a", "b", "c"], [(0, 1), (1, 2), (0, 2)], 0)
    boxes = [line for line in drawn.splitlines() if "│ b │" in line]
    assert boxes[0].count("│") == 3


def test_cycle_does_not_hang():
    assert drawing.layers(3, [(0, 1), (1, 2), (2, 0)], 0) == [[0], [1], [2]]
    assert "b" in drawing.draw(["a", "b"], [(0, 1), (1, 0)], 0)


def test_graph_too_wide_is_not_drawn():
    edges = [(0, node) for node in range(1, 40)]
    assert drawing.draw([f"node-{node}" for node in range(40)], edges, 0) is None
    outline = drawing.outline([f"node-{node}" for node in range(40)], edges, 0)
    assert len(outline.splitlines()) == 40


edges = st.integers(2, 12).flatmap(
    lambda count: st.tuples(
        st.just(count),
        st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=25),
    )
)


@given(edges)
@settings(deadline=None, max_examples=cases(60))
def test_every_node_is_drawn_below_what_leads_to_it(graph):
    count, links = graph
    links = [(a, b) for a, b in links if a < b]
    layers = drawing.layers(count, links, 0)
    level = {node: number for number, layer in enumerate(layers) for node in layer}
    assert sorted(level) == list(range(count))
    assert all(level[a] < level[b] for a, b in links)
    drawn = drawing.draw([f"n{node}" for node in range(count)], links, 0, width=10_000)
    assert all(f"│ n{node} │" in drawn for node in range(count))


def test_text_shows_nodes_and_conditions(cli):
    done = cli("graph", str(EXAMPLES / "support_triage.json"))
    assert done.returncode == 0
    for text in (
        "department · router",
        "ticket · aggregator",
        'department → billing: intent is "billing"',
    ):
        assert text in done.stdout
    assert "department → general: else" in done.stdout


def test_mermaid_names_every_node_and_edge(cli):
    done = cli("graph", str(EXAMPLES / "support_triage.json"), "--format", "mermaid")
    assert done.stdout.startswith("flowchart TD\n")
    assert done.stdout.count("-->") == 13
    assert '"ticket<br/>aggregator"' in done.stdout


def test_json_is_the_graph(cli):
    done = cli("graph", str(EXAMPLES / "support_triage.json"), "--format", "json")
    graph = json.loads(done.stdout)
    assert graph["start_node"] == "message"
    assert len(graph["nodes"]) == 9
    assert len(graph["edges"]) == 13
    assert {edge["kind"] for edge in graph["edges"]} == {"always", "dispatch", "else"}


def test_large_graph_is_listed(cli):
    nodes = [{"id": f"step-{number}", "type": "input"} for number in range(100)]
    links = [{"from": f"step-{n}", "to": f"step-{n + 1}"} for n in range(99)]
    document = {"nodes": nodes, "edges": links, "start_node": "step-0"}
    done = cli("graph", "-", stdin=json.dumps(document))
    assert "step-7 → step-8" in done.stdout


def test_invalid_workflow_is_not_drawn(cli):
    done = cli("graph", "-", "-o", "json", stdin='{"nodes": []}')
    assert done.returncode == 3
    assert json.loads(done.stdout)["status"] == "invalid"
