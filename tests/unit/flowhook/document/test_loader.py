import contextlib
import re
import textwrap

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowhook import limits
from flowhook.document.diagnostics.rules import unsupported
from flowhook.document.diagnostics.rules.context import MAX_PROGRAMS
from flowhook.document.loader import MAX_FAULTS, canonical, load_definition, parse
from flowhook.document.models.tasks import CallTask, DoTask, ErrorDefinition, RaiseTask, SetTask, SwitchTask
from flowhook.errors import InvalidFlowError

HEAD = "document: {dsl: 1.0.3, namespace: default, name: orders, version: 1.0.0}\n"

EVERYTHING = """\
document:
  dsl: 1.0.3
  namespace: shop
  name: orders
  version: 1.2.3-rc.1+build
  title: Orders
  summary: "*What* comes in"
  tags: {team: a}
  metadata: {owner: b}
webhook:
  auth: {github: {secret: hook}}
  respond: {status: 200, body: {ok: true}}
execution:
  concurrency: 20
  max_backlog: 5000
input:
  schema: {format: json, document: {type: object, properties: {body: {$ref: "#/$defs/any"}}, $defs: {any: true}}}
  from: ${ .body }
use:
  secrets: [api-key]
  errors:
    sold-out: {type: https://example.com/errors/sold-out, status: 409, detail: '${ "no \\(.item) left" }'}
do:
  - keep:
      if: .items != null
      set:
        items: ${ [.items[] | {name, count}] }
        at: 2024-01-01
      export: {as: '$context + {items: .items}'}
  - choose:
      switch:
        - none: {when: (.items | length) == 0, then: refuse}
        - some: {when: '${ .items[0].count > 1 }', then: order}
        - default: {then: exit}
  - refuse:
      raise: {error: sold-out}
      then: end
  - order:
      do:
        - post:
            input: {from: {item: '${ .items[0] }'}}
            call: http
            with:
              method: post
              endpoint: {uri: "https://example.com/orders/{item}"}
              headers: {Authorization: '${ "Bearer \\($secrets["api-key"])" }', X-Count: 1}
              query: '${ {a: 1} }'
              body: ${ . }
              output: response
              redirect: true
            output: {as: .content, schema: {document: {type: [object, "null"]}}}
        - tell:
            call: twitter.post
            with: {text: '${ $task.name }'}
            metadata: {note: hello}
            then: continue
output:
  as: {context: '${ $context }'}
"""

FUNCTIONS = frozenset({"twitter.post"})


def faults_of(text, **options):
    with pytest.raises(InvalidFlowError) as caught:
        parse(text.encode(), file="f.yaml", **options)
    return [(fault.line, fault.key, fault.cause) for fault in caught.value.faults]


def flow(tasks, head=HEAD):
    return head + "do:\n" + textwrap.indent(textwrap.dedent(tasks), "  ")


def test_a_flow_that_uses_everything_loads():
    document = parse(EVERYTHING.encode(), functions=FUNCTIONS)

    assert document.id == "shop.orders"
    assert document.webhook is not None
    assert document.webhook.secret_names() == {"hook"}
    assert (document.execution.concurrency, document.execution.max_backlog) == (20, 5000)
    keep, choose, refuse, order = document.workflow.do
    assert (keep.name, type(keep.task)) == ("keep", SetTask)
    assert keep.task.if_ == ".items != null"
    assert keep.task.set["at"] == "2024-01-01"
    assert keep.task.export.as_ == "$context + {items: .items}"
    assert isinstance(choose.task, SwitchTask)
    assert [(case.name, case.then) for case in choose.task.switch] == [
        ("none", "refuse"),
        ("some", "order"),
        ("default", "exit"),
    ]
    assert isinstance(refuse.task, RaiseTask)
    assert (refuse.task.raise_.error, refuse.task.then) == ("sold-out", "end")
    assert isinstance(document.workflow.use.errors["sold-out"], ErrorDefinition)
    assert isinstance(order.task, DoTask)
    post, tell = order.task.do
    assert isinstance(post.task, CallTask)
    assert (post.task.call, post.task.with_["method"], post.task.input.from_) == (
        "http",
        "post",
        {"item": "${ .items[0] }"},
    )
    assert tell.task.metadata == {"note": "hello"}
    assert document.workflow.output.as_ == {"context": "${ $context }"}


def test_what_was_parsed_loads_from_its_canonical_form():
    document = parse(EVERYTHING.encode())
    stored = canonical(document.definition)
    assert load_definition(stored) == document
    assert canonical(load_definition(stored).definition) == stored


def test_the_canonical_form_does_not_depend_on_how_a_document_is_written():
    document = parse(EVERYTHING.encode()).definition
    assert canonical(parse(orjson.dumps(document, option=orjson.OPT_INDENT_2)).definition) == canonical(document)


def test_a_json_file_with_tabs_loads():
    document = {"document": {"dsl": "1.0.3", "namespace": "default", "name": "a", "version": "1.0.0"}, "do": []}
    text = orjson.dumps(document, option=orjson.OPT_INDENT_2).replace(b"  ", b"\t")
    assert parse(text).id == "a"


def test_a_flow_without_our_keys_has_the_defaults():
    document = parse(flow("- a: {set: {b: 1}}").encode())
    assert document.webhook is None
    assert document.execution.concurrency is None
    assert document.execution.max_backlog == limits.DEFAULT_FLOW_BACKLOG


def nested(keys, value="{}"):
    return "{" + keys[0] + ": " + (nested(keys[1:], value) if len(keys) > 1 else value) + "}"


@pytest.mark.parametrize(("path", "cause"), unsupported.KEYS.items())
def test_keys_that_are_not_supported_are_refused_by_name(path, cause):
    text = HEAD + "do: []\n" + nested(path)[1:-1]
    assert (3, ".".join(path), cause) in faults_of(text)


@pytest.mark.parametrize(("kind", "cause"), unsupported.PROCESSES.items())
def test_processes_that_are_not_supported_are_refused_by_name(kind, cause):
    assert faults_of(flow(f"- a:\n    run:\n      {kind}: {{image: '${{ $x }}'}}")) == [
        (5, f"do[0].a.run.{kind}", cause)
    ]


@pytest.mark.parametrize(("name", "cause"), unsupported.FUNCTIONS.items())
def test_functions_that_are_not_supported_are_refused_by_name_unless_a_component_has_it(name, cause):
    text = flow(f"- a: {{call: {name}, with: {{x: '${{ $item }}'}}}}")
    assert faults_of(text) == [(3, "do[0].a.call", cause)]
    assert parse(text.replace("$item", ".item").encode(), functions={name}).id == "orders"


def test_any_function_may_be_called_where_components_are_not_known():
    assert parse(flow("- a: {call: acme.do}").encode()).id == "orders"


def test_a_workflow_s_own_functions_may_be_called():
    text = flow("- a: {call: mine, with: {b: 1}}") + "\nuse: {functions: {mine: {set: {a: '${ .b }'}}}}"
    assert parse(text.encode(), functions=FUNCTIONS).workflow.use.functions["mine"].set == {"a": "${ .b }"}


def test_extensions_load_as_their_author_wrote_them():
    head = (
        HEAD
        + 'evaluate: {language: jq}\nuse: {extensions: [{log: {extend: call, when: $task.name != "x", '
        + ("before: [{a: {set: {b: 1}, then: exit}}], after: [{c: {call: d}}]}}]}\n")
    )
    document = parse(flow("- a: {call: d}", head).encode(), functions={"d"})
    (extension,) = document.workflow.use.extensions
    assert (extension.name, extension.extend, extension.when) == ("log", "call", '$task.name != "x"')
    assert (extension.before[0].task.then, extension.after[0].name) == ("exit", "c")
    assert load_definition(canonical(document.definition)) == document


def test_all_faults_of_a_file_come_at_once_by_line():
    text = flow(
        """\
        - a: {set: {b: '${ . | }'}, then: nowhere}
        - b: {cll: http}
        - c:
            call: nope
            wait: {seconds: 1}
        """,
        HEAD.replace("1.0.3", "2.0.0") + "schedule: {cron: x}\n",
    )
    faults = faults_of(text, functions=FUNCTIONS)
    assert [(line, key) for line, key, _ in faults] == [
        (1, "document.dsl"),
        (2, "schedule.cron"),
        (4, "do[0].a.set.b"),
        (4, "do[0].a.then"),
        (5, "do[1].b"),
        (7, "do[2].c.call"),
        (8, "do[2].c.wait"),
    ]


def test_a_fault_reads_as_one_line():
    with pytest.raises(
        InvalidFlowError, match=re.escape("orders.yaml:3: do[0].a.wth: unknown key 'wth', did you mean")
    ):
        parse(flow("- a: {call: x, wth: {}}").encode(), file="orders.yaml")


def test_faults_are_limited_in_number():
    tasks = "\n".join(f"- t{n}: {{set: {{b: 1}}, then: nowhere{n}, wth: 1}}" for n in range(MAX_FAULTS))
    faults = faults_of(flow(tasks))
    assert len(faults) == MAX_FAULTS + 1
    assert faults[0][:2] == (3, "do[0].t0.then")
    assert faults[-1] == (0, "", "there are more problems, which are reported once these are corrected")


def test_expressions_are_limited_in_number():
    programs = ", ".join(f"a{n}: '${{ {n} + 1 }}'" for n in range(MAX_PROGRAMS + 1))
    (fault,) = faults_of(flow(f"- a: {{set: {{{programs}}}}}"))
    assert fault[2] == f"a flow has at most {MAX_PROGRAMS} different expressions that are more than paths"


LEAVES = st.sampled_from(["1", "''", "x", "null", "true", "${ .a }", "${ | }", "http", "end", "https://x.y"])
WORDS = st.sampled_from(
    [
        "document", "do", "set", "call", "with", "switch", "when", "then", "raise", "error", "use", "errors", "input",
        "from", "output", "as", "schema", "webhook", "auth", "execution", "if", "for", "a", "method", "endpoint",
        "listen", "to", "one", "any", "all", "until", "foreach", "type", "correlate", "expect", "emit", "event", "run",
        "workflow", "script", "shell", "environment", "on", "cron", "every", "callbacks", "authentication", "oauth2",
        "service", "document", "extensions", "before", "functions",
    ]
)  # fmt: skip
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: "[" + ", ".join(items) + "]")
        | st.dictionaries(WORDS, inner, max_size=4).map(
            lambda items: "{" + ", ".join(f"{key}: {value}" for key, value in items.items()) + "}"
        )
    ),
    max_leaves=25,
)


def survives(source):
    with contextlib.suppress(InvalidFlowError):
        parse(source)


@given(source=st.binary(max_size=120))
def test_no_bytes_fail_in_any_other_way(source):
    survives(source)


@given(tree=TREES)
def test_no_document_fails_in_any_other_way(tree):
    survives(tree.replace("${ .a }", "'${ .a }'").replace("${ | }", "'${ | }'").encode())


@given(tasks=TREES, webhook=TREES, use=TREES)
def test_no_parts_of_a_document_fail_in_any_other_way(tasks, webhook, use):
    text = HEAD + f"do: [{{t: {tasks}}}, {tasks}]\nwebhook: {webhook}\nexecution: {use}\nuse: {use}\n"
    text += f"schedule: {webhook}\n"
    survives(text.replace("${ .a }", "'${ .a }'").replace("${ | }", "'${ | }'").encode())


def test_functions_that_call_themselves_are_refused():
    text = flow("- a: {call: one}") + "\nuse: {functions: {one: {do: [{x: {call: two}}]}, two: {call: one}}}"
    cause = "calls itself, or calls functions more than 8 levels deep"
    assert faults_of(text, functions=FUNCTIONS) == [
        (4, "use.functions.one", cause),
        (4, "use.functions.two", cause),
    ]
