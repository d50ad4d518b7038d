"""Bounded pool of channels to gRPC servers, dialled under the address policy.

gRPC resolves names internally, where the policy cannot be applied. A name is therefore resolved and an address chosen
here, as for every protocol but HTTP, and the channel is created for that address. The name is used in `:authority` and
to verify the certificate. A channel is used for `MAX_AGE_SECONDS` at most, and only while its server is reachable; a
new channel resolves the name again.

Source: https://github.com/grpc/grpc/blob/master/doc/naming.md (address schemes, the default port).
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import grpc
import grpc.aio

from flowhook import limits
from flowhook.process.settings import RunnerSettings
from runner.interpreter.errors import Kind, fault
from runner.outbound.dns import TRUSTED_ROOTS, dial
from runner.outbound.http_client import USER_AGENT

MAX_CHANNELS: Final = 64
MAX_AGE_SECONDS: Final = 300.0

HTTPS_PORT: Final = 443
HTTP_PORT: Final = 80

_UNAVAILABLE: Final = 503

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", limits.MAX_RESULT_BYTES),
    ("grpc.max_send_message_length", limits.MAX_RESULT_BYTES),
    ("grpc.primary_user_agent", USER_AGENT),
    # a proxy would resolve names without the address policy
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config_disable_resolution", 1),
    # channels to one address share no connection: a new channel really connects
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True, slots=True)
class GrpcTarget:
    """A server, as named in a flow."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def target_of(host: str, port: int | None) -> GrpcTarget:
    """Return the server that `service.host` and `service.port` name.

    The DSL has no flag for TLS: it is used on port 443, which is the default one, and wherever `host` begins with
    `https://`; never where it begins with `http://`.
    """
    scheme, _, name = host.rpartition("://")
    if port is None:
        port = HTTP_PORT if scheme == "http" else HTTPS_PORT
    return GrpcTarget(name, port, tls=scheme == "https" if scheme else port == HTTPS_PORT)


@dataclass(slots=True, eq=False)
class _Pooled:
    channel: grpc.aio.Channel
    opened_at: float
    users: int = 0


class ChannelPool:
    """The channel pool of a process; see `SharedResources`."""

    def __init__(self, settings: RunnerSettings) -> None:
        self._address_policy = settings.address_policy
        self._credentials: grpc.ChannelCredentials | None = None
        self._pool: OrderedDict[GrpcTarget, _Pooled] = OrderedDict()  # most recently used last

    async def close(self) -> None:
        while self._pool:
            _, pooled = self._pool.popitem()
            await pooled.channel.close(None)

    @asynccontextmanager
    async def use(self, target: GrpcTarget) -> AsyncIterator[grpc.aio.Channel]:
        """Provide a channel to a server, for one call; the caller sets the deadline.

        Raises:
            TaskFault: the server can't be reached, the policy does not allow its addresses, or more than
                `MAX_CHANNELS` servers are called at the same time (communication).
        """
        pooled = await self._get(target)
        self._pool.move_to_end(target)
        pooled.users += 1
        try:
            yield pooled.channel
        except grpc.aio.AioRpcError as problem:
            if problem.code() is grpc.StatusCode.UNAVAILABLE and self._pool.get(target) is pooled:
                del self._pool[target]
            raise
        finally:
            pooled.users -= 1
            if not pooled.users and self._pool.get(target) is not pooled:
                await pooled.channel.close(None)

    async def _get(self, target: GrpcTarget) -> _Pooled:
        pooled = self._pool.get(target)
        if pooled is not None:
            if time.monotonic() - pooled.opened_at <= MAX_AGE_SECONDS:
                return pooled
            await self._remove(target)
        host, port = await dial(target.host, target.port, address_policy=self._address_policy)
        address = f"ipv6:[{quote(host, safe=':')}]:{port}" if ":" in host else f"ipv4:{host}:{port}"
        while target not in self._pool and len(self._pool) >= MAX_CHANNELS:
            idle = next((other for other, pooled in self._pool.items() if not pooled.users), None)
            if idle is None:
                detail = f"more than {MAX_CHANNELS} gRPC servers are called at a time"
                raise fault(Kind.COMMUNICATION, detail, status=_UNAVAILABLE)
            await self._remove(idle)
        if target not in self._pool:  # another call may have been quicker
            self._pool[target] = _Pooled(self._open(target, address), time.monotonic())
        return self._pool[target]

    async def _remove(self, target: GrpcTarget) -> None:
        """Remove a channel from the pool; the last call on it closes it."""
        pooled = self._pool.pop(target)
        if not pooled.users:
            await pooled.channel.close(None)

    def _open(self, target: GrpcTarget, address: str) -> grpc.aio.Channel:
        usual = HTTPS_PORT if target.tls else HTTP_PORT
        authority = target.host if target.port == usual else str(target)
        options: list[tuple[str, str | int]] = [*_OPTIONS, ("grpc.default_authority", authority)]
        if not target.tls:
            return grpc.aio.insecure_channel(address, options=options)
        if self._credentials is None:
            # the roots that the rest of the runner trusts; None: those built into gRPC
            roots = Path(TRUSTED_ROOTS).read_bytes() if TRUSTED_ROOTS else None
            self._credentials = grpc.ssl_channel_credentials(roots)
        options.append(("grpc.ssl_target_name_override", target.host))
        return grpc.aio.secure_channel(address, self._credentials, options=options)
