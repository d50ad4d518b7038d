"""Data flow of workflows and tasks: `input`, `output`, `export` and their schemas.

Source: dsl-reference.md, "Input", "Output", "Export", "Schema".
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, PlainValidator

from flowhook.document import schema_overrides
from flowhook.document.codes import Code
from flowhook.document.model import Model, Transformation
from flowhook.document.validation import validation_error


def _schema(value: object) -> object:
    if isinstance(value, dict | bool):
        return value
    raise validation_error(Code.VALUE_TYPE, "expected a JSON Schema: a mapping")


class Schema(Model):
    """A JSON Schema (2020-12) that data has to meet. The schemas of other formats and places are refused at apply."""

    format: str = "json"
    document: Annotated[dict[str, Any] | bool, PlainValidator(_schema), schema_overrides.SCHEMA]


class Input(Model):
    """Validation of the raw input, then its transformation."""

    schema_: Schema | None = Field(None, alias="schema")
    from_: Transformation | None = Field(None, alias="from")


class Output(Model):
    """Transformation of the raw output, then validation of the result."""

    schema_: Schema | None = Field(None, alias="schema")
    as_: Transformation | None = Field(None, alias="as")


class Export(Model):
    """The new `$context`, then its validation."""

    schema_: Schema | None = Field(None, alias="schema")
    as_: Transformation | None = Field(None, alias="as")
