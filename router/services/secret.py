"""SecretService: stores secrets; returns their values only to callers that verify webhooks or run flows."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Final

import attrs

from flowhook import limits
from flowhook.document.loader import load_definition
from flowhook.errors import InvalidError, NotFoundError, PermissionDeniedError
from flowhook.security.tokens import TokenScope
from flowhook.signatures.keys import is_hash_of_nothing
from flowhook.v1 import secret_service_pb2 as pb
from flowhook.v1 import secret_service_pb2_grpc
from flowhook.wire.mapping import to_proto
from router.calls.authorization import caller
from router.calls.error_mapping import unary_rpc
from router.secrets.flow_secrets import FlowSecrets
from router.storage.encryption import SecretCipher
from router.storage.registry import Registry

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,126}")
MAX_NAMES: Final = 100


@attrs.define(eq=False, repr=False, kw_only=True)
class SecretService(secret_service_pb2_grpc.SecretServiceServicer):
    """See protos/flowhook/v1/secret_service.proto."""

    _registry: Registry
    _cipher: SecretCipher
    _secrets: FlowSecrets
    _now_ms: Callable[[], int]
    _check_key: Callable[[], None]  # raises ConflictError if the next start would not find the key; blocks

    @unary_rpc
    async def SetSecret(self, request: pb.SetSecretRequest) -> pb.SetSecretResponse:
        """Set a secret, sealed by the key in secrets.key."""
        if not NAME.fullmatch(request.name):
            raise InvalidError(
                "a secret's name must be 1 to 127 letters, digits, '.', '_' or '-', the first a letter or digit",
                reason="SECRET_NAME_INVALID",
            )
        if not 0 < len(request.value) <= limits.MAX_SECRET_BYTES:
            raise InvalidError(
                f"a secret's value must have 1 to {limits.MAX_SECRET_BYTES} bytes", reason="SECRET_VALUE_INVALID"
            )
        if is_hash_of_nothing(request.value):
            raise InvalidError(
                "this is the hash of an empty value: set the hash of the value that senders present",
                reason="SECRET_VALUE_INVALID",
            )
        await asyncio.to_thread(self._check_key)
        sealed = self._cipher.encrypt(request.name, request.value)
        info = await self._registry.set_secret(request.name, sealed, now_ms=self._now_ms())
        return pb.SetSecretResponse(secret=to_proto(info, pb.Secret))

    @unary_rpc
    async def ListSecrets(self, request: pb.ListSecretsRequest) -> pb.ListSecretsResponse:
        if request.with_uses:
            return to_proto(await self._secrets.uses(), pb.ListSecretsResponse)
        return pb.ListSecretsResponse(
            secrets=[to_proto(info, pb.Secret) for info in await self._registry.list_secrets()]
        )

    @unary_rpc
    async def DeleteSecret(self, request: pb.DeleteSecretRequest) -> pb.DeleteSecretResponse:
        if not await self._registry.delete_secret(request.name):
            raise NotFoundError(
                f"there is no secret {request.name[: limits.MAX_SECRET_NAME_LENGTH]}", reason="SECRET_NOT_FOUND"
            )
        return pb.DeleteSecretResponse()

    @unary_rpc
    async def ResolveSecrets(self, request: pb.ResolveSecretsRequest) -> pb.ResolveSecretsResponse:
        names = set(request.names)
        if len(names) > MAX_NAMES:
            raise InvalidError(f"a request must have at most {MAX_NAMES} names", reason="BATCH_INVALID")
        revision = await self._registry.revision()
        if TokenScope.RUN not in caller.get().scopes:
            await self._check_verifier(request.flow_id, names)
        sealed = await self._registry.get_secrets(names)
        values = {name: self._cipher.open(name, value) for name, value in sealed.items()}
        return pb.ResolveSecretsResponse(values=values, registry_revision=revision)

    async def _check_verifier(self, flow_id: str, names: set[str]) -> None:
        flow = await self._registry.get_flow(flow_id)
        if flow is None:
            raise NotFoundError("unknown flow", reason="FLOW_NOT_FOUND")
        webhook = load_definition(flow.definition).webhook
        if webhook is None or not names <= webhook.secret_names():
            raise PermissionDeniedError("the flow's webhook does not refer to these secrets", reason="SECRET_NOT_NAMED")
