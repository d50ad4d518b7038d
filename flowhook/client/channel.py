"""gRPC channels to the router: options, TLS, and a bearer token on every call.

gRPC refuses call credentials on a channel without TLS, and its asyncio interceptors cost one task per call and change
the behaviour of streams. So `AuthenticatedChannel` only adds the token to the metadata of each call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import grpc
import grpc.aio

from flowhook.client.following_channel import FollowingChannel
from flowhook.errors import InvalidError
from flowhook.limits import MAX_MESSAGE_BYTES
from flowhook.process.router_addresses import split_addresses

if TYPE_CHECKING:
    from flowhook.process.settings import CommonSettings

_KEEPALIVE_MS: Final = 10_000

MAX_UNREAD_BYTES: Final = 1024 * 1024
"""At most this much of a stream is received before it is read; 50 MB/s at a round trip of 20 ms."""
_FIXED_WINDOW: Final = (
    # by itself gRPC estimates how much the other end may send ahead: up to 16 MiB, the more the busier the machine is;
    # and it measures by pings after messages, which are half of what a process at rest does
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", MAX_UNREAD_BYTES),
)

CHANNEL_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", 5_000),
    # reconnect within a second after a restart of the router; gRPC's default backoff grows to two minutes
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # the router is in the same network: its traffic must not pass through an HTTP proxy for outside traffic
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config_disable_resolution", 1),
    *_FIXED_WINDOW,
)

SERVER_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),  # otherwise a second server silently binds the same port
    # half of the channels' keepalive interval, so that their pings never count as abuse
    ("grpc.http2.min_recv_ping_interval_without_data_ms", _KEEPALIVE_MS // 2),
    ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", 5_000),
    *_FIXED_WINDOW,
)
"""Server options that match `CHANNEL_OPTIONS`: keepalive pings that the server must permit, and shared limits."""


def open_channel(settings: CommonSettings, *names: str) -> grpc.aio.Channel:
    """Open a channel to the router of `settings`, or to those of them; it connects on first use. The caller closes it.

    `names`: built-in tokens to read from files if `settings` has no token; see `read_token`.

    Raises:
        InvalidError: there is no token (`TOKEN_MISSING`), or a TLS file can't be read (`TLS_FILE_UNREADABLE`).
    """
    return prepare_channel(settings, *names)()


def prepare_channel(settings: CommonSettings, *names: str) -> Callable[[], grpc.aio.Channel]:
    """Return what opens the channel that `open_channel` opens, having read all that it needs; raises the same."""
    from flowhook.process.settings import read_token  # noqa: PLC0415 - the client's package does not contain it

    token = read_token(settings, *names)
    credentials = tls_credentials(
        ca_file=settings.router_ca_file, cert_file=settings.client_cert_file, key_file=settings.client_key_file
    )
    return partial(connect, settings.router, token, credentials)


def connect(target: str, token: str, credentials: grpc.ChannelCredentials | None = None) -> grpc.aio.Channel:
    """Open a channel to `target` that presents a bearer token; without TLS when `credentials` is absent.

    `target` is `host:port`, or several, separated by commas: then the channel follows the owner (`FollowingChannel`).

    Raises:
        InvalidError: one of several addresses is not HOST:PORT, or there are too many (`ROUTER_INVALID`).
    """

    def open_one(address: str) -> grpc.aio.Channel:
        return AuthenticatedChannel(open_plain(address, credentials), token)

    addresses = split_addresses(target) if "," in target else (target,)
    if len(addresses) == 1:
        return open_one(*addresses)
    return FollowingChannel(addresses, open_one, lambda address: open_plain(address, credentials))


def open_plain(address: str, credentials: grpc.ChannelCredentials | None = None) -> grpc.aio.Channel:
    """Open a channel to one router that presents no token; without TLS when `credentials` is absent."""
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
    return grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS)


def tls_credentials(
    *, ca_file: Path | None, cert_file: Path | None = None, key_file: Path | None = None
) -> grpc.ChannelCredentials | None:
    """Load credentials from PEM files; return None if there is no CA file, which means no TLS. Blocking.

    Raises:
        InvalidError: a file can't be read, or only one of certificate and key is given (`TLS_FILE_UNREADABLE`).
    """
    if (cert_file is None) != (key_file is None):
        raise InvalidError(
            "a client certificate and its key must be set together; only one of them is", reason="TLS_FILE_UNREADABLE"
        )
    if ca_file is None:
        return None
    return grpc.ssl_channel_credentials(
        _read_pem(ca_file),
        None if key_file is None else _read_pem(key_file),
        None if cert_file is None else _read_pem(cert_file),
    )


def _read_pem(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidError(f"can't read {path}: {error.strerror}", reason="TLS_FILE_UNREADABLE") from None


def _authorized(kind: str) -> Callable[..., Any]:
    def make(self: AuthenticatedChannel, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        method, authorization = getattr(self._channel, kind)(*args, **kwargs), self._authorization

        def call(*args: Any, metadata: Sequence[tuple[str, str | bytes]] = (), **kwargs: Any) -> Any:
            return method(*args, metadata=(*metadata, authorization), **kwargs)

        return call

    return make


def _same(name: str) -> Callable[..., Any]:
    return lambda self, *args: getattr(self._channel, name)(*args)


class AuthenticatedChannel(grpc.aio.Channel):
    """A channel that adds `authorization: Bearer <token>` to the metadata of every call."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._channel = channel
        self._authorization = ("authorization", f"Bearer {token}")

    async def __aenter__(self) -> Self:
        await self._channel.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._channel.__aexit__(*error)  # type: ignore[arg-type] # the three of the protocol

    close, get_state = _same("close"), _same("get_state")
    wait_for_state_change, channel_ready = _same("wait_for_state_change"), _same("channel_ready")
    unary_unary = _authorized("unary_unary")
    unary_stream = _authorized("unary_stream")
    stream_unary = _authorized("stream_unary")
    stream_stream = _authorized("stream_stream")
