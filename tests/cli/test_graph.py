"""``agentflow graph``: the shape of a workflow, for people, pages and tools."""

import json
import os
from xml.etree import ElementTree

from tests.cli.conftest import EXAMPLES, ROOT

TRIAGE = str(EXAMPLES / "support_triage.json")
LOOPS = str(ROOT / "tests" / "golden" / "loops_in_loops.json")


def test_text_shows_nodes_and_conditions(cli):
    done = cli("graph", TRIAGE)
    assert done.returncode == 0
    for text in (
        "│ department │",
        "│ llm · small │",
        'department → billing: intent is "billing"',
        "department → general: else",
    ):
        assert text in done.stdout


def test_text_is_plain_where_the_output_has_no_lines(typed):
    done = typed("graph", LOOPS, PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert "| inner1 " in done.stdout
    assert "@ inner2 -> inner1: cost < 0.5" in done.stdout


def test_mermaid_names_every_node_and_edge(cli, typed):
    done = cli("graph", TRIAGE, "--format", "mermaid")
    assert done.stdout.startswith("flowchart TD\n")
    assert done.stdout.count("-->") == 13
    assert '[["ticket<br/>aggregator"]]' in done.stdout
    plain = typed("graph", LOOPS, "--format", "mermaid", PYTHONIOENCODING="ascii")
    assert 'subgraph loop0["#8634; at most 25 iterations"]' in plain.stdout


def test_svg_is_a_document(cli, typed):
    done = cli("graph", LOOPS, "--format", "svg")
    assert done.returncode == 0
    root = ElementTree.fromstring(done.stdout)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    plain = typed("graph", LOOPS, "--format", "svg", PYTHONIOENCODING="latin-1")
    assert ElementTree.tostring(ElementTree.fromstring(plain.stdout)) == ElementTree.tostring(root)


def test_json_is_the_graph(cli):
    done = cli("graph", TRIAGE, "--format", "json")
    graph = json.loads(done.stdout)
    assert graph["start_node"] == "message"
    assert len(graph["nodes"]) == 9
    assert len(graph["edges"]) == 13
    assert {edge["kind"] for edge in graph["edges"]} == {"always", "dispatch", "else"}
    assert graph["loops"] == []


def test_json_tells_loops(cli):
    graph = json.loads(cli("graph", LOOPS, "-o", "json").stdout)
    outer, inner = graph["loops"]
    assert (outer["entry"], outer["parent"], outer["max_iterations"]) == ("outer", None, 25)
    assert (inner["members"], inner["parent"]) == (["inner1", "inner2"], 0)
    back = [(edge["from"], edge["to"]) for edge in graph["edges"] if edge["back"]]
    assert back == [("inner2", "inner1"), ("check", "outer")]


def test_large_graph_is_listed(cli):
    nodes = [{"id": f"step-{number}", "type": "input"} for number in range(100)]
    links = [{"from": f"step-{n}", "to": f"step-{n + 1}"} for n in range(99)]
    document = {"nodes": nodes, "edges": links, "start_node": "step-0"}
    done = cli("graph", "-", stdin=json.dumps(document))
    assert "  8  step-7 (input) → step-8" in done.stdout


def test_invalid_workflow_is_not_drawn(cli, tmp_path):
    out = tmp_path / "graph.svg"
    done = cli("graph", "-", "-o", "json", "--out", str(out), stdin='{"nodes": []}')
    assert done.returncode == 3
    assert json.loads(done.stdout)["status"] == "invalid"
    assert not out.exists()


def test_file_gets_the_format_of_its_name(cli, tmp_path):
    beginnings = {
        "graph.svg": "<svg ",
        "graph.MMD": "flowchart TD\n",
        "graph.json": "{",
        "graph.txt": " ",
    }
    for name, beginning in beginnings.items():
        done = cli("graph", LOOPS, "--out", str(tmp_path / name))
        assert (done.returncode, done.stdout) == (0, "")
        assert done.stderr == f"Written to {tmp_path / name}\n"
        assert (tmp_path / name).read_text().startswith(beginning)
    asked = cli("graph", LOOPS, "--out", str(tmp_path / "page"), "--format", "mermaid")
    assert asked.returncode == 0
    assert (tmp_path / "page").read_text() == (tmp_path / "graph.MMD").read_text()


def test_file_is_written_beside_the_document_on_stdout(cli, tmp_path):
    done = cli("graph", LOOPS, "--out", str(tmp_path / "graph.svg"), "-o", "json")
    assert json.loads(done.stdout)["start_node"] == "in"
    ElementTree.parse(tmp_path / "graph.svg")


def test_file_that_is_replaced_is_told(cli, tmp_path):
    out = tmp_path / "graph.svg"
    out.write_text("before")
    done = cli("graph", LOOPS, "--out", str(out))
    assert done.stderr == f"Replaced {out}\n"
    assert out.read_text().startswith("<svg ")


def test_workflow_is_never_written_over(cli, tmp_path):
    workflow = tmp_path / "workflow.json"
    workflow.write_bytes((EXAMPLES / "support_triage.json").read_bytes())
    (tmp_path / "same.json").symlink_to(workflow)
    for name in ("workflow.json", "same.json"):
        done = cli("graph", str(workflow), "--out", str(tmp_path / name))
        assert done.returncode == 2
        assert "is the workflow itself" in done.stderr
    assert workflow.read_bytes() == (EXAMPLES / "support_triage.json").read_bytes()


def test_only_regular_files_are_written(cli, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path, tmp_path / "pipe", "/dev/null", tmp_path / "none" / "graph.svg"):
        done = cli("graph", LOOPS, "--out", str(place))
        assert done.returncode == 2, place
        assert "--out" in done.stderr
