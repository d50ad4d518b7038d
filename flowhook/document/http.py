"""The arguments of `call: http`, as written.

Source: dsl-reference.md, "HTTP Call", "Endpoint", "Authentication", "URI Template".
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Discriminator, Field, PlainValidator, StrictBool, Tag
from pydantic_core import PydanticCustomError

from flowhook.document import json_types
from flowhook.document.authentication import ReferenceableAuthenticationPolicy
from flowhook.document.fields import FIELD_NAME, RESERVED_HEADERS
from flowhook.document.model import Model
from flowhook.document.uris import UriTemplate
from flowhook.expressions import is_expression

_METHOD: Final = re.compile(r"[A-Za-z]{1,32}")


def _method(value: str) -> str:
    if not is_expression(value) and not _METHOD.fullmatch(value):
        raise PydanticCustomError("flow", "expected an HTTP method such as post")
    return value


def _scalars(value: object) -> object:
    """Check a mapping of scalars: the DSL asks for strings, numbers and truth values are as clear."""
    if is_expression(value):
        return value
    if not isinstance(value, dict):
        raise PydanticCustomError("flow", "expected a mapping or an expression ${ … }")
    for name, item in value.items():
        if item is None or isinstance(item, dict | list):
            raise PydanticCustomError("flow", "expected a text for {name}", {"name": name})
    return value


def _fields(value: object) -> object:
    for name in value if isinstance(value, dict) else ():
        if not FIELD_NAME.fullmatch(name):
            raise PydanticCustomError("flow", "{name} is no header name", {"name": repr(name)})
        if name.lower() in RESERVED_HEADERS:
            raise PydanticCustomError("flow", "the HTTP client sets {name}, not a flow", {"name": name})
    return value


Scalars = Annotated[dict[str, Any] | str, PlainValidator(_scalars), json_types.TEXTS]
"""A mapping of texts (or numbers, truth values), some of them expressions; or an expression that yields one."""


class Endpoint(Model):
    """An endpoint spelled out."""

    uri: UriTemplate
    authentication: ReferenceableAuthenticationPolicy | None = None


def endpoint_tag(value: object) -> str:
    """Tell an endpoint that is spelled out from a URI."""
    return "<configuration>" if isinstance(value, dict) else "<uri>"


class HttpArguments(Model):
    """`with` of `call: http`."""

    method: Annotated[str, AfterValidator(_method)]
    endpoint: Annotated[
        Annotated[Endpoint, Tag("<configuration>")] | Annotated[UriTemplate, Tag("<uri>")], Discriminator(endpoint_tag)
    ]
    headers: Annotated[Scalars, AfterValidator(_fields)] = Field(default_factory=dict)
    query: Scalars = Field(default_factory=dict)
    body: Any = None
    output: Literal["raw", "content", "response"] = "content"
    redirect: StrictBool = False
