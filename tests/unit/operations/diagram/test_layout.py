"""The layout of each construct: which boxes there are, which edges join them, and that nothing overlaps."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
from support.cases import cases

from flowhook.document import parse
from operations.diagram.layout import GAP, Box, Edge, lay_out

EXAMPLES = sorted((Path(__file__).parents[4] / "examples").glob("*.yaml"))
SET = {"set": {"a": 1}}


def draw(do, **keys):
    drawing = lay_out({"do": do, **keys}, "flow")
    boxes = [shape for shape in drawing.shapes if isinstance(shape, Box)]
    for one, other in combinations(boxes, 2):
        assert apart(one, other) or inside(one, other) or inside(other, one)
    points = [point for shape in drawing.shapes if isinstance(shape, Edge) for point in shape.points]
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


def test_edges_to_different_tasks_that_overlap_run_in_different_lanes_and_those_to_one_share_a_lane():
    cases = [{"x": {"when": ".x", "then": "b"}}, {"y": {"when": ".y", "then": "c"}}, {"z": {"then": "c"}}]
    drawing = draw([{"s": {"switch": cases}}, {"a": SET}, {"b": SET}, {"c": SET}])
    jumps = [shape for shape in drawing.shapes if isinstance(shape, Edge) and shape.kind == "jump"]
    lanes = [edge.points[1][0] for edge in jumps]
    assert len(lanes) == 3
    assert lanes[0] < lanes[1] == lanes[2]


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
    assert {("s", "b", "jump"), ("s", "a", "next")} <= edges(drawing)
    assert [shape.label for shape in drawing.shapes if isinstance(shape, Edge) and shape.label] == ["else"]


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
