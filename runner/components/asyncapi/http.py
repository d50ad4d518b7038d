"""AsyncAPI over HTTP: a message is a request.

Source: https://github.com/asyncapi/bindings/tree/master/http (0.3.0).
"""

from __future__ import annotations

import re
from typing import Any, Final

from runner.components import http
from runner.components.asyncapi.connections import Target
from runner.components.asyncapi.documents import document_fault
from runner.components.asyncapi.messages import OutboundMessage
from runner.components.base import Context

_METHOD: Final = re.compile(r"[A-Za-z]{1,32}")


async def publish(target: Target, message: OutboundMessage, context: Context) -> Any:
    """Send the request; returns the content of the response, as `call: http` does."""
    method = target.binding.get("method", "POST")
    if not isinstance(method, str) or not _METHOD.fullmatch(method):
        raise document_fault("the HTTP method of the operation is none")
    headers = dict(message.headers)
    if message.payload and not any(name.lower() == "content-type" for name in headers):
        headers["Content-Type"] = message.content_type
    body, policy, url = message.payload or None, target.authentication, url_of(target)
    response = await http.send(method.upper(), url, context, headers=headers, body=body, authentication=policy)
    return http.content_of(response)


def url_of(target: Target) -> str:
    if any(segment in (".", "..") for segment in target.address.split("/")):
        raise document_fault(f"the address of {target.operation.name} leads to a different path")
    endpoint = target.endpoint
    scheme = "https" if endpoint.tls else "http"
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return f"{scheme}://{host}:{endpoint.port}{endpoint.path.rstrip('/')}/{target.address.lstrip('/')}"
