"""`flowhook exec --trace` and `--until`."""

from __future__ import annotations

import json

import pytest
from support.commands import flowhook

FLOW = """\
document: {dsl: 1.0.3, namespace: default, name: trace, version: 1.0.0}
do:
  - first:
      set: {a: '${ .n }'}
      export: {as: '{seen: .a}'}
  - maybe: {if: .a > 5, set: {big: true}, then: end}
  - outer:
      do:
        - inner: {set: {b: '${ .a + 1 }'}}
        - same: {set: {c: '${ .b }', d: '${ $context.seen }'}}
  - same: {set: {last: true}}
"""


@pytest.fixture
def flow(tmp_path):
    path = tmp_path / "trace.yaml"
    path.write_text(FLOW)
    return path


def run(flow, *options, n=1):
    return flowhook("exec", flow, "--input", json.dumps({"n": n}), *options)


def entries(result):
    return [json.loads(line) for line in result.err.splitlines()]


def test_the_output_stays_alone_on_stdout_and_the_trace_is_json_on_stderr(flow):
    result = run(flow, "--trace", "--json")
    assert (result.code, result.rows) == (0, [{"last": True}])
    seen = entries(result)
    assert [(entry["task"], entry["kind"], entry["status"]) for entry in seen] == [
        ("/do/0/first", "set", "completed"),
        ("/do/1/maybe", "set", "skipped"),
        ("/do/2/outer/do/0/inner", "set", "completed"),
        ("/do/2/outer/do/1/same", "set", "completed"),
        ("/do/2/outer", "do", "completed"),
        ("/do/3/same", "set", "completed"),
    ]
    assert seen[0]["input"] == {"n": 1}
    assert (seen[0]["output"], seen[0]["context"]) == ({"a": 1}, {"seen": 1})
    assert "context" not in seen[2]
    assert (seen[2]["input"], seen[2]["output"], seen[2]["then"]) == ({"a": 1}, {"b": 2}, "continue")
    assert seen[3]["output"] == {"c": 2, "d": 1}


def test_people_get_a_few_lines_for_each_task(flow):
    result = run(flow, "--trace", n=6)
    assert json.loads(result.out) == {"big": True}
    lines = result.err.splitlines()
    assert lines[0] == "/do/0/first  set  completed"
    assert lines[2:] == [
        '  output  {"a":6}',
        '  context {"seen":6}',
        "/do/1/maybe  set  completed",
        '  input   {"a":6}',
        '  output  {"big":true}',
        "  then    end",
    ]


def test_a_condition_that_compares_a_text_with_a_number_is_told(flow):
    note = "if: `.a` is a text, and is compared with a number: jq orders every text above every number"
    _, maybe = entries(run(flow, "--trace", "--json", n="6"))
    assert maybe["notes"] == [note]
    assert run(flow, "--trace", n="6").err.splitlines()[-1] == f"  note    {note}"


def test_long_values_are_cut_for_people_and_control_characters_do_not_reach_the_terminal(tmp_path):
    path = tmp_path / "long.yaml"
    path.write_text(FLOW.partition("do:")[0] + "do:\n  - a: {set: {text: '${ .text }'}}\n")
    text = "\x1b[31m\x9b" + "x" * 5000
    result = flowhook("exec", path, "--trace", "--input", json.dumps({"text": text}))
    assert json.loads(result.out) == {"text": text}
    output = next(line for line in result.err.splitlines() if line.startswith("  output"))
    assert len(output) < 2100
    assert output.endswith(" characters)")
    assert "\x1b" not in result.err
    assert "\x9b" not in result.err


@pytest.mark.parametrize(
    ("task", "output"),
    [
        ("first", {"a": 1}),
        ("maybe", {"a": 1}),
        ("inner", {"b": 2}),
        ("same", {"c": 2, "d": 1}),
        ("/do/3/same", {"last": True}),
        ("outer", {"c": 2, "d": 1}),
    ],
)
def test_until_stops_after_the_task_and_prints_its_output(flow, task, output):
    result = run(flow, "--until", task, "--trace", "--json")
    assert (result.code, result.rows) == (0, [output])
    assert entries(result)[-1]["task"].endswith(task)


def test_nothing_after_the_task_happens(tmp_path):
    path = tmp_path / "two.yaml"
    head = FLOW.partition("do:")[0]
    path.write_text(head + "do:\n  - one: {set: {x: 1}}\n  - two: {raise: {error: {type: 'e://x', status: 500}}}\n")
    assert flowhook("exec", path, "--until", "one", "--json").rows == [{"x": 1}]


def test_a_flow_that_ends_before_the_task_is_refused(flow):
    result = run(flow, "--until", "outer", n=6)
    assert (result.code, result.out) == (1, "")
    assert result.err == "flowhook: the flow ended without coming to outer\n"


def test_an_unknown_task_is_wrong_usage_that_names_those_there_are(flow):
    result = run(flow, "--until", "nope")
    assert (result.code, result.out) == (2, "")
    assert "there is no task nope; there are first, maybe, outer, inner, same" in result.err


def test_a_fault_is_traced_and_then_printed_as_ever(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(FLOW.partition("do:")[0] + "do:\n  - a: {set: {x: '${ . + 1 }'}}\n")
    result = flowhook("exec", path, "--trace", "--json", "--until", "a")
    assert (result.code, result.out) == (1, "")
    traced, fault = entries(result)
    assert (traced["task"], traced["status"], traced["error"]) == ("/do/0/a", "faulted", fault)
    assert "output" not in traced


def test_what_ran_before_an_endless_expression_is_traced(tmp_path):
    path = tmp_path / "endless.yaml"
    path.write_text(FLOW.partition("do:")[0] + "do:\n  - a: {set: {x: 1}}\n  - b: {set: {x: '${ def f: f; f }'}}\n")
    result = flowhook("exec", path, "--trace", "--json", FLOWHOOK_EXPRESSION_SECONDS="0.3")
    traced, fault = entries(result)
    assert (result.code, traced["task"], fault["instance"]) == (1, "/do/0/a", "/do/1/b")


def test_a_loop_of_many_tasks_is_traced_to_its_end(tmp_path):
    path = tmp_path / "loop.yaml"
    path.write_text(
        FLOW.partition("do:")[0]
        + "input: {from: '{n: 0}'}\ndo:\n  - add: {set: {n: '${ .n + 1 }'}}\n"
        + "  - again: {switch: [{more: {when: .n < 500, then: add}}, {done: {then: end}}]}\n"
    )
    result = flowhook("exec", path, "--trace", "--json")
    assert (result.code, result.rows) == (0, [{"n": 500}]), result.err[-2000:]
    assert len(entries(result)) == 1000


@pytest.mark.parametrize("options", [(), ("--json",), ("--trace",)])
def test_an_output_that_is_nested_deeply_is_printed(flow, options):
    flow.write_text(FLOW.partition("do:")[0] + "do: [{keep: {set: '${ . }'}}]\n")
    deep = '{"a":' * 300 + "1" + "}" * 300
    result = flowhook("exec", flow, "--input", deep, *options)
    assert (result.code, "".join(result.out.split())) == (0, deep)


def test_errors_have_the_name_of_their_type_that_the_flow_chose(tmp_path):
    (tmp_path / "f.yaml").write_text(
        "document: {dsl: 1.0.3, namespace: default, name: f, version: 1.0.0}\n"
        "execution: {error_types: serverless-workflow}\n"
        "do: [{a: {set: '${ {a: error(\"no\")} }'}}]\n"
    )
    traced, fault = entries(flowhook("exec", tmp_path / "f.yaml", "--trace", "--json"))
    assert traced["error"] == fault
    assert fault["type"] == "https://serverlessworkflow.io/spec/1.0.0/errors/expression"
