"""Types, sleep and channel of the asyncio client; `blocking_calls` has those of the blocking client."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio

from flowhook.client import channel

RpcError = grpc.RpcError
Credentials = grpc.ChannelCredentials
UnaryMethod = grpc.aio.UnaryUnaryMultiCallable
StreamMethod = grpc.aio.UnaryStreamMultiCallable
sleep = asyncio.sleep


def open_channel(
    target: str, token: str, credentials: grpc.ChannelCredentials | None
) -> tuple[grpc.aio.Channel, tuple[tuple[str, str | bytes], ...]]:
    """Return a channel to the routers of `target`, and the metadata of each call: none, the channel adds the token."""
    return channel.connect(target, token, credentials), ()
