"""Client methods for the secrets that flows refer to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flowhook.client.aio.transport import AsyncTransport
from flowhook.model.secrets import SecretInfo, SecretUses
from flowhook.v1 import secret_service_pb2 as pb
from flowhook.v1.secret_service_pb2_grpc import SecretServiceStub
from flowhook.wire.mapping import from_proto


class Secrets:
    """The secrets that flows refer to. Scope `admin`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._call = transport.call
        self._stub = SecretServiceStub(transport.channel)

    async def set(self, name: str, value: bytes) -> SecretInfo:
        """Create or replace a secret; `value` is 1 byte to 64 KiB.

        Raises:
            ExhaustedError: the limit on the number of secrets is reached.
        """
        response = await self._call(self._stub.SetSecret, pb.SetSecretRequest(name=name, value=value))
        return from_proto(response.secret, SecretInfo)

    async def list(self) -> Sequence[SecretInfo]:
        """Return the names and times of all secrets, by ascending name."""
        response = await self._call(self._stub.ListSecrets, pb.ListSecretsRequest())
        return [from_proto(secret, SecretInfo) for secret in response.secrets]

    async def uses(self) -> SecretUses:
        """Return all secrets, and those that flows name and that are missing, each with the flows that name it."""
        response = await self._call(self._stub.ListSecrets, pb.ListSecretsRequest(with_uses=True))
        return from_proto(response, SecretUses)

    async def delete(self, name: str) -> None:
        """Delete a secret.

        Raises:
            NotFoundError: the secret does not exist.
        """
        await self._call(self._stub.DeleteSecret, pb.DeleteSecretRequest(name=name), repeatable=False)

    async def resolve(self, names: Iterable[str], *, flow_id: str = "") -> dict[str, bytes]:
        """Return the values of secrets by name; secrets that are not set are left out.

        Scope `verify` for the secrets that the webhook of flow `flow_id` refers to; scope `run` for any.
        """
        response = await self._call(self._stub.ResolveSecrets, pb.ResolveSecretsRequest(names=names, flow_id=flow_id))
        return dict(response.values)
