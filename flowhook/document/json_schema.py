"""Generates the JSON Schema of flow files from the models, for completion and validation in editors.

The schema checks less than `loader.parse`: references, expressions and constraints between keys are checked only by
`flowhook apply --dry-run`.

Source: https://json-schema.org/draft/2020-12/json-schema-core.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Final

import jsonschema_rs
from pydantic import BaseModel, create_model
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from flowhook.document.definition import strings_in
from flowhook.document.models import base, calls
from flowhook.document.models.execution import ExecutionPolicy
from flowhook.document.models.webhook import Webhook
from flowhook.document.models.workflow import Workflow

IDENTIFIER: Final = "urn:flowhook:flow"  # `$id` of the schema: a name, not a URL to fetch it from

_DEFINITIONS: Final = "#/$defs/"
_EXPRESSION: Final = "Expression"
_CONSTRAINTS: Final = frozenset({"const", "enum", "format", "maxLength", "minLength", "pattern"})
_ANNOTATIONS: Final[tuple[str, ...]] = ("description", "default", "examples")


def flow_schema(components: Mapping[str, JsonSchemaValue] | None = None) -> JsonSchemaValue:
    """Return the JSON Schema (2020-12) of a flow file, with the schema of the evaluated arguments of `components`.

    The schemas of the DSL's functions are always included, those of built-in components where none is given.
    """
    flow = create_model(
        "Flow", __base__=Workflow, webhook=(Webhook | None, None), execution=(ExecutionPolicy | None, None)
    )
    flow.__doc__ = "A flow: an Open Workflow 1.0 document, with the keys `webhook` and `execution`."
    # A component's own schema is more precise than the model that checks its arguments beforehand.
    checked = {name: model for name, model in calls.COMPONENT_ARGUMENTS.items() if name not in (components or {})}
    arguments: dict[str, type[BaseModel]] = {**calls.FUNCTION_ARGUMENTS, **checked}
    references, generated = models_json_schema(
        [(model, "validation") for model in (flow, *arguments.values())], schema_generator=SchemaGenerator
    )
    definitions: dict[str, JsonSchemaValue] = generated["$defs"]
    definitions[_EXPRESSION] = {**base.EXPRESSION, "description": "A jq expression in ${ }."}
    named = {name: references[model, "validation"] for name, model in arguments.items()}
    adopted = {name: schema for name, schema in (components or {}).items() if name not in named}
    named |= {name: _adopt(name, schema, definitions) for name, schema in adopted.items()}
    for name, definition in definitions.items():
        _describe_keys(name, definition, definitions)
    _complete_calls(definitions["CallTask"], named, definitions)
    root = definitions.pop("Flow")
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        "$id": IDENTIFIER,
        **root,
        "title": "Flowhook flow",
        "$defs": dict(sorted(_referenced(root, definitions).items())),
    }


class SchemaGenerator(GenerateJsonSchema):
    """Generates readable schemas: no titles made from names, no null for optional keys, docstrings as descriptions."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - asked for every field
        return False

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """Leave out null: a key without a value is refused, and an optional key may be absent."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Include a default only if it is valid in the form in which authors write it."""
        shown = super().default_schema(schema)
        if "default" in shown:
            plain = {key: value for key, value in shown.items() if key != "default"}
            scalar = isinstance(shown["default"], str | int | float)
            if not scalar or "$ref" in plain or not jsonschema_rs.is_valid(plain, shown["default"]):
                return plain
        return shown

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        shown = super().model_schema(schema)
        model: type[BaseModel] = schema["cls"]
        summary = _sections(model)[0]
        shown.pop("description", None)
        shown = {**({"description": summary} if summary else {}), **shown}
        about = dict(_field_docs(model))
        for name, field in model.model_fields.items():
            place = shown.get("properties", {}).get(field.alias or name)
            if isinstance(place, dict) and name in about:
                place["description"] = about[name]
        return shown


def _field_docs(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Yield the descriptions of fields, from `Attributes:` in class docstrings or from docstrings below the fields."""
    for cls in reversed(model.__mro__):
        if cls is BaseModel or not issubclass(cls, BaseModel):
            continue
        yield from _sections(cls)[1].items()
        yield from _docs_below(cls)


def _sections(cls: type) -> tuple[str, dict[str, str]]:
    """Return the summary of a class's own docstring, and the descriptions in its section `Attributes:`."""
    text, _, attributes = inspect.cleandoc(cls.__dict__.get("__doc__") or "").partition("\nAttributes:\n")
    entries = re.split(r"^(\w+): ", textwrap.dedent(attributes), flags=re.MULTILINE)[1:]
    return " ".join(text.split()), dict(zip(entries[::2], map(_sentence, entries[1::2]), strict=True))


def _docs_below(cls: type) -> Iterator[tuple[str, str]]:
    try:
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    except (OSError, TypeError, SyntaxError, ValueError):  # generated, or without its source
        return
    body = definition.body if isinstance(definition, ast.ClassDef) else []
    for field, text in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            value = text.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield field.target.id, _sentence(value.value)


def _sentence(text: str) -> str:
    joined = " ".join(text.split())
    return joined[:1].upper() + joined[1:]


def _describe_keys(model: str, schema: Any, definitions: Mapping[str, JsonSchemaValue]) -> None:
    """Describe keys that their models do not describe, nor the schemas of their values, by `KEYS`."""
    for part in _parts(schema):
        for key, value in part.get("properties", {}).items():
            text = KEYS.get(f"{model}.{key}", KEYS.get(key))
            if text is not None and not _is_described(value, definitions):
                value["description"] = text


def _parts(schema: Any) -> Iterator[JsonSchemaValue]:
    """Yield a schema and those within it."""
    if isinstance(schema, dict):
        yield schema
        for key in ("anyOf", "oneOf", "items", "additionalProperties"):
            yield from _parts(schema.get(key))
        for value in schema.get("properties", {}).values():
            yield from _parts(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from _parts(item)


def _is_described(schema: JsonSchemaValue, definitions: Mapping[str, JsonSchemaValue]) -> bool:
    alternatives = (*schema.get("anyOf", ()), *schema.get("oneOf", ()))
    if "$ref" in schema:
        alternatives = (_resolved(schema, definitions), *alternatives)
    return "description" in schema or any(_is_described(each, definitions) for each in alternatives)


def _complete_calls(
    call: JsonSchemaValue, named: Mapping[str, JsonSchemaValue], definitions: Mapping[str, JsonSchemaValue]
) -> None:
    """Let editors complete the names of functions in `call`, and validate the arguments of known ones."""
    described = {key: value for key, value in call["properties"]["call"].items() if key in _ANNOTATIONS}
    call["properties"]["call"] = {**described, "anyOf": [{"enum": sorted(named)}, {"type": "string"}]}
    call["allOf"] = [
        {
            "if": {"properties": {"call": {"const": name}}, "required": ["call"]},
            "then": {
                "properties": {"with": arguments},
                "required": ["with"] if _resolved(arguments, definitions).get("required") else [],
            },
        }
        for name, arguments in sorted(named.items())
    ]


def _adopt(name: str, schema: JsonSchemaValue, definitions: dict[str, JsonSchemaValue]) -> JsonSchemaValue:
    """Add the schema of evaluated arguments to the definitions, with expressions allowed, and return a reference."""

    def move(part: Any) -> Any:
        if isinstance(part, list):
            return [move(item) for item in part]
        if not isinstance(part, dict):
            return part
        moved = {key: move(item) for key, item in part.items()}
        if isinstance(reference := part.get("$ref"), str) and reference.startswith(_DEFINITIONS):
            moved["$ref"] = f"{_DEFINITIONS}{name}.{reference.removeprefix(_DEFINITIONS)}"
        return moved

    own = {key: value for key, value in schema.items() if key not in ("$schema", "$defs")}
    for inner, definition in schema.get("$defs", {}).items():
        definitions[f"{name}.{inner}"] = _with_expressions(move(definition))
    definitions[name] = _with_expressions(move(own))
    return {"$ref": _DEFINITIONS + name}


def _with_expressions(schema: JsonSchemaValue) -> JsonSchemaValue:
    """Allow an expression in place of every nested value."""
    allowed = dict(schema)
    if "properties" in schema:
        allowed["properties"] = {key: _or_expression(value) for key, value in schema["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            allowed[key] = _or_expression(schema[key])
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            allowed[key] = [_with_expressions(item) for item in schema[key]]
    return allowed


def _or_expression(schema: JsonSchemaValue) -> JsonSchemaValue:
    inner = _with_expressions({key: value for key, value in schema.items() if key not in _ANNOTATIONS})
    described = {key: schema[key] for key in _ANNOTATIONS if key in schema}
    if not inner or (inner.get("type") == "string" and not _CONSTRAINTS & inner.keys()):
        return {**described, **inner}
    return {**described, "anyOf": [inner, {"$ref": _DEFINITIONS + _EXPRESSION}]}


def _resolved(schema: JsonSchemaValue, definitions: Mapping[str, JsonSchemaValue]) -> JsonSchemaValue:
    reference = schema.get("$ref", "")
    return definitions[reference.removeprefix(_DEFINITIONS)] if reference else schema


def _referenced(root: JsonSchemaValue, definitions: Mapping[str, JsonSchemaValue]) -> dict[str, JsonSchemaValue]:
    found: dict[str, JsonSchemaValue] = {}
    waiting = [root]
    while waiting:
        for path, text in strings_in(waiting.pop()):
            name = text.removeprefix(_DEFINITIONS)
            if path[-1] == "$ref" and name != text and name not in found:
                found[name] = definitions[name]
                waiting.append(definitions[name])
    return found


KEYS: Final[Mapping[str, str]] = {
    "algorithm": "Hash function of the signature.",
    "arguments": "Arguments of the program, in order.",
    "as": "Expression, or object with expressions, for what is handed on.",
    "at": "Name of the variable that has the index of the item.",
    "audiences": "Whom the token is for.",
    "authentications": "Ways to authenticate, by the name under which calls refer to them.",
    "authority": "URL of the authorization server.",
    "body": "Body of the request: JSON, or an expression.",
    "branches": "Tasks that run at the same time.",
    "catalogs": "Catalogs of functions, by the name after the `@` of a `call`.",
    "code": "Source code of the script.",
    "command": "Program to run, with its path or on PATH.",
    "compete": "Whether the first branch that completes ends the others, and its output is that of the task.",
    "correlate": "Values that have to be equal in all events that belong together, by name.",
    "count": "Number of retries at most.",
    "data": "Payload of the event; one that is awaited is compared with it.",
    "datacontenttype": "Media type of the payload.",
    "dataschema": "URI of the schema of the payload.",
    "days": "Days of the duration.",
    "detail": "Explanation of this occurrence.",
    "do": "Tasks that run one after the other; the output of each is the input of the next.",
    "document": "The schema, written in place.",
    "dsl": "Version of the Open Workflow DSL that the file is written for.",
    "each": "Name of the variable that has the item.",
    "encoding": "Encoding of the value.",
    "environment": "Environment variables, by name.",
    "errors": "Errors, by the name under which `raise` refers to them.",
    "exceptWhen": "Expression that is true for errors that are not caught, or not tried again.",
    "extensions": "Tasks that run before or after other tasks.",
    "field": "Path of a field of the body: names joined by dots.",
    "format": "Format of the schema.",
    "from": "Expression, or object with expressions, that makes the input of what comes.",
    "functions": "Tasks that `call` names.",
    "grant": "Grant by which the token is requested.",
    "hash": "Hash function of the signature.",
    "header": "Name of a header.",
    "headers": "Headers, by name.",
    "hours": "Hours of the duration.",
    "id": "ID of the event.",
    "instance": "JSON Pointer of the task that has failed.",
    "introspection": "Path of the endpoint that describes tokens.",
    "item": "Name of the variable that has the item.",
    "language": "Language of the code.",
    "metadata": "Notes for people and tools: without effect.",
    "method": "Method to call.",
    "methods": "HTTP methods that are accepted.",
    "milliseconds": "Milliseconds of the duration.",
    "minutes": "Minutes of the duration.",
    "mode": "Where expressions are evaluated: `strict`, only in `${ }`.",
    "multipart": "Parts of a `multipart/form-data` body.",
    "name": "Name, by which others refer to it.",
    "namespace": "Namespace of the flow; outside `default` it is part of the flow's ID.",
    "operationId": "ID of the operation in the document.",
    "output": "What the task hands on: the content, the whole response, or the content as it is.",
    "parameters": "Parameters of the operation, by name.",
    "password": "Password; an expression may name a secret.",
    "payload": "Payload of the message.",
    "prefix": "Text before the value, which is removed.",
    "protocol": "Protocol of the servers to choose from.",
    "protocolVersion": "Version of the protocol.",
    "query": "Parameter of the URL, or parameters by name.",
    "redirect": "Whether statuses from 300 to 399 count as success.",
    "retries": "Retry policies, by the name under which `catch.retry` refers to them.",
    "revocation": "Path of the endpoint that revokes tokens.",
    "scopes": "Scopes that are requested.",
    "seconds": "Seconds of the duration.",
    "secret": "Name of the secret, whose value `flowhook secrets set` sets.",
    "secrets": "Names of several secrets, of which any one fits, while one is rotated.",
    "set": "Object with expressions, or an expression, that replaces the data.",
    "source": "URI of the system that the event comes from.",
    "status": "HTTP status that stands for the error.",
    "subject": "What the event is about.",
    "summary": "What the flow does, in Markdown.",
    "switch": "Cases, of which the first one that matches says what comes next.",
    "tags": "Labels, by name.",
    "then": "What comes next: `continue`, `exit`, `end`, or the name of a task.",
    "time": "When it happened.",
    "timeouts": "Timeouts, by the name under which tasks refer to them.",
    "title": "Short text for people.",
    "token": "The token; an expression may name a secret.",
    "try": "Tasks whose errors `catch` handles.",
    "type": "Type, by which it is recognised.",
    "uri": "The URI; an expression may make it.",
    "use": "Name of what is defined in the section `use`.",
    "username": "Name of the user.",
    "value": "Content of the part.",
    "variables": "Values of the variables in the URL of the server.",
    "version": "Semantic version.",
    "when": "Expression that is true for errors that are caught, or tried again.",
    "while": "Expression that is evaluated before each iteration, and ends the loop when it is false.",
    "CallTask.call": "Function to call: `http`, one of `use.functions` or of a catalog, or a component.",
    "CallTask.with": "Arguments of the function.",
    "Catch.as": "Name of the variable that has the error.",
    "Extension.after": "Tasks that run after each of them.",
    "HttpArguments.method": "HTTP method.",
    "OAuth2Client.authentication": "How the client authenticates at the authorization server.",
    "OAuth2Endpoints.token": "Path of the endpoint that issues tokens.",
}
"""Descriptions of keys that mean the same wherever they stand; `MODEL.KEY` describes the key of one model only.

A key that is described in the model that has it, or whose value has a description, is not here.
"""
