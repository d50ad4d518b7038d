"""Shows what is wrong with the fields of a form beside them: templates get `errors`, texts by name of the field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jinja2
from markupsafe import Markup

from operations.operation import Operation


@dataclass(frozen=True, slots=True)
class FilterForm:
    """The form above a list, which is shown without the list if one of its fields is not acceptable."""

    template: str  # has the form; it gets its parameters as `filters`
    heading: str  # title of the page
    operation: Operation[Any]  # reads the fields
    styles: tuple[str, ...] = ()  # style sheets of the form
    values: Mapping[str, object] = field(default_factory=dict)  # further values for the template


@jinja2.pass_context
def invalid(context: jinja2.runtime.Context, name: str) -> Markup:
    """Return attributes of a field; none if nothing is wrong with it."""
    if name not in context["errors"]:
        return Markup()
    return Markup(' aria-invalid="true" aria-describedby="error-{}"').format(name)


@jinja2.pass_context
def field_error(context: jinja2.runtime.Context, name: str) -> Markup:
    """Return what is wrong with a field, to stand after it."""
    if name not in context["errors"]:
        return Markup()
    return Markup(' <span class="field-error" id="error-{}">{}</span>').format(name, context["errors"][name])
