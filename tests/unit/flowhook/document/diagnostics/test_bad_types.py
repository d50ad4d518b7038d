# ruff: noqa: E501  # one bad file a row reads best
import pytest
from support.cases import cases
from support.flow_files import HEAD, causes_of, faults_of

# A task, the key in it that has the wrong type, and the code.
BAD = [
    ("{output: .x, set: {b: 1}}", "output", "VALUE_TYPE"),
    ("{call: openapi, with: {document: 'https://x.y', operationId: b}}", "with.document", "VALUE_TYPE"),
    ("{run: {shell: ls}}", "run.shell", "VALUE_TYPE"),
    ("{run: {workflow: other}}", "run.workflow", "VALUE_TYPE"),
    ("{raise: outOfStock}", "raise", "VALUE_TYPE"),
    ("{try: [], catch: {retry: {jitter: PT1S}}}", "catch.retry.jitter", "VALUE_TYPE"),
    ("{set: {b: 1}, metadata: [c]}", "metadata", "VALUE_TYPE"),
    ("{call: {http: {}}}", "call", "VALUE_TYPE"),
    ("{listen: {to: {one: {with: paid}}}}", "listen.to.one.with", "VALUE_TYPE"),
    ("{set: {b: 1}, then: [c]}", "then", "VALUE_TYPE"),
    ("{for: {in: [1, 2]}, do: []}", "for.in", "VALUE_TYPE"),
    ("{if: [c], set: {b: 1}}", "if", "VALUE_TYPE"),
    ("{raise: {error: {type: 'https://x.y', status: '${ .s }'}}}", "raise.error.status", "VALUE_TYPE"),
    ("{fork: {compete: 'true', branches: [{b: {set: {c: 1}}}]}}", "fork.compete", "VALUE_TYPE"),
    ("{run: {shell: {command: b, arguments: c}}}", "run.shell.arguments", "VALUE_TYPE"),
    ("{run: {script: {language: Python, code: b}}}", "run.script.language", "VALUE_CHOICE"),
    ("{call: http, with: {method: get, endpoint: .url}}", "with.endpoint", "URI_INVALID"),
    ("{call: http, with: {method: get, endpoint: 'https://x.y/${ .id }'}}", "with.endpoint", "URI_INVALID"),
    ("{call: http, with: {method: get, endpoint: 'https://x.y', headers: $context.headers}}", "with.headers", "VALUE_TYPE"),
]  # fmt: skip


@cases(("task", "key", "code"), BAD)
def test_a_value_of_the_wrong_type_is_refused_at_its_key(task, key, code):
    assert faults_of(f"{HEAD}do:\n- a: {task}") == [(3, f"do[0].a.{key}", code)]


@pytest.mark.parametrize(
    ("text", "key", "cause"),
    [
        ("webhook: {auth: none, respond: reply}", "webhook.respond", "some of `body`, `headers`, `mode`, `on_fault`, `status` and `timeout`"),
        ("webhook: none", "webhook", "`auth`"),
        ("webhook: {auth: none, rate_limit: 100}", "webhook.rate_limit", "`per_second`"),
    ],
)  # fmt: skip
def test_only_those_keys_are_requested_that_have_no_default(text, key, cause):
    assert causes_of(f"{HEAD}do: []\n{text}") == [(3, key, f"expected a mapping with {cause}")]


def test_a_credential_in_the_place_of_its_mapping_is_not_repeated():
    task = "{call: http, with: {method: get, endpoint: {uri: 'https://x.y', authentication: {bearer: s3cret}}}}"
    ((_, _, cause),) = causes_of(f"{HEAD}do:\n- a: {task}")
    assert cause == "expected a mapping with `token`"


@pytest.mark.parametrize(
    ("call", "key", "code"),
    [
        ("call: reply, with: {code: 200}", "with.code", "KEY_UNKNOWN"),
        ("call: reply, with: {status: '200'}", "with.status", "VALUE_RANGE"),
        ("call: reply, body: {}", "body", "KEY_UNKNOWN"),
        ("call: webhook.send, with: {url: 'https://x.y', body: b}", "with.secret", "KEY_MISSING"),
        ("call: email.send, with: {to: a, from: b, subject: c, body: d}", "with.body", "KEY_UNKNOWN"),
    ],
)
def test_arguments_of_built_in_components_are_checked_before_they_are_called(call, key, code):
    faults = faults_of(f"{HEAD}do:\n- a: {{{call}}}", {"reply", "webhook.send", "email.send"})
    assert faults == [(3, f"do[0].a.{key}", code)]


def test_arguments_of_built_in_components_may_be_expressions():
    call = "call: reply, with: {status: '${ .s }', headers: '${ .h }', body: [1]}"
    assert [key for _, key, _ in causes_of(f"{HEAD}do:\n- a: {{{call}, then: nowhere}}", {"reply"})] == ["do[0].a.then"]


def test_an_authentication_that_is_only_named_says_how_to_write_it():
    use = "use: {authentications: {crm: {bearer: {token: t}}}}"
    task = "{call: http, with: {method: get, endpoint: {uri: 'https://x.y', authentication: crm}}}"
    ((_, key, cause),) = causes_of(f"{HEAD}{use}\ndo:\n- a: {task}")
    assert (key, cause) == ("do[0].a.with.endpoint.authentication", "expected a mapping: {use: crm}")


@pytest.mark.parametrize(
    "task",
    [
        "{set: {b: '${ $secrets.crm-kye }'}}".replace(".crm-kye", '["crm-kye"]'),
        "{call: http, with: {method: get, endpoint: {uri: 'https://x.y', authentication: {bearer: {use: crm-kye}}}}}",
    ],
)
def test_a_secret_that_is_not_listed_says_which_was_meant(task):
    ((_, _, cause),) = causes_of(f"{HEAD}use: {{secrets: [crm-key]}}\ndo:\n- a: {task}")
    assert cause == "secret 'crm-kye' is not listed in `use.secrets`, did you mean 'crm-key'?"


@pytest.mark.parametrize(
    ("order", "place"),
    [
        ("{key: .body.account}", "execution.order_by.key"),
        ("{on_fault: hold}", "execution.order_by.key"),
        ("{key: '${ .a }', on_fault: wait}", "execution.order_by.on_fault"),
        ("{key: '${ .a }', hold: true}", "execution.order_by.hold"),
        ("5", "execution.order_by"),
        ("'${ .a | tostring | length }'", "execution.order_by"),
    ],
)
def test_a_bad_order_names_its_place(order, place):
    assert [each[1] for each in faults_of(f"{HEAD}do: []\nexecution: {{order_by: {order}}}")] == [place]


def test_an_order_key_without_markers_says_how_to_write_it():
    ((_, _, cause),) = causes_of(f"{HEAD}do: []\nexecution: {{order_by: .body.account}}")
    assert cause == "expected an expression ${ … }; as an expression, write ${ .body.account }"
