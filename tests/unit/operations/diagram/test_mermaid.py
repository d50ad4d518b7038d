"""Flowcharts: what leads where, and that no text of a flow means anything to Mermaid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cases import cases

from flowhook.document.loader import parse
from operations.diagram.mermaid import MAX_LABEL, mermaid

EXAMPLES = sorted((Path(__file__).parents[4] / "examples").glob("*.yaml"))

LABEL = r'"[^"&<>`:;#\\%|]*(?:(?:#\d+;|<br/>)[^"&<>`:;#\\%|]*)*"'
LINE = re.compile(
    "|".join(
        [
            r"flowchart TD",
            rf"\s+(?P<node>\w+)(?:\(\[{LABEL}\]\)|\[\[{LABEL}\]\]|\{{\{{{LABEL}\}}\}}|\{{{LABEL}\}}|\[/{LABEL}/\]|[\[>]{LABEL}\])",
            rf"\s+subgraph (?P<frame>\w+)\[{LABEL}\]",
            r"\s+end",
            rf"\s+(?P<source>\w+) -->(?:\|{LABEL}\|)? (?P<target>\w+)",
            rf"\s+(?P<tried>\w+) -\.->\|{LABEL}\| (?P<caught>\w+)",
        ]
    )
)


def draw(do):
    return mermaid({"do": do}, "flow")


def check(picture):
    """Every line is one of those we mean, and edges join nodes that there are; returns the edges."""
    matches = [LINE.fullmatch(line) for line in picture.splitlines()]
    assert all(matches), [line for line, match in zip(picture.splitlines(), matches, strict=True) if not match]
    nodes = [match["node"] for match in matches if match["node"]]
    frames = [match["frame"] for match in matches if match["frame"]]
    edges = [(match["source"], match["target"]) for match in matches if match["source"]]
    assert len({*nodes, *frames}) == len(nodes) + len(frames)
    assert {end for edge in edges for end in edge} <= {*nodes}
    assert {match["tried"] for match in matches if match["tried"]} <= {*frames}
    assert {match["caught"] for match in matches if match["caught"]} <= {*nodes}
    return edges


def edges(do):
    """Return the edges by the names of the tasks."""
    picture = draw(do)
    check(picture)
    names = dict(re.findall(r'^\s+(\w+)[\[({>/]+"(\w+)', picture, re.MULTILINE))
    return {
        (names[source], names[target], label)
        for source, label, target in re.findall(r'^\s+(\w+) -->(?:\|"(.*)"\|)? (\w+)$', picture, re.MULTILINE)
    }


def test_tasks_follow_one_another_from_start_to_end():
    assert edges([{"a": {"set": {}}}, {"b": {"call": "http"}}]) == {("flow", "a", ""), ("a", "b", ""), ("b", "end", "")}


def test_directives_lead_where_they_say():
    do = [
        {"a": {"set": {}, "then": "c"}},
        {"b": {"set": {}, "then": "end"}},
        {"c": {"set": {}, "then": "exit"}},
        {"d": {"set": {}, "then": "b"}},
    ]
    assert edges(do) == {("flow", "a", ""), ("a", "c", ""), ("b", "end", ""), ("c", "end", ""), ("d", "b", "")}


def test_the_cases_of_a_switch_are_labelled_and_what_matches_none_goes_on():
    do = [
        {"pick": {"switch": [{"big": {"when": ".n", "then": "b"}}, {"odd": {"when": ".odd", "then": "end"}}]}},
        {"a": {"set": {}}},
        {"b": {"set": {}}},
    ]
    assert edges(do) == {
        ("flow", "pick", ""),
        ("pick", "b", "big#58; .n"),
        ("pick", "end", "odd#58; .odd"),
        ("pick", "a", "else"),
        ("a", "b", ""),
        ("b", "end", ""),
    }


def test_a_switch_with_a_default_case_has_no_other_way_out():
    do = [{"pick": {"switch": [{"usual": {"then": "b"}}]}}, {"a": {"set": {}}}, {"b": {"set": {}}}]
    assert {edge for edge in edges(do) if edge[0] == "pick"} == {("pick", "b", "usual")}


def test_a_raise_leads_nowhere():
    assert not [edge for edge in edges([{"no": {"raise": {"error": "x"}}}, {"a": {"set": {}}}]) if edge[0] == "no"]


def test_a_do_is_a_frame_whose_exit_goes_on_after_it_and_whose_end_ends_all():
    do = [
        {
            "outer": {
                "do": [
                    {"x": {"set": {}, "then": "exit"}},
                    {"y": {"set": {}, "then": "end"}},
                    {"z": {"do": [{"deep": {"set": {}}}]}},
                ],
                "then": "b",
            }
        },
        {"a": {"set": {}}},
        {"b": {"set": {}}},
    ]
    assert edges(do) == {
        ("flow", "x", ""),
        ("x", "b", ""),
        ("y", "end", ""),
        ("deep", "b", ""),
        ("a", "b", ""),
        ("b", "end", ""),
    }
    picture = draw(do)
    assert picture.count("subgraph") == 2
    assert '        subgraph n4["z"]\n            n5["deep<br/>set"]\n        end\n' in picture


def test_a_condition_stands_before_its_task():
    do = [{"a": {"if": ".ok", "do": [{"inner": {"set": {}}}], "then": "end"}}, {"b": {"set": {}}}]
    picture = draw(do)
    check(picture)
    decision = re.search(r'(\w+)\{"\.ok"\}', picture)[1]
    for edge in (f"start --> {decision}", f'{decision} -->|"true"| n2', f'{decision} -->|"else"| n3', "n2 --> finish"):
        assert f"    {edge}\n" in picture


def test_a_for_comes_back_to_its_node_after_each_round():
    do = [{"all": {"for": {"each": "x", "in": ".items"}, "do": [{"a": {"set": {}}}, {"b": {"set": {}}}]}}]
    assert edges(do) == {
        ("flow", "all", ""),
        ("all", "a", "each"),
        ("a", "b", ""),
        ("b", "all", ""),
        ("all", "end", "done"),
    }
    assert '    subgraph n1frame["all"]\n        n1["all<br/>for .items"]\n' in draw(do)


def test_the_branches_of_a_fork_stand_side_by_side():
    branches = [{"a": {"do": [{"x": {"set": {}}}, {"y": {"set": {}}}]}}, {"b": {"set": {}}}]
    do = [{"both": {"fork": {"branches": branches, "compete": True}}}, {"after": {"set": {}}}]
    assert edges(do) == {
        ("flow", "both", ""),
        ("both", "x", ""),
        ("x", "y", ""),
        ("y", "after", ""),
        ("both", "b", ""),
        ("b", "after", ""),
        ("after", "end", ""),
    }
    assert 'n1["both<br/>fork first to end"]' in draw(do)


def test_a_dotted_edge_leads_from_a_try_to_what_it_does_about_an_error():
    do = [{"t": {"try": [{"a": {"call": "http"}}], "catch": {"do": [{"c": {"set": {}}}]}}}, {"b": {"set": {}}}]
    assert edges(do) == {("flow", "a", ""), ("a", "b", ""), ("c", "b", ""), ("b", "end", "")}
    picture = draw(do)
    assert '    subgraph n1catch["catch"]\n        n3["c<br/>set"]\n    end\n' in picture
    assert '    n1 -.->|"catch"| n3\n' in picture


@pytest.mark.parametrize("then", ["continue", "exit", "end", "b"])
def test_a_catch_leads_where_its_then_says(then):
    first = {"try": [{"a": {"call": "http"}}], "catch": {"do": [{"c": {"set": {}}}], "then": then}}
    after = {"continue": "x", "b": "b"}.get(then, "end")
    assert ("c", after, "") in edges([{"t": first}, {"x": {"set": {}}}, {"b": {"set": {}}}])


def test_a_catch_that_does_nothing_goes_on():
    picture = draw([{"t": {"try": [{"a": {"call": "http"}}], "catch": {}}}, {"b": {"set": {}}}])
    check(picture)
    assert '    n1 -.->|"catch"| n3\n' in picture


@pytest.mark.parametrize("kind", ["for", "fork", "try", "wait"])
def test_a_kind_with_nothing_in_it_is_a_plain_node(kind):
    assert f'n1["task<br/>{kind}"]' in draw([{"task": {kind: {}, "do": []} if kind == "for" else {kind: {}}}])


@pytest.mark.parametrize(
    ("schedule", "label"),
    [
        ({"cron": "0 9 * * MON"}, "cron 0 9 * * MON"),
        ({"every": {"hours": 1, "minutes": 30}}, "every 1 hours, 30 minutes"),
        ({"after": "PT5M"}, "after PT5M"),
        ({"on": {"any": [{"with": {"type": "paid"}}, {"with": {"type": "sent"}}]}}, "on paid, sent"),
    ],
)
def test_what_starts_a_flow_beside_requests_stands_at_its_start(schedule, label):
    picture = mermaid({"schedule": schedule, "do": []}, "flow")
    check(picture)
    assert f'    start(["flow<br/>{label}"])\n' in picture


def test_a_listen_task_names_the_events_it_waits_for():
    filters = {
        "any": [{"with": {"type": "paid"}}, {"with": {"source": "x"}}],
        "until": {"one": {"with": {"type": "x"}}},
    }
    picture = draw([{"some": {"listen": {"to": filters}}}, {"all": {"listen": {"to": {"any": []}}}}])
    check(picture)
    assert 'n1>"some<br/>listen paid, x"]' in picture
    assert 'n2>"all<br/>listen"]' in picture


@pytest.mark.parametrize(
    ("run", "label"),
    [
        ({"workflow": {"namespace": "shop", "name": "ship"}}, "run shop.ship"),
        ({"script": {"language": "python", "code": "x"}}, "run python script"),
        ({"shell": {"command": "ls"}}, "run shell"),
    ],
)
def test_a_run_task_names_what_it_runs(run, label):
    picture = draw([{"ship": {"run": run}}])
    check(picture)
    assert f'n1[["ship<br/>{label}"]]' in picture


def test_an_emit_task_names_the_event():
    picture = draw([{"tell": {"emit": {"event": {"with": {"type": "paid"}}}}}])
    check(picture)
    assert 'n1[/"tell<br/>emit paid"/]' in picture


@pytest.mark.parametrize("do", [[], [{"empty": {"do": []}}]])
def test_an_empty_list_leads_from_start_to_end(do):
    check(draw(do))


@cases("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_drawn_whole(path):
    document = parse(path.read_bytes())
    picture = mermaid(document.definition, document.id)
    check(picture)
    assert all(f'"{item.name}<br/>' in picture or f'["{item.name}"]' in picture for item in document.workflow.do)


def test_long_texts_are_cut_and_lines_joined():
    picture = draw([{"a" * 200: {"if": ".a\n  and .b", "set": {}}}])
    assert "a" * (MAX_LABEL - 1) + "#8230;" in picture
    assert "a" * MAX_LABEL not in picture
    assert '".a and .b"' in picture


NASTY = st.text() | st.sampled_from(
    [
        '"]; end',
        "%%{init: {}}%%",
        "<script>",
        "style a fill:#f00;",
        "`x`",
        "&lt;",
        "-->",
        "a|b",
        "end",
        "\u2028",
        "#59;",
    ]
)


@given(NASTY, NASTY, NASTY)
def test_no_text_gets_out_of_its_label(name, when, title):
    do = [{name: {"if": when, "switch": [{name: {"when": when, "then": name}}]}}]
    check(mermaid({"do": do}, title))
