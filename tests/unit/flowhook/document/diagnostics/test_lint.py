import json

import pytest
from support.cases import cases

from flowhook.document.diagnostics.lint import located_warnings
from flowhook.document.loader import parse
from flowhook.security.address_policy import AddressPolicy

HEAD = "document: {dsl: 1.0.3, namespace: default, name: orders, version: 1.0.0, title: 'of ${ .x }'}\n"


def warnings_of(text, policy=AddressPolicy.PUBLIC):
    source = (HEAD + text).encode()
    found = located_warnings(parse(source, functions={"f"}), source, file="flow.yaml", policy=policy)
    return [f"{each.key}: {each.cause}" for each in found]


@cases(
    ("document", "key", "quoted"),
    [
        ("do: [{a: {set: {b: 'Hello ${ .a }'}}}]", "do[0].a.set.b", "${ .a }"),
        ("do: [{a: {set: {b: ['${ .a } and ${ .b', 1]}}}]", "do[0].a.set.b[0]", "${ .a }"),
        ("do: [{a: {set: {metadata: 'x ${ .a }'}}}]", "do[0].a.set.metadata", "${ .a }"),
        ("do: [{a: {do: [{b: {call: f, with: {c: 'x${.d}'}}}]}}]", "do[0].a.do[0].b.with.c", "${.d}"),
        (
            "do: [{a: {call: http, with: {method: get, endpoint: 'https://x.y/${.id}'}}}]",
            "do[0].a.with.endpoint",
            "${.id}",
        ),
        ("do: [{a: {set: {b: 1}, output: {as: {c: 'x ${ . }'}}}}]", "do[0].a.output.as.c", "${ . }"),
        (
            "do: [{a: {raise: {error: {type: https://x.y, status: 500, detail: 'no ${ .a }'}}}}]",
            "do[0].a.raise.error.detail",
            "${ .a }",
        ),
        ("do: []\nwebhook: {auth: none, respond: {body: {id: 'is ${ .id }'}}}", "webhook.respond.body.id", "${ .id }"),
    ],
)
def test_an_expression_inside_a_longer_text_is_reported(document, key, quoted):
    (warning,) = warnings_of(document)
    assert warning.startswith(f"{key}: '{quoted}' is not evaluated")


@pytest.mark.parametrize(
    "document",
    [
        "do: [{a: {set: {b: '${ \"Hello \\(.a)\" }', c: ' ${ .a } ', d: '$ {x}', e: '${', f: '$5 {x}'}}}]",
        "do: [{a: {set: {b: 1}, metadata: {note: 'x ${ .a }'}}}]",
        "do: [{a: {set: {b: 1}, input: {schema: {document: {description: 'x ${ .a }'}}}}}]",
        "do: []\nexecution: {search: {order: .body.order}}",
        "do: [{a: {if: .b, set: '${ {c: \"${ }\"} }'}}]",
    ],
)
def test_what_is_meant_as_it_stands_is_not(document):
    assert warnings_of(document) == []


CALLBACKS = "webhook: {auth: none, callbacks: {approval: {}, refusal: {}}}\n"


def test_a_callback_that_nothing_listens_for_is_reported():
    text = CALLBACKS + "do: []"
    assert warnings_of(text) == [
        "webhook.callbacks.approval: no `listen` task waits for events of type approval",
        "webhook.callbacks.refusal: no `listen` task waits for events of type refusal",
    ]


@pytest.mark.parametrize(
    "listener",
    [
        "do: [{a: {listen: {to: {any: [{with: {type: approval}}], until: {one: {with: {type: refusal}}}}}}}]",
        "do: [{a: {do: [{b: {listen: {to: {all: [{with: {type: approval}}, {with: {type: refusal}}]}}}}]}}]",
    ],
)
def test_a_callback_that_something_listens_for_is_not(listener):
    assert warnings_of(CALLBACKS + listener) == []


PERMISSION = "it fails on runners that are started without --allow-processes"


def test_what_only_operators_allow_is_reported():
    text = """\
use: {functions: {code: {run: {script: {language: js, code: '`${a}`'}}}}}
do:
  - "0": {do: [{b: {run: {shell: {command: 'echo ${HOME} "${1}"'}}}}]}
  - c: {run: {workflow: {namespace: default, name: x}}}
"""
    assert warnings_of(text) == [
        f"use.functions.code.run.script: {PERMISSION}",
        f"do[0].0.do[0].b.run.shell: {PERMISSION}",
    ]


def test_data_that_a_shell_would_run_is_reported():
    _, warning = warnings_of("do: [{a: {run: {shell: {command: '${ \"echo \\(.name)\" }'}}}}]")
    assert warning.startswith("do[0].a.run.shell.command: the shell executes whatever is in the data: pass values")


@cases(
    ("task", "key", "warning"),
    [
        ("{set: {b: '${ .c'}}", "set.b", "'${ .c' is not an expression: the closing `}` is missing"),
        ("{set: {b: '${ .c } # all'}}", "set.b", "'${ .c }' is not evaluated: only a whole string is"),
        ("{set: {b: .c}}", "set.b", "'.c' is a literal string; as an expression, write ${ .c }"),
        ("{set: {if: '.c[0].d'}}", "set.if", "'.c[0].d' is a literal string"),
        ("{set: {b: $context.c}}", "set.b", "'$context.c' is a literal string"),
        ("{set: {b: '{{ .c }}'}}", "set.b", "'{{ .c }}' is a literal string; as an expression, write ${ .c }"),
        ("{set: {b: 1}, output: {as: {c: .d}}}", "output.as.c", "'.d' is a literal string"),
        ("{call: f, with: {from: .c}}", "with.from", "'.c' is a literal string"),
        ("{set: {b: 'Hello \\(.c)'}}", "set.b", r"'\\(.c)' has a meaning only inside expressions"),
        ("{set: {b: '${ \"Hello ${.c}\" }'}}", "set.b", "'${.c}' is not evaluated inside an expression: write"),
        ("{if: .c = 1, set: {b: 1}}", "if", "'.c = 1' is always true: `=` assigns; write `==` to compare"),
        ("{switch: [{b: {when: '${ .c = 1 }', then: end}}]}", "switch[0].b.when", "'${ .c = 1 }' is always true"),
        ("{try: [], catch: {when: $error.status = 5}}", "catch.when", "'$error.status = 5' is always true"),
        (
            "{call: http, with: {method: get, endpoint: 'https://x.y/{.id}'}}",
            "with.endpoint",
            "'{.id}' is replaced by the property '.id' of the task's input",
        ),
    ],
)
def test_a_text_that_comes_near_an_expression_is_reported(task, key, warning):
    (found,) = warnings_of(f"do:\n- a: {task}")
    assert found.startswith(f"do[0].a.{key}: {warning}")


@cases(
    "task",
    [
        "{if: .c == 1 and .d != 2 and (.e | . <= 3) and (.f >= 4), set: {b: 1}}",
        "{if: '.c == \"a = b\" # =', set: {b: 1}}",
        "{input: {from: .c}, set: {b: 1}, output: {as: .b}, export: {as: $context}}",
        "{for: {in: .c}, while: .d, do: [{if: {if: .e, set: {b: 1}}}]}",
        "{do: [{set: {if: .e, set: {b: 1}}}, {with: {if: .e, set: {b: 1}}}]}",
        "{listen: {to: {any: [{with: {type: x}, correlate: {o: {from: .data.c}}}], until: .d}}}",
        "{set: {b: '...', c: '. is the input', d: '$5', e: 'a.b', f: '{{name}, {x}}', g: 'C:\\(x86)'}}",
        "{call: http, with: {method: get, endpoint: 'https://x.y/{id}/{pet.id}'}}",
    ],
)
def test_what_is_an_expression_or_far_from_one_is_not(task):
    assert warnings_of(f"do:\n- a: {task}") == []


def test_a_task_that_is_called_like_a_directive_is_reported():
    (warning,) = warnings_of("do: [{a: {do: [{end: {set: {b: 1}}}]}}]")
    assert warning.startswith("do[0].a.do[0].end: `then: end` is a directive")


def test_an_expression_inside_a_command_is_reported():
    warning, _ = warnings_of("do: [{a: {run: {shell: {command: 'echo ${ .name }'}}}}]")
    assert warning.startswith("do[0].a.run.shell.command: '${ .name }' is not evaluated")


@pytest.mark.parametrize(
    "name",
    [
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "sk_live_51H8xEtcAbCdEfGh",
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        "d41d8cd98f00b204e9800998ecf8427e",
        "3f2b8c1e-1b2c-4d5e-8f90-a1b2c3d4e5f6",
    ],
)
def test_the_name_of_a_secret_that_looks_like_its_value_is_reported_and_not_repeated(name):
    document = f"use: {{secrets: [{name}]}}\nwebhook: {{auth: {{github: {{secret: {name}}}}}}}\ndo: []\n"
    found = warnings_of(document)
    assert [warning.partition(": ")[0] for warning in found] == ["use.secrets[0]", "webhook.auth.github.secret"]
    assert all("looks like the value of a secret" in warning and name not in warning for warning in found)


@pytest.mark.parametrize(
    "name",
    ["bank-password", "github-webhook-secret-production-2024", "WebhookSecretStripeLive", "sk-bank", "oauth2-v2-eu1"],
)
def test_the_name_of_a_secret_that_is_one_is_not_reported(name):
    assert warnings_of(f"use: {{secrets: [{name}]}}\ndo: []\n") == []


def test_warnings_have_lines_and_are_in_the_order_of_the_file():
    text = HEAD + "do:\n  - exit: {set: {a: 1}}\n  - b:\n      set:\n        c: 'x ${ .a }'\n"
    document = parse(text.encode(), functions=())
    located = located_warnings(document, text.encode(), file="a.yaml")
    assert [(each.file, each.line, each.key) for each in located] == [
        ("a.yaml", 3, "do[0].exit"),
        ("a.yaml", 6, "do[1].b.set.c"),
    ]
    assert [each.code for each in located] == ["NAME_IS_DIRECTIVE", "NOT_AN_EXPRESSION"]


@cases(
    ("text", "advice"),
    [
        ("Bearer $secrets.token", "'$secrets.token' is not evaluated: only a whole string is an expression"),
        ('Bearer $secrets["my-token"]', "is not evaluated: only a whole string is an expression"),
        ("of $context.order.id, twice", 'write ${ "… \\($context.order.id) …" }'),
        ("Hello {{ name }}", "'{{ name }}' is not evaluated, here is no such template"),
        (
            "$body.order",
            "'$body.order' is no variable: the request is the input of the first task, so write ${ .body.order }",
        ),
        ("order $json.id", 'write ${ "… \\(.body.id) …" } there'),
        ("$headers['x-id']", "is no variable"),
        ('${ "Bearer $secrets.token" }', "'$secrets.token' is not evaluated inside a string: write \\($secrets.token)"),
    ],
)
def test_what_looks_like_a_variable_in_a_text_is_reported(text, advice):
    (warning,) = warnings_of(f"use: {{secrets: [token]}}\ndo: [{{a: {{set: {{b: {json.dumps(text)}}}}}}}]")
    assert warning.startswith("do[0].a.set.b: ")
    assert advice in warning


@cases(
    "text",
    [
        "it costs $5",
        "$bodyguard",
        "US$ and {braces}",
        '${ "Bearer \\($secrets.token)" }',
        '${ $secrets.token + " $secret" }',
        "a $secretsauce",
    ],
)
def test_a_text_with_a_dollar_sign_that_names_nothing_is_not(text):
    assert warnings_of(f"use: {{secrets: [token]}}\ndo: [{{a: {{set: {{b: {json.dumps(text)}}}}}}}]") == []


def test_braces_in_the_content_of_a_signature_are_no_template():
    text = "webhook: {auth: {hmac: {secret: k, header: X-S, content: '{{a}}{body}'}}}\ndo: []"
    assert warnings_of(text) == []


CALLS = {
    "http://localhost:3000/x": ("localhost", "this machine", "loopback"),
    "http://127.0.0.1/": ("127.0.0.1", "this machine", "loopback"),
    "http://[::1]:80/{id}": ("::1", "this machine", "loopback"),
    "https://10.0.0.8/": ("10.0.0.8", "a private address", "private"),
    "http://169.254.169.254/latest": ("169.254.169.254", "a private address", "private"),
}


@pytest.mark.parametrize("url", CALLS)
def test_a_call_to_an_address_that_runners_refuse_is_reported(url):
    host, what, option = CALLS[url]
    cause = f"{host} is {what}: runners call it only with --allow-{option}-addresses"
    call = f"do: [{{a: {{call: http, with: {{method: get, endpoint: '{url}'}}}}}}]"
    assert warnings_of(call) == [f"do[0].a.with.endpoint: {cause}"]
    call = f"do: [{{a: {{call: http, with: {{method: get, endpoint: {{uri: '{url}'}}}}}}}}]"
    assert warnings_of(call) == [f"do[0].a.with.endpoint.uri: {cause}"]


def test_the_server_of_a_grpc_call_is_looked_at_too():
    call = "{call: grpc, with: {proto: {endpoint: 'https://x.y/p'}, service: {name: S, host: localhost}, method: M}}"
    (warning,) = warnings_of(f"do: [{{a: {call}}}]")
    assert warning.startswith("do[0].a.with.service.host: localhost is this machine")


@pytest.mark.parametrize("policy", [AddressPolicy.LOOPBACK, AddressPolicy.ALL])
def test_what_runners_may_call_is_not_reported(policy):
    text = "do: [{a: {call: http, with: {method: get, endpoint: 'http://localhost/'}}}]"
    assert warnings_of(text, policy) == []


@pytest.mark.parametrize(
    "arguments",
    [
        "{method: get, endpoint: 'https://example.com/localhost'}",
        "{method: get, endpoint: '${ .url }'}",
        "{method: get, endpoint: 'https://example.com/{host}'}",
        "{method: post, endpoint: 'https://example.com/', body: {url: 'http://localhost/'}}",
    ],
)
def test_a_call_to_another_host_is_not_reported(arguments):
    assert warnings_of(f"do: [{{a: {{call: http, with: {arguments}}}}}]") == []
