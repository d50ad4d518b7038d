"""`use.extensions`: tasks that run before and after others.

Source: dsl-reference.md, "Extension".
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from flowhook.document.codes import Code
from flowhook.document.model import NamedModel
from flowhook.document.tasks import TaskItem
from flowhook.document.validation import validation_error

MAX_EXTENSIONS: Final = 32


class Extension(NamedModel):
    """Tasks that run before and after tasks of a kind; tasks of extensions are not extended."""

    noun: ClassVar[str] = "extension"
    keys: ClassVar[str] = "`extend`, `before` and `after`"

    extend: Literal["all", "call", "composite", "emit", "for", "listen", "raise", "run", "set", "switch", "try", "wait"]
    """The kind of task; `composite` are `do` and `fork`."""
    when: str | None = None
    """Expression, with or without `${ }`, over the raw input of the extended task: whether it is extended."""
    before: tuple[TaskItem, ...] | None = None
    """Their output is dropped, unless one ends with `then: exit`: then it replaces the extended task's output."""
    after: tuple[TaskItem, ...] | None = None

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if self.before is None and self.after is None:
            raise validation_error(Code.KEY_MISSING, "expected at least one of before and after")
        return self


Extensions = Annotated[tuple[Extension, ...], Field(max_length=MAX_EXTENSIONS)]
