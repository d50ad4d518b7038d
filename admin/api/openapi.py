"""Describes the API as OpenAPI 3.1, from the table of operations; pure.

Source: https://spec.openapis.org/oas/v3.1.1.html
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from pydantic.json_schema import models_json_schema

import flowhook
from operations.encoding import REFERENCE, schema_of
from operations.operation import Operation, is_of_page
from operations.table import OPERATIONS

PREFIX: Final = "/api"
_PROBLEM: Final = {
    "description": "A problem detail of RFC 9457.",
    "type": "object",
    "properties": {
        "status": {"type": "integer"},
        "title": {"type": "string"},
        "reason": {"type": "string", "description": "Stable cause in UPPER_SNAKE_CASE."},
        "detail": {"type": "string", "description": "What is wrong, for people."},
        "faults": {
            "type": "array",
            "description": "Faults of a flow's file; the line is 0 for the whole file.",
            "items": {
                "type": "object",
                "properties": {"line": {"type": "integer"}, "key": {"type": "string"}, "cause": {"type": "string"}},
                "required": ["line", "key", "cause"],
            },
        },
    },
    "required": ["status", "title", "reason"],
}
_TEXTS: Final = {
    "400": "A parameter or the body is not acceptable.",
    "401": "There is no token, or the router does not know it.",
    "403": "The token lacks the scope `admin`, or `view` for what only reads.",
    "404": "There is no such thing.",
    "409": "The state does not permit it.",
    "429": "A limit is reached; `Retry-After` says when to try again.",
    "503": "The router does not answer.",
}
_PROBLEMS: Final = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_ERRORS: Final = {status: {"description": text, "content": _PROBLEMS} for status, text in _TEXTS.items()}


@cache
def description() -> dict[str, Any]:
    """Return the description of the API; the caller does not change it."""
    schemas: dict[str, Any] = {"Problem": _PROBLEM}
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        result = None if operation.result is bytes else schema_of(operation.result, schemas)
        paths.setdefault(PREFIX + operation.path, {})[operation.method.lower()] = _operation(operation, result, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Flowhook", "version": flowhook.__version__, "description": "The API of the admin process."},
        "security": [{"bearer": []}, {"session": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A token of the router."},
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "flowhook_session",
                    "description": "A session of the console; writing needs the header `X-CSRF-Token`, too.",
                },
            },
        },
    }


def _operation(operation: Operation[Any], result: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    _, defined = models_json_schema([(operation.model, "validation")], ref_template=REFERENCE + "{model}")
    own = dict(defined.get("$defs", {}))
    model = own.pop(operation.parameters.__name__)
    schemas.update(own)
    fields = model.get("properties", {})
    required = set(model.get("required", ()))
    content = {"application/octet-stream": {}} if result is None else {"application/json": {"schema": result}}
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [_parameter(name, fields[name], place="path") for name in operation.path_parameters],
        "responses": {"200": {"description": "OK", "content": content}, **_ERRORS},
    }
    others = {name: fields[name] for name in sorted(fields, key=is_of_page) if name not in operation.path_parameters}
    if operation.writes:
        needed = sorted(required & others.keys())
        body = {"type": "object", "properties": others, "required": needed, "additionalProperties": False}
        content = {"application/json": {"schema": body}}
        described["requestBody"] = {"required": bool(needed), "content": content}
    else:
        described["parameters"] += [_parameter(name, field, place="query") for name, field in others.items()]
    return described


def _parameter(name: str, schema: dict[str, Any], *, place: str) -> dict[str, Any]:
    text = schema.get("description", "")
    return {"name": name, "in": place, "required": place == "path", "description": text, "schema": schema}
