"""Extracts one operation from a document, in one form for OpenAPI 3 and Swagger 2.0.

Source: OpenAPI Specification 3.0.4, 3.1.1 (section 4.8.23 "Reference Object") and 2.0
(https://spec.openapis.org/oas/).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import attrs
from typing_extensions import override

from flowhook.payloads.content_type import is_json
from runner.components.openapi.parameter_styles import DEFAULT_STYLES, PARAMETER_LOCATIONS, Parameter
from runner.components.resource import VARIABLE, OperationCache, mapping, sequence

MAX_PARAMETERS: Final = 1000  # limit for one operation
FORM: Final = "application/x-www-form-urlencoded"
JSON: Final = "application/json"
METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
# Header parameters whose definition is to be ignored. Source: 3.1.1, section 4.8.12.2.1.
_NEVER_REQUIRED: Final = frozenset({"accept", "authorization", "content-type"})
# styles by `collectionFormat` of Swagger 2.0
_STYLES: Final = {"ssv": "spaceDelimited", "tsv": "tabDelimited", "pipes": "pipeDelimited"}


class ApiOperations(OperationCache["ApiOperation"]):
    """The operation cache of a process; see `SharedResources`."""

    function = "openapi"


document_fault: Final = ApiOperations.fault
resolve: Final = ApiOperations.resolve


@dataclass(frozen=True, slots=True)
class DeclaredBody:
    """The request body that an operation declares."""

    media_types: tuple[str, ...]  # media types that the operation accepts, in its own order
    name: str  # name of the parameter that is the whole body; empty if absent
    required: bool  # whether there must be a body
    # members of a form that are not serialized in the default way, by name
    fields: Mapping[str, Parameter] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ApiOperation:
    """An operation."""

    id: str  # `operationId`, by which flows select it
    method: str  # in upper case
    base: str  # absolute URL to which `path` is appended
    path: str  # with `{variables}`
    parameters: tuple[Parameter, ...]  # outside of the body, one for each place and name
    body: DeclaredBody | None  # None if absent


def find_operation(document: Any, operation_id: str, uri: str) -> ApiOperation:
    """Return an operation of a document (plain JSON); URLs in it are relative to `uri`."""
    root = mapping(document)
    if not str(root.get("openapi")).startswith("3.") and str(root.get("swagger")) != "2.0":
        raise document_fault("the document is neither OpenAPI 3 nor Swagger 2.0")
    for path, item in mapping(root.get("paths")).items():
        described = resolve(root, item)
        for method in METHODS:
            operation = mapping(described.get(method))
            if operation.get("operationId") == operation_id:
                reader = _OpenApi if "openapi" in root else _Swagger
                return reader(root, described, operation, path, uri).read(operation_id, method.upper())
    raise document_fault(f"there is no operation {operation_id} in the document")


@attrs.define(eq=False, repr=False)
class _OpenApi:
    """Reads one operation of OpenAPI 3."""

    root: Mapping[str, Any]
    item: Mapping[str, Any]
    operation: Mapping[str, Any]
    path: str
    uri: str

    def read(self, operation_id: str, method: str) -> ApiOperation:
        declared = {(parameter.place, parameter.name): parameter for parameter in self.parameters()}
        for name in VARIABLE.findall(self.path):  # many documents fail to declare them
            implied = Parameter(name, "path", required=True, style="simple", explode=False)
            declared.setdefault(("path", name), implied)
        for key in self.keys():
            declared.setdefault((key.place, key.name), key)
        if len(declared) > MAX_PARAMETERS:
            raise document_fault(f"the operation {operation_id} has more than {MAX_PARAMETERS} parameters")
        return ApiOperation(operation_id, method, self.base(), self.path, tuple(declared.values()), self.body())

    def described(self) -> Iterator[Mapping[str, Any]]:
        """Yield the definitions of all parameters, those of the operation last, because they take precedence."""
        for owner in (self.item, self.operation):
            for parameter in sequence(owner.get("parameters")):
                yield resolve(self.root, parameter)

    def parameters(self) -> Iterator[Parameter]:
        for described in self.described():
            place, name = described.get("in"), described.get("name")
            if isinstance(name, str) and place in PARAMETER_LOCATIONS:
                required = place == "path" or described.get("required") is True
                if place == "header" and name.lower() in _NEVER_REQUIRED:
                    required = False
                yield self.parameter(described, name, place, required=required)

    def keys(self) -> Iterator[Parameter]:
        """Yield the API keys that the document declares: a call may pass them like any parameter."""
        for scheme in self.schemes().values():
            described = resolve(self.root, scheme)
            place, name = described.get("in"), described.get("name")
            if described.get("type") != "apiKey" or not isinstance(name, str):
                continue
            if place in PARAMETER_LOCATIONS and place != "path":
                yield Parameter(name, place, required=False, style=DEFAULT_STYLES[place], explode=False)

    def parameter(self, described: Mapping[str, Any], name: str, place: Any, *, required: bool) -> Parameter:
        """Return a parameter, or a member of a form, for which `place` is `query`."""
        style, explode, coded = (described.get(key) for key in ("style", "explode", "contentType"))
        style = style if isinstance(style, str) else DEFAULT_STYLES[place]
        coded = coded if isinstance(coded, str) and is_json(coded) else ""
        return Parameter(
            name,
            place,
            required,
            style,
            explode if isinstance(explode, bool) else style == "form",
            described.get("allowReserved") is True,
            next(iter(mapping(described.get("content"))), coded),
        )

    def schemes(self) -> Mapping[str, Any]:
        """Return the security schemes."""
        return mapping(mapping(self.root.get("components")).get("securitySchemes"))

    def base(self) -> str:
        """Return the absolute URL to which paths are appended."""
        owners = (self.operation, self.item, self.root)
        servers = next((found for owner in owners if (found := sequence(owner.get("servers")))), [])
        server = mapping(servers[0] if servers else None)
        variables = mapping(server.get("variables"))

        def default(match: re.Match[str]) -> str:
            value = mapping(variables.get(match[1])).get("default")
            if value is None:
                raise document_fault(f"the variable {match[1]} of the server has no default")
            return str(value)

        return _joined(self.uri, VARIABLE.sub(default, str(server.get("url") or "/")))

    def body(self) -> DeclaredBody | None:
        described = resolve(self.root, self.operation.get("requestBody"))
        content = mapping(described.get("content"))
        if not content:
            return None
        schemas = (mapping(media_type).get("schema") for media_type in content.values())
        has_member = _has_property(self.root, schemas, "body")
        encodings = mapping(mapping(content.get(FORM)).get("encoding"))
        return DeclaredBody(
            tuple(content),
            "" if has_member else "body",
            described.get("required") is True,
            {name: self.parameter(mapping(item), name, "query", required=False) for name, item in encodings.items()},
        )


class _Swagger(_OpenApi):
    """Reads one of Swagger 2.0."""

    @override
    def parameter(self, described: Mapping[str, Any], name: str, place: Any, *, required: bool) -> Parameter:
        separation = described.get("collectionFormat")
        style = _STYLES.get(separation) if isinstance(separation, str) else None
        return Parameter(name, place, required, style or DEFAULT_STYLES[place], separation == "multi")

    @override
    def schemes(self) -> Mapping[str, Any]:
        return mapping(self.root.get("securityDefinitions"))

    @override
    def base(self) -> str:
        here = urlsplit(self.uri)
        schemes = sequence(self.operation.get("schemes")) or sequence(self.root.get("schemes"))
        scheme = next((known for known in (here.scheme, "https", "http") if known in schemes), here.scheme)
        host = self.root.get("host") or here.netloc.rpartition("@")[2]
        path = str(self.root.get("basePath") or "")
        return _joined(self.uri, f"{scheme}://{host}/{path.lstrip('/')}")

    @override
    def body(self) -> DeclaredBody | None:
        consumed = sequence(self.operation.get("consumes")) or sequence(self.root.get("consumes"))
        media_types = tuple(item for item in consumed if isinstance(item, str))
        fields: dict[str, Parameter] = {}
        for described in self.described():
            name, required = described.get("name"), described.get("required") is True
            if not isinstance(name, str):
                continue
            if described.get("in") == "body":
                return DeclaredBody(media_types or (JSON,), name, required)
            if described.get("in") == "formData":
                fields[name] = self.parameter(described, name, "query", required=required)
        must = any(parameter.required for parameter in fields.values())
        return DeclaredBody(media_types or (FORM,), "", must, fields) if fields else None


def _joined(uri: str, reference: str) -> str:
    """Resolve a URL that may be relative to the document's; returns it without a slash at the end."""
    try:
        return urljoin(uri, reference).rstrip("/")
    except ValueError:
        raise document_fault("the URL of the server is none") from None


def _has_property(root: Mapping[str, Any], schemas: Iterable[Any], name: str) -> bool:
    """Whether one of the schemas, or of the schemas that it combines, declares a property."""
    left, seen = [*schemas], set()
    while left:
        described = resolve(root, left.pop())
        if name in mapping(described.get("properties")):
            return True
        if id(described) not in seen:
            seen.add(id(described))
            left += [part for key in ("allOf", "anyOf", "oneOf") for part in sequence(described.get(key))]
    return False
