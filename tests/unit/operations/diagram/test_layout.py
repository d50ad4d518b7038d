"""The layout of each construct: which boxes there are, which edges join them, and that nothing overlaps."""

from __future__ import annotations

from itertools import combinations, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cases import cases

from flowhook.document.definition import walk
from flowhook.document.loader import parse
from operations.diagram.layout import BOTTOM, FIRST_ROW, GAP, MAX_NESTED, ROW, Box, Edge, lay_out

EXAMPLES = sorted((Path(__file__).parents[4] / "examples").glob("*.yaml"))
SET = {"set": {"a": 1}}


def draw(do, **keys):
    drawing = lay_out({"do": do, **keys}, "flow")
    boxes = [shape for shape in drawing.shapes if isinstance(shape, Box)]
    for one, other in combinations(boxes, 2):
        assert apart(one, other) or inside(one, other) or inside(other, one)
    lines = [shape for shape in drawing.shapes if isinstance(shape, Edge)]
    for edge in lines:
        for one, other in pairwise(edge.points):
            assert one[0] == other[0] or one[1] == other[1]
            assert not [box for box in boxes if passes(one, other, box)], edge
    for edge, another in combinations(lines, 2):
        assert not crossings(edge, another), (edge, another)
    points = [point for edge in lines for point in edge.points]
    corners = [(box.x + box.width, box.y + box.height) for box in boxes]
    assert all(0 < x < drawing.width and 0 < y < drawing.height for x, y in points + corners)
    return drawing


def apart(one, other):
    beside = one.x + one.width <= other.x or other.x + other.width <= one.x
    return beside or one.y + one.height <= other.y or other.y + other.height <= one.y


def inside(one, other):
    return (
        other.frame
        and other.x < one.x
        and one.x + one.width < other.x + other.width
        and other.y < one.y
        and one.y + one.height < other.y + other.height
    )


def passes(one, other, box):
    """Whether a segment runs through a box, or through the rows of a frame."""
    height = FIRST_ROW + ROW * (len(box.rows) - 1) + BOTTOM if box.frame else box.height
    (left, right), (top, bottom) = sorted((one[0], other[0])), sorted((one[1], other[1]))
    return (
        left < box.x + box.width and box.x < right and top < box.y + height and box.y < bottom
        if left < right
        else (box.x < left < box.x + box.width and top < box.y + height and box.y < bottom)
    )


def crossings(edge, another):
    """Points within segments of both edges, at which one is horizontal and the other vertical."""
    return [
        (a, c)
        for first, second in ((edge, another), (another, edge))
        for a, b in pairwise(first.points)
        for c, d in pairwise(second.points)
        if a[1] == b[1] and c[0] == d[0]
        if min(a[0], b[0]) < c[0] < max(a[0], b[0]) and min(c[1], d[1]) < a[1] < max(c[1], d[1])
    ]


def name(box):
    return box.rows[0].text


def box_of(drawing, wanted):
    return next(shape for shape in drawing.shapes if isinstance(shape, Box) and name(shape) == wanted)


def edges(drawing):
    """Return the edges between boxes that are no frames, by the names of both and the kind of the edge."""
    boxes = [shape for shape in drawing.shapes if isinstance(shape, Box)]
    found = set()
    for edge in (shape for shape in drawing.shapes if isinstance(shape, Edge)):
        ends = [
            [box for box in boxes if box.x <= x <= box.x + box.width and box.y <= y <= box.y + box.height]
            for x, y in (edge.points[0], edge.points[-1])
        ]
        if all(ends):
            found.add((name(ends[0][-1]), name(ends[1][-1]), edge.kind))
    return found


@cases("path", EXAMPLES, ids=lambda path: path.stem)
def test_no_box_of_the_examples_overlaps_with_another(path):
    draw(parse(path.read_bytes()).definition["do"])


def test_tasks_follow_one_another_from_start_to_end():
    assert edges(draw([{"a": SET}, {"b": SET}])) == {("flow", "a", "next"), ("a", "b", "next"), ("b", "end", "next")}


def test_then_leads_to_a_task_or_ends():
    drawing = draw([{"a": {**SET, "then": "c"}}, {"b": {**SET, "then": "exit"}}, {"c": {**SET, "then": "a"}}])
    assert edges(drawing) == {
        ("flow", "a", "next"),
        ("a", "c", "jump"),
        ("b", "exit", "next"),
        ("c", "a", "jump"),
    }


def test_then_with_the_name_of_the_next_task_is_a_straight_edge():
    assert ("a", "b", "next") in edges(draw([{"a": {**SET, "then": "b"}}, {"b": SET}]))


def jumps(drawing):
    return [shape for shape in drawing.shapes if isinstance(shape, Edge) and shape.kind == "jump"]


def test_edges_to_one_task_share_a_lane_and_one_around_others_runs_outside():
    do = [{"a": SET}, {"b": SET}, {"c": {**SET, "then": "b"}}, {"d": {**SET, "then": "b"}}, {"e": {**SET, "then": "a"}}]
    drawing = draw([*do, {"f": SET}])
    lanes = {name_of_source: edge.points[1][0] for edge in jumps(drawing) for name_of_source in sources(drawing, edge)}
    assert lanes["c"] == lanes["d"] < lanes["e"]


def sources(drawing, edge):
    x, y = edge.points[0]
    boxes = (shape for shape in drawing.shapes if isinstance(shape, Box))
    return [name(box) for box in boxes if box.x + box.width == x and box.y <= y <= box.y + box.height]


def test_an_edge_that_would_cross_another_is_said_in_a_small_box():
    do = [{"a": SET}, {"b": SET}, {"c": {**SET, "then": "a"}}, {"d": {**SET, "then": "b"}}, {"e": SET}]
    drawing = draw(do)
    assert len(jumps(drawing)) == 1
    assert ("c", "→ a", "next") in edges(drawing)


def test_the_branches_of_a_switch_stand_side_by_side_and_come_together():
    cases = [{"x": {"when": ".x", "then": "b"}}, {"y": {"when": ".y", "then": "c"}}]
    do = [{"s": {"switch": cases}}, {"a": {**SET, "then": "d"}}, {"b": {**SET, "then": "d"}}, {"c": SET}, {"d": SET}]
    drawing = draw(do)
    a, b, c, d = (box_of(drawing, each) for each in "abcd")
    assert a.y == b.y == c.y < d.y
    assert a.x < b.x < c.x
    assert a.x == d.x == box_of(drawing, "s").x
    assert {("s", each, "next") for each in "abc"} <= edges(drawing)
    assert [edge.label for edge in drawing.shapes if isinstance(edge, Edge) and edge.label] == ["else", "x", "y"]
    assert sum(edge.kind == "join" for edge in drawing.shapes if isinstance(edge, Edge)) == 3
    assert not jumps(drawing)


def test_a_case_that_skips_tasks_leads_straight_down_beside_them():
    do = [{"s": {"switch": [{"x": {"when": ".x", "then": "b"}}]}}, {"a": SET}, {"b": SET}]
    drawing = draw(do)
    assert box_of(drawing, "a").x > box_of(drawing, "b").x
    assert ("s", "a", "next") in edges(drawing)
    assert not jumps(drawing)


def test_a_branch_that_ends_says_so_and_the_rest_goes_on_below():
    do = [
        {"s": {"switch": [{"no": {"when": ".x", "then": "refuse"}}, {"yes": {"then": "go"}}]}},
        {"refuse": {**SET, "then": "end"}},
        *({name: SET} for name in ("go", "on", "further")),
    ]
    drawing = draw(do)
    ends = [box for box in drawing.shapes if isinstance(box, Box) and box.kind == "end"]
    assert len(ends) == 2
    assert box_of(drawing, "go").y > box_of(drawing, "refuse").y
    assert ("further", "end", "next") in edges(drawing)
    one, other = (box_of(draw(do[:-1]), each) for each in ("refuse", "go"))
    assert one.y == other.y


def test_branches_nested_deeper_than_the_limit_are_one_below_another():
    do = []
    for number in range(3 * MAX_NESTED):
        do += [{f"s{number}": {"switch": [{"x": {"when": ".x", "then": f"a{number}"}}, {"y": {"then": f"b{number}"}}]}}]
        do += [{f"a{number}": {**SET, "then": "z"}}, {f"b{number}": SET}]
    draw([*do, {"z": SET}])


NAMES = [f"t{number}" for number in range(8)]
THEN = st.sampled_from([*NAMES, "continue", "exit", "end"])
SWITCH = st.lists(st.tuples(st.booleans(), THEN), min_size=1, max_size=4).map(
    lambda cases: {
        "switch": [
            {f"c{n}": {"then": then, **({"when": ".x"} if when else {})}} for n, (when, then) in enumerate(cases)
        ]
    }
)


def lists(tasks):
    return st.lists(tasks, min_size=1, max_size=8).map(
        lambda found: [{f"t{number}": task} for number, task in enumerate(found)]
    )


def around(tasks):
    inner = lists(tasks)
    return st.one_of(
        inner.map(lambda do: {"do": do}),
        inner.map(lambda do: {"for": {"each": "x", "in": ".x"}, "do": do}),
        inner.map(lambda do: {"fork": {"branches": do}}),
        st.tuples(inner, inner).map(lambda pair: {"try": pair[0], "catch": {"do": pair[1]}}),
        inner.map(lambda do: {"try": do, "catch": {}}),
    )


TASKS = st.recursive(
    st.one_of(
        SWITCH,
        st.builds(lambda then: {**SET, "then": then}, THEN),
        st.sampled_from([SET, {"raise": {"error": "x"}}, {"wait": "PT1S"}]),
    ),
    around,
    max_leaves=12,
)


@given(lists(TASKS))
def test_no_boxes_overlap_and_no_edges_cross_in_any_flow(do):
    drawing = draw(do)
    drawn = [box.placed.pointer for box in drawing.shapes if isinstance(box, Box) and box.placed is not None]
    assert len({*drawn}) == len(drawn) == sum(1 for _ in walk({"do": do}))


def test_the_cases_of_a_switch_are_rows_with_their_targets():
    cases = [{"big": {"when": ".n > 9", "then": "b"}}, {"odd": {"when": ".odd", "then": "end"}}]
    drawing = draw([{"s": {"switch": cases}}, {"a": SET}, {"b": SET}])
    rows = [(row.style, row.text, row.right) for row in box_of(drawing, "s").rows]
    assert rows[1:] == [
        ("case", "big", "→ b"),
        ("summary", ".n > 9", ""),
        ("case", "odd", "end"),
        ("summary", ".odd", ""),
    ]
    assert ("s", "a", "next") in edges(drawing)
    assert [shape.label for shape in drawing.shapes if isinstance(shape, Edge) and shape.label] == ["big", "else"]


def test_a_switch_with_a_default_does_not_lead_on_unless_a_case_continues():
    for then, leads in (("b", False), ("continue", True)):
        drawing = draw([{"s": {"switch": [{"usual": {"then": then}}]}}, {"a": SET}, {"b": SET}])
        assert (("s", "a", "next") in edges(drawing)) == leads


def test_a_raise_leads_nowhere():
    assert not [edge for edge in edges(draw([{"no": {"raise": {"error": "x"}}}, {"a": SET}])) if edge[0] == "no"]


def test_do_for_and_listen_are_frames_and_the_last_two_come_back():
    loop = {"for": {"each": "x", "in": "${ .items }"}, "while": ".go", "do": [{"a": SET}, {"b": SET}]}
    events = {"listen": {"to": {"any": []}}, "foreach": {"do": [{"e": SET}]}}
    drawing = draw([{"group": {"do": [{"c": SET}]}}, {"loop": loop}, {"events": events}])
    for outer, inner in (("group", "c"), ("loop", "a"), ("loop", "b"), ("events", "e")):
        assert inside(box_of(drawing, inner), box_of(drawing, outer))
    assert [row.text for row in box_of(drawing, "loop").rows] == ["loop", ".items while .go"]
    loops = [shape for shape in drawing.shapes if isinstance(shape, Edge) and shape.kind == "loop"]
    assert [edge.points[-1][0] for edge in loops] == [box_of(drawing, "a").x, box_of(drawing, "e").x]


def test_the_branches_of_a_fork_stand_side_by_side_and_join():
    branches = [{"a": SET}, {"b": {"do": [{"x": SET}, {"y": SET}]}}]
    drawing = draw([{"both": {"fork": {"branches": branches, "compete": True}}}, {"after": SET}])
    one, other = box_of(drawing, "a"), box_of(drawing, "b")
    assert one.y == other.y
    assert one.x < other.x
    joins = [shape for shape in drawing.shapes if isinstance(shape, Edge) and shape.kind == "join"]
    assert len({edge.points[-1] for edge in joins}) == 1
    assert len(joins) == 2
    assert box_of(drawing, "both").rows[1].text == "first to end"


def test_the_handler_of_a_try_is_a_frame_beside_what_is_tried():
    catch = {"errors": {"with": {"type": "https://example.com/errors/late", "status": 504}}, "do": [{"c": SET}]}
    drawing = draw([{"t": {"try": [{"a": SET}], "catch": catch}}])
    handler = box_of(drawing, "catch")
    assert handler.rows[1].text == "late, 504"
    assert inside(box_of(drawing, "c"), handler)
    assert inside(handler, box_of(drawing, "t"))
    assert box_of(drawing, "a").x < handler.x
    assert ("a", "catch", "catch") in edges(drawing)


def test_a_try_without_a_handler_says_what_it_catches():
    for catch, text in (
        ({}, "any error"),
        ({"retry": {"limit": {"attempt": {"count": 3}}}, "when": ".x"}, "when .x; 3 retries"),
        ({"retry": "often"}, "retry often"),
        ({"when": ".x", "then": "end"}, "when .x; then end"),
    ):
        assert box_of(draw([{"t": {"try": [{"a": SET}], "catch": catch}}]), "catch").rows[1].text == text


@cases(
    ("keys", "rows"),
    [
        ({}, []),
        ({"webhook": {"auth": "none"}}, ["webhook, auth: none"]),
        ({"webhook": {"auth": [{"github": {}}, {"api_key": {}}]}}, ["webhook, auth: github or api_key"]),
        ({"schedule": {"cron": "0 9 * * *"}}, ["cron 0 9 * * *"]),
        ({"schedule": {"every": {"minutes": 5}}}, ["every 5 minutes"]),
        ({"schedule": {"on": {"one": {"with": {"type": "paid"}}}}}, ["on paid"]),
    ],
)
def test_the_start_says_what_starts_the_flow(keys, rows):
    assert [row.text for row in box_of(draw([], **keys), "flow").rows[1:]] == rows


@cases(
    ("task", "text"),
    [
        (
            {"call": "http", "with": {"method": "get", "endpoint": "https://u:p@a.example/x/{id}?k=1"}},
            "http GET a.example/x/{id}",
        ),
        ({"call": "http", "with": {"method": "post", "endpoint": {"uri": "${ .url }"}}}, "http POST .url"),
        ({"call": "grpc", "with": {"service": {"name": "a.Pets"}, "method": "Get"}}, "grpc a.Pets/Get"),
        ({"call": "openapi", "with": {"operationId": "list"}}, "openapi list"),
        ({"call": "webhook.send", "with": {"url": "https://a.example/in"}}, "webhook.send a.example/in"),
        ({"call": "reply", "with": {"status": 202}}, "reply 202"),
        ({"call": "twitter.post"}, "twitter.post"),
        ({"emit": {"event": {"with": {"type": "paid"}}}}, "paid"),
        ({"listen": {"to": {"one": {"with": {"type": "paid"}}}}}, "paid"),
        ({"wait": {"days": 3}}, "3 days"),
        ({"wait": "PT5M"}, "PT5M"),
        ({"run": {"workflow": {"namespace": "shop", "name": "ship"}}}, "shop.ship"),
        ({"run": {"script": {"language": "python"}}}, "python script"),
        ({"raise": {"error": {"type": "https://a.example/errors/late", "status": 504}}}, "504 late"),
        ({"raise": {"error": "broken"}}, "broken"),
        ({"set": {"a": 1, "b": 2}}, "a, b"),
        ({"set": "${ .a\n| .b }"}, ".a | .b"),
    ],
)
def test_a_task_says_what_it_does(task, text):
    rows = box_of(draw([{"t": task}]), "t").rows
    assert [row.text for row in rows] == ["t", text]
    assert rows[0].right in task


def test_a_condition_and_a_timeout_are_rows():
    rows = box_of(draw([{"t": {"if": "${ .x }", **SET, "timeout": {"after": {"days": 3}}}}]), "t").rows
    assert [row.text for row in rows] == ["t", "if .x", "a", "timeout: 3 days"]


def test_a_stop_below_a_task_leaves_room_for_the_next():
    drawing = draw([{"a": {**SET, "then": "exit"}}, {"b": SET}])
    stop, following = box_of(drawing, "exit"), box_of(drawing, "b")
    assert stop.y + stop.height + GAP == following.y


@pytest.mark.parametrize("do", [[], [{"empty": {"do": []}}]])
def test_an_empty_list_leads_from_start_to_end(do):
    assert ("flow", "end" if not do else "empty", "next") in edges(draw(do))
