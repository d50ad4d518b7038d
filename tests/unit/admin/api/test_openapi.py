"""The description names every operation, and refers only to what it has."""

from __future__ import annotations

import json
import re

from jsonschema import Draft202012Validator

from admin.api import openapi
from operations.table import OPERATIONS


def test_every_operation_is_described():
    paths = openapi.description()["paths"]
    described = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert described == {(operation.method, f"/api{operation.path}") for operation in OPERATIONS}


def test_every_reference_leads_somewhere():
    text = json.dumps(openapi.description())
    schemas = openapi.description()["components"]["schemas"]
    assert set(re.findall(r'"#/components/schemas/(\w+)"', text)) <= set(schemas)
    assert "$defs" not in text


def test_every_schema_is_one():
    for schema in openapi.description()["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_parameters_of_paths_are_described():
    for path, methods in openapi.description()["paths"].items():
        for operation in methods.values():
            named = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
            assert named == set(re.findall(r"\{(\w+)\}", path))
            assert all(each["description"] for each in operation["parameters"])


def test_the_value_of_a_secret_is_only_written():
    assert set(openapi.description()["components"]["schemas"]["StoredSecret"]["properties"]) == {"name", "updated_at"}
