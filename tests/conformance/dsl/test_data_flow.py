"""How data flows: the order of validation and transformation, and what each expression sees.

Source: dsl.md, "Data Flow" and "Runtime Expressions"; the specification's ctk/features/data-flow, in our own words.
"""

from __future__ import annotations

import re

import pytest

NUMBER = "schema: {format: json, document: {type: object, required: [n], properties: {n: {type: integer}}}}"


async def test_an_input_transformation_is_all_that_the_task_sees(run):
    document = "do: [{keep: {input: {from: .user.claims.subject}, set: {player: '${ . }', same: '${ $input }'}}}]"
    assert (await run(document, {"user": {"claims": {"subject": "s1"}}})).output == {"player": "s1", "same": "s1"}


async def test_outputs_need_not_be_objects_and_are_the_next_input(run, pets):
    document = """
do:
  - first: {call: http, with: {method: get, endpoint: 'SHOP/pets/{id}'}, output: {as: .id}}
  - second: {call: http, with: {method: get, endpoint: 'SHOP/pets/2'}, output: {as: '{ids: [$input, .id]}'}}
""".replace("SHOP", pets.url)
    assert (await run(document, {"id": 1})).output == {"ids": [1, 2]}
    assert [received.path for received in pets.received] == ["/pets/1", "/pets/2"]


async def test_the_workflow_validates_its_raw_input_and_only_then_transforms_it(run):
    document = (
        "input: {NUMBER, from: '{m: .n}'}\ndo: [{keep: {set: {m: '${ .m }', raw: '${ $workflow.input }'}}}]".replace(
            "NUMBER", NUMBER
        )
    )
    assert (await run(document, {"n": 1})).output == {"m": 1, "raw": {"n": 1}}
    assert (await run(document, {"m": 1})).fault == ("validation", 400, "/input")


async def test_the_workflow_transforms_its_output_and_only_then_validates_it(run):
    document = "do: [{keep: {set: {m: '${ .m }'}}}]\noutput: {as: '{n: .m}', NUMBER}".replace("NUMBER", NUMBER)
    assert (await run(document, {"m": 1})).output == {"n": 1}
    assert (await run(document, {"m": "x"})).fault == ("validation", 400, "/output")


async def test_a_task_asks_if_then_validates_then_transforms(run):
    document = "do: [{keep: {if: '.n != 0', input: {NUMBER, from: '{m: .n}'}, set: {m: '${ .m }'}}}]".replace(
        "NUMBER", NUMBER
    )
    assert (await run(document, {"n": 1})).output == {"m": 1}
    assert (await run(document, {"n": "x"})).fault == ("validation", 400, "/do/0/keep")
    assert (await run(document, {"n": 0})).output == {"n": 0}


async def test_a_task_transforms_its_output_then_validates_then_exports_then_validates_the_context(run):
    document = """
do:
  - keep:
      set: {m: '${ .m }'}
      output: {as: '{n: .m}', NUMBER}
      export: {as: '{n: .n, was: $context.m, output: $output.n}', NUMBER}
  - show: {set: {context: '${ $context }', data: '${ . }'}}
""".replace("NUMBER", NUMBER)
    assert (await run(document, {"m": 1})).output == {"context": {"n": 1, "was": 1, "output": 1}, "data": {"n": 1}}
    assert (await run(document, {"m": "x"})).fault == ("validation", 400, "/do/0/keep")
    late = document.replace("{n: .n,", '{n: "x",')
    assert (await run(late, {"m": 1})).fault == ("validation", 400, "/do/0/keep")


async def test_the_context_begins_as_the_transformed_input_and_is_replaced_by_exports_alone(run):
    document = """
input: {from: .body}
do:
  - one: {set: {seen: '${ $context }'}}
  - two: {set: {seen: '${ .seen }'}, export: {as: '$context + {two: true}'}}
  - three: {set: {before: '${ .seen }', after: '${ $context }'}}
"""
    assert (await run(document, {"body": {"x": 1}})).output == {"before": {"x": 1}, "after": {"x": 1, "two": True}}


TASK = {"name", "reference", "definition", "input", "output", "startedAt"}
WORKFLOW = {"id", "definition", "input", "startedAt"}
RUNTIME = {"name", "version", "metadata"}
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


async def test_the_arguments_have_the_shapes_of_the_specification(run):
    document = """
do:
  - show:
      input: {from: .inner}
      set:
        task: ${ $task }
        workflow: ${ $workflow }
        runtime: ${ $runtime }
        authorization: ${ $authorization }
      output: {as: '. + {raw: $task.output, input: $input}'}
"""
    data = {"inner": {"n": 1}}
    output = (await run(document, data)).output
    task, workflow, runtime = output["task"], output["workflow"], output["runtime"]
    assert set(task) == TASK
    assert (task["name"], task["reference"], task["input"], task["output"]) == ("show", "/do/0/show", data, None)
    assert task["definition"]["input"] == {"from": ".inner"}
    assert set(workflow) == WORKFLOW
    assert (workflow["id"], workflow["input"]) == ("evt_1", data)
    assert workflow["definition"]["document"]["name"] == "conformance"
    assert set(runtime) == RUNTIME
    assert runtime["name"] == "flowhook"
    for moment in (task["startedAt"], workflow["startedAt"]):
        assert MOMENT.fullmatch(moment["iso8601"])
        assert set(moment["epoch"]) == {"seconds", "milliseconds"}
        assert moment["epoch"]["milliseconds"] // 1000 == moment["epoch"]["seconds"]
    assert output["raw"]["task"]["name"] == "show"
    assert output["input"] == {"n": 1}
    assert output["authorization"] is None


@pytest.mark.parametrize(
    ("expression", "detail"),
    [(".n + {}", "cannot be added"), (".n.m", "Cannot index number"), ('error("because")', "because")],
)
async def test_an_expression_that_fails_is_an_expression_error_at_its_task(run, expression, detail):
    ended = await run(f"do: [{{a: {{do: [{{b: {{set: {{x: '${{ {expression} }}'}}}}}}]}}}}]", {"n": 1})
    assert ended.fault == ("expression", 400, "/do/0/a/do/0/b")
    assert detail in ended.error["detail"]
