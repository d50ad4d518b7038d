"""One call of an OpenAPI operation.

OpenAPI libraries for Python validate requests and responses (openapi-core), or bring their own HTTP client, models of
whole documents and resolution of references (aiopenapi3). This module needs none of that: it builds one request, from a
document that may be sloppy, and sends it like all others, under the address policy.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from flowhook.document.models.calls import OpenApiArguments
from runner.authentication.policy import Policy
from runner.components import http
from runner.components.base import Context, component
from runner.components.openapi.operations import ApiOperation, ApiOperations, find_operation
from runner.components.openapi.requests import build_request
from runner.components.resource import Resource


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
    return await http.exchange(
        request.method,
        request.url,
        context,
        headers=request.headers,
        body=request.body,
        authentication=arguments.authentication,
        output=arguments.output,
        redirect=arguments.redirect,
    )
