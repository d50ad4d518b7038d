from __future__ import annotations

from time import process_time

from support.cases import cases

from flowhook.document.diagnostics.lint import located_warnings
from flowhook.document.loader import parse

HEAD = "document: {dsl: 1.0.3, namespace: default, name: orders, version: 1.0.0}\n"
ANY = "webhook: {auth: none}\n"
GITHUB = "webhook: {auth: {github: {secret: s}}}\n"
TWILIO = "webhook: {auth: {twilio: {secret: s}}}\n"
DEAL = "do: [{a: {set: {b: '${ .body.amount > 100 }'}}}]\n"
CODES = ("PATH_UNKNOWN", "REPLY_TOO_LATE", "TEXT_AS_NUMBER")


def warnings_of(text, code):
    source = (HEAD + text).encode()
    found = located_warnings(parse(source, functions=None), source, file="flow.yaml")
    return [f"{each.key}: {each.cause}" for each in found if each.code == code]


def of_numbers(text):
    return warnings_of(text, "TEXT_AS_NUMBER")


def of_paths(text):
    return warnings_of(text, "PATH_UNKNOWN")


def too_late(text):
    return [each.partition(":")[0] for each in warnings_of(text, "REPLY_TOO_LATE")]


def test_a_field_that_a_form_may_bring_is_no_number_and_the_warning_names_the_remedy():
    assert of_numbers(ANY + DEAL) == [
        (
            "do[0].a.set.b: `.body.amount` is a text where a form brings it, and jq orders every text above every "
            "number: declare it in `webhook.fields: {amount: number}`"
        )
    ]
    assert of_numbers(TWILIO + DEAL)[0].startswith(
        "do[0].a.set.b: `.body.amount` is a text, as all fields of forms are"
    )


@cases(
    ("program", "cause"),
    [
        (
            ".query.page + 1",
            "`.query.page` is a text, as all of a query is, and arithmetic needs numbers: declare it in",
        ),
        (
            ".query.page == 1",
            "`.query.page` is a text, as all of a query is, and no text equals a number: declare it in",
        ),
        (".query.n[] * .body.m", "`.query.n[]` is a text, as all of a query is, and arithmetic needs numbers"),
        ('.headers["x-n"] <= 5', '`.headers["x-n"]` is a text, as all headers are, and jq orders every text above'),
        ("(.query.n // 0) > 3", "`.query.n` is a text"),
        (".query | .n | floor", "`.query.n` is a text"),
    ],
)
def test_queries_and_headers_are_texts_whatever_the_body_is(program, cause):
    (warning, *_) = of_numbers(GITHUB + f"do: [{{a: {{set: {{b: '${{ {program} }}'}}}}}}]")
    assert warning.startswith(f"do[0].a.set.b: {cause}")


@cases(
    "text",
    [
        GITHUB + DEAL,  # sends JSON
        "webhook: {auth: none, fields: {amount: number}}\n" + DEAL,
        "webhook: {auth: none, parse: raw}\ndo: [{a: {set: {b: '${ .attachments[0].size > 100 }'}}}]",
        DEAL,  # without a webhook the input is what is given
        ANY + "do: [{a: {set: {b: '${ (.body.amount | tonumber) > 100 }'}}}]",
        ANY + "do: [{a: {set: {b: '${ .body.amount > \"100\" }'}}}]",
        ANY + "do: [{a: {set: {b: '${ .body.a + .body.b }'}}}]",  # texts are joined
        ANY + "do: [{a: {set: {b: '${ .query.tags / \",\" }'}}}]",  # and split
        ANY + "do: [{a: {set: {b: '${ (.body.items | length) > 3 }'}}}]",
        ANY + "do: [{a: {set: {b: '${ .body.order.amount > 3 }'}}}]",
        "webhook: {auth: none, accept: {filter: '${ .content_type == \"application/json\" }'}}\n" + DEAL,
        ANY + "input: {schema: {document: {properties: {body: {properties: {amount: {type: number}}}}}}}\n" + DEAL,
        ANY + "do: [{a: {set: {c: 1}}}, {b: {if: .body.amount > 100, set: {c: 2}}}]",
        ANY + "do: [{a: {call: f}}, {b: {if: .body.amount > 100, set: {c: 2}}}]",
        ANY + "use: {extensions: [{e: {extend: all, before: [{x: {set: {y: 1}}}]}}]}\n" + DEAL,
    ],
)
def test_what_may_be_a_number_is_none_of_them(text):
    assert of_numbers(text) == []


@cases(
    ("tasks", "key"),
    [
        ("[{a: {set: {n: '${ .query.n }'}}}, {b: {if: .n > 1, set: {z: 1}}}]", "do[1].b.if"),
        ("[{a: {switch: [{c: {when: .query.n > 1, then: end}}]}}]", "do[0].a.switch[0].c.when"),
        ("[{a: {wait: PT1S}}, {b: {do: [{c: {if: .query.n > 1, set: {z: 1}}}]}}]", "do[1].b.do[0].c.if"),
        ("[{a: {call: f}}, {b: {if: $workflow.input.query.n > 1, set: {z: 1}}}]", "do[1].b.if"),
        (
            "[{a: {call: f, export: {as: '$workflow.input.query'}}}, {b: {if: $context.n > 1, set: {z: 1}}}]",
            "do[1].b.if",
        ),
        ("[{a: {input: {from: .query}, set: {b: '${ $input.n > 1 }'}}}]", "do[0].a.set.b"),
        ("[{a: {set: '${ .query }', output: {as: .n}}}, {b: {if: . > 1, set: {z: 1}}}]", "do[1].b.if"),
        ("[{a: {try: [{b: {if: .query.n > 1, set: {z: 1}}}], catch: {}}}]", "do[0].a.try[0].b.if"),
        ("[{a: {for: {in: '.query.n | map(. + 1)'}, do: [{b: {set: {z: 1}}}]}}]", "do[0].a.for.in"),
        ("[{a: {switch: [{c: {then: z}}]}}, {b: {call: f}}, {z: {if: .query.n > 1, set: {z: 1}}}]", "do[2].z.if"),
        (
            "[{a: {raise: {error: {type: 'https://x.y/', status: 400, detail: '${ .query.n + 1 }'}}}}]",
            "do[0].a.raise.error.detail",
        ),
    ],
)
def test_the_input_is_followed_through_tasks(tasks, key):
    assert [each.partition(": ")[0] for each in of_numbers(f"{ANY}do: {tasks}")] == [key]


def test_expressions_on_acceptance_are_looked_at():
    assert of_numbers("webhook: {auth: none, accept: {filter: .query.n > 1}}\ndo: []")[0].startswith(
        "webhook.accept.filter: `.query.n` is a text"
    )
    assert of_paths(ANY + "execution: {order_by: '${ .bdy.account }'}\ndo: []") == [
        "execution.order_by: `.bdy` is null: the input has no such member, did you mean 'body'?"
    ]


def test_a_batch_has_an_input_of_each_event():
    batch = "execution: {batch: {size: 5, period: PT1S}}\n"
    assert of_numbers(ANY + batch + "do: [{a: {set: {b: '${ map(.query.n > 1) }'}}}]")
    assert of_paths(ANY + batch + "do: [{a: {set: {b: '${ .[0].bdy }'}}}]")[0].startswith(
        "do[0].a.set.b: `.[0].bdy` is"
    )
    assert of_paths(ANY + batch + "do: [{a: {set: {b: '${ .[0].body.x }'}}}]") == []


@cases(
    ("program", "cause"),
    [
        (".bdy.x", "`.bdy` is null: the input has no such member, did you mean 'body'?"),
        (
            ".action",
            (
                "`.action` is null: the input has no such member; the content of a request is in `.body`, as in "
                "`.body.action`"
            ),
        ),
        (
            '.headers["X-GitHub-Event"]',
            (
                '`.headers["X-GitHub-Event"]` is null: names of headers are in lower case, write '
                '.headers["x-github-event"]'
            ),
        ),
        (".body.issue.titel", "`.body.issue.titel` is in no sample of the provider, did you mean 'title'?"),
        (
            ".body.commits[0].time_stamp",
            ("`.body.commits[0].time_stamp` is in no sample of the provider, did you mean 'timestamp'?"),
        ),
    ],
)
def test_paths_outside_of_the_input_are_reported(program, cause):
    assert of_paths(GITHUB + f"do: [{{a: {{set: {{b: '${{ {program} }}'}}}}}}]") == [f"do[0].a.set.b: {cause}"]


@cases(
    "text",
    [
        GITHUB + "do: [{a: {set: {b: '${ .body.issue.milestone.title }', c: '${ .body.label }'}}}]",
        GITHUB + "do: [{a: {set: {b: '${ .body.commit }', c: '${ .body.issue.updated }'}}}]",
        GITHUB + "do: [{a: {set: {b: '${ .bdy = 1 }'}}}]",
        GITHUB + "schedule: {every: PT1H}\ndo: [{a: {set: {b: '${ .bdy }'}}}]",  # then the input is another one
        "do: [{a: {set: {b: '${ .bdy }'}}}]",
        "webhook: {auth: {standard-webhooks: {secret: s}}}\ndo: [{a: {set: {b: '${ .body.tpye }'}}}]",
        (
            "webhook: {auth: [{github: {secret: s}}, {basic: {username: u, secret: p}}]}\n"
            "do: [{a: {set: {b: '${ .body.issue.titel }'}}}]"
        ),
        ANY + "do: [{a: {set: {n: 1}}}, {b: {set: {m: '${ .n }'}}}]",
        ANY + "do: [{a: {set: {n: 1}, if: .body.x}}, {b: {set: {m: '${ .n }'}}}]",
        ANY + "do: [{a: {set: {n: 1, m: '${ .n }'}}}, {b: {switch: [{c: {when: .n, then: a}}]}}]",  # again and again
        ANY + "do: [{a: {for: {in: .body.items}, do: [{b: {set: {m: '${ .n }'}}}]}}]",
        ANY + "do: [{a: {try: [{b: {call: f}}], catch: {do: [{c: {set: {m: '${ $error.n }'}}}]}}}]",
    ],
)
def test_paths_that_may_be_there_are_not(text):
    assert of_paths(text) == []


SCHEMA = "input: {{schema: {{document: {{$defs: {{o: {order}}}, properties: {{order: {{$ref: '#/$defs/o'}}}}}}}}}}\n"
ORDER = "properties: {amount: {type: number}, lines: {items: {properties: {price: {}}}}}"


@cases(
    ("order", "program", "cause"),
    [
        (f"{{{ORDER}, additionalProperties: false}}", ".order.total", "order.total` is not in the schema of the input"),
        (f"{{{ORDER}}}", ".order.amuont", "order.amuont` is not in the schema of the input, did you mean 'amount'?"),
        (
            f"{{{ORDER}}}",
            ".order.lines[].prcie",
            "order.lines[].prcie` is not in the schema of the input, did you mean",
        ),
        (f"{{{ORDER}}}", ".order.total", ""),
        (f"{{{ORDER}, additionalProperties: true}}", ".order.amuont", ""),
        (f"{{{ORDER}, allOf: [{{}}], additionalProperties: false}}", ".order.total", ""),
        (f"{{{ORDER}, patternProperties: {{^t: {{}}}}, additionalProperties: false}}", ".order.total", ""),
    ],
)
def test_paths_outside_of_a_schema_are_reported(order, program, cause):
    found = of_paths(SCHEMA.format(order=order) + f"do: [{{a: {{set: {{b: '${{ {program} }}'}}}}}}]")
    assert [each.startswith(f"do[0].a.set.b: `.{cause}") for each in found] == [True] * bool(cause)


REPLY = "webhook: {auth: none, respond: {mode: reply, timeout: PT10S}, callbacks: {paid: {}}}\n"
USES = "use: {functions: {answer: {do: [{r: {call: reply}}]}}, timeouts: {short: {after: PT2S}}}\n"
HEAR = "{listen: {to: {one: {with: {type: paid}}}}}"


@cases(
    ("tasks", "keys"),
    [
        (f"[{{a: {HEAR}}}]", ["do[0].a.listen"]),
        ("[{a: {wait: PT10S}}]", ["do[0].a.wait"]),
        ("[{a: {wait: PT6S}}, {b: {set: {z: 1}}}, {c: {wait: {seconds: 6}}}]", ["do[2].c.wait"]),
        (f"[{{a: {{if: .body.x, call: reply}}}}, {{b: {HEAR}}}]", ["do[1].b.listen"]),
        (
            (
                f"[{{a: {{switch: [{{x: {{when: .body.x, then: b}}}}, {{y: {{then: c}}}}]}}}}, {{b: {{call: reply}}}}, "
                f"{{c: {HEAR}}}]"
            ),
            ["do[2].c.listen"],
        ),
        ("[{a: {wait: PT3S}}, {b: {switch: [{c: {when: .body.x, then: a}}]}}]", ["do[0].a.wait"]),  # again and again
        (f"[{{a: {{try: [{{b: {{call: f}}}}], catch: {{do: [{{c: {HEAR}}}]}}}}}}]", ["do[0].a.catch.do[0].c.listen"]),
        # what follows is fine
        ("[{a: {wait: PT6S}}]", []),
        (f"[{{a: {{call: reply}}}}, {{b: {HEAR}}}, {{c: {{wait: P1D}}}}]", []),
        (f"[{{a: {{call: answer}}}}, {{b: {HEAR}}}]", []),
        (f"[{{a: {{do: [{{r: {{call: reply}}}}]}}}}, {{b: {HEAR}}}]", []),
        (
            (
                "[{a: {switch: [{x: {when: .body.x, then: b}}, {y: {then: end}}]}}, {b: {call: reply}}, "
                f"{{c: {HEAR}}}]"
            ),
            [],
        ),
        (f"[{{a: {{fork: {{branches: [{{r: {{call: reply}}}}, {{w: {HEAR}}}]}}}}}}]", []),
        ("[{a: {listen: {to: {one: {with: {type: paid}}}}, timeout: {after: PT5S}}}]", []),
        ("[{a: {listen: {to: {one: {with: {type: paid}}}}, timeout: short}}]", []),
        (f"[{{a: {{try: [{{b: {{call: reply}}}}, {{c: {{call: f}}}}], catch: {{do: [{{d: {HEAR}}}]}}}}}}]", []),
    ],
)
def test_a_wait_that_a_path_comes_to_before_its_reply_is_reported(tasks, keys):
    assert too_late(REPLY + USES + f"do: {tasks}") == keys


def test_nobody_waits_for_the_flow_in_mode_accept():
    assert (
        too_late(f"webhook: {{auth: none, callbacks: {{paid: {{}}}}}}\ndo: [{{a: {HEAR}}}, {{b: {{wait: P1D}}}}]") == []
    )


def test_loops_within_loops_end():
    inner = "[{z: {set: {n: '${ .n + 1 }'}}}, {y: {switch: [{c: {when: .n > 1, then: z}}]}}]"
    for depth in range(12):
        inner = f"[{{a{depth}: {{do: {inner}}}}}, {{b{depth}: {{switch: [{{c: {{when: .n, then: a{depth}}}}}]}}}}]"
    began = process_time()
    assert of_numbers(ANY + f"do: {inner}") == []
    assert process_time() - began < 5
