"""A workflow as text: boxes and lines, or a list where they do not fit."""

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from agentflow.cli import captions, drawing
from tests.soak import cases
from tests.unit.cli.plans import compiled, example, nasty_plans, plans

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
    drawn = drawing.draw([["a"], ["b"], ["c"], ["d"]], [(0, 1), (0, 2), (1, 3), (2, 3)])
    assert stripped(drawn) == stripped(DIAMOND)


def test_edge_over_several_rows_is_led_past():
    drawn = drawing.draw([["a"], ["b"], ["c"]], [(0, 1), (1, 2), (0, 2)])
    boxes = [line for line in drawn.splitlines() if "│ b │" in line]
    assert boxes[0].count("│") == 3


def test_boxes_of_a_row_are_of_one_height():
    drawn = drawing.draw([["a"], ["b"], ["c", "with more"]], [(0, 1), (0, 2)])
    last = drawn.splitlines()[-1]
    assert last.count("└") == last.count("┘") == 2


def test_cycle_does_not_hang():
    drawn = drawing.draw([["a"], ["b"]], [(0, 1), (1, 0), (0, 0)])
    assert "│ a │" in drawn
    assert "│ b │" in drawn


def test_nothing_is_drawn_as_nothing():
    assert drawing.draw([], []) == ""


def test_graph_too_wide_is_not_drawn():
    edges = [(0, node) for node in range(1, 40)]
    assert drawing.draw([[f"node-{node}"] for node in range(40)], edges) is None


graphs = st.integers(2, 12).flatmap(
    lambda count: st.tuples(
        st.just(count),
        st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=25),
    )
)


@given(graphs)
@settings(deadline=None, max_examples=cases(60))
def test_every_box_is_whole_and_below_what_leads_to_it(graph):
    count, links = graph
    links = [(a, b) for a, b in links if a < b]
    drawn = drawing.draw([[f"n{node}"] for node in range(count)], links, width=10_000)
    lines = drawn.splitlines()
    row = {}
    for node in range(count):
        shown = f"│ n{node} │"
        row[node] = next(number for number, line in enumerate(lines) if shown in line)
        at = lines[row[node]].index(shown)
        inner = "─" * (len(shown) - 2)
        assert lines[row[node] - 1][at : at + len(shown)] == f"┌{inner}┐"
        assert lines[row[node] + 1][at : at + len(shown)] == f"└{inner}┘"
    assert all(row[a] < row[b] for a, b in links)


@given(plans())
@settings(deadline=None, max_examples=cases(60))
def test_every_node_condition_and_loop_is_told(plan):
    for width in (10_000, 10):
        text = drawing.as_text(plan, width)
        for node in plan.nodes:
            assert captions.plain(node.id) in text
            assert captions.join(node) in text
        for edge in plan.edges:
            told = captions.link(plan, edge)
            assert edge.kind == "always" or width == 10 or told in text.splitlines()
        for loop in plan.loops:
            assert f"↺ {captions.bound(loop)}: {captions.name(plan, loop.entry)}" in text


@given(nasty_plans())
@settings(deadline=None, max_examples=cases(60))
def test_nothing_drives_the_terminal(plan):
    text = drawing.as_text(plan)
    assert all(char == "\n" or char.isprintable() for char in text)
    narrow = drawing.in_ascii(text, "ascii")
    assert narrow.isascii()


def test_loops_show_their_entry_their_bound_and_what_leads_back():
    text = drawing.as_text(example("tests/golden/loops_in_loops.json"))
    lines = [line.strip() for line in text.splitlines()]
    assert lines.count("│ ↺ at most 25 iterations │") == 2
    assert "↺ inner2 → inner1: cost < 0.5" in lines
    assert "inner2 → check: else" in lines
    assert "↺ at most 25 iterations: outer, inner1, inner2, check" in lines
    assert "↺ at most 25 iterations: inner1, inner2" in lines


def test_joins_and_error_edges_are_told():
    text = drawing.as_text(example("tests/golden/diamond_of_everything_later.json"))
    assert "page → person: on error" in text.splitlines()
    assert text.count("│ join any   │") + text.count("│ join any │") == 2


def test_narrow_screen_gets_a_list():
    text = drawing.as_text(example("tests/golden/loops_in_loops.json"), width=20)
    lines = text.splitlines()
    assert lines[0] == "1  in (input) → outer"
    assert "4  inner2 (aggregator) → ↺ inner1 [cost < 0.5], check [else]" in lines


def test_ten_thousand_nodes_are_listed_at_once():
    nodes = [{"id": f"n{n}", "type": "input"} for n in range(10_000)]
    edges = [{"from": "n0", "to": f"n{n}"} for n in range(1, 5000)]
    edges += [{"from": f"n{n - 1}", "to": f"n{n}"} for n in range(5000, 10_000)]
    plan = compiled({"nodes": nodes, "edges": edges, "start_node": "n0"})
    begun = time.perf_counter()
    lines = drawing.as_text(plan).splitlines()
    assert time.perf_counter() - begun < 5
    assert len(lines) == 10_000
    assert lines[0].endswith("n7, n8, and 4991 more")
    assert max(map(len, lines)) < 200


def test_lines_need_an_encoding_that_has_them():
    assert drawing.can_draw("utf-8")
    assert not drawing.can_draw("ascii")
    assert not drawing.can_draw("latin-1")
    assert not drawing.can_draw("no such encoding")


def test_ascii_drawing_keeps_its_shape():
    text = drawing.as_text(example("tests/golden/loops_in_loops.json"))
    narrow = drawing.in_ascii(text, "ascii")
    drawn, flat = text.split("\n\n")[0], narrow.split("\n\n")[0]
    assert [len(line) for line in drawn.splitlines()] == [len(line) for line in flat.splitlines()]
    assert "@ inner2 -> inner1: cost < 0.5" in narrow


def test_text_is_wrapped_where_it_reads_well():
    assert captions.wrapped("", 10, 2) == [""]
    assert captions.wrapped("short", 10, 2) == ["short"]
    assert captions.wrapped("one two three", 9, 2) == ["one two", "three"]
    assert captions.wrapped("step-one-and-two", 9, 2) == ["step-one-", "and-two"]
    assert captions.wrapped("a b c d e f g h", 5, 2) == ["a b c", "d e…"]
    assert captions.wrapped("日本語日本語", 6, 2) == ["日本語", "日本語"]


@given(st.text(max_size=60), st.integers(4, 20), st.integers(1, 3))
@settings(deadline=None, max_examples=cases(100))
def test_wrapped_text_fits(text, width, lines):
    found = captions.wrapped(captions.plain(text), width, lines)
    assert 1 <= len(found) <= lines
    assert all(captions.cells(line) <= width for line in found)
