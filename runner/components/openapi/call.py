"""One call of an OpenAPI operation.

OpenAPI libraries for Python validate requests and responses (openapi-core), or bring their own HTTP client, models of
whole documents and resolution of references (aiopenapi3). This module needs none of that: it builds one request, from a
document that may be sloppy, and sends it like all others, under the address policy.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import orjson
from pydantic import Field

from flowhook import limits
from flowhook.document.diagnostics import source
from flowhook.document.models.calls import OpenApiArguments
from flowhook.process.settings import RunnerSettings
from runner.authentication.policy import Policy
from runner.components import http
from runner.components.base import Context, component
from runner.components.openapi.operations import ApiOperation, document_fault, find_operation
from runner.components.openapi.requests import build_request
from runner.components.resource import Cache, Resource, fetch, fingerprint

KEPT_SECONDS: Final = 300.0
KEPT_PARAMETERS: Final = 50_000  # limit for the parameters of all cached operations; each operation counts as one more
# limit for YAML, which takes a thousand times as long as JSON; JSON may have `limits.MAX_RESULT_BYTES`
MAX_YAML_BYTES: Final = limits.MAX_DOCUMENT_BYTES
MAX_READERS: Final = 2  # maximum number of documents that are parsed at a time
_THREAD_BYTES: Final = 16 * limits.KIB


class OperationCache:
    """The operation cache of a process; see `SharedResources`."""

    def __init__(self, _settings: RunnerSettings) -> None:
        self._operations: Cache[ApiOperation] = Cache(seconds=KEPT_SECONDS, weight=KEPT_PARAMETERS)
        self._readers = asyncio.Semaphore(MAX_READERS)

    async def close(self) -> None:
        """Do nothing: the cache holds nothing but memory."""

    async def get(self, document: Resource, operation_id: str, context: Context) -> ApiOperation:
        async def load() -> tuple[ApiOperation, int]:
            content = await fetch(document, context, "openapi: with.document.endpoint")

            def find() -> ApiOperation:
                return find_operation(parse(content), operation_id, document.uri)

            async with self._readers:
                operation = find() if len(content) < _THREAD_BYTES else await asyncio.to_thread(find)
            return operation, 1 + len(operation.parameters)

        key = fingerprint(document.model_dump(mode="json"), operation_id)
        return await self._operations.get(key, load)


def parse(content: bytes) -> Any:
    """Return a document as plain JSON. Blocking, for seconds if it is large.

    Raises:
        TaskFault: it is neither JSON nor YAML, or too large for YAML (configuration).
    """
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        pass
    if len(content) > MAX_YAML_BYTES:
        raise document_fault(
            f"the document is not JSON, and for YAML it is too large: more than {MAX_YAML_BYTES} bytes"
        )
    read = source.read(content)
    if read.data is None:
        problem = read.problems[0] if read.problems else None
        raise document_fault(f"the document is neither JSON nor YAML: {problem.cause if problem else 'it is empty'}")
    return read.data  # numeric keys, such as statuses, are reported as problems, but were converted to texts


class EvaluatedOpenApiArguments(OpenApiArguments):
    """Evaluated arguments of a `call: openapi`."""

    document: Resource
    parameters: dict[str, Any] = Field(default_factory=dict)
    authentication: Policy | None = None  # type: ignore[assignment] # the interpreter has replaced `use`


@component("openapi")
async def call(arguments: EvaluatedOpenApiArguments, context: Context) -> Any:
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
