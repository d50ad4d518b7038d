"""Errors that validators of models raise: each has a code, and exactly the text that its author gets."""

from __future__ import annotations

from typing import TypeAlias

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from flowhook.document.codes import Code

LocatedCause: TypeAlias = tuple[tuple[int | str, ...], Code, str]
"""Location relative to the value under validation, code and cause of an error."""


def validation_error(code: Code, cause: str) -> PydanticCustomError:
    """Return an error that pydantic reports with this code as its type, and with exactly this text."""
    return PydanticCustomError(code, "{cause}", {"cause": cause})


def validation_error_at(*problems: LocatedCause) -> ValidationError:
    """Return one error for one or more locations."""
    return ValidationError.from_exception_data(
        "flowhook",
        [InitErrorDetails(type=validation_error(code, cause), loc=loc, input=None) for loc, code, cause in problems],
    )
