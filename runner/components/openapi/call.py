"""One call of an OpenAPI operation.

OpenAPI libraries for Python validate requests and responses (openapi-core), or bring their own HTTP client, models of
whole documents and resolution of references (aiopenapi3). This module needs none of that: it builds one request, from a
document that may be sloppy, and sends it like all others, under the address policy.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from runner.authentication.policy import Policy
from runner.components import http
from runner.components.base import Context, component
from runner.components.openapi.operation_cache import OperationCache
from runner.components.openapi.requests import build_request
from runner.components.resource import Resource


class OpenApiCallArguments(BaseModel):
    """`with` of a `call: openapi`."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True)

    document: Resource
    """The OpenAPI 3 or Swagger 2.0 document, as JSON or YAML."""
    operation_id: Annotated[str, Field(alias="operationId", min_length=1, max_length=255)]
    parameters: dict[str, Any] = Field(default_factory=dict)
    """By name. What the operation does not declare is the body: the value of `body`, or an object of all the rest."""
    authentication: Policy | None = None
    output: http.Output = "content"
    redirect: bool = False


@component("openapi")
async def call(arguments: OpenApiCallArguments, context: Context) -> Any:
    """Make the request that an OpenAPI document describes; what comes of the answer is as for `http`."""
    operations = context.shared.get(OperationCache)
    operation = await operations.get(arguments.document, arguments.operation_id, context)
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
