"""Descriptions of components, with JSON Schemas of their arguments, for authors of flows and their editors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Final

from pydantic.errors import PydanticInvalidForJsonSchema

from flowhook.document.json_schema import SchemaGenerator
from runner.component_names import ENTRY_POINT_GROUP
from runner.components.base import Component
from runner.components.registry import callable_components

OURS: Final = "flowhook"


@dataclass(frozen=True, slots=True)
class ComponentDescription:
    """Description of a component."""

    name: str  # name under which flows call it
    summary: str  # purpose in one line; may be empty
    package: str  # distribution that provides it, with its version: `acme-flowhook 1.2.0`; `flowhook` for built-in ones
    # JSON Schema (2020-12) of `with`, expressions evaluated; None when the argument types have none
    arguments: dict[str, Any] | None


def descriptions() -> Iterator[ComponentDescription]:
    """Yield descriptions of the components that a `call` may name. Blocking: imports them."""
    packages: dict[str, str] = {}
    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        if entry_point.dist is not None and entry_point.dist.name != OURS:
            packages.setdefault(entry_point.name, f"{entry_point.dist.name} {entry_point.dist.version}")
    for name, component in sorted(callable_components().items()):
        yield ComponentDescription(name, component.summary, packages.get(name, OURS), _arguments_schema(component))


def _arguments_schema(component: Component) -> dict[str, Any] | None:
    try:
        schema = component.model.model_json_schema(schema_generator=SchemaGenerator)
    except PydanticInvalidForJsonSchema:
        return None
    # without those of the model: the component has its own summary
    shown = {name: value for name, value in schema.items() if name not in ("title", "description")}
    return {"$schema": SchemaGenerator.schema_dialect, **shown}
