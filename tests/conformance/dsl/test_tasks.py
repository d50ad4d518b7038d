"""`set`, `do`, `switch`, `raise` and the directives of flow.

Source: the specification's ctk/features (do, flow, raise, set, switch) and dsl-reference.md, in our own words.
"""

from __future__ import annotations

import pytest

COLORS = {
    name: f"- {name}: {{set: {{seen: '${{ .seen + [\"{name}\"] }}'}}{{more}}}}\n" for name in ("a", "b", "c", "d")
}


def colors(**more):
    """Return tasks that each add their name to `.seen`, in the order and with the directives given."""
    return "do:\n" + "".join(
        "  " + COLORS[name].replace("{more}", f", then: {then}" if then else "") for name, then in more.items()
    )


FLOWS = [
    ("tasks run in the order they stand in", colors(a="", b="", c=""), ["a", "b", "c"]),
    ("`then` names the task that comes next", colors(a="c", b="end", c="b"), ["a", "c", "b"]),
    ("`continue` goes on with the next one", colors(a="continue", b=""), ["a", "b"]),
    ("`exit` on the top level ends the workflow", colors(a="exit", b=""), ["a"]),
    ("`end` ends the workflow", colors(a="end", b=""), ["a"]),
]


@pytest.mark.parametrize(("document", "expected"), [row[1:] for row in FLOWS], ids=[row[0] for row in FLOWS])
async def test_the_flow_of_tasks(run, document, expected):
    assert (await run(document, {})).output == {"seen": expected}


def block(then):
    inner = colors(a=then, b="").removeprefix("do:\n").replace("\n  ", "\n        ")
    return f"do:\n  - inner:\n      do:\n        {inner.strip()}\n" + "  " + COLORS["c"].replace("{more}", "")


@pytest.mark.parametrize(("then", "expected"), [("exit", ["a", "c"]), ("end", ["a"]), ("continue", ["a", "b", "c"])])
async def test_exit_completes_its_own_scope_and_end_the_whole_workflow(run, then, expected):
    assert (await run(block(then), {})).output == {"seen": expected}


async def test_a_set_replaces_the_data_by_what_its_expressions_give(run):
    data = {"configuration": {"size": {"width": 6}, "fill": {"red": 69}}}
    document = (
        "do: [{shape: {set: {shape: circle, size: '${ .configuration.size }', fill: '${ .configuration.fill }'}}}]"
    )
    assert (await run(document, data)).output == {"shape": "circle", "size": {"width": 6}, "fill": {"red": 69}}
    assert (await run("do: [{size: {set: '${ .configuration.size }'}}]", data)).output == {"width": 6}


@pytest.mark.parametrize("plain", ["Hello ${ .a }", "${ .a", ".a", "$a", "\\(.a)"])
async def test_in_strict_mode_only_a_whole_text_in_braces_is_an_expression(run, plain):
    assert (await run(f"do: [{{a: {{set: {{x: '{plain}', y: '  ${{ .a }} '}}}}}}]", {"a": 1})).output == {
        "x": plain,
        "y": 1,
    }


SWITCH = """
do:
  - choose:
      switch:
        - first: {when: '.color == "red"', then: red}
        - second: {when: '${ .color == "green" }', then: green}
%s
  - red: {set: {took: red}, then: end}
  - green: {set: {took: green}, then: end}
  - other: {set: {took: other, color: '${ $input.color }'}}
"""


@pytest.mark.parametrize("color", ["red", "green"])
async def test_a_switch_goes_where_its_first_true_case_says(run, color):
    assert (await run(SWITCH % "      then: end", {"color": color})).output == {"took": color}


async def test_without_a_true_case_a_switch_goes_where_its_own_then_says(run):
    assert (await run(SWITCH % "      then: end", {"color": "x"})).output == {"color": "x"}
    assert (await run(SWITCH % "      then: other", {"color": "x"})).output == {"took": "other", "color": "x"}


async def test_the_case_without_when_is_the_default_one_wherever_it_stands(run):
    last = SWITCH % "        - rest: {then: other}"
    first = last.replace("      switch:\n", "      switch:\n        - rest: {then: other}\n").replace(
        "\n        - rest: {then: other}\n  - red", "\n  - red"
    )
    for document in (last, first):
        assert (await run(document, {"color": "x"})).output == {"took": "other", "color": "x"}
        assert (await run(document, {"color": "red"})).output == {"took": "red"}


async def test_a_switch_may_exit_its_scope_or_end_the_workflow(run):
    document = """
do:
  - inner:
      do:
        - choose: {switch: [{always: {then: %s}}]}
        - never: {set: {never: true}}
  - after: {set: {after: true}}
"""
    assert (await run(document % "exit", {})).output == {"after": True}
    assert (await run(document % "end", {"x": 1})).output == {"x": 1}


async def test_a_task_whose_if_is_not_true_is_skipped_with_all_that_belongs_to_it(run):
    document = """
do:
  - refuse:
      if: .age < 18
      input: {schema: {document: {type: string}}, from: .nothing}
      raise: {error: {type: https://example.com/errors/too-young, status: 403}}
      export: {as: {never: true}}
      then: end
  - serve: {set: {served: '${ .name }', context: '${ $context.never }'}}
"""
    assert (await run(document, {"age": 20, "name": "n"})).output == {"served": "n", "context": None}


ERROR = "{type: https://example.com/errors/compliance, status: 400, title: Compliance Error%s}"


async def test_a_raised_error_faults_the_workflow_and_names_its_task(run):
    expected = {"type": "https://example.com/errors/compliance", "status": 400, "title": "Compliance Error"}
    inline = await run(f"do: [{{stop: {{raise: {{error: {ERROR % ''}}}}}}}]", {})
    named = await run(f"use: {{errors: {{mine: {ERROR % ''}}}}}\ndo: [{{stop: {{raise: {{error: mine}}}}}}]", {})
    for ended in (inline, named):
        assert ended.error == {**expected, "instance": "/do/0/stop", "detail": ""}


async def test_type_title_and_detail_of_a_raised_error_may_be_expressions_and_its_instance_is_the_task(run):
    document = """
do:
  - outer:
      do:
        - stop:
            raise:
              error:
                type: ${ "https://example.com/errors/" + .kind }
                status: 422
                title: ${ .title }
                detail: ${ "no \\(.what) left" }
                instance: /somewhere/else
"""
    assert (await run(document, {"kind": "sold-out", "title": "Sold out", "what": "tea"})).error == {
        "type": "https://example.com/errors/sold-out",
        "status": 422,
        "title": "Sold out",
        "detail": "no tea left",
        "instance": "/do/0/outer/do/0/stop",
    }


async def test_the_type_of_a_raised_error_may_be_a_uri_template(run):
    document = "do: [{stop: {raise: {error: {type: 'https://example.com/errors/{kind}', status: 422}}}}]"
    assert (await run(document, {"kind": "sold out"})).error["type"] == "https://example.com/errors/sold%20out"


@pytest.mark.parametrize("status", [100, 304, 599])
async def test_the_status_of_a_raised_error_is_any_of_http(run, status):
    document = f"do: [{{stop: {{raise: {{error: {{type: https://example.com/e, status: {status}}}}}}}}}]"
    assert (await run(document, {})).error["status"] == status


AGAIN = """
do:
  - outer:
      try:
        - first: {raise: {error: {type: https://example.com/e, status: 409, title: T, detail: '${ .why }'}}}
      catch:
        as: problem
        do: [{again: {raise: {error: '%s'}}}]
"""
RAISED = {
    "type": "https://example.com/e",
    "status": 409,
    "title": "T",
    "detail": "sold out",
    "instance": "/do/0/outer/try/0/first",
}


@pytest.mark.parametrize(
    ("expression", "differs"),
    [
        ("${ $problem }", {}),
        ('${ $problem + {title: "U"} }', {"title": "U"}),
        ("${ $problem | del(.instance, .title) }", {"title": "", "instance": "/do/0/outer/catch/do/0/again"}),
    ],
)
async def test_an_error_that_was_caught_is_raised_again_whole(run, expression, differs):
    assert (await run(AGAIN % expression, {"why": "sold out"})).error == {**RAISED, **differs}


async def test_an_error_that_is_raised_again_is_caught_like_the_first(run):
    document = AGAIN % "${ $problem }"
    inner = document.replace("\n", "\n      ").replace("do:", "try:", 1)
    caught = await run(
        "do:\n  - whole:" + inner.rstrip() + "\n      catch: {as: e, do: [{keep: {set: {e: '${ $e }'}}}]}\n",
        {"why": "sold out"},
    )
    assert caught.output["e"]["instance"] == "/do/0/whole/try/0/outer/try/0/first"


@pytest.mark.parametrize(
    "value",
    ["$problem.title", "null", "{}", "$problem | del(.status)", "$problem + {status: 99}", "$problem + {status: true}"],
)
async def test_what_is_no_error_is_not_raised_as_one(run, value):
    assert (await run(AGAIN % f"${{ {value} }}", {})).fault == ("expression", 400, "/do/0/outer/catch/do/0/again")
