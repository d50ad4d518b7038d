"""Models of the arguments of the DSL's functions; those of `call: http` are in `http_call`.

Source: dsl-reference.md, "gRPC Call", "OpenAPI Call", "External Resource".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, PlainValidator, StrictBool, Tag

from flowhook.document import schema_overrides
from flowhook.document.authentication import ReferenceableAuthenticationPolicy
from flowhook.document.codes import Code
from flowhook.document.http_call import Endpoint, HttpArguments, endpoint_tag
from flowhook.document.model import Model, pattern_or_expression
from flowhook.document.uris import UriTemplate
from flowhook.document.validation import validation_error
from flowhook.expressions import is_expression

IDENTIFIER: Final = "[A-Za-z_][A-Za-z0-9_]*"
"""Pattern of a name in protobuf."""
FULL_NAME: Final = rf"{IDENTIFIER}(\.{IDENTIFIER})*"
"""Pattern of the full name of a service."""
HOST: Final = r"(https?://)?[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?"
"""Pattern of the host of a gRPC server."""
_MAX_PORT: Final = 65535


def _no_file(value: object) -> object:
    if isinstance(value, str) and value.lower().startswith("file:"):
        cause = "files of a runner are not read: serve the document over http(s)"
        raise validation_error(Code.URI_INVALID, cause)
    return value


def _port(value: object) -> object:
    if is_expression(value) or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MAX_PORT):
        return value
    raise validation_error(Code.VALUE_RANGE, "expected a port, 1 to 65535, or an expression ${ … }")


def type_or_expression(expected: str, *types: type) -> Callable[[object], object]:
    """Return a validator that accepts values of the given types, and expressions."""

    def check(value: object) -> object:
        if not isinstance(value, types) and not is_expression(value):
            raise validation_error(Code.VALUE_TYPE, f"expected {expected}, or an expression ${{ … }}")
        return value

    return check


_Uri = Annotated[UriTemplate, BeforeValidator(_no_file)]


class FetchedEndpoint(Endpoint):
    """The endpoint of a resource, spelled out."""

    uri: _Uri


class ExternalResource(Model):
    """A resource that is fetched before a call, over http(s)."""

    name: str | None = None
    endpoint: Annotated[
        Annotated[FetchedEndpoint, Tag("<configuration>")] | Annotated[_Uri, Tag("<uri>")],
        Discriminator(endpoint_tag),
    ]


class GrpcService(Model):
    """The service that is called."""

    name: Annotated[
        str,
        Field(max_length=255),
        AfterValidator(pattern_or_expression(FULL_NAME, "the full name of a service, such as pets.v1.Pets")),
    ]
    host: Annotated[
        str,
        AfterValidator(
            pattern_or_expression(
                HOST,
                "a host such as api.example.com, without its port",
            )
        ),
    ]
    """TLS is used on port 443 and behind `https://`."""
    port: Annotated[int | str, PlainValidator(_port), schema_overrides.PORT] | None = None
    """Default: 443."""
    authentication: ReferenceableAuthenticationPolicy | None = None


class GrpcArguments(Model):
    """`with` of `call: grpc`."""

    proto: ExternalResource | None = None
    """The .proto that describes the service. None: the server is asked by reflection, which the DSL does not have."""
    service: GrpcService
    method: Annotated[
        str,
        Field(max_length=255),
        AfterValidator(pattern_or_expression(IDENTIFIER, "the name of a method, such as GetPet")),
    ]
    arguments: Annotated[
        dict[str, Any] | list[Any] | str,
        PlainValidator(type_or_expression("a mapping, a list of them for a stream", dict, list)),
        schema_overrides.MESSAGES,
    ] = Field(default_factory=dict)
    """The message; for a method that takes a stream, a list of messages, or the only one."""


class OpenApiArguments(Model):
    """`with` of `call: openapi`."""

    document: ExternalResource
    """The OpenAPI 3 or Swagger 2.0 document, as JSON or YAML."""
    operation_id: Annotated[str, Field(min_length=1, max_length=255, alias="operationId")]
    parameters: Annotated[
        dict[str, Any] | str, PlainValidator(type_or_expression("a mapping", dict)), schema_overrides.PARAMETERS
    ] = Field(default_factory=dict)
    """By name. What the operation does not declare is the body: the value of `body`, or an object of all the rest."""
    authentication: ReferenceableAuthenticationPolicy | None = None
    output: Literal["raw", "content", "response"] = "content"
    redirect: StrictBool = False


ARGUMENTS: Final[Mapping[str, type[Model]]] = {
    "grpc": GrpcArguments,
    "http": HttpArguments,
    "openapi": OpenApiArguments,
}
"""Model of the arguments, by function name."""

POLICIES: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "grpc": (("service", "authentication"), ("proto", "endpoint", "authentication")),
    "http": (("endpoint", "authentication"),),
    "openapi": (("authentication",), ("document", "endpoint", "authentication")),
}
"""Paths of the authentication policies in the arguments, by function name."""
