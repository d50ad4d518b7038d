"""The JSON Schema of flow files: what apply takes it takes, and what is obviously wrong it shows."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from flowhook.document.diagnostics.source import read
from flowhook.document.json_schema import IDENTIFIER, KEYS, flow_schema
from flowhook.document.loader import parse
from flowhook.errors import InvalidFlowError

EXAMPLES = sorted((Path(__file__).parents[4] / "examples").glob("*.yaml"))
HEAD = "document: {dsl: 1.0.3, namespace: default, name: orders, version: 1.0.0}\n"
DO = "do:\n  - keep: {set: '${ .body }'}\n"

COMPONENTS = {
    "acme.page": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "to": {"type": "string", "minLength": 3, "description": "Who."},
            "times": {"type": "integer", "default": 1},
            "place": {"$ref": "#/$defs/Place"},
            "tags": {"type": "array", "items": {"type": "integer"}},
        },
        "required": ["to"],
        "additionalProperties": False,
        "$defs": {"Place": {"type": "object", "properties": {"floor": {"type": "integer"}}}},
    },
    "acme.ping": {"type": "object", "properties": {}, "additionalProperties": False},
}


@pytest.fixture(scope="module")
def schema():
    found = flow_schema(COMPONENTS)
    Draft202012Validator.check_schema(found)
    return found


@pytest.fixture(scope="module")
def problems(schema):
    validator = Draft202012Validator(schema)

    def find(text):
        return [error.message for error in validator.iter_errors(read(text.encode()).data)]

    return find


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_valid(problems, path):
    assert problems(path.read_text()) == []


GOOD = [
    HEAD + DO,
    HEAD + "do: []\n",
    HEAD + DO + "webhook: {auth: none}\n",
    HEAD + DO + "webhook: {auth: {github: {secret: a}}}\n",
    HEAD + DO + "webhook: {auth: [{stripe: {secrets: [a, b]}}, {api_key: {header: X-Key, secret: k}}]}\n",
    HEAD + DO + "webhook: {auth: {hmac: {secret: a, header: X-S, timestamp: {header: X-T, tolerance: PT5M}, "
    "content: '{timestamp}.{body}'}}}\n",
    HEAD + DO + "webhook: {auth: none, respond: {status: 204}, max_body: 10MiB, allow_from: [192.0.2.0/24], "
    "dedupe: {key: '${ .body.id }', window: {hours: 1}}, rate_limit: {per_second: 0.5}, methods: [GET, POST]}\n",
    HEAD + DO + "webhook: {auth: none, max_body: 1024, dedupe: {key: none}, respond: {headers: {X-A: b}, body: hi}}\n",
    HEAD + DO + "webhook: {auth: none, callbacks: {approval: {auth: {github: {secret: a}}, max_body: 1MiB}}}\n",
    HEAD + DO + "webhook: {auth: none, callbacks: {a: {}, b: {auth: one_time_url}, c: {auth: none, deliver: all}}}\n",
    HEAD + DO + "schedule: {cron: '0 9 * * *'}\n",
    HEAD + DO + "schedule: {on: {any: [{with: {type: x}, correlate: {a: {from: .x, expect: 5}}}]}}\n",
    HEAD + DO + "evaluate: {language: jq, mode: strict}\n",
    HEAD + DO + "use: {extensions: [{a: {extend: all, when: .x, before: [{b: {set: {c: 1}, then: exit}}]}}]}\n",
    HEAD + DO + "execution: {concurrency: 5, max_backlog: 10}\n",
    HEAD + DO + "use: {secrets: [a], errors: {gone: {type: 'https://e.com/gone', status: 410}}}\n",
    HEAD + DO + "input: {from: .body, schema: {document: {type: object}}}\noutput: {as: {a: '${ . }'}}\n",
    HEAD + "do:\n  - a: {if: .x, call: http, with: {method: get, endpoint: 'https://e.com/{id}'}, then: exit}\n",
    HEAD + "do:\n  - a: {call: http, with: {method: put, endpoint: 'https://e.com', attachment: '${ .a }'}}\n",
    HEAD + "do:\n  - a: {call: http, with: {method: put, endpoint: 'https://e.com', multipart: '${ .a }'}}\n",
    HEAD + "do:\n  - a: {call: http, with: {method: put, endpoint: 'https://e.com', multipart: "
    "[{name: a, value: 1}, {name: b, attachment: '${ .b }', filename: c, type: text/plain}]}}\n",
    HEAD + "do:\n  - a: {call: http, with: {method: post, endpoint: {uri: 'https://e.com', authentication: "
    "{bearer: {token: '${ .t }'}}}, headers: {X: 1}, query: '${ .q }', body: [1], redirect: true}}\n",
    HEAD + "do:\n  - a: {switch: [{yes: {when: .a, then: b}}, {no: {then: end}}]}\n  - b: {raise: {error: "
    "{type: 'https://e.com/x', status: 400}}}\n",
    HEAD + "do:\n  - a: {do: [{b: {set: {x: 1}, export: {as: .x}}}], metadata: {owner: me}}\n",
    HEAD + "do:\n  - a: {listen: {to: {any: [{with: {type: x, roomid: y, data: {z: 1}}, correlate: {o: {from: .data.o, "
    "expect: 5}}}], until: .x}, read: raw}, foreach: {do: [{b: {set: {c: '${ $item }'}}}], output: {as: .c}}}\n",
    HEAD + "do:\n  - a: {listen: {to: {any: [], until: {one: {with: {source: x}}}}}}\n",
    HEAD + "do:\n  - a: {emit: {event: {with: {type: x, source: 'https://e.com', data: [1], priority: 5}}}}\n",
    HEAD + "do:\n  - a: {call: http, with: {method: get, endpoint: {uri: 'https://e.com', authentication: {oauth2: "
    "{authority: 'https://i.com', grant: client_credentials, client: {id: a, secret: '${ .s }'}, scopes: [x]}}}}}\n",
    HEAD
    + "do:\n  - a: {call: grpc, with: {service: {name: a.B, host: e.com, port: 443}, method: C, arguments: {x: 1}}}\n",
    HEAD + "do:\n  - a: {call: openapi, with: {document: {endpoint: 'https://e.com/a.json'}, operationId: b, "
    "parameters: '${ .p }', output: raw}}\n",
    HEAD
    + "do:\n  - a: {run: {workflow: {namespace: default, name: b, version: 1.0.0, input: {c: 1}}, await: false}}\n",
    HEAD
    + "do:\n  - a: {run: {script: {language: python, code: x, arguments: [a], environment: {B: 1}}, return: all}}\n",
    HEAD + "do:\n  - a: {run: {shell: {command: x, stdin: '${ . }'}}}\n",
    HEAD + "do:\n  - a: {for: {in: [{x: 1}, {x: '${ .y }'}]}, do: [{b: {set: {x: '${ $item.x }'}}}]}\n",
    HEAD + "do:\n  - a: {try: [{b: {call: some.thing}}], catch: {errors: {with: {detail: x}}, then: end}}\n",
    HEAD + "do:\n  - a: {call: some.thing, with: {x: [1, {}]}}\n",
    HEAD + "do:\n  - a: {call: acme.ping}\n",
    HEAD + "do:\n  - a: {call: acme.page, with: {to: ada, times: 2, place: {floor: 1}, tags: [1]}}\n",
    HEAD + "do:\n  - a: {call: acme.page, with: {to: '${ .to }', times: '${ .n }', place: {floor: '${ .f }'}, "
    "tags: ['${ .t }', 2]}}\n",
    HEAD + "do:\n  - a: {call: acme.page, with: {to: ada, place: '${ .p }', tags: '${ .t }'}}\n",
]


@pytest.mark.parametrize("text", GOOD)
def test_what_can_be_applied_is_valid(problems, text):
    parse(text.encode(), functions={"some.thing", *COMPONENTS})
    assert problems(text) == []


BAD = [
    "[]",
    DO,
    HEAD,
    HEAD + "do: {}\n",
    HEAD.replace("1.0.3", "2.0.0") + DO,
    HEAD.replace("orders", "or ders") + DO,
    HEAD + DO + "webhok: {}\n",
    HEAD + DO + "webhook: {}\n",
    HEAD + DO + "webhook: {auth: anybody}\n",
    HEAD + DO + "webhook: {auth: {}}\n",
    HEAD + DO + "webhook: {auth: []}\n",
    HEAD + DO + "webhook: {auth: {githb: {secret: a}}}\n",
    HEAD + DO + "webhook: {auth: {github: {}}}\n",
    HEAD + DO + "webhook: {auth: {github: {secret: a, secrets: [b]}}}\n",
    HEAD + DO + "webhook: {auth: {github: {secret: a}, stripe: {secret: b}}}\n",
    HEAD + DO + "webhook: {auth: {api_key: {secret: a}}}\n",
    HEAD + DO + "webhook: {auth: {api_key: {secret: a, header: X, query: y}}}\n",
    HEAD + DO + "webhook: {auth: none, max_body: 10 apples}\n",
    HEAD + DO + "webhook: {auth: none, allow_from: [everywhere]}\n",
    HEAD + DO + "webhook: {auth: none, methods: [FETCH]}\n",
    HEAD + DO + "webhook: {auth: none, dedupe: {window: soon}}\n",
    HEAD + DO + "webhook: {auth: none, dedupe: {window: {minute: 1}}}\n",
    HEAD + DO + "webhook: {auth: none, rate_limit: {burst: 1}}\n",
    HEAD + DO + "webhook: {auth: none, respond: {status: 700}}\n",
    HEAD + DO + "webhook: {auth: none, callbacks: {approval: {auth: no_time_url}}}\n",
    HEAD + DO + "webhook: {auth: one_time_url}\n",
    HEAD + DO + "webhook: {auth: none, callbacks: {a/b: {auth: none}}}\n",
    HEAD + DO + "schedule: {every: soon}\n",
    HEAD + DO + "schedule: {on: {one: {with: {type: 5}}}}\n",
    HEAD + DO + "evaluate: {language: js}\n",
    HEAD + DO + "use: {extensions: [{a: {extend: tasks, before: []}}]}\n",
    HEAD + DO + "use: {catalogs: {a: {uri: 'https://e.com'}}}\n",
    HEAD + DO + "webhook:\n",
    HEAD + DO + "execution: {concurrency: 0}\n",
    HEAD + DO + "use: {errors: {gone: {type: x}}}\n",
    HEAD + "do:\n  - a: {}\n",
    HEAD + "do:\n  - a: {sett: {x: 1}}\n",
    HEAD + "do:\n  - a: {set: {x: 1}, call: http}\n",
    HEAD + "do:\n  - a: {set: {}}\n",
    HEAD + "do:\n  - a: {set: text}\n",
    HEAD + "do:\n  - a: {set: {x: 1}}\n    b: {set: {x: 1}}\n",
    HEAD + "do:\n  - a: {set: {x: 1}, then: 5}\n",
    HEAD + "do:\n  - a: {set: {x: 1}, export: .x}\n",
    HEAD + "do:\n  - a: {switch: []}\n",
    HEAD + "do:\n  - a: {switch: [{yes: {when: .a}}]}\n",
    HEAD + "do:\n  - a: {raise: {error: {status: 400}}}\n",
    HEAD + "do:\n  - a: {listen: {to: {one: {correlate: {}}}}}\n",
    HEAD + "do:\n  - a: {listen: {to: {all: []}}}\n",
    HEAD + "do:\n  - a: {listen: {to: {any: [], until: 5}}}\n",
    HEAD + "do:\n  - a: {listen: {to: {one: {with: {type: 5}}}}}\n",
    HEAD + "do:\n  - a: {listen: {to: {one: {with: {type: x}, correlate: {o: {expect: 5}}}}}}\n",
    HEAD + "do:\n  - a: {emit: {event: {with: {source: x}}}}\n",
    HEAD + "do:\n  - a: {emit: {event: {with: {type: x, priority: [1]}}}}\n",
    HEAD + "do:\n  - a: {call: grpc, with: {service: {name: a.B}, method: C}}\n",
    HEAD + "do:\n  - a: {call: grpc, with: {service: {name: a.B, host: e.com, port: 0}, method: C}}\n",
    HEAD + "do:\n  - a: {call: openapi, with: {document: 'https://e.com/a.json', operationId: b}}\n",
    HEAD + "do:\n  - a: {call: openapi, with: {operationId: b}}\n",
    HEAD + "use: {authentications: {a: {oidc: {authority: 'https://e.com', grant: none}}}}\n" + DO,
    HEAD + "do:\n  - a: {run: {workflow: {namespace: default, name: b, version: first}}}\n",
    HEAD + "do:\n  - a: {run: {script: {language: perl, code: x}}}\n",
    HEAD + "do:\n  - a: {run: {shell: {}}}\n",
    HEAD + "do:\n  - a: {run: {container: {image: x}}}\n",
    HEAD + "do:\n  - a: {call: http}\n",
    HEAD + "do:\n  - a: {call: http, with: {endpoint: 'https://e.com'}}\n",
    HEAD + "do:\n  - a: {call: http, with: {method: get, endpoint: 'https://e.com', timeout: 5}}\n",
    HEAD + "do:\n  - a: {call: http, with: {method: put, endpoint: 'https://e.com', multipart: [{value: 1}]}}\n",
    HEAD + "do:\n  - a: {call: http, with: {method: get, endpoint: 'https://e.com', headers: {X: [1]}}}\n",
    HEAD + "do:\n  - a: {call: twitter.post, with: {txt: hello}}\n",
]


@pytest.mark.parametrize("text", BAD)
def test_what_is_obviously_wrong_is_not_valid_nor_can_it_be_applied(problems, text):
    with pytest.raises(InvalidFlowError):
        parse(text.encode())
    assert problems(text)


@pytest.mark.parametrize(
    "arguments",
    [
        "{}",
        "{to: ab}",
        "{to: ada, times: often}",
        "{to: ada, place: {floor: high}}",
        "{to: ada, tags: [x]}",
        "{too: ada}",
    ],
)
def test_the_arguments_of_a_component_are_checked(problems, arguments):
    assert problems(HEAD + f"do:\n  - a: {{call: acme.page, with: {arguments}}}\n")


def test_a_component_that_needs_arguments_needs_with(problems):
    assert problems(HEAD + "do:\n  - a: {call: acme.page}\n")


def test_the_names_of_components_are_offered(schema):
    offered = schema["$defs"]["CallTask"]["properties"]["call"]["anyOf"][0]["enum"]
    assert offered == [
        "acme.page",
        "acme.ping",
        "asyncapi",
        "email.send",
        "grpc",
        "http",
        "mcp",
        "openapi",
        "reply",
        "twitter.post",
        "webhook.send",
    ]


def test_it_is_a_schema_of_2020_12_that_nobody_has_to_fetch_anything_for(schema):
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == IDENTIFIER
    assert "://" not in IDENTIFIER
    references = re.findall(r"'\$ref': '([^']+)'", repr({key: item for key, item in schema.items() if key[0] != "$"}))
    references += re.findall(r"'\$ref': '([^']+)'", repr(schema["$defs"]))
    assert {reference.removeprefix("#/$defs/") for reference in references} == set(schema["$defs"])


def test_models_and_fields_are_described_in_the_words_of_the_code(schema):
    definitions = schema["$defs"]
    assert definitions["SetTask"]["description"] == "Replaces the data."
    assert definitions["SetTask"]["properties"]["then"]["description"].startswith("`continue`")
    assert definitions["Webhook"]["properties"]["subpaths"]["description"].startswith("Whether any suffix")
    assert "Attributes" not in repr(schema)
    assert definitions["acme.page"]["properties"]["to"]["description"] == "Who."


def test_every_key_has_a_description_or_a_value_that_has_one(schema):
    definitions = schema["$defs"]

    def is_described(value):
        inner = [*value.get("anyOf", ()), *value.get("oneOf", ())]
        if "$ref" in value:
            inner.append(definitions[value["$ref"].removeprefix("#/$defs/")])
        return "description" in value or any(map(is_described, inner))

    def bare(part, path=""):
        if isinstance(part, list):
            for item in part:
                yield from bare(item, path)
        elif isinstance(part, dict):
            for key, value in part.get("properties", {}).items():
                if not is_described(value):
                    yield f"{path}/{key}"
                yield from bare(value, f"{path}/{key}")
            for key in ("anyOf", "oneOf", "items", "additionalProperties"):
                yield from bare(part.get(key), path)

    own = {name: part for name, part in definitions.items() if not name.startswith("acme.")}
    assert [path for name, part in {"": schema, **own}.items() for path in bare(part, name)] == []


def test_a_description_of_a_key_is_about_a_key_that_there_is(schema):
    keys = set(re.findall(r"'([\w-]+)': \{", repr(schema)))
    models = {*schema["$defs"]}
    for name in KEYS:
        *model, key = name.split(".")
        assert key in keys
        assert set(model) <= models


def test_no_null_and_no_titles_made_of_names(schema):
    assert "'null'" not in repr(schema)
    assert "'default': None" not in repr(schema)
    assert "title" not in schema["$defs"]["SetTask"]["properties"]["then"]


def test_the_schemas_of_components_are_not_changed():
    before = copy.deepcopy(COMPONENTS)
    flow_schema(COMPONENTS)
    assert before == COMPONENTS
