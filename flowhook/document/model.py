"""The base of all models of a flow file, and the small types they share."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, PlainValidator, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from flowhook.document import schema_overrides
from flowhook.document.codes import Code
from flowhook.document.validation import validation_error, validation_error_at
from flowhook.expressions import is_expression, syntax_hint


class Model(BaseModel):
    """A part of a flow file: immutable, unknown keys refused, Python keywords spelled with a trailing underscore."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=False, revalidate_instances="never", hide_input_in_errors=True
    )


def sole_item(value: object, expected: str) -> tuple[str, Any]:
    """Return the key and the value of a mapping with exactly one key."""
    if not isinstance(value, dict) or len(value) != 1:
        raise validation_error(Code.ITEM_INVALID, f"expected {expected}")
    return next(iter(value.items()))


class OneKeyModel(Model):
    """Alternatives, of which exactly one is given.

    Attributes:
        _beside: keys that may stand beside one of them: that alternative, by the key.
    """

    _beside: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="after")
    def _has_one_key(self) -> Self:
        chosen = self.model_fields_set - self._beside.keys()
        for key, alternative in self._beside.items():
            if key in self.model_fields_set and alternative not in chosen:
                raise validation_error_at(((key,), Code.KEY_CONFLICT, f"needs `{alternative}` beside it"))
        if len(chosen) != 1:
            *keys, last = (key for key in type(self).model_fields if key not in self._beside)
            raise validation_error(Code.KEY_CONFLICT, f"expected exactly one of {', '.join(keys)} and {last}")
        return self


class NamedModel(Model):
    """An item of a list: a name and, below it, the other keys."""

    name: str = Field(alias="<name>")

    noun: ClassVar[str]
    keys: ClassVar[str]

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the schema of a mapping from the name to the other keys."""
        reference = handler(schema)
        model = handler.resolve_ref_schema(reference)
        rest = {**model, "properties": {key: item for key, item in model["properties"].items() if key != "<name>"}}
        rest["required"] = [key for key in model["required"] if key != "<name>"]
        model.clear()
        model.update(schema_overrides.named(rest))
        return reference

    @model_validator(mode="before")
    @classmethod
    def _unfold(cls, value: object) -> object:
        name, keys = sole_item(value, f"one {cls.noun}: a name and, below it, {cls.keys}")
        if not isinstance(keys, dict):
            raise validation_error(Code.VALUE_TYPE, f"expected a mapping with {cls.keys}")
        return {"<name>": name, **keys}


def pattern_or_expression(pattern: str, expected: str) -> Callable[[str], str]:
    """Return a validator for strings: the whole string matches the pattern, or it is an expression."""
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not is_expression(value) and not compiled.fullmatch(value):
            raise validation_error(Code.VALUE_FORMAT, f"expected {expected}, or an expression")
        return value

    return check


def _data_or_bare_expression(value: object) -> object:
    if isinstance(value, dict | str):
        return value
    raise validation_error(Code.VALUE_TYPE, "expected an expression or a mapping of expressions")


def _data_or_expression(value: object) -> object:
    if isinstance(value, dict):
        if not value:
            raise validation_error(Code.KEY_MISSING, "expected at least one key")
        return value
    if is_expression(value):
        return value
    raise neither_mapping_nor_expression(value)


def neither_mapping_nor_expression(value: object) -> PydanticCustomError:
    """Return the error for a value that must be a mapping or an expression."""
    return validation_error(Code.VALUE_TYPE, f"expected a mapping or an expression ${{ … }}{syntax_hint(value)}")


Transformation = Annotated[
    dict[str, Any] | str, PlainValidator(_data_or_bare_expression), schema_overrides.TRANSFORMATION
]
"""`input.from`, `output.as`, `export.as`: an expression, in `${ }` or bare, or an object with expressions in `${ }`."""

Data = Annotated[dict[str, Any] | str, PlainValidator(_data_or_expression), schema_overrides.DATA]
"""An object with at least one key and expressions in `${ }`, or one expression in `${ }` that yields an object."""
