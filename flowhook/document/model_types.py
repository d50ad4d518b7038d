"""Finds the types that the models allow at a location of a document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import UnionType
from typing import Any, Final, Literal, TypeGuard, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError

from flowhook.document.auth import KINDS as AUTH_KINDS
from flowhook.document.auth import AuthKind
from flowhook.document.codes import Code

MAX_DEPTH: Final = 3
"""Levels below a location in which a key is searched."""


def types_at(model: type[BaseModel], loc: Iterable[int | str]) -> list[Any]:
    """Return the types allowed at the location of an error."""
    types: list[Any] = [model]
    for step in loc:
        types = [member for annotation in types for member in _members(annotation, step)]
    return types


def keys_of(types: Iterable[Any]) -> set[str]:
    """Return the keys of the models among some types."""
    return {key for model in _models(types) for key, _ in _fields(model)}


def required_keys(types: Iterable[Any]) -> list[str]:
    """Return the required keys, in order, if exactly one of the types is a model; otherwise none."""
    models = list(_models(types))
    if len(models) != 1:
        return []
    try:
        models[0].model_validate({})  # not read from its fields, because some models fill in defaults themselves
    except ValidationError as failure:
        errors = failure.errors(include_url=False)
        return [str(each["loc"][0]) for each in errors if each["type"] in ("missing", Code.KEY_MISSING)]
    return []


def place_below(types: Iterable[Any], key: str) -> tuple[str, ...]:
    """Return the path from a location to the nearest mapping below it that allows `key`; empty if there is none."""
    level: list[tuple[tuple[str, ...], type[BaseModel]]] = [((), model) for model in _models(types)]
    for _ in range(MAX_DEPTH):
        below = [
            ((*path, name), inner)
            for path, model in level
            for name, annotation in _fields(model)
            for inner in _models([annotation])
        ]
        for path, model in below:
            if any(name == key for name, _ in _fields(model)):
                return path
        level = below
    return ()


def _models(types: Iterable[Any]) -> Iterator[type[BaseModel]]:
    for annotation in types:
        for candidate, _ in _alternatives(annotation):
            if _is_model(candidate):
                yield candidate


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    """Yield the keys of a model as they are written, and the types of their values."""
    for name, field in model.model_fields.items():
        key = field.alias or name
        if not key.startswith("<"):
            yield key, field.annotation


def _members(annotation: Any, step: int | str) -> Iterator[Any]:
    """Yield the types that a step of an error's location may lead to."""
    for candidate, tag in _alternatives(annotation):
        if tag is not None:
            if tag == step:
                yield candidate
        elif candidate is AuthKind:
            yield AUTH_KINDS.get(str(step), AuthKind)
        elif _is_model(candidate):
            yield from (
                field.annotation for name, field in candidate.model_fields.items() if step == (field.alias or name)
            )
        else:
            arguments = (argument for argument in get_args(candidate) if argument is not ...)
            # An error's location contains the kind even where there is no list around it.
            yield from (AUTH_KINDS.get(str(step), item) if item is AuthKind else item for item in arguments)


def _alternatives(annotation: Any, tag: str | None = None) -> Iterator[tuple[Any, str | None]]:
    """Yield the types of a union without their annotations, each with its tag."""
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        for member in get_args(annotation):
            yield from _alternatives(member)
    elif hasattr(annotation, "__metadata__"):
        tags = [data.tag for data in annotation.__metadata__ if isinstance(data, Tag)]
        yield from _alternatives(annotation.__origin__, tags[0] if tags else tag)
    elif origin is not Literal:
        yield annotation, tag


def _is_model(annotation: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
