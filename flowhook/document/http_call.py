"""Models of the arguments of `call: http`.

Source: dsl-reference.md, "HTTP Call", "Endpoint", "Authentication", "URI Template".
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, PlainValidator, StrictBool, Tag, model_validator

from flowhook.document import schema_overrides
from flowhook.document.authentication import ReferenceableAuthenticationPolicy
from flowhook.document.codes import Code
from flowhook.document.header_rules import FIELD_NAME, RESERVED_HEADERS
from flowhook.document.model import Model, neither_mapping_nor_expression
from flowhook.document.uris import UriTemplate
from flowhook.document.validation import validation_error
from flowhook.expressions import is_expression
from flowhook.limits import MAX_PARTS

_METHOD: Final = re.compile(r"[A-Za-z]{1,32}")


def _method(value: str) -> str:
    if not is_expression(value) and not _METHOD.fullmatch(value):
        raise validation_error(Code.VALUE_FORMAT, "expected an HTTP method such as post")
    return value


def _scalars(value: object) -> object:
    """Validate a mapping of scalars. The DSL requires strings; numbers and booleans are unambiguous, so accept them."""
    if is_expression(value):
        return value
    if not isinstance(value, dict):
        raise neither_mapping_nor_expression(value)
    for name, item in value.items():
        if item is None or isinstance(item, dict | list):
            raise validation_error(Code.VALUE_TYPE, f"expected a string for {name}")
    return value


def _query(value: object) -> object:
    """Validate query parameters: scalars, or lists of scalars for repeated parameters."""
    if not isinstance(value, dict):
        return _scalars(value)
    for name, item in value.items():
        for each in item if isinstance(item, list) else [item]:
            if each is None or isinstance(each, dict | list):
                raise validation_error(Code.VALUE_TYPE, f"expected a string for {name}, or a list of strings")
    return value


def _fields(value: object) -> object:
    for name in value if isinstance(value, dict) else ():
        if not FIELD_NAME.fullmatch(name):
            raise validation_error(Code.HEADER_INVALID, f"{name!r} is not a valid header name")
        if name.lower() in RESERVED_HEADERS:
            raise validation_error(Code.HEADER_INVALID, f"{name} is set by the HTTP client: remove it")
    return value


Scalars = Annotated[dict[str, Any] | str, PlainValidator(_scalars), schema_overrides.TEXTS]
"""A mapping of strings, numbers and booleans, some of them expressions; or an expression that yields one."""


class Endpoint(Model):
    """An endpoint spelled out."""

    uri: UriTemplate
    authentication: ReferenceableAuthenticationPolicy | None = None


def endpoint_tag(value: object) -> str:
    """Return the tag of an endpoint in its union: a mapping is a configuration, anything else a URI."""
    return "<configuration>" if isinstance(value, dict) else "<uri>"


class MultipartField(Model):
    """A part of a form: a value, or an attachment. Not part of the DSL."""

    name: str
    value: Any = None
    attachment: str | None = None
    """Handle of the attachment, usually an expression."""
    filename: str | None = None
    """Default: that of the attachment; a value without one is a field."""
    type: str | None = None
    """Default: that of the attachment."""

    @model_validator(mode="after")
    def _is_either(self) -> Self:
        if len({"value", "attachment"} & self.model_fields_set) != 1:
            raise validation_error(Code.KEY_CONFLICT, "expected one of value and attachment")
        return self


def _fields_tag(value: object) -> str:
    return "<expression>" if isinstance(value, str) else "<fields>"


def _expression(value: str) -> str:
    if not is_expression(value):
        raise validation_error(Code.VALUE_TYPE, "expected a list of fields, or an expression ${ … }")
    return value


Fields = Annotated[
    Annotated[tuple[MultipartField, ...], Field(min_length=1, max_length=MAX_PARTS), Tag("<fields>")]
    | Annotated[str, AfterValidator(_expression), Tag("<expression>")],
    Discriminator(_fields_tag),
]


class HttpArguments(Model):
    """`with` of `call: http`. `attachment` and `multipart` are not part of the DSL, which has no streamed bodies."""

    method: Annotated[str, AfterValidator(_method)]
    endpoint: Annotated[
        Annotated[Endpoint, Tag("<configuration>")] | Annotated[UriTemplate, Tag("<uri>")], Discriminator(endpoint_tag)
    ]
    headers: Annotated[Scalars, AfterValidator(_fields)] = Field(default_factory=dict)
    query: Annotated[dict[str, Any] | str, PlainValidator(_query), schema_overrides.QUERY] = Field(default_factory=dict)
    body: Any = None
    attachment: str | None = None
    """Handle of the attachment to send as the body, usually an expression."""
    multipart: Fields | None = None
    output: Literal["raw", "content", "response"] = "content"
    redirect: StrictBool = False

    @model_validator(mode="after")
    def _has_one_body(self) -> Self:
        if len({"body", "attachment", "multipart"} & self.model_fields_set) > 1:
            raise validation_error(Code.KEY_CONFLICT, "expected one of body, attachment and multipart")
        return self
