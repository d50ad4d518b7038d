"""One call of an OpenAPI operation.

OpenAPI libraries for Python validate requests and responses (openapi-core), or bring their own HTTP client, models of
whole documents and resolution of references (aiopenapi3). This module needs none of that: it builds one request, from a
document that may be sloppy, and sends it like all others, under the address policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

from multidict import CIMultiDict
from pydantic import Field
from yarl import URL

from flowhook.document.models.calls import OpenApiArguments
from flowhook.payloads.content_type import is_json, parse_content_type
from runner.components import http
from runner.components.base import Context, component
from runner.components.openapi import parameter_styles
from runner.components.openapi.operations import (
    FORM,
    ApiOperation,
    ApiOperations,
    DeclaredBody,
    document_fault,
    find_operation,
)
from runner.components.openapi.parameter_styles import Parameter, UnwritableError
from runner.components.resource import VARIABLE, Resource
from runner.interpreter.json_codec import encode
from runner.outbound.http_response import HttpRequest
from runner.outbound.policies import Policy

_MULTIPART: Final = "multipart/"
_WRITERS: Final = {
    "path": parameter_styles.in_path,
    "query": parameter_styles.in_query,
    "header": parameter_styles.in_header,
    "cookie": parameter_styles.in_cookie,
}
_PATH: Final = "/:@!$&'()*+,;=-._~%"  # characters that stay unescaped in a path from a document


class EvaluatedOpenApiArguments(OpenApiArguments):
    """Evaluated arguments of a `call: openapi`."""

    document: Resource
    parameters: dict[str, Any] = Field(default_factory=dict)
    authentication: Policy | None = None  # type: ignore[assignment] # the interpreter has replaced `use`


@component("openapi")
async def call(arguments: EvaluatedOpenApiArguments, context: Context) -> Any:
    """Make the request that an OpenAPI document describes; what comes of the answer is as for `http`."""

    def find(document: Any) -> tuple[ApiOperation, int]:
        operation = find_operation(document, arguments.operation_id, arguments.document.uri)
        return operation, 1 + len(operation.parameters)

    operations = context.shared.get(ApiOperations)
    operation = await operations.get(arguments.document, arguments.operation_id, find, context)
    request = build_request(operation, arguments.parameters)
    response = await http.send(
        request.method,
        request.url,
        context,
        headers=request.headers,
        body=request.body,
        authentication=arguments.authentication,
        redirect=arguments.redirect,
    )
    return http.output_of(response, request.method, arguments.output)


def build_request(operation: ApiOperation, given: Mapping[str, Any]) -> HttpRequest:
    """Return the request that calls an operation with the `given` parameters, of which null counts as absent.

    A declared parameter is put in its place. The body is the value of `body` (in Swagger 2.0: of the parameter that the
    document declares as the body), else an object of all parameters that are not declared.

    Raises:
        TaskFault: a parameter is missing, unknown, or cannot be serialized (configuration); the error names it, without
            its value.
    """
    given = {name: value for name, value in given.items() if value is not None}
    declared = {parameter.name for parameter in operation.parameters}
    rest = {name: value for name, value in given.items() if name not in declared}
    fields = operation.body.fields.values() if operation.body is not None else ()
    missing = [each.name for each in (*operation.parameters, *fields) if each.required and each.name not in given]
    if missing:
        raise document_fault(f"with.parameters: {operation.id} needs {', '.join(missing)}")

    written: dict[str, dict[str, str]] = {place: {} for place in _WRITERS}
    for parameter in operation.parameters:
        if parameter.name in given:
            try:
                text = _WRITERS[parameter.place](parameter, given[parameter.name])
            except UnwritableError as problem:
                raise document_fault(f"with.parameters.{parameter.name} {problem}") from None
            written[parameter.place][parameter.name] = text
    body, content_type = _body(operation, rest)
    headers = CIMultiDict(written["header"])
    if content_type:
        headers.setdefault("Content-Type", content_type)
    if cookies := "; ".join(filter(None, written["cookie"].values())):
        headers.add("Cookie", cookies)
    url = _url(operation, written["path"], written["query"].values())
    return HttpRequest(operation.method, url, headers, body)


def _url(operation: ApiOperation, values: Mapping[str, str], query: Iterable[str]) -> URL:
    """Return the URL; its parts are encoded already, as yarl cannot distinguish commas in data from separators."""
    pieces = VARIABLE.split(operation.path)  # literals, and between them names
    path = "".join(values[piece] if index % 2 else quote(piece, safe=_PATH) for index, piece in enumerate(pieces))
    if any(segment in (".", "..") for segment in path.split("/")):
        raise document_fault(f"the path of {operation.id} leads to a different path")
    string = "&".join(filter(None, query))
    try:
        base = str(URL(operation.base).with_query(None).with_fragment(None)).rstrip("/")
        return URL(f"{base}/{path.lstrip('/')}" + (f"?{string}" if string else ""), encoded=True)
    except ValueError:
        raise document_fault("the URL of the server is none") from None


def _body(operation: ApiOperation, rest: Mapping[str, Any]) -> tuple[bytes | None, str]:
    body = operation.body
    whole = body is not None and body.name in rest
    unknown = [name for name in rest if body is None or (whole and name != body.name)]
    if unknown:
        known = ", ".join(parameter.name for parameter in operation.parameters) or "none"
        raise document_fault(f"with.parameters: {operation.id} has no {', '.join(unknown)}; its parameters are {known}")
    if body is None or not rest:
        if body is not None and body.required:
            raise document_fault(f"with.parameters: {operation.id} needs {body.name or 'a body'}")
        return None, ""
    return _written(body, rest[body.name] if whole else dict(rest))


def _written(body: DeclaredBody, value: Any) -> tuple[bytes, str]:
    # JSON if it is accepted, else a form, else the first one
    forms = (each for each in body.media_types if parse_content_type(each).essence == FORM)
    media_type = next(filter(is_json, body.media_types), None) or next(forms, body.media_types[0])
    if is_json(media_type):
        return encode(value), media_type
    if parse_content_type(media_type).essence == FORM and isinstance(value, Mapping):
        try:
            return _form(body, value).encode(), media_type
        except UnwritableError as problem:
            raise document_fault(f"with.parameters: the body {problem}") from None
    if isinstance(value, str):
        return value.encode(), media_type
    if media_type.startswith(_MULTIPART):
        raise document_fault(f"{media_type} is not supported")
    raise document_fault(f"with.parameters: the body is {media_type}, and has to be a text")


def _form(body: DeclaredBody, value: Mapping[str, Any]) -> str:
    """Return a form. Source: OpenAPI Specification 3.1.1, section 4.8.15 "Encoding Object"."""
    parts = []
    for name, member in value.items():
        if member is None:
            continue
        usual = Parameter(name, "query", required=False, style="form", explode=True)
        parameter = body.fields.get(name, usual)
        if isinstance(member, dict) and parameter is usual:
            member = encode(member).decode()  # noqa: PLW2901 - objects in forms are JSON, unless the document says more
        parts.append(parameter_styles.in_query(parameter, member))
    return "&".join(filter(None, parts))
