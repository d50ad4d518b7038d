"""SVG pictures: what they contain, that no text gets out of its place, and that they are bounded."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st
from support.cases import cases

from flowhook.document.definition import walk
from flowhook.document.loader import parse
from operations.diagram import layout
from operations.diagram.svg import STYLE, svg

EXAMPLES = sorted((Path(__file__).parents[4] / "examples").glob("*.yaml"))
SVG = "{http://www.w3.org/2000/svg}"
SCRIPT = '<script>alert(1)</script>" onload="x'


def read(do, **options):
    return ET.fromstring(svg({"do": do}, "flow", **options))


def tasks(root):
    """Return the classes of the tasks' groups by JSON pointer."""
    return {
        group.get("data-task"): group.get("class").split() for group in root.iter(f"{SVG}g") if group.get("data-task")
    }


def texts(root):
    return [element.text for element in root.iter(f"{SVG}text")]


def steps(count):
    return [{f"t{number}": {"set": {"a": 1}}} for number in range(count)]


@cases("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_task_of_the_examples_is_drawn_with_its_pointer(path):
    document = parse(path.read_bytes())
    root = ET.fromstring(svg(document.definition, document.id, standalone=True))
    assert list(tasks(root)) == [placed.pointer for placed in walk(document.definition)]
    assert {placed.name for placed in walk(document.definition)} <= {*texts(root)}


def test_the_picture_has_a_role_a_title_and_a_text_alternative():
    root = read([{"a": {"if": ".x", "set": {"b": 1}}}, {"c": {"do": [{"d": {"wait": "PT1S"}}], "then": "end"}}])
    assert root.get("role") == "img"
    title, text = (
        next(each for each in root.iter() if each.get("id") == name) for name in ("diagram-title", "diagram-text")
    )
    assert {root.get("aria-labelledby"), root.get("aria-describedby")} == {title.get("id"), text.get("id")}
    assert title.text == "Flow flow"
    assert text.text == "a: set b, if .x\nc: do, then end\n  d: wait PT1S"


def test_a_picture_for_a_page_has_no_style_and_one_for_a_file_has_it():
    plain, whole = (svg({"do": steps(1)}, "flow", standalone=standalone) for standalone in (False, True))
    assert "style" not in plain
    assert STYLE in whole
    assert "prefers-color-scheme: dark" in whole


def test_ids_are_unique():
    ids = re.findall(r' id="([^"]*)"', svg({"do": [{"a": {"do": steps(3)}}, *steps(3)]}, "flow"))
    assert len(ids) == len({*ids}) == 9


def test_what_an_author_wrote_is_text():
    do = [
        {SCRIPT: {"if": SCRIPT, "switch": [{SCRIPT: {"when": SCRIPT, "then": SCRIPT}}]}},
        {"call": {"call": "http", "with": {"method": "get", "endpoint": SCRIPT}, "timeout": SCRIPT}},
        {"try": {"try": [{"x": {"raise": {"error": SCRIPT}}}], "catch": {"when": SCRIPT}}},
    ]
    picture = svg({"do": do, "schedule": {"cron": SCRIPT}}, SCRIPT)
    assert "<script" not in picture
    assert "onload=&quot;x" in picture
    root = ET.fromstring(picture)
    assert {element.tag.removeprefix(SVG) for element in root.iter()} == {
        "svg", "title", "desc", "g", "rect", "text", "polyline", "path",
    }  # fmt: skip
    assert not [name for element in root.iter() for name in element.keys() if name.startswith("on")]  # noqa: SIM118


@given(st.text(st.characters(exclude_categories=[])), st.text(st.characters(exclude_categories=[])))
def test_any_text_makes_well_formed_xml(name, when):
    do = [{name: {"if": when, "switch": [{name: {"when": when, "then": name}}], "then": name}}]
    ET.fromstring(svg({"do": do}, when, standalone=True).encode())


def test_the_same_flow_gives_the_same_picture():
    definition = {"do": [{"a": {"fork": {"branches": steps(3)}}}, *steps(5)]}
    assert svg(definition, "flow") == svg(definition, "flow")


def test_of_many_tasks_the_first_are_drawn_and_the_rest_is_counted():
    root = read([{"first": {"do": steps(700)}}, *steps(299)])
    assert len(tasks(root)) == layout.MAX_TASKS
    assert [text for text in texts(root) if text.startswith("…")] == ["… 201 more tasks", "… 299 more tasks"]
    assert len(gzip.compress(svg({"do": steps(1000)}, "flow").encode())) < 30_000


def test_of_many_branches_and_cases_the_first_are_drawn():
    cases = [{f"c{number}": {"when": ".x", "then": "end"}} for number in range(20)]
    root = read([{"fork": {"fork": {"branches": steps(20)}}}, {"switch": {"switch": cases}}])
    assert len(tasks(root)) == 2 + layout.MAX_BRANCHES
    assert {"… 8 more tasks", "… 8 more cases"} <= {*texts(root)}


def test_long_texts_are_truncated_in_a_box_and_whole_at_the_mouse_up_to_a_limit():
    root = read([{"n" * 300: {"set": {"k" * 100_000: 1}}}])
    assert all(len(text) < 60 for text in texts(root))
    titles = [element.text for element in root.iter(f"{SVG}title")]
    assert any("n" * 300 in title for title in titles)
    assert max(map(len, titles)) < 2 * layout.MAX_WHOLE + 10


def test_tasks_may_be_nested_as_deep_as_in_a_document():
    task = {"set": {"a": 1}}
    for number in range(64):
        task = {"do": [{f"n{number}": task}]}
    assert len(tasks(read([{"top": task}]))) == 65
