"""`webhook.send`: send a webhook, signed according to Standard Webhooks.

The secret is the one the receiver verifies with: `whsec_` and base64, or any text. A repeated delivery carries the same
`webhook-id`, so that receivers can drop it; its timestamp and signature are new.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Annotated, Any, Final

import orjson
from pydantic import AfterValidator, Field

from flowhook.document.models.auth import provider
from flowhook.document.models.calls import WebhookSendArguments
from flowhook.document.models.credentials import Duration, HeaderName, SecretName
from flowhook.document.models.webhook import RESERVED_HEADERS
from flowhook.errors import InvalidError
from flowhook.payloads.content_type import is_json
from flowhook.signatures.build import sign
from runner.components.base import Context, component
from runner.interpreter import json_codec
from runner.interpreter.errors import Kind, fault
from runner.outbound.bound_client import IDEMPOTENCY_KEY
from runner.outbound.http_response import HttpResponse, refusal

# limit for the body of a response; receivers have nothing to say beyond the status, so a longer one is left out
MAX_KEPT_BYTES: Final = 16 * 1024

_ID: Final = "webhook-id"
_NOT_KEPT: Final = frozenset({"set-cookie", "www-authenticate"})
_ERRORS_FROM: Final = 300

_OURS: Final = RESERVED_HEADERS | {
    "content-type", "expect", "host", "idempotency-key", "webhook-id", "webhook-signature", "webhook-timestamp",
}  # fmt: skip


def _free(name: str) -> str:
    if name.lower() in _OURS:
        raise ValueError("is set by the call itself")
    return name


def _one_line(value: str) -> str:
    if not value.isascii() or not value.isprintable():
        raise ValueError("must be printable ASCII in one line")
    return value


def _undotted(value: str) -> str:
    if "." in value or " " in value:
        raise ValueError("must not contain a full stop, which separates the signed parts, or a space")
    return value


Text = Annotated[str, AfterValidator(_one_line)]


class EvaluatedWebhookSendArguments(WebhookSendArguments):
    """Evaluated arguments of a `call: webhook.send`."""

    url: str
    secret: SecretName
    content_type: Text | None = None
    headers: dict[Annotated[HeaderName, AfterValidator(_free)], Text] = Field(default_factory=dict, max_length=64)
    id: Annotated[Text, AfterValidator(_undotted), Field(min_length=1, max_length=255)] | None = None
    timeout: Duration | None = None  # type: ignore[assignment] # in seconds


@component("webhook.send")
async def send(arguments: EvaluatedWebhookSendArguments, context: Context) -> Any:
    """Send a signed webhook; returns `{status, headers, body}` of the answer, any status from 300 on is an error."""
    is_text = isinstance(arguments.body, str)
    body = arguments.body.encode() if is_text else json_codec.encode(arguments.body)
    content_type = "text/plain; charset=utf-8" if is_text else "application/json"
    headers = {
        **arguments.headers,
        "Content-Type": arguments.content_type or content_type,
        _ID: arguments.id or webhook_id(context.idempotency_key),
        IDEMPOTENCY_KEY: context.idempotency_key,
    }
    secret = {arguments.secret: await context.secret(arguments.secret)}
    try:
        added = sign(
            provider("standard-webhooks", secret=arguments.secret),
            secret,
            method="POST",
            url=arguments.url,
            body=body,
            headers=list(headers.items()),
            now=time.time(),
        )
    except (InvalidError, ValueError) as problem:
        detail = problem.message if isinstance(problem, InvalidError) else "the URL is not valid"
        raise fault(Kind.CONFIGURATION, f"webhook.send: {detail}") from None
    try:
        async with asyncio.timeout(arguments.timeout):
            response = await context.http.request("POST", arguments.url, headers={**headers, **dict(added)}, body=body)
    except TimeoutError:
        raise fault(Kind.TIMEOUT, f"webhook.send: no response within {arguments.timeout:g} s") from None
    if response.status >= _ERRORS_FROM:
        raise refusal(response, "POST")
    return _answer(response)


def webhook_id(idempotency_key: str) -> str:
    """Return the `webhook-id` of a call: its key, or a hash if the key has characters that an ID must not have."""
    try:
        return _undotted(_one_line(idempotency_key))
    except ValueError:
        return "msg_" + hashlib.sha256(idempotency_key.encode()).hexdigest()[:32]


def _answer(response: HttpResponse) -> dict[str, Any]:
    """Return the response; `body` only if it is short, parsed if it is JSON, else as text."""
    answer: dict[str, Any] = {
        "status": response.status,
        "headers": {
            name.lower(): ", ".join(response.headers.getall(name))
            for name in response.headers
            if name.lower() not in _NOT_KEPT
        },
    }
    if not 0 < len(response.body) <= MAX_KEPT_BYTES:
        return answer
    try:
        if is_json(response.headers.get("Content-Type", "")):
            return {**answer, "body": orjson.loads(response.body)}
        return {**answer, "body": response.body.decode()}
    except ValueError:  # an invalid body is no reason to send again
        return answer
