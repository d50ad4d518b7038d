"""Fields of model types, for what is derived from them: messages, JSON."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any, get_type_hints


@cache
def field_types(kind: type) -> dict[str, Any]:
    """Return the types of the fields of a dataclass or a named tuple, by name in order; not to be changed."""
    hints = get_type_hints(kind)
    names = [each.name for each in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else kind._fields  # type: ignore[attr-defined] # a named tuple
    return {name: hints[name] for name in names}


def field_defaults(kind: type) -> dict[str, Any]:
    """Return the default values of its fields by name; those that are made by a function are left out."""
    if not dataclasses.is_dataclass(kind):
        return kind._field_defaults  # type: ignore[attr-defined, no-any-return] # a named tuple
    fields = dataclasses.fields(kind)
    return {each.name: each.default for each in fields if each.default is not dataclasses.MISSING}
