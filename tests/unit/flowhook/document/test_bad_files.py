# ruff: noqa: E501  # one bad file a row reads best
import textwrap

import pytest

from flowhook.document import parse
from flowhook.errors import InvalidFlowError

HEAD = "document: {dsl: 1.0.3, namespace: default, name: orders, version: 1.0.0}\n"


def faults_of(text):
    with pytest.raises(InvalidFlowError) as caught:
        parse(text.encode(), file="f.yaml", functions={"twitter.post"})
    assert {fault.file for fault in caught.value.faults} == {"f.yaml"}
    return [(fault.line, fault.key, fault.cause) for fault in caught.value.faults]


# One bad file a row: its tasks (or, from `document` on, all of it), then line, key and cause. Tasks start on line 3.
BAD_TASKS = [
    ("- a: {wait: soon}", (3, "do[0].a.wait", "'soon' is no duration; write it like PT30S, PT5M or P1DT12H")),
    ("- a: {for: {in: .x, each: input}, do: []}", (3, "do[0].a.for.each", "$input is there already")),
    ("- a: {for: {in: .x}, while: $itm, do: []}", (3, "do[0].a.while", "unknown variable $itm; here there are $authorization, $context, $index, $input, $item, $runtime, $secrets, $task, $workflow")),
    ("- a: {for: {in: .x, at: item}, do: []}", (3, "do[0].a.for.at", "item and index need different names")),
    ("- a: {fork: {branches: [{b: {set: {x: 1}, then: c}}, {c: {set: {x: 1}}}]}}", (3, "do[0].a.fork.branches[0].b.then", "there is no task 'c' in this list, and it is none of continue, exit and end")),
    ("- a: {fork: {branches: []}}", (3, "do[0].a.fork.branches", "expected at least one item")),
    ("- a: {try: [{b: {set: {}}}], catch: {}}", (3, "do[0].a.try[0].b.set", "expected at least one key")),
    ("- a: {try: [], catch: {retry: mine}}", (3, "do[0].a.catch.retry", "there is no retry policy 'mine' in `use.retries`")),
    ("- a: {try: [], catch: {retry: {backoff: {}}}}", (3, "do[0].a.catch.retry.backoff", "expected exactly one of constant, exponential and linear")),
    ("- a: {try: [], catch: {errors: {with: {status: 503, type: '${ .x }'}}}}", (3, "do[0].a.catch.errors.with.type", "a filter has no expressions: use `when`")),
    ("- a: {set: {b: 1}, timeout: brief}", (3, "do[0].a.timeout", "there is no timeout 'brief' in `use.timeouts`")),
    ("- a: {call: twitter.post, with: {text: b}, metadata: {retry: {limit: {attempt: {count: -1}}}}}", (3, "do[0].a.metadata.retry.limit.attempt.count", "expected at least 0")),
    ("- a: {set: {b: 1}}\n- a: {set: {b: 1}}", (4, "do[1].a", "there is a task 'a' in this list already")),
    ("- a: {set: {b: 1}, then: c}", (3, "do[0].a.then", "there is no task 'c' in this list, and it is none of continue, exit and end")),
    ("- one: {set: {b: 1}, then: on}", (3, "do[0].one.then", "there is no task 'on' in this list, did you mean 'one'?")),
    ("- a: {do: [{b: {set: {c: 1}, then: a}}]}", (3, "do[0].a.do[0].b.then", "there is no task 'a' in this list, and it is none of continue, exit and end")),
    ("- a:\n    call: http\n    wth: {}\n    with: {method: get, endpoint: https://x.y}", (5, "do[0].a.wth", "unknown key 'wth', did you mean 'with'?")),
    ("- a: {cal: http}", (3, "do[0].a", "unknown key 'cal', did you mean 'call'?")),
    ("- a: {x: 1}", (3, "do[0].a", "expected a task: a mapping with one of call, do, for, fork, listen, raise, set, switch, try, wait")),
    ("- a: 5", (3, "do[0].a", "expected a task: a mapping with one of call, do, for, fork, listen, raise, set, switch, try, wait")),
    ("- a", (3, "do[0]", "expected one task: a name and, below it, what it does")),
    ("- {a: {set: {b: 1}}, c: {set: {b: 1}}}", (3, "do[0]", "expected one task: a name and, below it, what it does")),
    ("- a: {set: {b: 1}, call: twitter.post, with: {text: b}}", (3, "do[0].a.set", "a task does one thing, and this one is a 'call' task already")),
    ("- a: {set: []}", (3, "do[0].a.set", "expected a mapping or an expression ${ … }")),
    ("- a: {set: {}}", (3, "do[0].a.set", "expected at least one key")),
    ("- a: {set: .b}", (3, "do[0].a.set", "expected a mapping or an expression ${ … }")),
    ("- a:\n    set:\n      b:\n      - c: ${ .d | }", (6, "do[0].a.set.b[0].c", "syntax error, unexpected end of file (column 4 of the expression)")),
    ("- a: {set: {b: '${ env.HOME }'}}", (3, "do[0].a.set.b", "env is not allowed: expressions see no environment")),
    ("- a: {set: {b: '${ $ENV }'}}", (3, "do[0].a.set.b", "$ENV is not allowed: expressions see no environment")),
    ("- a: {set: {b: '${ $output }'}}", (3, "do[0].a.set.b", "unknown variable $output; here there are $authorization, $context, $input, $runtime, $secrets, $task, $workflow")),
    ("- a: {if: $input.b, set: {b: 1}}", (3, "do[0].a.if", "unknown variable $input; here there are $context, $runtime, $secrets, $task, $workflow")),
    ("- a: {if: true, set: {b: 1}}", (3, "do[0].a.if", "expected a text: put it in quotes")),
    ("- a: {if: 1, set: {b: 1}}", (3, "do[0].a.if", "expected a text: put it in quotes")),
    ("- a: {if: '', set: {b: 1}}", (3, "do[0].a.if", "an expression is missing")),
    ("- a: {input: {from: $output}, set: {b: 1}}", (3, "do[0].a.input.from", "unknown variable $output; here there are $context, $runtime, $secrets, $task, $workflow")),
    ("- a: {output: {as: {b: '${ nope }'}}, set: {b: 1}}", (3, "do[0].a.output.as.b", "unknown function nope/0")),
    ("- a: {export: {as: 5}, set: {b: 1}}", (3, "do[0].a.export.as", "expected an expression or a mapping of expressions")),
    ("- a: {output: {from: .b}, set: {b: 1}}", (3, "do[0].a.output.from", "unknown key 'from'")),
    ("- a: {output: .b, set: {b: 1}}", (3, "do[0].a.output", "expected a mapping")),
    ("- a: {then: , set: {b: 1}}", (3, "do[0].a.then", "has no value: give it one, or remove the key")),
    ("- a:\n    set: {b: 1}\n    metadata: 5", (5, "do[0].a.metadata", "expected a mapping")),
    ("- a: {set: {b: '${ $secrets.key }'}}", (3, "do[0].a.set.b", "secret 'key' is not listed in `use.secrets`")),
    ("- a: {do: 5}", (3, "do[0].a.do", "expected a list of tasks")),
    ("- a: {do: {b: {set: {c: 1}}}}", (3, "do[0].a.do", "expected a list of tasks")),
    # switch
    ("- a: {switch: []}", (3, "do[0].a.switch", "expected at least one item")),
    ("- a: {switch: {b: {then: end}}}", (3, "do[0].a.switch", "expected a list of cases")),
    ("- a:\n    switch:\n    - b: {when: .c}", (5, "do[0].a.switch[0].b.then", "the key 'then' is missing")),
    ("- a:\n    switch:\n    - b: {when: .c ==, then: end}", (5, "do[0].a.switch[0].b.when", "syntax error, unexpected end of file (column 4 of the expression)")),
    ("- a:\n    switch:\n    - b: {whn: .c, then: end}", (5, "do[0].a.switch[0].b.whn", "unknown key 'whn', did you mean 'when'?")),
    ("- a:\n    switch:\n    - b: {name: x, then: end}", (5, "do[0].a.switch[0].b.name", "unknown key 'name'")),
    ("- a:\n    switch:\n    - b: {then: end}\n    - c: {then: exit}", (6, "do[0].a.switch[1].c", "only one case can do without `when`")),
    ("- a:\n    switch:\n    - b: {when: .x, then: end}\n    - b: {then: exit}", (6, "do[0].a.switch[1].b", "there is a case 'b' in this switch already")),
    ("- a: {switch: [{b: 5}]}", (3, "do[0].a.switch[0]", "expected a mapping with `when` and `then`")),
    ("- a: {switch: [b]}", (3, "do[0].a.switch[0]", "expected one case: a name and, below it, `when` and `then`")),
    # raise
    ("- a: {raise: {error: nope}}", (3, "do[0].a.raise.error", "there is no error 'nope' in `use.errors`")),
    ("- a: {raise: {error: {type: https://x.y, status: 99}}}", (3, "do[0].a.raise.error.status", "expected at least 100")),
    ("- a: {raise: {error: {type: https://x.y, status: '500'}}}", (3, "do[0].a.raise.error.status", "expected an integer")),
    ("- a: {raise: {error: {status: 500}}}", (3, "do[0].a.raise.error.type", "the key 'type' is missing")),
    ("- a: {raise: {error: {type: nope, status: 500}}}", (3, "do[0].a.raise.error.type", "expected a URI such as https://example.com/errors/out-of-stock")),
    ("- a: {raise: {error: {type: https://x.y, status: 500, instance: do}}}", (3, "do[0].a.raise.error.instance", "expected a JSON Pointer such as /do/0/announce")),
    ("- a: {raise: {error: {type: https://x.y, status: 500, titel: x}}}", (3, "do[0].a.raise.error.titel", "unknown key 'titel', did you mean 'title'?")),
    ("- a: {raise: {error: {type: https://x.y, status: 500, detail: '${ .a | }'}}}", (3, "do[0].a.raise.error.detail", "syntax error, unexpected end of file (column 4 of the expression)")),
    ("- a: {raise: {}}", (3, "do[0].a.raise.error", "the key 'error' is missing")),
    # listen
    ("- a: {listen: {}}", (3, "do[0].a.listen.to", "the key 'to' is missing")),
    ("- a: {listen: {to: {}}}", (3, "do[0].a.listen.to", "expected exactly one of one, any and all")),
    ("- a: {listen: {to: {any: [], all: [{with: {type: x}}]}}}", (3, "do[0].a.listen.to", "expected exactly one of one, any and all")),
    ("- a: {listen: {to: {all: []}}}", (3, "do[0].a.listen.to.all", "expected at least one item")),
    ("- a: {listen: {to: {any: {with: {type: x}}}}}", (3, "do[0].a.listen.to.any", "expected a list of filters")),
    ("- a: {listen: {to: {one: {}}}}", (3, "do[0].a.listen.to.one.with", "the key 'with' is missing")),
    ("- a: {listen: {to: {one: {with: {}}}}}", (3, "do[0].a.listen.to.one.with", "expected at least one attribute, such as `type`")),
    ("- a: {listen: {to: {one: {with: {type: 5}}}}}", (3, "do[0].a.listen.to.one.with.type", "expected a text: put it in quotes")),
    ("- a: {listen: {to: {one: {with: {roomid: 5}}}}}", (3, "do[0].a.listen.to.one.with.roomid", "expected a text: put it in quotes")),
    ("- a: {listen: {to: {one: {with: {roomId: '5'}}}}}", (3, "do[0].a.listen.to.one.with", "'roomId' is no name of an attribute: expected lower-case letters and digits, at most 64")),
    ("- a: {listen: {to: {one: {with: {type: }}}}}", (3, "do[0].a.listen.to.one.with.type", "has no value: give it one, or remove the key")),
    ("- a:\n    listen:\n      to:\n        any:\n        - with: {type: x}\n        - with: {data: '${ .x > }'}", (8, "do[0].a.listen.to.any[1].with.data", "syntax error, unexpected end of file (column 4 of the expression)")),
    ("- a:\n    listen:\n      to:\n        one:\n          with: {type: x}\n          correlate:\n            order: {from: .data | length}", (9, "do[0].a.listen.to.one.correlate.order.from", "no jq runs where events are matched: expected a path such as .body.a[\"x\"][0], or a string such as \"\\(.body.a)\": found '| length' at character 7")),
    ("- a: {listen: {to: {one: {with: {type: x}, correlate: {o: {from: $context.o}}}}}}", (3, "do[0].a.listen.to.one.correlate.o.from", "no jq runs where events are matched: unknown variable $context; here there are no variables")),
    ("- a: {listen: {to: {one: {with: {type: x}, correlate: {o: {expect: 5}}}}}}", (3, "do[0].a.listen.to.one.correlate.o.from", "the key 'from' is missing")),
    ("- a: {listen: {to: {one: {with: {type: x}, correlate: {o: {from: .x, expect: [5]}}}}}}", (3, "do[0].a.listen.to.one.correlate.o.expect", "expected a text, a number or a truth value, or an expression ${ … }")),
    ("- a: {listen: {to: {any: [], until: .x |}}}", (3, "do[0].a.listen.to.until", "syntax error, unexpected end of file (column 4 of the expression)")),
    ("- a: {listen: {to: {one: {with: {type: x}}, until: .x}}}", (3, "do[0].a.listen.to.until", "`until` goes with `any` alone")),
    ("- a: {listen: {to: {any: [], until: {any: [], until: .x}}}}", (3, "do[0].a.listen.to.until.until", "unknown key 'until'")),
    ("- a: {listen: {to: {any: []}, read: text}}", (3, "do[0].a.listen.read", "expected 'data', 'envelope' or 'raw'")),
    ("- a: {listen: {to: {any: []}, foreach: {}}}", (3, "do[0].a.listen.foreach", "unknown key 'foreach'")),
    ("- a: {listen: {to: {any: []}}, foreach: {each: x}}", (3, "do[0].a.foreach.each", "unknown key 'each'")),
    ("- a: {listen: {to: {any: []}}, foreach: {item: input}}", (3, "do[0].a.foreach.item", "$input is there already")),
    ("- a: {listen: {to: {any: []}}, foreach: {item: x, at: x}}", (3, "do[0].a.foreach.at", "item and index need different names")),
    ("- a:\n    listen: {to: {any: []}}\n    foreach:\n      do:\n      - b: {set: {c: 1}, then: d}", (7, "do[0].a.foreach.do[0].b.then", "there is no task 'd' in this list, and it is none of continue, exit and end")),
    ("- a: {listen: {to: {any: []}}, foreach: {output: {as: $itm}}}", (3, "do[0].a.foreach.output.as", "unknown variable $itm; here there are $authorization, $context, $index, $input, $item, $runtime, $secrets, $task, $workflow")),
    ("- a: {set: {b: 1}, foreach: {}}", (3, "do[0].a.foreach", "unknown key 'foreach'")),
    # call
    ("- a: {call: twiter.post}", (3, "do[0].a.call", "unknown function 'twiter.post', did you mean 'twitter.post'?")),
    ("- a: {call: nothing.like.it}", (3, "do[0].a.call", "unknown function 'nothing.like.it'")),
    ("- a: {call: 'nope:1.0@catalog'}", (3, "do[0].a.call", "functions from catalogs are not supported yet")),
    ("- a: {call: 5}", (3, "do[0].a.call", "expected a text: put it in quotes")),
    ("- a: {call: twitter.post, with: text}", (3, "do[0].a.with", "expected a mapping")),
    ("- a: {call: twitter.post}", (3, "do[0].a.with.text", "the key 'text' is missing")),
    ("- a: {call: twitter.post, with: {text: ''}}", (3, "do[0].a.with.text", "expected at least 1 characters")),
    ("- a: {call: twitter.post, with: {text: 5}}", (3, "do[0].a.with.text", "expected a text: put it in quotes")),
    ("- a: {call: twitter.post, with: {txt: '${ .a }', text: b}}", (3, "do[0].a.with.txt", "unknown key 'txt', did you mean 'text'?")),
    ("- a: {call: http}", (3, "do[0].a.with", "the key 'with' is missing")),
    ("- a: {call: http, with: {endpoint: https://x.y}}", (3, "do[0].a.with.method", "the key 'method' is missing")),
    ("- a: {call: http, with: {method: get}}", (3, "do[0].a.with.endpoint", "the key 'endpoint' is missing")),
    ("- a: {call: http, with: {method: g-t, endpoint: https://x.y}}", (3, "do[0].a.with.method", "expected an HTTP method such as post")),
    ("- a: {call: http, with: {method: get, endpoint: ftp://x.y}}", (3, "do[0].a.with.endpoint", "expected an http(s) URI such as https://api.example.com/pets")),
    ("- a: {call: http, with: {method: get, endpoint: {uri: x.y}}}", (3, "do[0].a.with.endpoint.uri", "expected an http(s) URI such as https://api.example.com/pets")),
    ("- a: {call: http, with: {method: get, endpoint: {url: https://x.y, uri: https://x.y}}}", (3, "do[0].a.with.endpoint.url", "unknown key 'url', did you mean 'uri'?")),
    ("- a: {call: http, with: {method: get, endpoint: 'https://x.y/{a'}}", (3, "do[0].a.with.endpoint", "a URI template has only simple variables in braces, and no other braces")),
    ("- a: {call: http, with: {method: get, endpoint: https://x.y, headers: {A: [1]}}}", (3, "do[0].a.with.headers", "expected a text for A")),
    ("- a: {call: http, with: {method: get, endpoint: https://x.y, headers: {'A b': c}}}", (3, "do[0].a.with.headers", "'A b' is no header name")),
    ("- a: {call: http, with: {method: get, endpoint: https://x.y, headers: {Content-Length: '5'}}}", (3, "do[0].a.with.headers", "the HTTP client sets Content-Length, not a flow")),
    ("- a: {call: http, with: {method: get, endpoint: https://x.y, query: a=b}}", (3, "do[0].a.with.query", "expected a mapping or an expression ${ … }")),
    ("- a: {call: http, with: {method: get, endpoint: https://x.y, output: text}}", (3, "do[0].a.with.output", "expected 'raw', 'content' or 'response'")),
    ("- a: {call: http, with: {method: get, endpoint: https://x.y, redirect: 'no'}}", (3, "do[0].a.with.redirect", "expected true or false")),
    ("- a: {call: http, with: {method: get, endpoint: '${ .a | }'}}", (3, "do[0].a.with.endpoint", "syntax error, unexpected end of file (column 4 of the expression)")),
    # authentication
    ("- a: {call: http, with: {method: get, endpoint: {uri: https://x.y, authentication: {basic: {username: u}}}}}", (3, "do[0].a.with.endpoint.authentication.basic.password", "the key 'password' is missing")),
    ("- a: {call: http, with: {method: get, endpoint: {uri: https://x.y, authentication: {basic: {use: s}}}}}", (3, "do[0].a.with.endpoint.authentication.basic.use", "secret 's' is not listed in `use.secrets`")),
    ("- a: {call: http, with: {method: get, endpoint: {uri: https://x.y, authentication: {bearer: {token: '${ .a | }'}}}}}", (3, "do[0].a.with.endpoint.authentication.bearer.token", "syntax error, unexpected end of file (column 4 of the expression)")),
    ("- a: {call: http, with: {method: get, endpoint: {uri: https://x.y, authentication: {bearer: {token: 5}}}}}", (3, "do[0].a.with.endpoint.authentication.bearer.token", "expected a text: put it in quotes")),
    ("- a: {call: http, with: {method: get, endpoint: {uri: https://x.y, authentication: {use: nope}}}}", (3, "do[0].a.with.endpoint.authentication.use", "there is no authentication 'nope' in `use.authentications`")),
    ("- a: {call: http, with: {method: get, endpoint: {uri: https://x.y, authentication: {basic: }}}}", (3, "do[0].a.with.endpoint.authentication.basic", "has no value: give it one, or remove the key")),
    ("- a: {call: http, with: {method: get, endpoint: {uri: https://x.y, authentication: }}}", (3, "do[0].a.with.endpoint.authentication", "has no value: give it one, or remove the key")),
    ("- a: {call: http, with: {method: get, endpoint: {uri: https://x.y, authentication: {}}}}", (3, "do[0].a.with.endpoint.authentication", "expected exactly one of basic and bearer and use")),
    ("- a: {call: http, with: {method: get, endpoint: {uri: https://x.y, authentication: {digest: {username: u, password: p}}}}}", (3, "do[0].a.with.endpoint.authentication.digest", "digest authentication is not supported yet; basic and bearer are")),
    # schemas
    ("- a: {set: {b: 1}, input: {schema: {document: {type: objekt}}}}", (3, "do[0].a.input.schema.document.type", "no valid JSON Schema: 'objekt' is not valid under any of the given schemas")),
    ("- a: {set: {b: 1}, input: {schema: {document: {pattern: '('}}}}", (3, "do[0].a.input.schema.document.pattern", "no valid JSON Schema: '(' is not a 'regex'")),
    ("- a: {set: {b: 1}, input: {schema: {document: 5}}}", (3, "do[0].a.input.schema.document", "expected a JSON Schema: a mapping")),
    ("- a: {set: {b: 1}, input: {schema: {}}}", (3, "do[0].a.input.schema.document", "the key 'document' is missing")),
    ("- a: {set: {b: 1}, input: {schema: {document: {$ref: '#/$defs/x'}}}}", (3, "do[0].a.input.schema.document.$ref", "#/$defs/x is not in this schema, and others are not fetched")),
    ("- a: {set: {b: 1}, input: {schema: {document: {not: {$ref: 'https://x.y/z'}}}}}", (3, "do[0].a.input.schema.document.not.$ref", "https://x.y/z is not in this schema, and others are not fetched")),
    ("- a: {set: {b: 1}, input: {schema: {document: {$schema: 'https://x.y/z'}}}}", (3, "do[0].a.input.schema.document.$schema", "expected https://json-schema.org/draft/2020-12/schema, or an earlier draft")),
    ("- a: {set: {b: 1}, output: {schema: {format: avro, document: {}}}}", (3, "do[0].a.output.schema.format", "schemas of format 'avro' are not supported yet; json is")),
    ("- a: {set: {b: 1}, export: {schema: {resource: {endpoint: https://x.y}}}}", (3, "do[0].a.export.schema", "external schemas (`resource`) are not supported yet: write it inline, as `document`")),
]  # fmt: skip

BAD_DOCUMENTS = [
    ("[]", (1, "", "expected a mapping with the keys `document` and `do`")),
    ("do", (1, "", "expected a mapping with the keys `document` and `do`")),
    ("", (0, "", "the file is empty")),
    (HEAD, (1, "do", "the key 'do' is missing")),
    ("do: []", (1, "document", "the key 'document' is missing")),
    (HEAD + "do:", (2, "do", "has no value: give it one, or remove the key")),
    (HEAD + "do: 5", (2, "do", "expected a list of tasks")),
    (HEAD + "do: []\nwebhok: {}", (3, "webhok", "unknown key 'webhok', did you mean 'webhook'?")),
    (HEAD + "do: []\nwebhook:", (3, "webhook", "has no value: give it one, or remove the key")),
    (HEAD + "do: []\nwebhook: {auth: {github: {secrt: a}}}", (3, "webhook.auth.github.secrt", "unknown key 'secrt', did you mean 'secret'?")),
    (HEAD + "do: []\nwebhook: {auth: [{hmac: {secret: a, header: X-A, prefx: a}}]}", (3, "webhook.auth[0].hmac.prefx", "unknown key 'prefx', did you mean 'prefix'?")),
    (HEAD + "do: []\nwebhook:\n  auth: none\n  respond:\n    statu: 200", (6, "webhook.respond.statu", "unknown key 'statu', did you mean 'status'?")),
    # callbacks
    (HEAD + "do: []\nwebhook:\n  auth: none\n  callbacks:\n    approval: {}", (6, "webhook.callbacks.approval.auth", "is missing: say who may call, or `auth: none` for everyone")),
    (HEAD + "do: []\nwebhook:\n  auth: none\n  callbacks:\n    approval: {auth: none, subpaths: true}", (6, "webhook.callbacks.approval.subpaths", "unknown key 'subpaths'")),
    (HEAD + "do: []\nwebhook:\n  auth: none\n  callbacks:\n    an approval: {auth: none}", (6, "webhook.callbacks['an approval']", "the name of a callback is a part of its URL: expected letters, digits and any of . _ - behind the first, at most 63")),
    (HEAD + "do: []\nwebhook:\n  auth: none\n  callbacks:\n    approval: {auth: none, respond: {mode: reply, timeout: PT5S}}", (6, "webhook.callbacks.approval.respond.mode", "a callback is answered once it is stored: `call: reply` answers the request that started the flow")),
    (HEAD + "do: []\nexecution: {concurrency: 0}", (3, "execution.concurrency", "expected at least 1")),
    (HEAD + "do: []\nexecution: {concurrency: '5'}", (3, "execution.concurrency", "expected an integer")),
    (HEAD + "do: []\nexecution: {max_backlog: 10000001}", (3, "execution.max_backlog", "expected at most 10000000")),
    (HEAD + "do: []\nexecution: {concurency: 5}", (3, "execution.concurency", "unknown key 'concurency', did you mean 'concurrency'?")),
    (HEAD + "do: []\nexecution: 5", (3, "execution", "expected a mapping")),
    (HEAD + "do: []\ninput: {from: $context}", (3, "input.from", "unknown variable $context; here there are $runtime, $secrets, $workflow")),
    (HEAD + "do: []\noutput: {as: $input}", (3, "output.as", "unknown variable $input; here there are $context, $runtime, $secrets, $workflow")),
    (HEAD + "do: []\nuse: {secrets: [a b]}", (3, "use.secrets[0]", "expected letters, digits, '-', '_' and '.', at most 127")),
    (HEAD + "do: []\nuse: {authentications: {a: {basic: {use: s}}}}", (3, "use.authentications.a.basic.use", "secret 's' is not listed in `use.secrets`")),
    (HEAD + "do: []\nuse: {authentications: {a: {bearer: {token: '${ $nope }'}}}}", (3, "use.authentications.a.bearer.token", "unknown variable $nope; here there are $authorization, $context, $input, $runtime, $secrets, $task, $workflow")),
    (HEAD + "do: []\nuse: {authentications: {a: {use: b}, b: {bearer: {token: t}}}}", (3, "use.authentications.a.use", "unknown key 'use'")),
    (HEAD + "do: []\nuse: {authentications: {a: {oauth2: {authority: https://x.y}}}}", (3, "use.authentications.a.oauth2", "OAuth 2 authentication is not supported yet; basic and bearer are")),
    (HEAD + "do: []\nuse: {errors: {a: {type: x.y, status: 500}}}", (3, "use.errors.a.type", "expected a URI such as https://example.com/errors/out-of-stock")),
    (HEAD + "do: []\nuse: {errors: {a: {type: https://x.y}}}", (3, "use.errors.a.status", "the key 'status' is missing")),
    (HEAD.replace("1.0.3", "1.1.0") + "do: []", (1, "document.dsl", "expected a version 1.0.x of the DSL, such as 1.0.3")),
    (HEAD.replace("1.0.3", "1.0") + "do: []", (1, "document.dsl", "expected a text: put it in quotes")),
    (HEAD.replace("1.0.0", "1.0.0.0") + "do: []", (1, "document.version", "expected a semantic version such as 1.0.0")),
    (HEAD.replace("orders", "my_orders") + "do: []", (1, "document.name", "expected letters, digits and hyphens, at most 63, with no hyphen at either end")),
    (HEAD.replace("default", "a.b") + "do: []", (1, "document.namespace", "expected letters, digits and hyphens, at most 63, with no hyphen at either end")),
    (HEAD.replace("orders", "o" * 64) + "do: []", (1, "document.name", "expected letters, digits and hyphens, at most 63, with no hyphen at either end")),
    (HEAD.replace("name:", "nam:") + "do: []", (1, "document.name", "the key 'name' is missing"), (1, "document.nam", "unknown key 'nam', did you mean 'name'?")),
    (HEAD + "do: []\ndo: []", (3, "do", "key 'do' stands here twice, first on line 2")),
    (HEAD + "do: [", (2, "", "no valid YAML: while parsing a flow node expected the node content, but found '<stream end>'")),
]  # fmt: skip


@pytest.mark.parametrize(("tasks", "fault"), BAD_TASKS)
def test_a_bad_task_names_line_key_and_cause(tasks, fault):
    assert faults_of(HEAD + "do:\n" + textwrap.indent(tasks, "  ")) == [fault]


@pytest.mark.parametrize("row", BAD_DOCUMENTS)
def test_a_bad_document_names_line_key_and_cause(row):
    text, *faults = row
    assert faults_of(text) == sorted(faults)
