# ruff: noqa: E501  # one bad file a row reads best
import pytest
from support.flow_files import HEAD, faults_of

# A task, the key in it that has the wrong type, and the cause.
BAD = [
    ("{output: .x, set: {b: 1}}", "output", "expected a mapping with some of `as` and `schema`"),
    ("{call: openapi, with: {document: 'https://x.y', operationId: b}}", "with.document", "expected a mapping with `endpoint`"),
    ("{run: {shell: ls}}", "run.shell", "expected a mapping with `command`"),
    ("{run: {workflow: other}}", "run.workflow", "expected a mapping with `namespace` and `name`"),
    ("{raise: outOfStock}", "raise", "expected a mapping with `error`"),
    ("{try: [], catch: {retry: {jitter: PT1S}}}", "catch.retry.jitter", "expected a mapping with `from` and `to`"),
    ("{set: {b: 1}, metadata: [c]}", "metadata", "expected a mapping: leave out the hyphens"),
    ("{call: {http: {}}}", "call", "expected the name of a function, such as http"),
    ("{set: {b: 1}, then: [c]}", "then", "expected the name of a task of this list, or one of continue, exit and end"),
    ("{for: {in: [1, 2]}, do: []}", "for.in", "expected a text, an expression that yields an array, such as .body.lines"),
    ("{if: [c], set: {b: 1}}", "if", "expected a text, an expression such as .body.total > 5"),
    ("{raise: {error: {type: 'https://x.y', status: '${ .s }'}}}", "raise.error.status", "expected an integer, no expression"),
    ("{fork: {compete: 'true', branches: [{b: {set: {c: 1}}}]}}", "fork.compete", "expected true or false: leave out the quotes"),
    ("{run: {shell: {command: b, arguments: c}}}", "run.shell.arguments", "expected a list: put it in brackets, [ ]"),
    ("{run: {script: {language: Python, code: b}}}", "run.script.language", "expected 'python', 'js' or 'javascript', did you mean 'python'?"),
    ("{call: http, with: {method: get, endpoint: .url}}", "with.endpoint", "expected an http(s) URI such as https://api.example.com/pets; as an expression it is written ${ .url }"),
    ("{call: http, with: {method: get, endpoint: 'https://x.y/${ .id }'}}", "with.endpoint", 'expected an http(s) URI such as https://api.example.com/pets; an expression is all of a text, ${ "https://api.example.com/pets/\\(.id)" }; {id} stands for the property `id` of the task\'s input'),
    ("{call: http, with: {method: get, endpoint: 'https://x.y', headers: $context.headers}}", "with.headers", "expected a mapping or an expression ${ … }; as an expression it is written ${ $context.headers }"),
]  # fmt: skip


@pytest.mark.parametrize(("task", "key", "cause"), BAD)
def test_a_value_of_the_wrong_type_says_what_to_write(task, key, cause):
    assert faults_of(f"{HEAD}do:\n- a: {task}") == [(3, f"do[0].a.{key}", cause)]


@pytest.mark.parametrize(
    ("text", "key", "cause"),
    [
        ("webhook: {auth: none, respond: reply}", "webhook.respond", "some of `body`, `headers`, `mode`, `on_fault`, `status` and `timeout`"),
        ("webhook: none", "webhook", "`auth`"),
        ("webhook: {auth: none, rate_limit: 100}", "webhook.rate_limit", "`per_second`"),
    ],
)  # fmt: skip
def test_only_those_keys_are_asked_for_that_have_no_default(text, key, cause):
    assert faults_of(f"{HEAD}do: []\n{text}") == [(3, key, f"expected a mapping with {cause}")]


def test_a_credential_in_the_place_of_its_mapping_is_not_repeated():
    task = "{call: http, with: {method: get, endpoint: {uri: 'https://x.y', authentication: {bearer: s3cret}}}}"
    ((_, _, cause),) = faults_of(f"{HEAD}do:\n- a: {task}")
    assert cause == "expected a mapping with `token`"


@pytest.mark.parametrize(
    ("call", "key", "cause"),
    [
        ("call: reply, with: {code: 200}", "with.code", "unknown key 'code', did you mean 'status'?"),
        ("call: reply, with: {status: '200'}", "with.status", "expected a status, 200 to 599, or an expression ${ … }"),
        ("call: reply, body: {}", "body", "unknown key 'body': it belongs below `with`"),
        ("call: webhook.send, with: {url: 'https://x.y', body: b}", "with.secret", "the key 'secret' is missing"),
        ("call: email.send, with: {to: a, from: b, subject: c, body: d}", "with.body", "unknown key 'body'"),
    ],
)
def test_arguments_of_built_in_components_are_checked_before_they_are_called(call, key, cause):
    ((_, where, told),) = faults_of(f"{HEAD}do:\n- a: {{{call}}}", {"reply", "webhook.send", "email.send"})
    assert where == f"do[0].a.{key}"
    assert told.startswith(cause)


def test_arguments_of_built_in_components_may_be_expressions():
    call = "call: reply, with: {status: '${ .s }', headers: '${ .h }', body: [1]}"
    assert [key for _, key, _ in faults_of(f"{HEAD}do:\n- a: {{{call}, then: nowhere}}", {"reply"})] == ["do[0].a.then"]


def test_an_authentication_that_is_only_named_is_told_how():
    use = "use: {authentications: {crm: {bearer: {token: t}}}}"
    task = "{call: http, with: {method: get, endpoint: {uri: 'https://x.y', authentication: crm}}}"
    ((_, key, cause),) = faults_of(f"{HEAD}{use}\ndo:\n- a: {task}")
    assert (key, cause) == ("do[0].a.with.endpoint.authentication", "expected a mapping: {use: crm}")


@pytest.mark.parametrize(
    "task",
    [
        "{set: {b: '${ $secrets.crm-kye }'}}".replace(".crm-kye", '["crm-kye"]'),
        "{call: http, with: {method: get, endpoint: {uri: 'https://x.y', authentication: {bearer: {use: crm-kye}}}}}",
    ],
)
def test_a_secret_that_is_not_listed_says_which_was_meant(task):
    ((_, _, cause),) = faults_of(f"{HEAD}use: {{secrets: [crm-key]}}\ndo:\n- a: {task}")
    assert cause == "secret 'crm-kye' is not listed in `use.secrets`, did you mean 'crm-key'?"


def test_an_expression_of_the_order_is_told_how_it_is_written():
    ((_, _, cause),) = faults_of(f"{HEAD}do: []\nexecution: {{order_by: .body.account}}")
    assert cause == "expected an expression ${ … }; as an expression it is written ${ .body.account }"
