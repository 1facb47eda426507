"""Where a drawing's parts go: nothing overlaps, and every line begins and ends at its boxes."""

from itertools import combinations, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from agentflow.cli import layering
from agentflow.cli.layering import Segment
from agentflow.cli.layout import OUTSIDE, Group, Layout, Link, arrange
from agentflow.cli.shapes import Box
from tests.soak import cases

NEAR = 0.05


def apart(one: Box, other: Box) -> bool:
    return (
        one.x + one.width <= other.x + NEAR
        or other.x + other.width <= one.x + NEAR
        or one.bottom <= other.y + NEAR
        or other.bottom <= one.y + NEAR
    )


def holds(outer: Box, inner: Box) -> bool:
    return (
        outer.x <= inner.x + NEAR
        and outer.y <= inner.y + NEAR
        and inner.x + inner.width <= outer.x + outer.width + NEAR
        and inner.bottom <= outer.bottom + NEAR
    )


def crosses(path: list[tuple[float, float]], box: Box) -> bool:
    """Whether a path enters a box. A curve stays between the heights and columns of its ends."""
    for (ax, ay), (bx, by) in pairwise(path):
        beside = max(ax, bx) <= box.x + NEAR or min(ax, bx) >= box.x + box.width - NEAR
        above = max(ay, by) <= box.y + NEAR or min(ay, by) >= box.bottom - NEAR
        if not beside and not above:
            return True
    return False


sizes = st.tuples(st.sampled_from([40.0, 90.0, 250.0]), st.sampled_from([20.0, 44.0, 90.0]))


@st.composite
def drawings(draw: st.DrawFn):
    """Any graph, with cycles, parallel edges and loops of a node to itself, in any frames."""
    count = draw(st.integers(1, 14))
    node = st.integers(0, count - 1)
    label = st.none() | st.just((70.0, 18.0))
    link = st.builds(Link, node, node, label, st.just(False), st.sampled_from(["", "error"]))
    parents = [OUTSIDE, draw(st.sampled_from([OUTSIDE, 0])), draw(st.sampled_from([OUTSIDE, 0, 1]))]
    groups = [Group(parent, (60.0, 14.0)) for parent in parents[: draw(st.integers(0, 3))]]
    homes = st.integers(OUTSIDE, len(groups) - 1)
    return (
        draw(st.lists(sizes, min_size=count, max_size=count)),
        draw(st.lists(link, max_size=24)),
        groups,
        draw(st.lists(homes, min_size=count, max_size=count)),
    )


def within(group: int, home: int, groups: list[Group]) -> bool:
    while home not in (OUTSIDE, group):
        home = groups[home].parent
    return home == group


@given(drawings())
@settings(deadline=None, max_examples=cases(80))
def test_boxes_keep_their_size_and_never_overlap(drawing):
    found = arrange(*drawing)
    assert [(box.width, box.height) for box in found.boxes] == drawing[0]
    assert all(apart(one, other) for one, other in combinations(found.boxes, 2))


@given(drawings())
@settings(deadline=None, max_examples=cases(80))
def test_paths_begin_and_end_on_the_borders_of_their_boxes(drawing):
    found = arrange(*drawing)
    for link, path in zip(drawing[1], found.paths):
        source, target = found.boxes[link.source], found.boxes[link.target]
        assert abs(path[0][1] - source.bottom) < NEAR
        assert source.x < path[0][0] < source.x + source.width
        assert abs(path[-1][1] - target.y) < NEAR
        assert target.x < path[-1][0] < target.x + target.width
        assert path[-2][0] == path[-1][0], "the last stretch leads straight down"
        assert path[-2][1] < path[-1][1]


@given(drawings())
@settings(deadline=None, max_examples=cases(80))
def test_paths_pass_beside_all_boxes(drawing):
    found = arrange(*drawing)
    for path in found.paths:
        assert not any(crosses(path, box) for box in found.boxes)


@given(drawings())
@settings(deadline=None, max_examples=cases(80))
def test_frames_hold_what_is_theirs_and_nothing_else(drawing):
    _, _, groups, homes = drawing
    found = arrange(*drawing)
    for number, frame in enumerate(found.frames):
        assert holds(frame, found.titles[number])
        for box, home in zip(found.boxes, homes):
            assert holds(frame, box) if within(number, home, groups) else apart(frame, box)
        for other in range(number):
            inside = within(other, number, groups)
            ok = holds(found.frames[other], frame) if inside else apart(found.frames[other], frame)
            assert ok


@given(drawings())
@settings(deadline=None, max_examples=cases(80))
def test_labels_lie_on_their_paths_and_cover_no_box(drawing):
    found = arrange(*drawing)
    labels = [box for box in found.labels if box is not None]
    assert len(labels) == sum(link.label is not None for link in drawing[1])
    assert all(apart(label, box) for label in labels for box in found.boxes)
    for label, path in zip(found.labels, found.paths):
        assert label is None or crosses(path, label)


@given(drawings())
@settings(deadline=None, max_examples=cases(80))
def test_everything_is_inside_the_drawing_and_drawn_the_same_again(drawing):
    found = arrange(*drawing)
    sheet = Box(0, 0, found.width, found.height)
    assert all(holds(sheet, box) for box in [*found.boxes, *found.frames])
    for path in found.paths:
        assert all(0 <= x <= found.width and 0 <= y <= found.height for x, y in path)
    assert arrange(*drawing) == found


def straight(found: Layout, number: int) -> bool:
    return len({round(x, 2) for x, _ in found.paths[number]}) == 1


def test_chain_is_one_straight_line_when_every_node_may_fail():
    last = 9
    links = [Link(n, n + 1) for n in range(last)]
    links += [Link(n, last, (60.0, 18.0), kind="error") for n in range(last)]
    found = arrange([(120.0, 44.0)] * (last + 1), links)
    assert all(straight(found, number) for number in range(last))


def test_lines_to_one_node_merge_on_the_way():
    links = [Link(0, 1), Link(1, 2), Link(2, 3), Link(0, 3), Link(1, 3)]
    found = arrange([(120.0, 44.0)] * 4, links)
    assert found.paths[3][-2:] == found.paths[4][-2:]


def test_back_link_runs_beside_what_it_leads_around():
    links = [Link(0, 1), Link(1, 2), Link(2, 0, (80.0, 18.0), back=True)]
    found = arrange([(120.0, 44.0)] * 3, links)
    right = max(box.x + box.width for box in found.boxes)
    assert max(x for x, _ in found.paths[2]) > right
    assert found.labels[2].x > right


def test_crossings_are_counted_and_removed():
    rows = [[0, 1], [2, 3]]
    segments = [Segment(0, 3), Segment(1, 2)]
    assert layering.crossings(rows, segments) == 1
    ordered = layering.ordered(rows, segments, [1.0] * 4)
    assert layering.crossings(ordered, segments) == 0


def test_complete_bipartite_graph_has_the_known_number_of_crossings():
    segments = [Segment(a, 4 + b) for a in range(4) for b in range(4)]
    assert layering.crossings([[0, 1, 2, 3], [4, 5, 6, 7]], segments) == 36


def test_ranks_are_the_longest_paths():
    assert layering.ranks(5, [(0, 1), (1, 2), (0, 2), (2, 3), (0, 3)]) == [0, 1, 2, 3, 0]


def test_only_what_closes_a_cycle_is_taken_away():
    edges = [(0, 1), (1, 2), (2, 0), (2, 2), (0, 2)]
    assert layering.without_cycles(3, edges) == [True, True, False, False, True]
