"""Checks the JSON Schemas in a flow.

Source: dsl-reference.md, "Schema"; https://json-schema.org/draft/2020-12.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from flowhook.document.diagnostics.problems import Code, Path, Problem
from flowhook.document.diagnostics.rules.context import Part, mapping

if TYPE_CHECKING:
    from jsonschema.exceptions import SchemaError


FORMATS: Final = frozenset({"json", "json:2020-12"})

_OF_SCHEMAS: Final = frozenset({"$schema", "type", "properties", "required", "items"})
"""Keys by which a mapping is recognised as a JSON Schema."""

_MAX_QUOTED: Final = 200


def check_schema(schema: Part) -> Iterator[Problem]:
    """Yield the problems of the value of a key `schema` that its model does not detect."""
    written, document, schema_format = mapping(schema.value), schema.at("document"), schema.at("format")
    if "resource" in written:
        cause = "external schemas (`resource`) are not supported yet: write the schema inline, as `document`"
        yield schema.problem(Code.UNSUPPORTED, cause)
    elif "document" not in written and written.keys() & _OF_SCHEMAS:
        yield schema.problem(Code.KEY_MISSING, "write the schema below the key `document`")
    if isinstance(schema_format.value, str) and schema_format.value not in FORMATS:
        cause = f"schemas of format {schema_format.value!r} are not supported yet: use json"
        yield schema_format.problem(Code.UNSUPPORTED, cause)
    elif isinstance(document.value, dict | bool):
        yield from _check_document(document.value, document.path)


def _check_document(document: Any, path: Path) -> Iterator[Problem]:
    # costs 2.4 MiB and 35 ms, and few flow files need it
    from jsonschema import Draft202012Validator, validators  # noqa: PLC0415 - see above
    from jsonschema.exceptions import best_match  # noqa: PLC0415 - see above

    known = validators.validator_for(document, default=Draft202012Validator)
    if isinstance(document, dict) and document.get("$schema", known.META_SCHEMA["$id"]) not in _spellings(known):
        cause = "expected https://json-schema.org/draft/2020-12/schema, or an earlier draft"
        yield Problem((*path, "$schema"), Code.SCHEMA_INVALID, cause)
        return
    checker = known(known.META_SCHEMA, format_checker=known.FORMAT_CHECKER)
    error: SchemaError | None = best_match(checker.iter_errors(document))
    if error is not None:
        cause = f"invalid JSON Schema: {_shorten(error.message)}"
        yield Problem((*path, *error.absolute_path), Code.SCHEMA_INVALID, cause)
        return
    identifiers = {node["$id"] for _, node in _objects(document, ()) if isinstance(node.get("$id"), str)}
    for place, node in _objects(document, path):
        reference = node.get("$ref")
        if isinstance(reference, str) and not _is_inside(reference, document, identifiers):
            cause = f"{_shorten(reference)} is not defined in this schema, and other schemas are not fetched"
            yield Problem((*place, "$ref"), Code.SCHEMA_INVALID, cause)


def _spellings(known: Any) -> set[str]:
    identifier = str(known.META_SCHEMA.get("$id", known.META_SCHEMA.get("id", "")))
    return {identifier, identifier.rstrip("#"), identifier.rstrip("#") + "#"}


def _is_inside(reference: str, document: Any, identifiers: set[str]) -> bool:
    base, _, fragment = reference.partition("#")
    if base:
        return base in identifiers
    if identifiers or not fragment.startswith("/"):
        return True  # an anchor, or relative to a base inside the schema: left to the validator
    node = document
    for step in fragment[1:].split("/"):
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(node, dict) and key in node:
            node = node[key]
        elif isinstance(node, list) and key.isdecimal() and int(key) < len(node):
            node = node[int(key)]
        else:
            return False
    return True


def _objects(value: Any, path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    if isinstance(value, dict):
        yield path, value
        for key, item in value.items():
            yield from _objects(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _objects(item, (*path, index))


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_QUOTED else text[: _MAX_QUOTED - 1] + "…"
