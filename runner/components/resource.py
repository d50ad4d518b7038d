"""External resources that describe a call and are fetched before it: a .proto, an OpenAPI document.

Source: dsl-reference.md, "External Resource", "Endpoint".
"""

from __future__ import annotations

import base64
import dataclasses
from urllib.parse import urlsplit

from flowhook.document.models.calls import ExternalResource
from runner.components import http
from runner.components.base import Context
from runner.components.http import EvaluatedEndpoint
from runner.interpreter.errors import Kind, fault


class Resource(ExternalResource):
    """An external resource, evaluated."""

    endpoint: str | EvaluatedEndpoint

    @property
    def uri(self) -> str:
        """URI of the resource."""
        return self.endpoint if isinstance(self.endpoint, str) else self.endpoint.uri


async def fetch(resource: Resource, context: Context, place: str) -> bytes:
    """Return the content of a resource, at most `limits.MAX_RESULT_BYTES`; redirects are followed.

    `place` is the path of its endpoint in the arguments, for errors.

    The request does not carry the call's Idempotency-Key: a server that receives both requests would treat the call as
    a repetition.

    Raises:
        TaskFault: the URI is a file's (configuration), or the request fails as a `call: http` does.
    """
    scheme = urlsplit(resource.uri).scheme.lower()
    if scheme == "file":
        raise fault(
            Kind.CONFIGURATION,
            f"{place}: files of a runner are not read: serve the document over https",
        )
    policy = None if isinstance(resource.endpoint, str) else resource.endpoint.authentication
    keyless = dataclasses.replace(context, http=context.http.without_key())
    content: str = await http.exchange(
        "GET", resource.uri, keyless, headers={}, authentication=policy, output="raw", redirect=True
    )
    return base64.b64decode(content)
