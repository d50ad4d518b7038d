# ruff: noqa: E501  # one bad file a row reads best
import pytest
from support.flow_files import HEAD, causes_of

# A task, the key in it that is unknown, and what is said of that.
IN_TASKS = [
    # further down
    ("{call: http, method: get, with: {method: get, endpoint: 'https://x.y'}}", "method", ": it belongs below `with`"),
    ("{call: twitter.post, text: b, with: {text: b}}", "text", ": it belongs below `with`"),
    ("{call: http, uri: b, with: {method: get, endpoint: 'https://x.y'}}", "uri", ": it belongs below `with.endpoint`"),
    ("{fork: {branches: [{b: {set: {c: 1}}}]}, compete: true}", "compete", ": it belongs below `fork`"),
    ("{try: [{b: {set: {c: 1}}}], catch: {}, retry: {}}", "retry", ": it belongs below `catch`"),
    ("{try: [{b: {set: {c: 1}}}], catch: {retry: {count: 3}}}", "catch.retry.count", ": it belongs below `limit.attempt`"),
    ("{listen: {to: {any: []}}, until: .x}", "until", ": it belongs below `listen.to`"),
    ("{run: {shell: {command: b}}, return: code}", "return", ": it belongs below `run`"),
    # further up
    ("{for: {in: .x, while: .y}, do: []}", "for.while", ": it belongs beside `for`, not inside it"),
    ("{listen: {to: {any: []}, timeout: {after: PT5M}}}", "listen.timeout", ": it belongs beside `listen`, not inside it"),
    ("{try: [], catch: {export: {as: .x}}}", "catch.export", ": it belongs beside `catch`, not inside it"),
    ("{run: {shell: {command: b, return: code}}}", "run.shell.return", ": it belongs beside `shell`, not inside it"),
    ("{call: http, with: {method: get, endpoint: 'https://x.y', timeout: {after: PT5M}}}", "with.timeout", ": it belongs beside `with`, not inside it"),
    ("{call: twitter.post, with: {text: b, then: end}}", "with.then", ": it belongs beside `with`, not inside it"),
    # in tasks of another kind
    ("{set: {b: 1}, while: .x}", "while", ": it belongs to tasks with `for`"),
    ("{set: {b: 1}, catch: {}}", "catch", ": it belongs to tasks with `try`"),
    ("{set: {b: 1}, foreach: {}}", "foreach", ": it belongs to `listen`; a `for` task iterates over an array"),
    ("{call: twitter.post, with: {text: b}, retry: {}}", "retry", ": it belongs below `metadata`, or below the `catch` of a `try`"),
    # called otherwise
    ("{set: {b: 1}, when: .x}", "when", ", did you mean 'if'?"),
    ("{set: {b: 1}, If: .x}", "If", ", did you mean 'if'?"),
    ("{set: {b: 1}, goto: end}", "goto", ", did you mean 'then'?"),
    ("{switch: [{b: {if: .x, then: end}}]}", "switch[0].b.if", ", did you mean 'when'?"),
    ("{try: [], catch: {if: .x}}", "catch.if", ", did you mean 'when'?"),
    ("{set: {b: 1}, output: {from: .x}}", "output.from", ", did you mean 'as'?"),
    ("{set: {b: 1}, exports: {as: .x}}", "exports", ", did you mean 'export'?"),
    ("{call: http, with: {method: get, endpoint: 'https://x.y', json: {}}}", "with.json", ", did you mean 'body'?"),
    # and those there are
    ("{set: {b: 1}, comment: c}", "comment", "; allowed here: export, if, input, metadata, output, set, then, timeout"),
    ("{try: [], catch: {retry: {maxAttempts: 3}}}", "catch.retry.maxAttempts", "; allowed here: backoff, delay, exceptWhen, jitter, limit, when"),
]  # fmt: skip

IN_DOCUMENTS = [
    ("secrets: [a]", "secrets", ": it belongs below `use`"),
    ("auth: none", "auth", ": it belongs below `webhook`"),
    ("concurrency: 5", "concurrency", ": it belongs below `execution`"),
    ("name: a", "name", ": it belongs below `document`"),
    ("steps: []", "steps", ", did you mean 'do'?"),
    ("a: {set: {b: 1}}", "a", ": a task belongs in the list `do`: write `- a:` there, and indent its content further"),
    ("events: []", "events", "; allowed here: do, document, evaluate, execution, input, output, schedule, timeout, use, webhook"),
    ("execution: {retry: {count: 3}}", "execution.retry.count", ": it belongs below `limit.attempt`"),
]  # fmt: skip

NO_TASKS = [
    ("{parallel: []}", "unknown key 'parallel', did you mean 'fork'?"),
    ("{sleep: 5}", "unknown key 'sleep', did you mean 'wait'?"),
    ("{http: {method: get}}", "unknown key 'http': write `call: http`, and its arguments below `with`"),
    ("{Set: {b: 1}}", "unknown key 'Set', did you mean 'set'?"),
]


@pytest.mark.parametrize(("task", "key", "message"), IN_TASKS)
def test_an_unknown_key_of_a_task_says_where_it_belongs_or_what_was_meant(task, key, message):
    name = key.split(".")[-1]
    assert causes_of(f"{HEAD}do:\n- a: {task}") == [(3, f"do[0].a.{key}", f"unknown key {name!r}{message}")]


@pytest.mark.parametrize(("text", "key", "message"), IN_DOCUMENTS)
def test_an_unknown_key_of_a_document_says_where_it_belongs_or_what_was_meant(text, key, message):
    name = key.split(".")[-1]
    assert causes_of(f"{HEAD}do: []\n{text}") == [(3, key, f"unknown key {name!r}{message}")]


@pytest.mark.parametrize(("task", "cause"), NO_TASKS)
def test_what_is_no_task_says_which_kind_was_meant(task, cause):
    assert causes_of(f"{HEAD}do:\n- a: {task}") == [(3, "do[0].a", cause)]
    own_line = task.removeprefix("{").removesuffix("}")
    assert causes_of(f"{HEAD}do:\n- a:\n    {own_line}") == [(4, "do[0].a", cause)]


@pytest.mark.parametrize("key", ["[key]", "<task>", "<definition>", "<<a>>"])
def test_an_unknown_key_may_look_like_a_step_of_the_check_itself(key):
    text = f"{HEAD}do:\n- a: {{set: {{b: 1}}, '{key}': 1}}\n'{key}': 1"
    assert [(line, cause.split(";")[0]) for line, _, cause in causes_of(text)] == [
        (3, f"unknown key {key!r}"),
        (4, f"unknown key {key!r}"),
    ]


def test_a_schema_that_stands_in_the_place_of_its_mapping_is_reported():
    text = f"{HEAD}do:\n- a: {{set: {{b: 1}}, input: {{schema: {{type: object}}}}}}"
    assert causes_of(text) == [(3, "do[0].a.input.schema", "write the schema below the key `document`")]


def test_a_document_of_the_dsl_before_its_first_version_is_reported():
    faults = causes_of("id: greet\nspecVersion: '0.8'\nstates: []")
    assert (2, "specVersion", "documents of DSL versions before 1.0 are not supported") in faults
