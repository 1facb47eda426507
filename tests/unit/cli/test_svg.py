"""A workflow as SVG: well-formed whatever it holds, complete, and readable."""

import re
import time
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings

from agentflow.cli import captions
from agentflow.cli.svg import as_svg
from tests.soak import cases
from tests.unit.cli.plans import compiled, example, nasty_plans, plans

SVG = "{http://www.w3.org/2000/svg}"
EXAMPLES = [
    "examples/long_brief.json",
    "examples/support_triage.json",
    "tests/golden/loops_in_loops.json",
]
ALLOWED = {"svg", "title", "desc", "style", "g", "rect", "path", "text"}


def parsed(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text.encode("utf-8"))


def groups(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [g for g in root.iter(f"{SVG}g") if name in g.get("class", "").split()]


def words(element: ElementTree.Element) -> str:
    return " ".join(text.text or "" for text in element.iter(f"{SVG}text"))


@given(nasty_plans())
@settings(deadline=None, max_examples=cases(60))
def test_is_well_formed_and_made_of_shapes_only(plan):
    root = parsed(as_svg(plan))
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= ALLOWED
    for element in root.iter():
        assert not any(name.startswith("on") or "href" in name for name in element.attrib)


@given(nasty_plans())
@settings(deadline=None, max_examples=cases(60))
def test_every_node_edge_and_loop_is_there(plan):
    root = parsed(as_svg(plan))
    ends = any(edge.target < 0 for edge in plan.edges)
    assert len(groups(root, "node")) == len(plan.nodes) + ends
    assert len(groups(root, "loop")) == len(plan.loops)
    shown = [group.find(f"{SVG}title").text for group in groups(root, "edge")]
    assert shown == [captions.link(plan, edge) for edge in plan.edges]


@given(plans())
@settings(deadline=None, max_examples=cases(60))
def test_arrows_stand_on_the_borders_of_boxes(plan):
    root = parsed(as_svg(plan))
    boxes = [group.find(f"{SVG}rect") for group in groups(root, "node")]
    tops = {round(float(box.get("y")), 1) for box in boxes}
    bottoms = {round(float(box.get("y")) + float(box.get("height")), 1) for box in boxes}

    def close(value: float, known: set[float]) -> bool:
        return any(abs(value - one) < 0.3 for one in known)

    for edge in groups(root, "edge"):
        line, head = edge.findall(f"{SVG}path")
        assert close(float(re.match(r"M\S+ (\S+?)[LCQ]", line.get("d"))[1]), bottoms)
        assert close(float(re.match(r"M\S+ ([\d.]+)", head.get("d"))[1]), tops)


@given(plans())
@settings(deadline=None, max_examples=cases(60))
def test_text_fits_its_box(plan):
    root = parsed(as_svg(plan))
    for group in [*groups(root, "node"), *groups(root, "label")]:
        box = group.find(f"{SVG}rect")
        for text in group.iter(f"{SVG}text"):
            size = 13.0 if "id" in text.get("class").split() else 11.0
            assert captions.cells(text.text) * size * 0.602 <= float(box.get("width"))


@pytest.mark.parametrize("name", EXAMPLES)
def test_names_and_describes_itself(name: str):
    plan = example(name)
    root = parsed(as_svg(plan))
    assert root.get("role") == "img"
    told = {root.find(f"{SVG}{tag}").get("id") for tag in ("title", "desc")}
    assert set(root.get("aria-labelledby").split()) == told
    assert root.find(f"{SVG}title").text == (plan.name or "workflow")
    assert root.find(f"{SVG}desc").text == captions.summary(plan)


def test_has_colours_for_light_and_for_dark():
    style = parsed(as_svg(example(EXAMPLES[0]))).find(f"{SVG}style").text
    light, dark = style.split("@media (prefers-color-scheme:dark)")
    used = set(re.findall(r"\.((?:fill|stroke)-\w+)", light))
    assert used == set(re.findall(r"\.((?:fill|stroke)-\w+)", dark))


def test_every_class_has_a_colour():
    root = parsed(as_svg(example(EXAMPLES[2])))
    style = root.find(f"{SVG}style").text
    used = {one for e in root.iter() for one in e.get("class", "").split() if "-" in one}
    assert {one for one in used if f".{one}{{" not in style} == set()


def test_nested_loops_have_frames_with_their_bounds():
    root = parsed(as_svg(example("tests/golden/loops_in_loops.json")))
    frames = groups(root, "loop")
    assert [words(frame) for frame in frames] == ["↺ at most 25 iterations"] * 2
    outer, inner = (frame.find(f"{SVG}rect") for frame in frames)
    assert float(outer.get("y")) < float(inner.get("y"))
    assert float(outer.get("width")) > float(inner.get("width"))
    assert [words(g) for g in groups(root, "label") if "back" in g.get("class")] == [
        "↺ cost < 0.5",
        "↺ intent == 'again'",
    ]


def test_joins_error_edges_and_the_start_are_marked():
    plan = compiled(
        {
            "nodes": [
                {"id": "a", "type": "input", "on_error": {"goto": "sorry"}},
                {"id": "b", "type": "input"},
                {"id": "c", "type": "input"},
                {"id": "two", "type": "aggregator", "join": {"n_of": 2}},
                {"id": "sorry", "type": "aggregator", "join": "any"},
            ],
            "edges": [
                {"from": "a", "to": ["b", "c", "two"]},
                {"from": "b", "to": "two"},
                {"from": "c", "to": "two"},
                {"from": "two", "to": "sorry"},
            ],
            "start_node": "a",
        }
    )
    text = as_svg(plan)
    root = parsed(text)
    joins = [words(g) for g in groups(root, "node") if "join" in words(g)]
    assert joins == ["two aggregator join 2 of 3", "sorry aggregator join any"]
    assert [words(g) for g in groups(root, "start")] == ["a input"]
    assert len(groups(root, "edge")) == 7
    assert [words(g) for g in groups(root, "label")] == ["on error"]
    assert ".af .error .line{stroke-dasharray" in text


def test_thousand_nodes_take_no_time():
    nodes = [{"id": f"n{n}", "type": "input"} for n in range(1000)]
    edges = [{"from": f"n{max(0, n - 1 - n % 7)}", "to": f"n{n}"} for n in range(1, 1000)]
    edges += [{"from": f"n{n}", "to": f"n{min(999, n + 13)}"} for n in range(0, 990, 3)]
    plan = compiled({"nodes": nodes, "edges": edges, "start_node": "n0"})
    begun = time.perf_counter()
    as_svg(plan)
    assert time.perf_counter() - begun < 10
