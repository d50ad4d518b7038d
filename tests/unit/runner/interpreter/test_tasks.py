"""What tasks mean. Many of these are the scenarios of the specification's ctk/features."""

from __future__ import annotations

import pytest

from flowhook import limits
from runner.interpreter import tasks
from runner.interpreter.effects import EffectResult
from runner.interpreter.errors import Kind, error


def kind(problem):
    return problem.type.rpartition("/")[2], problem.status


def color(name):
    return {"set": {"colors": f'${{ .colors + [ "{name}" ] }}'}}


def test_tasks_run_in_order_each_on_the_output_of_the_one_before(execute):
    outcome = execute([{"red": color("red")}, {"green": color("green")}, {"blue": color("blue")}], {})
    assert outcome.output == {"colors": ["red", "green", "blue"]}


def test_then_goes_on_with_the_named_task_and_end_ends(execute):
    outcome = execute(
        [
            {"red": {**color("red"), "then": "green"}},
            {"blue": {**color("blue"), "then": "end"}},
            {"green": {**color("green"), "then": "blue"}},
        ],
        {},
    )
    assert outcome.output == {"colors": ["red", "green", "blue"]}


def test_exit_leaves_the_block_and_end_the_workflow(execute):
    inner = [{"a": {**color("a"), "then": "exit"}}, {"b": color("b")}]
    assert execute([{"in": {"do": inner}}, {"c": color("c")}], {}).output == {"colors": ["a", "c"]}
    inner[0]["a"]["then"] = "end"
    assert execute([{"in": {"do": inner}}, {"c": color("c")}], {}).output == {"colors": ["a"]}


def test_tasks_around_an_end_still_transform_their_output(execute):
    inner = [{"a": {"set": {"x": 1}, "then": "end"}}]
    outcome = execute([{"in": {"do": inner, "output": {"as": ".x"}}}, {"c": {"set": {"never": 1}}}], {})
    assert outcome.output == 1


@pytest.mark.parametrize(("value", "expected"), [("red", ["red"]), ("blue", ["blue"]), ("other", None)])
def test_a_switch_goes_on_where_the_first_true_case_says(execute, value, expected):
    cases = [{name: {"when": f'.color == "{name}"', "then": name}} for name in ("red", "blue")]
    do = [{"choose": {"switch": cases, "then": "end"}}] + [
        {name: {**color(name), "then": "end"}} for name in ("red", "blue")
    ]
    output = execute(do, {"color": value}).output
    assert output == ({"colors": expected} if expected else {"color": value})


def test_the_default_case_of_a_switch_is_taken_when_no_other_is_wherever_it_stands(execute):
    cases = [{"any": {"then": "other"}}, {"red": {"when": '.color == "red"', "then": "red"}}]
    do = [
        {"choose": {"switch": cases}},
        {"red": {"set": {"red": True}, "then": "end"}},
        {"other": {"set": {"other": "${ $input.color }"}}},
    ]
    assert execute(do, {"color": "red"}).output == {"red": True}
    assert execute(do, {"color": "x"}).output == {"other": "x"}


def test_only_false_and_null_are_not_true(execute):
    for value, runs in ((0, True), ("", True), ([], True), (False, False), (None, False)):
        outcome = execute([{"a": {"if": ".v", "set": {"ran": True}}}], {"v": value})
        assert (outcome.output == {"ran": True}) is runs


def test_a_task_that_is_skipped_hands_on_its_raw_input_and_its_then_does_not_count(execute):
    do = [
        {"a": {"if": "${ false }", "set": {"a": 1}, "input": {"from": ".x"}, "output": {"as": ".y"}, "then": "end"}},
        {"b": {"set": {"seen": "${ . }"}}},
    ]
    assert execute(do, {"x": 1}).output == {"seen": {"x": 1}}


def test_data_flows_in_the_order_of_the_specification(execute):
    do = [
        {
            "a": {
                "input": {"from": "${ .user }"},
                "set": {"name": "${ .name }", "raw": "${ $task.input }"},
                "output": {"as": {"both": "${ [.name, $input.name] }", "raw": "${ .raw }"}},
                "export": {"as": "${ $context + {exported: .both, had: $output.both} }"},
            }
        },
        {"b": {"set": {"context": "${ $context }", "before": "${ . }"}}},
    ]
    output = execute(do, {"user": {"name": "n"}}).output
    assert output["context"] == {"user": {"name": "n"}, "exported": ["n", "n"], "had": ["n", "n"]}
    assert output["before"] == {"both": ["n", "n"], "raw": {"user": {"name": "n"}}}


def test_the_workflow_transforms_its_input_and_its_output(execute):
    outcome = execute(
        [{"a": {"set": {"x": "${ .n + 1 }", "raw": "${ $workflow.input.body.n }"}}}],
        {"body": {"n": 1}},
        input={"from": ".body"},
        output={"as": "${ {result: .} }"},
    )
    assert outcome.output == {"result": {"x": 2, "raw": 1}}


def test_what_a_workflow_exports_inside_a_block_is_seen_after_it(execute):
    inner = [{"a": {"set": {"x": 1}, "export": {"as": "${ {x: .x} }"}}}]
    do = [{"in": {"do": inner, "export": {"as": "${ $context + {y: 2} }"}}}, {"b": {"set": "${ $context }"}}]
    assert execute(do, {}).output == {"x": 1, "y": 2}


SCHEMA = {"schema": {"document": {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}}}


@pytest.mark.parametrize(
    ("where", "more", "instance"),
    [
        ({}, {"input": SCHEMA}, "/input"),
        ({"input": SCHEMA}, {}, "/do/0/a"),
        ({"output": SCHEMA}, {}, "/do/0/a"),
        ({"export": {**SCHEMA, "as": "."}}, {}, "/do/0/a"),
        ({}, {"output": SCHEMA}, "/output"),
    ],
)
def test_data_that_misses_a_schema_is_a_validation_error_that_shows_no_data(execute, where, more, instance):
    outcome = execute([{"a": {"set": "${ . }", **where}}], {"n": "s3cret"}, **more)
    assert kind(outcome.error) == ("validation", 400)
    assert outcome.error.instance == instance
    assert ".n" in outcome.error.detail
    assert "s3cret" not in outcome.error.detail
    assert execute([{"a": {"set": "${ . }", **where}}], {"n": 1}, **more).output == {"n": 1}


def test_a_reference_out_of_a_schema_is_not_fetched(execute):
    schema = {"schema": {"document": {"$ref": "http://127.0.0.1:9/schema.json"}}}
    outcome = execute([{"a": {"set": {"x": 1}, "input": schema}}], {})
    assert kind(outcome.error) == ("validation", 400)


def test_a_raise_raises_its_error_at_its_task(execute):
    definition = {"type": "https://example.com/errors/late", "status": 409, "title": "Late", "detail": "${ .why }"}
    for raised in (definition, "late"):
        outcome = execute([{"a": {"raise": {"error": raised}}}], {"why": "rain"}, use={"errors": {"late": definition}})
        assert outcome.error.as_dict() == {
            "type": "https://example.com/errors/late",
            "status": 409,
            "title": "Late",
            "detail": "rain",
            "instance": "/do/0/a",
        }


def test_a_raised_title_and_detail_that_are_no_texts_are_json(execute):
    definition = {"type": "https://x.y", "status": 409, "title": "${ .code }", "detail": "${ . }"}
    outcome = execute([{"a": {"raise": {"error": definition}}}], {"code": 5})
    assert (outcome.error.title, outcome.error.detail) == ("5", '{"code":5}')


def test_an_error_names_the_innermost_task(execute):
    do = [{"out/er": {"do": [{"in~ner": {"set": {"x": "${ .a | error }"}}}]}}]
    outcome = execute(do, {"a": "boom"})
    assert kind(outcome.error) == ("expression", 400)
    assert outcome.error.instance == "/do/0/out~1er/do/0/in~0ner"
    assert outcome.error.detail == "boom"


def test_a_call_gets_its_evaluated_arguments_and_its_result_is_the_output(execute):
    world = execute.World({"f": lambda effect: {"got": effect.arguments}})
    outcome = execute([{"a": {"call": "f", "with": {"x": "${ .n + 1 }", "y": [1, "${ .n }"]}}}], {"n": 1}, world=world)
    assert outcome.output == {"got": {"x": 2, "y": [1, 1]}}
    (effect,) = world.performed
    assert (effect.key, effect.instance) == ("/do/0/a#0", "/do/0/a")


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("https://x/{id}/{name}?q={none}", "https://x/1/a%2Fb?q="),
        ({"uri": "https://x/{id}"}, {"uri": "https://x/1"}),
        ('${ "https://x/{id}/" + (.id | tostring) }', "https://x/{id}/1"),
        ("https://x/plain", "https://x/plain"),
    ],
)
def test_a_uri_template_takes_top_level_properties_of_the_input(execute, endpoint, expected):
    world = execute.World()
    do = [{"a": {"call": "http", "with": {"method": "get", "endpoint": endpoint}}}]
    execute(do, {"id": 1, "name": "a/b"}, world=world)
    assert world.performed[0].arguments["endpoint"] == expected


@pytest.mark.parametrize(
    ("endpoint", "data"),
    [
        ("https://x/a/{id}/b", {"id": ".."}),
        ("https://x/a/{id}", {"id": "."}),
        ("https://x/a/.{id}?q=1", {"id": "."}),
        ("https://x/a/%2E{id}", {"id": "."}),
        ("https://x/a/{id}{name}#f", {"id": ".", "name": "."}),
    ],
)
def test_a_uri_template_lets_no_value_climb_the_path(execute, endpoint, data):
    do = [{"a": {"call": "http", "with": {"method": "get", "endpoint": endpoint}}}]
    assert kind(execute(do, data).error) == ("expression", 400)


def test_a_uri_template_takes_dots_that_climb_nothing(execute):
    endpoint = "https://x/v{id}/{name}?q={dots}"
    world = execute.World()
    do = [{"a": {"call": "http", "with": {"method": "get", "endpoint": endpoint}}}]
    execute(do, {"id": "..", "name": "../etc", "dots": ".."}, world=world)
    assert world.performed[0].arguments["endpoint"] == "https://x/v../..%2Fetc?q=.."


def test_a_uri_template_refuses_what_is_not_a_scalar(execute):
    do = [{"a": {"call": "http", "with": {"method": "get", "endpoint": "https://x/{id}"}}}]
    assert kind(execute(do, {"id": {}}).error) == ("expression", 400)


def test_a_call_that_fails_faults_the_workflow_and_is_not_journaled(execute):
    world = execute.World({"f": EffectResult(None, error(Kind.TIMEOUT, "slow", instance="/do/0/a"))})
    once = {"retry": {"limit": {"attempt": {"count": 0}}}}
    outcome = execute([{"a": {"call": "f", "metadata": once}}, {"b": {"call": "g"}}], {}, world=world)
    assert kind(outcome.error) == ("timeout", 408)
    assert outcome.journal == ()


def test_arguments_that_expressions_see(execute):
    seen = {
        "w": "${ $workflow.id }",
        "at": "${ $workflow.startedAt.iso8601 }",
        "t": "${ $task.reference }",
        "ts": "${ $task.startedAt.epoch.seconds }",
        "r": "${ $runtime.name }",
        "d": "${ $workflow.definition.document.name }",
        "n": "${ $task.name }",
        "auth": "${ $authorization }",
        "s": "${ $secrets.k }",
    }
    do = [{"a": {"set": seen}}]
    assert execute(do, {}, secrets={"k": "v"}).output == {
        "w": "evt_1",
        "at": "2023-11-14T22:13:20.000Z",
        "t": "/do/0/a",
        "ts": 1_700_000_001,
        "r": "flowhook",
        "d": "test",
        "n": "a",
        "auth": None,
        "s": "v",
    }


def test_a_loop_made_of_then_lets_others_run_and_ends_at_the_limit(execute, monkeypatch):
    monkeypatch.setattr(tasks, "MAX_TASKS", 1000)
    outcome = execute([{"a": {"set": {"x": 1}, "then": "a"}}], {})
    assert kind(outcome.error) == ("runtime", 500)
    assert "1000 tasks" in outcome.error.detail
    assert outcome.turns == 1000 // tasks.TASKS_PER_TURN


def test_calls_end_at_the_limit_of_the_journal(execute):
    endless = {"do": [{"a": {"call": "f", "then": "a"}}]}
    outcome = execute([{"in": {"fork": {"branches": [{"one": endless}]}}}], {})
    assert kind(outcome.error) == ("runtime", 500)
    assert len(outcome.journal) == limits.MAX_JOURNAL_ENTRIES
    assert outcome.journal[-1].key == "/do/0/in/fork/branches/0/one/do/0/a#999"


def test_the_keys_of_effects_count_for_the_journal(execute, monkeypatch):
    monkeypatch.setattr(limits, "MAX_JOURNAL_BYTES", 50_000)
    outcome = execute([{"a" * 10_000: {"call": "f", "then": "a" * 10_000}}], {})
    assert "journal is full" in outcome.error.detail
    assert len(outcome.journal) == 5


@pytest.mark.parametrize(
    "do",
    [
        [{"a": {"set": {"x": "${ .big }"}}}],
        [{"a": {"set": {"x": '${ "x" * 1100000 }'}}}],
        [{"a": {"set": {"x": 1}, "export": {"as": '${ "x" * 1100000 }'}}}],
        [{"a": {"set": {"x": 1}, "output": {"as": '${ "x" * 1100000 }'}}}],
        [{"a": {"do": []}}],
    ],
)
def test_a_result_that_is_too_large_is_a_runtime_error(execute, do):
    outcome = execute(do, {"big": "x" * (limits.MAX_RESULT_BYTES + 1)})
    assert kind(outcome.error) == ("runtime", 500)
    assert "bytes" in outcome.error.detail


def test_numbers_of_any_size_and_deep_nesting_do_not_break_anything(execute):
    assert execute([{"a": {"set": {"x": "${ 1e300 }"}}}], {}).output["x"] == pytest.approx(1e300)
    outcome = execute([{"a": {"set": {"x": "${ reduce range(2000) as $i (0; [.]) }"}}}], {})
    assert kind(outcome.error)[0] in ("runtime", "expression")
