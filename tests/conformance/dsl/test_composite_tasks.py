"""What `for`, `fork`, `try`, `wait`, timeouts, retries and functions of a workflow's own mean."""

from __future__ import annotations

import pytest


async def test_a_loop_runs_its_tasks_for_each_item_on_the_output_of_the_iteration_before(run):
    ended = await run(
        """
        do:
          - paint:
              for: {each: color, in: .colors}
              do:
                - mix: {set: {seen: '${ .seen + [$color] }', at: '${ .at + [$index] }'}}
        """.replace("\n        ", "\n"),
        {"colors": ["red", "green", "blue"]},
    )
    assert ended.output == {"seen": ["red", "green", "blue"], "at": [0, 1, 2]}


async def test_a_loop_ends_when_while_is_not_true_any_more_or_a_task_says_end(run):
    loop = "{for: {in: '[1,2,3,4]'}, %s do: [{s: {set: {n: '${ $item }'}%s}}]}"
    loop = f"do: [{{l: {loop}}}, {{t: {{set: {{n: '${{ .n * 10 }}'}}}}}}]"
    assert (await run(loop % ("while: $item < 3,", ""), {})).output == {"n": 20}
    assert (await run(loop % ("", ", then: end"), {})).output == {"n": 1}
    assert (await run(loop % ("", ", then: exit"), {})).output == {"n": 40}


async def test_a_loop_over_what_is_no_array_is_an_expression_error(run):
    assert (await run("do: [{l: {for: {in: .x}, do: []}}]", {"x": {}})).fault == ("expression", 400, "/do/0/l")


BRANCHES = "[{a: {set: {x: '${ .n + 1 }'}}}, {b: {do: [{w: {wait: {milliseconds: 1}}}, {s: {set: {x: 5}}}]}}]"


async def test_a_fork_gives_the_outputs_of_its_branches_in_the_order_they_are_written(run):
    assert (await run(f"do: [{{f: {{fork: {{branches: {BRANCHES}}}}}}}]", {"n": 1})).output == [{"x": 2}, {"x": 5}]


async def test_of_competing_branches_the_first_to_succeed_gives_the_output(run):
    assert (await run(f"do: [{{f: {{fork: {{compete: true, branches: {BRANCHES}}}}}}}]", {"n": 1})).output == {"x": 2}
    losing = "{a: {raise: {error: {type: 'https://e.com/x', status: 400}}}}"
    fork = "do: [{f: {fork: {compete: true, branches: [%s, {b: {do: [{w: {wait: PT0.01S}}, {s: {set: {x: 5}}}]}}]}}}]"
    assert (await run(fork % losing, {})).output == {"x": 5}


async def test_a_branch_that_faults_faults_the_fork(run):
    branches = "[{a: {raise: {error: {type: 'https://e.com/x', status: 400}}}}, {b: {wait: PT1H}}]"
    error = (await run(f"do: [{{f: {{fork: {{branches: {branches}}}}}}}]", {})).error
    assert (error["type"], error["instance"]) == ("https://e.com/x", "/do/0/f/fork/branches/0/a")


CATCH = """
do:
  - attempt:
      try:
        - ask: {call: http, with: {method: get, endpoint: '%s/status/404'}}
      catch:
        errors: {with: {type: '%s/communication', status: %d}}
        as: problem
        do:
          - tell: {set: {error: '${ $problem }'}}
"""
STANDARD = "https://open-workflow-specification.org/spec/1.0.0/errors"
SPELLINGS = [
    STANDARD,
    "https://open-workflow-specification.org/dsl/errors/types",
    "https://serverlessworkflow.io/spec/1.0.0/errors",
    "https://serverlessworkflow.io/dsl/errors/types",
]


async def test_a_loop_runs_over_objects_that_stand_in_the_document(run):
    loop = "{for: {each: color, in: [{name: red}, {name: '${ .other }'}]}, do: [{mark: {set: "
    ended = await run(
        f"do: [{{a: {loop}{{other: '${{ .other }}', done: '${{ .done + [$color.name] }}'}}}}}}]}}}}]", {"other": "blue"}
    )
    assert ended.output == {"other": "blue", "done": ["red", "blue"]}


@pytest.mark.parametrize("base", SPELLINGS)
async def test_an_error_is_caught_by_each_name_of_its_type_and_has_the_present_one(run, pets, base):
    output = (await run(CATCH % (pets.url, base, 404), {})).output
    assert output["error"]["type"] == f"{STANDARD}/communication"
    assert (output["error"]["status"], output["error"]["instance"]) == (404, "/do/0/attempt/try/0/ask")
    assert output["error"]["title"]


@pytest.mark.parametrize("base", SPELLINGS)
@pytest.mark.parametrize("chosen", ["open-workflow", "serverless-workflow"])
async def test_expressions_compare_types_by_any_of_their_names(run, pets, base, chosen):
    same = f'$error.type == "{base}/communication"'
    told = f"{{same: '${{ {same} }}', type: '${{ $error.type }}'}}"
    catch = f"catch: {{when: '{same}', do: [{{tell: {{set: {told}}}}}]}}"
    ask = f"{{ask: {{call: http, with: {{method: get, endpoint: '{pets.url}/none'}}}}}}"
    output = (await run(f"execution: {{error_types: {chosen}}}\ndo: [{{t: {{try: [{ask}], {catch}}}}}]", {})).output
    named = STANDARD if chosen == "open-workflow" else "https://serverlessworkflow.io/spec/1.0.0/errors"
    assert output == {"same": True, "type": f"{named}/communication"}


async def test_an_error_that_the_filter_does_not_take_faults_the_workflow(run, pets):
    ended = await run(CATCH % (pets.url, STANDARD, 503), {})
    assert ended.fault == ("communication", 404, "/do/0/attempt/try/0/ask")


@pytest.mark.parametrize("type_", ["urn:example:late", "about:blank", "/errors/late", "https://e.com/{kind}"])
async def test_the_type_of_a_raised_error_is_a_uri_of_any_scheme(run, type_):
    ended = await run(f"do: [{{r: {{raise: {{error: {{type: '{type_}', status: 409}}}}}}}}]", {"kind": "late"})
    assert ended.error["type"] == type_.replace("{kind}", "late")


RAISE = "{r: {raise: {error: {type: 'https://e.com/x', status: 409, title: T, detail: d}}}}"


@pytest.mark.parametrize(
    ("catch", "caught"),
    [
        ("{}", True),
        ("{errors: {with: {title: T, details: d, instance: /do/0/t/try/0/r}}}", True),
        ("{errors: {with: {details: other}}}", False),
        ("{errors: {with: {detail: d}}}", True),
        ("{errors: {with: {detail: other}}}", False),
        ("{when: $error.status == 409}", True),
        ("{when: .never}", False),
        ("{as: e, exceptWhen: $e.status == 409}", False),
    ],
)
async def test_what_is_caught(run, catch, caught):
    ended = await run(f"do: [{{t: {{try: [{RAISE}], catch: {catch}}}}}]", {"n": 1})
    if caught:
        assert ended.output == {"n": 1}
    else:
        assert ended.error["status"] == 409


@pytest.mark.parametrize(
    ("retry", "tries"),
    [
        ("{limit: {attempt: {count: 2}}}", 3),
        ("{limit: {attempt: {count: 0}}}", 1),
        ("{delay: PT0.01S, backoff: {exponential: {}}, limit: {attempt: {count: 2}}}", 3),
        ("{delay: PT0.01S, backoff: {linear: {increment: PT1H}}, limit: {duration: PT1M}}", 2),
        ("{when: .never}", 1),
        ("{jitter: {from: PT0S, to: PT0.01S}, limit: {attempt: {count: 1}}}", 2),
    ],
)
async def test_a_try_is_repeated_as_its_policy_says_and_then_the_error_is_raised_again(run, retry, tries):
    count = "{count: {set: '${ . }', export: {as: '${ {n: (($context.n // 0) + 1)} }'}}}"
    policy = f"use: {{retries: {{mine: {retry}}}}}"
    body = f"{{try: [{count}, {RAISE}], catch: {{retry: mine%s}}}}"
    assert (await run(f"{policy}\ndo: [{{t: {body % ''}}}]", {})).error["status"] == 409
    handled = body % ", do: [{h: {set: {n: '${ $context.n }'}}}]"
    assert (await run(f"{policy}\ndo: [{{t: {handled}}}]", {})).output == {"n": tries}


async def test_a_timeout_interrupts_what_runs_and_can_be_caught(run):
    slow = "{w: {wait: PT1H, timeout: brief}}"
    use = "use: {timeouts: {brief: {after: {milliseconds: 5}}}}\n"
    assert (await run(f"{use}do: [{slow}]", {})).fault == ("timeout", 408, "/do/0/w")
    assert (await run(f"{use}timeout: brief\ndo: [{{w: {{wait: PT1H}}}}]", {})).fault == ("timeout", 408, "/do")
    caught = f"{{t: {{try: [{slow}], catch: {{errors: {{with: {{status: 408}}}}, do: [{{s: {{set: {{x: 1}}}}}}]}}}}}}"
    assert (await run(f"{use}do: [{caught}]", {})).output == {"x": 1}


async def test_a_wait_hands_on_its_input_and_its_duration_may_be_an_expression(run):
    assert (await run("do: [{w: {wait: '${ .d }'}}]", {"d": "PT0.001S"})).output == {"d": "PT0.001S"}
    assert (await run("do: [{w: {wait: '${ .d }'}}]", {"d": 5})).fault == ("expression", 400, "/do/0/w")


async def test_a_function_of_the_workflow_s_own_gets_its_arguments_as_input(run):
    use = "use: {functions: {double: {input: {schema: {document: {required: [n]}}}, set: {n: '${ .n * 2 }'}}}}\n"
    assert (await run(f"{use}do: [{{a: {{call: double, with: {{n: '${{ .x }}'}}}}}}]", {"x": 4})).output == {"n": 8}
    ended = await run(f"{use}do: [{{a: {{call: double}}}}]", {"x": 4})
    assert ended.fault == ("validation", 400, "/use/functions/double")
