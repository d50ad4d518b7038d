"""Channels to gRPC servers, dialled under the address policy.

gRPC resolves names internally, where the policy cannot be applied. A name is therefore resolved and an address chosen
here, as for every protocol but HTTP, and the channel is created for that address. The name is used in `:authority` and
to verify the certificate. A channel is used only while its server is reachable; see `connection_pool`.

Source: https://github.com/grpc/grpc/blob/master/doc/naming.md (address schemes, the default port).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import grpc
import grpc.aio

from flowhook import limits
from runner.components.base import Context
from runner.components.connection_pool import ConnectionPool, ServerAddress
from runner.outbound.dns import TRUSTED_ROOTS, dial
from runner.outbound.http_client import USER_AGENT

HTTPS_PORT: Final = 443
HTTP_PORT: Final = 80

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


def target_of(host: str, port: int | None) -> ServerAddress:
    """Return the server that `service.host` and `service.port` name.

    The DSL has no flag for TLS: it is used on port 443, which is the default one, and wherever `host` begins with
    `https://`; never where it begins with `http://`.
    """
    scheme, _, name = host.rpartition("://")
    if port is None:
        port = HTTP_PORT if scheme == "http" else HTTPS_PORT
    return ServerAddress(name, port, tls=scheme == "https" if scheme else port == HTTPS_PORT)


@asynccontextmanager
async def pooled_channel(target: ServerAddress, context: Context) -> AsyncIterator[grpc.aio.Channel]:
    """Provide a channel to a server, for one call; the caller sets the deadline.

    Raises:
        TaskFault: the server can't be reached, the policy does not allow its addresses, or too many servers are called
            at the same time (communication).
    """
    pool = context.shared.get(ConnectionPool)
    async with pool.use(target, lambda: _open(target, context), breaks=_is_unreachable) as channel:
        yield channel


def _is_unreachable(problem: BaseException) -> bool:
    return isinstance(problem, grpc.aio.AioRpcError) and problem.code() is grpc.StatusCode.UNAVAILABLE


async def _open(target: ServerAddress, context: Context) -> Any:  # a channel, whose types want an argument of `close`
    host, port = await dial(target.host, target.port, address_policy=context.settings.address_policy)
    address = f"ipv6:[{quote(host, safe=':')}]:{port}" if ":" in host else f"ipv4:{host}:{port}"
    usual = HTTPS_PORT if target.tls else HTTP_PORT
    authority = target.host if target.port == usual else str(target)
    options: list[tuple[str, str | int]] = [*_OPTIONS, ("grpc.default_authority", authority)]
    if not target.tls:
        return grpc.aio.insecure_channel(address, options=options)
    # the roots that the rest of the runner trusts; None: those built into gRPC
    roots = await asyncio.to_thread(Path(TRUSTED_ROOTS).read_bytes) if TRUSTED_ROOTS else None
    options.append(("grpc.ssl_target_name_override", target.host))
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(roots), options=options)
