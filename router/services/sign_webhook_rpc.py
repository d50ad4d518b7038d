"""FlowService.SignWebhook: signs the test request of an operator as a sender of the flow does.

The admin process holds no secrets, so it gets requests signed here. The answer contains signatures, and nothing from
which a secret could be read: a kind of `auth` whose senders send the secret itself (an API key, a password, GitLab's
token) is answered with the place where it belongs.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Final

from flowhook import limits
from flowhook.document import load_definition
from flowhook.errors import InvalidError
from flowhook.model import Flow
from flowhook.providers.signed_content import TOKEN
from flowhook.sender import CredentialPlace, SignedWebhook, WebhookRequest, sign_webhook
from flowhook.v1 import flow_service_pb2 as pb
from flowhook.wire import convert
from router.secrets.encryption import SecretCipher
from router.storage.interface import Registry

MAX_BODY: Final = limits.MIB
"""Bytes of a body: some kinds parse it, and the thread that does holds the GIL meanwhile."""

MAX_HEADERS: Final = 100
MAX_URL: Final = 2048

_OF_CONNECTION: Final = frozenset(
    {"connection", "content-length", "content-type", "expect", "host", "keep-alive", "te", "trailer"}
    | {"transfer-encoding", "upgrade"}
)
"""Headers that whoever sends the request sets."""

_BASE: Final = re.compile(r"(?i:https?)://(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?=[/?#]|\Z)")
"""Scheme, host and port at the beginning of a URL."""

_VALUE: Final = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")


async def sign(
    request: pb.SignWebhookRequest, flow: Flow, *, registry: Registry, cipher: SecretCipher, now: float
) -> pb.SignWebhookResponse:
    """Return the signed request.

    Raises:
        InvalidError: see protos/flowhook/v1/flow_service.proto.
    """
    unsigned = _read(request)
    document = load_definition(flow.definition)
    names = set() if document.webhook is None else document.webhook.secret_names()
    sealed = await registry.get_secrets(names)

    def signed() -> SignedWebhook:
        secrets: Mapping[str, bytes] = {name: cipher.open(name, value) for name, value in sealed.items()}
        return sign_webhook(
            document,
            secrets,
            unsigned,
            now=now,
            new_id=request.new_delivery_id,
            with_credentials=False,
            replace_signature=True,
        )

    return _message(await asyncio.to_thread(signed))


def _read(request: pb.SignWebhookRequest) -> WebhookRequest:
    """Return the request as far as it is given, once it is checked."""
    base = _BASE.match(request.base_url) if len(request.base_url) <= MAX_URL else None
    if base is None:
        raise InvalidError("`base_url` must be a URL such as https://hooks.example.com", reason="URL_INVALID")
    if len(request.body) > MAX_BODY:
        raise InvalidError("the body of a test request has at most 1 MiB", reason="BODY_TOO_LARGE")
    if len(request.headers) > MAX_HEADERS:
        raise InvalidError(f"a test request has at most {MAX_HEADERS} headers", reason="HEADER_INVALID")
    headers = [(header.name, header.value.decode("utf-8", "replace")) for header in request.headers]
    for name, value in (*headers, ("content-type", request.content_type)):
        if not TOKEN.fullmatch(name) or not _VALUE.fullmatch(value) or len(value) > limits.MAX_HEADER_BYTES:
            raise InvalidError(
                f"header {name[:100]!r} has a name or a value that can't be sent", reason="HEADER_INVALID"
            )
    for name, _ in headers:
        if name.lower() in _OF_CONNECTION:
            raise InvalidError(f"header {name} can't be chosen", reason="HEADER_INVALID")
    return WebhookRequest(base[0], request.method, request.content_type, headers, request.body)


def _message(signed: SignedWebhook) -> pb.SignWebhookResponse:
    message = pb.SignWebhookResponse(
        method=signed.method,
        url=signed.url,
        headers=convert.headers_to_proto((name.lower(), value.encode()) for name, value in signed.headers),
        body=signed.body,
        auth_kind=signed.kind,
        secret_name=signed.secret,
    )
    if signed.validity is not None:
        message.validity.CopyFrom(convert.duration(signed.validity))
    if signed.credential is not None:
        message.credential.CopyFrom(_credential(signed.credential))
    return message


def _credential(place: CredentialPlace) -> pb.WebhookCredential:
    match place.kind:
        case "header":
            return pb.WebhookCredential(header=place.name)
        case "query":
            return pb.WebhookCredential(query=place.name)
    return pb.WebhookCredential(basic_username=place.name)
