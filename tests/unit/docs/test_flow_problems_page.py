"""The page of the problems has every code, and its examples show the texts that authors get.

These are the only whole sentences that tests know: review the wording on the page.
`FLOWHOOK_RENEW_TEXTS=1 .venv/bin/python -m pytest tests/unit/docs/test_flow_problems_page.py` renews the examples.
"""

from __future__ import annotations

import os
import re

import pytest
from support import pages

from cli.flow_files import check_flow_files
from flowhook.document.catalogs import append
from flowhook.document.diagnostics.lint import located_warnings
from flowhook.document.diagnostics.problems import Code
from flowhook.document.loader import parse
from flowhook.errors import InvalidFlowError
from flowhook.model.own_urls import OwnUrl
from router.flows.flow_urls import collisions
from router.services.flow import unset_warning

NAME = "flow-problems.md"
ROW = re.compile(r"^\| `([A-Z_]+)` \| (.*?) \| (.*) \|$", re.MULTILINE)
RENEW = "FLOWHOOK_RENEW_TEXTS"
HEAD = "document: {dsl: 1.0.3, namespace: default, name: orders, version: 1.0.0}\n"
DO = HEAD + "do: []\n"
HOOK = DO + "webhook:\n  auth: none\n"


def task(text: str) -> str:
    return f"{HEAD}do:\n- a: {text}\n"


def listen(event_filter: str) -> str:
    return f"do: [{{a: {{listen: {{to: {{one: {event_filter}}}}}}}}}]\n"


CALLBACK = "webhook: {auth: none, callbacks: {paid: {auth: none}}}\n"
EXAMPLES = {
    Code.FILE_INVALID: "",
    Code.YAML_INVALID: "do: [",
    Code.YAML_UNSUPPORTED: HEAD + "do: !!seq []",
    Code.MORE_PROBLEMS: DO + "".join(f"key{number}: 1\n" for number in range(101)),
    Code.KEY_CONFLICT: DO + "schedule: {every: PT1M, cron: '* * * * *'}",
    Code.KEY_DUPLICATE: DO + "do: []",
    Code.KEY_MISSING: task("{call: http, with: {endpoint: https://x.y}}"),
    Code.KEY_UNKNOWN: task("{call: http, with: {method: get, endpoint: https://x.y}, wth: {}}"),
    Code.VALUE_CHOICE: task("{run: {script: {language: Python, code: b}}}"),
    Code.VALUE_FORMAT: HOOK + "  allow_from: [192.0.2.1/24]",
    Code.VALUE_MISSING: task("{then: , set: {b: 1}}"),
    Code.VALUE_RANGE: DO + "execution: {concurrency: 0}",
    Code.VALUE_TYPE: task("{do: 5}"),
    Code.CRON_INVALID: DO + "schedule: {cron: 5 4 * *}",
    Code.DURATION_INVALID: task("{wait: 5 minutes}"),
    Code.HEADER_INVALID: task("{call: http, with: {method: get, endpoint: https://x.y, headers: {A b: c}}}"),
    Code.PATTERN_INVALID: HEAD + listen("{with: {type: '*.paid'}}"),
    Code.SCHEMA_INVALID: task("{set: {b: 1}, input: {schema: {document: {$ref: '#/$defs/x'}}}}"),
    Code.SIZE_INVALID: HOOK + "  max_body: 10M",
    Code.URI_INVALID: task("{call: http, with: {method: get, endpoint: ftp://x.y}}"),
    Code.DIGEST_DIFFERS: append(
        task("{call: 'log:1.0.0@shop', metadata: {sha256: 9f86}}").encode()
        + b"use: {catalogs: {shop: {endpoint: 'https://x.y'}}}",
        {"log:1.0.0@shop": ("https://x.y/functions/log/1.0.0/function.yaml", "set: {logged: true}")},
    ).decode(),
    Code.FUNCTION_DEPTH: DO + "use: {functions: {a: {call: a}}}",
    Code.FUNCTION_UNKNOWN: task("{call: twiter.post, with: {text: b}}"),
    Code.ITEM_INVALID: HEAD + "do:\n- a:\n  set: {b: 1}",
    Code.NAME_DUPLICATE: HEAD + "do:\n- a: {set: {b: 1}}\n- a: {set: {b: 2}}",
    Code.NAME_INVALID: task("{for: {in: .x, each: 1st}, do: []}"),
    Code.REFERENCE_UNKNOWN: task("{set: {b: 1}, then: c}"),
    Code.ERROR_TYPE_UNKNOWN: task(
        "{raise: {error: {type: https://serverlessworkflow.io/spec/1.0.0/errors/communicaton, status: 500}}}"
    ),
    Code.EXPRESSION_INVALID: task("{if: .c ==, set: {b: 1}}"),
    Code.EXPRESSION_NOT_ALLOWED: DO + "schedule: {on: {one: {with: {type: '${ .x }'}}}}",
    Code.EXPRESSION_REQUIRED: DO + "execution: {order_by: .body.account}",
    Code.AUTH_INVALID: DO + "webhook: {auth: {gitub: {secret: s}}}",
    Code.BODY_NOT_PARSED: HOOK + "  parse: raw\nexecution: {order_by: '${ .body.account }'}",
    Code.CALLBACK_UNPROTECTED: HEAD + listen("{with: {type: paid}}") + CALLBACK,
    Code.CORRELATION_INVALID: DO
    + "schedule: {on: {all: [{with: {type: a}, correlate: {o: {from: .o}}}, {with: {type: b}}]}}",
    Code.EVENT_NOT_AWAITABLE: DO + CALLBACK + "schedule: {on: {one: {with: {type: paid}}}}",
    Code.RESPONSE_INVALID: HOOK + "  respond: {status: 204, body: {ok: true}}",
    Code.SECRET_SHARED: DO + "webhook: {auth: [{zoom: {secret: s}}, {github: {secret: s}}]}",
    Code.SIGNATURE_UNSAFE: DO + "webhook: {auth: {hmac: {secret: s, header: X-S, content: '{method}'}}}",
    Code.UNSUPPORTED: task("{call: a2a, with: {}}"),
}
WARNED = {
    Code.ADDRESS_NOT_ALLOWED: task("{call: http, with: {method: get, endpoint: 'http://localhost:3000/'}}"),
    Code.ALWAYS_TRUE: task("{if: .c = 1, set: {b: 1}}"),
    Code.CALLBACK_NOT_AWAITED: DO + CALLBACK,
    Code.ERROR_NOT_RAISED: task(
        "{try: [{b: {set: {c: 1}}}], catch: {errors: {with: {type: https://example.com/errors/gone}}}}"
    ),
    Code.NAME_IS_DIRECTIVE: HEAD + "do: [{end: {set: {b: 1}}}]",
    Code.NOT_AN_EXPRESSION: task("{set: {b: 'Hello ${ .c }'}}"),
    Code.PATH_UNKNOWN: HOOK + "execution: {order_by: '${ .bdy.account }'}",
    Code.PROCESS_NEEDS_PERMISSION: task("{run: {shell: {command: ls}}}"),
    Code.REPLY_TOO_LATE: HEAD + "webhook: {auth: none, respond: {mode: reply}}\ndo: [{a: {wait: PT1M}}]",
    Code.SECRET_IS_VALUE: DO + "use: {secrets: [whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw]}",
    Code.SHELL_INJECTION: task("{run: {shell: {command: '${ .c }'}}}"),
    Code.TEXT_AS_NUMBER: task("{if: .body.amount > 100, set: {b: 1}}") + HOOK.removeprefix(DO),
}


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> dict[Code, str]:
    """What authors read about each example."""
    found = {code: _faults(text)[code] for code, text in EXAMPLES.items()}
    for code, text in WARNED.items():
        warnings = located_warnings(parse(text.encode(), functions=()), text.encode(), file="flow.yaml")
        found[code] = next(f"{each.key}: {each.cause}" for each in warnings if each.code == code)
    folder = tmp_path_factory.mktemp("flows")
    for name in ("a.yaml", "b.yaml"):
        (folder / name).write_text(DO, encoding="utf-8")
    (folder / "c.yaml").write_text(task("{call: 'log:1.0.0@default'}").replace("orders", "c"), encoding="utf-8")
    for each in check_flow_files([folder])[1]:
        found[Code(each.code)] = f"{each.key}: {each.cause}".replace(f"{folder}/", "")
    [taken] = collisions({"orders": OwnUrl("hooks.example.com", "/orders")}, {"shop": OwnUrl("", "/orders")})
    found[Code(taken.code)] = f"{taken.key}: {taken.cause}"
    unset = unset_warning("key", 1)
    found[Code(unset.code)] = unset.cause
    return found


def _faults(text: str) -> dict[Code, str]:
    with pytest.raises(InvalidFlowError) as caught:
        parse(text.encode(), functions={"twitter.post"})
    return {
        Code(each.code): f"{each.key}: {each.cause}" if each.key else each.cause for each in caught.value.faults[::-1]
    }


def test_every_code_is_on_the_page_once_and_can_be_met(texts):
    assert [code for code, _, _ in ROW.findall(pages.text_of(NAME))] == list(Code)
    assert set(texts) == set(Code)


def test_the_page_shows_what_authors_read(texts):
    page = pages.text_of(NAME)
    cells = {code: _cell(text) for code, text in texts.items()}
    if os.environ.get(RENEW) == "1":
        renewed = ROW.sub(lambda row: f"| `{row[1]}` | {row[2]} | {cells[Code(row[1])]} |", page)
        (pages.DOCS / NAME).write_text(renewed, encoding="utf-8")
        pytest.fail(f"{NAME} is renewed; read its diff, then run the tests without {RENEW}", pytrace=False)
    assert {Code(code): shown for code, _, shown in ROW.findall(page)} == cells


def _cell(text: str) -> str:
    return f"`` {text} ``".replace("|", "\\|")
