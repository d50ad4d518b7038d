"""`use.extensions`: tasks that run before and after others.

Source: dsl-reference.md, "Extension".
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from flowhook.document.codes import Code
from flowhook.document.model import Model, named_schema, sole_item
from flowhook.document.tasks import TaskItem
from flowhook.document.validation import validation_error

MAX_EXTENSIONS: Final = 32


class Extension(Model):
    """Tasks that run before and after tasks of a kind; tasks of extensions are not extended."""

    name: str = Field(alias="<name>")
    extend: Literal["all", "call", "composite", "emit", "for", "listen", "raise", "run", "set", "switch", "try", "wait"]
    """The kind of task; `composite` are `do` and `fork`."""
    when: str | None = None
    """Expression, with or without `${ }`, over the raw input of the extended task: whether it is extended."""
    before: tuple[TaskItem, ...] | None = None
    """Their output is dropped, unless one ends with `then: exit`: then it replaces the extended task's output."""
    after: tuple[TaskItem, ...] | None = None

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the schema of a mapping from the extension's name to its other keys."""
        return named_schema(schema, handler)

    @model_validator(mode="before")
    @classmethod
    def _unfold(cls, value: object) -> object:
        name, extension = sole_item(value, "one extension: a name and, below it, `extend`, `before` and `after`")
        if not isinstance(extension, dict):
            raise validation_error(Code.VALUE_TYPE, "expected a mapping with `extend`, `before` and `after`")
        return {"<name>": name, **extension}

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if self.before is None and self.after is None:
            raise validation_error(Code.KEY_MISSING, "expected at least one of before and after")
        return self


Extensions = Annotated[tuple[Extension, ...], Field(max_length=MAX_EXTENSIONS)]
