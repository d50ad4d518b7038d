"""docs/api.md says what the API's OpenAPI document does. `FLOWHOOK_RENEW_DOCS=1` renews it."""

from __future__ import annotations

import os

from support import pages

from admin.api import openapi

PAGE = pages.DOCS / "api.md"
HEAD = """# The JSON API

This page lists the operations of the [admin process's API](console.md#api), which has a token of the scope
`view` or `admin` as its bearer token. It is generated from the OpenAPI 3.1 document that each admin process
serves at `/api/openapi.json`, with the schemas of requests and results; the site of this documentation has it
as `openapi.json`.

```
$ curl -s http://127.0.0.1:8081/api/openapi.json -H "Authorization: Bearer $(cat data/view.token)"
```

`*` marks parameters that are required.
"""
VERBS = ("get", "post", "put", "patch", "delete")


def page():
    described = openapi.description()
    groups: dict[str, list[str]] = {}
    for path, methods in described["paths"].items():
        for verb in VERBS:
            if verb in methods:
                groups.setdefault(path.split("/")[2], []).append(row(path, verb, methods[verb], described))
    text = [HEAD.rstrip()]
    for group, rows in groups.items():
        text += ["", f"## {group}", "", "| request | | parameters |", "|---|---|---|", *rows]
    return "\n".join(text) + "\n"


def row(path, verb, operation, described):
    found = [(each["name"], each.get("required", False)) for each in operation.get("parameters", ())]
    for content in operation.get("requestBody", {}).get("content", {}).values():
        schema = content.get("schema", {})
        schema = described["components"]["schemas"].get(schema.get("$ref", "").rpartition("/")[2], schema)
        required = schema.get("required", ())
        found += [(name, name in required) for name in schema.get("properties", ())]
    names = dict.fromkeys(f"`{name}`" + "\\*" * required for name, required in found)
    summary = " ".join(operation["summary"].split()).replace("|", "\\|")
    return f"| `{verb.upper()} {path}` | {summary} | {', '.join(names)} |"


def test_the_page_says_what_the_openapi_document_does():
    if os.environ.get("FLOWHOOK_RENEW_DOCS"):
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page(), "renew it with FLOWHOOK_RENEW_DOCS=1"
